"""A process as those see it who look after it: its paths, asked as `curl` would."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any, Final
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families

DEADLINE_S: Final = 40.0
Samples = dict[str, dict[tuple[tuple[str, str], ...], float]]


class Watch:
    """What answers at `http://HOST:PORT`."""

    def __init__(self, http: str) -> None:
        self.http = http

    @classmethod
    def of_stream(cls, url: str) -> Watch:
        """The gateway whose stream is at this address."""
        return cls(url.replace("ws://", "http://").removesuffix("/v1/stream"))

    @classmethod
    def at(cls, port: int) -> Watch:
        """Whatever is at a port of this machine."""
        return cls(f"http://127.0.0.1:{port}")

    def get(self, path: str, timeout_s: float = 5.0) -> tuple[int, str]:
        """Status and body; 0 where nobody answers."""
        try:
            with urlopen(f"{self.http}{path}", timeout=timeout_s) as answer:
                return answer.status, answer.read().decode()
        except HTTPError as error:
            return error.code, error.read().decode()
        except (URLError, OSError):
            return 0, ""

    async def ask(self, path: str) -> tuple[int, str]:
        """The same without stopping this loop."""
        return await asyncio.to_thread(self.get, path)

    async def status(self, path: str) -> int:
        return (await self.ask(path))[0]

    async def health(self, query: str = "") -> tuple[int, Any]:
        """Status and body of `/v1/health`."""
        status, body = await self.ask(f"/v1/health{query}")
        return status, json.loads(body) if body else {}

    async def faults(self, query: str = "") -> list[tuple[str, str | None, str]]:
        """Venue, source and reason of what `/v1/health` says; the status must agree with it."""
        status, body = await self.health(query)
        assert status == (200 if body["ok"] else 503)
        assert body["ok"] is (not body["reasons"])
        return [(one["venue"], one["source"], one["reason"]) for one in body["reasons"]]

    async def verbose(self) -> tuple[int, list[str]]:
        """Status and lines of `/readyz?verbose`."""
        status, body = await self.ask("/readyz?verbose")
        return status, body.splitlines()

    async def samples(self) -> Samples:
        """The numbers: by name, then by labels."""
        return samples_of((await self.ask("/metrics"))[1])

    async def until(
        self, path: str, holds: Callable[[int, str], bool], what: str, timeout_s: float = DEADLINE_S
    ) -> float:
        """Asks until an answer is as it should be; how many seconds that took."""
        began = time.monotonic()
        while True:
            status, body = await self.ask(path)
            if holds(status, body):
                return time.monotonic() - began
            assert time.monotonic() - began < timeout_s, (
                f"{path} in {timeout_s} s: wanted {what}, found {status} {body}"
            )
            await asyncio.sleep(0.05)

    async def ready(self, *, ready: bool = True, timeout_s: float = DEADLINE_S) -> float:
        """Waits for readiness, or its end."""
        wanted = 200 if ready else 503
        return await self.until("/readyz", lambda status, _: status == wanted, str(wanted), timeout_s)

    async def flows(self, *, flows: bool = True, query: str = "", timeout_s: float = DEADLINE_S) -> float:
        """Waits until data flows, or does not."""
        wanted = 200 if flows else 503
        return await self.until(f"/v1/health{query}", lambda status, _: status == wanted, str(wanted), timeout_s)


def samples_of(text: str) -> Samples:
    """Prometheus' text: values by name, then by labels in order of their names."""
    found: Samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return found
