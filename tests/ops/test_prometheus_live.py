"""A real Prometheus that scrapes real roles: no alert while all is well, the right ones when a normalizer is killed,
and every panel of the dashboard is answered."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import shutil
import signal
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import pytest
import yaml
from broker import free_port

from tests.contract.test_alerts import of_dashboard
from tests.integration.commands import running
from tests.integration.stage import Stage, Viewer, said
from tests.integration.test_standstill import trade
from tests.integration.watching import Watch
from tests.ops.deployed import OPS

PROMETHEUS: Final = shutil.which("prometheus")
pytestmark = [
    pytest.mark.anyio,
    pytest.mark.slow,
    pytest.mark.skipif(
        PROMETHEUS is None, reason="NO PROMETHEUS: nobody scraped the roles; install Debian's prometheus"
    ),
]
WITHOUT_DATA: Final = {
    "Dead letters and oddities/A",  # nothing is wrong
    "Dead letters and oddities/B",
    "Taken up anew/A",
    "Clients that went/A",
    "Clients that went/B",
    "Clients that went/C",
}
OF_LOAD: Final = {"FeedGatewayLoopLag", "FeedGatewayLoopStalled", "FeedTicksWait", "FeedRecorderBehind"}
"""What a machine may be at fault for that has other work."""


@contextlib.asynccontextmanager
async def prometheus(folder: Path, ports: dict[str, int]) -> AsyncIterator[Watch]:
    """Ours, with these targets, in a hurry."""
    assert PROMETHEUS is not None
    alerts = (OPS / "prometheus" / "alerts.yaml").read_text("utf-8")
    (folder / "alerts.yaml").write_text(re.sub(r"(?m)^( +for:) \d+[sm]$", r"\1 2s", alerts))
    settings = yaml.safe_load((OPS / "prometheus" / "prometheus.yaml").read_text("utf-8"))
    settings["global"] = {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "500ms"}
    for scraped in settings["scrape_configs"]:
        del scraped["dns_sd_configs"]
        scraped["static_configs"] = [{"targets": [f"127.0.0.1:{ports[scraped['job_name']]}"]}]
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(settings))
    port = free_port()
    command = [
        PROMETHEUS,
        f"--config.file={folder}/prometheus.yaml",
        f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with running(*command, cwd=folder) as process:
        watch = Watch.at(int(port))
        await watch.until("/-/ready", lambda status, _: status == 200, "ready")
        yield watch
        process.end(signal.SIGTERM)


async def firing(watch: Watch) -> set[str]:
    """The names of the alerts that fire."""
    found = json.loads((await watch.ask("/api/v1/alerts"))[1])["data"]["alerts"]
    return {one["labels"]["alertname"] for one in found if one["state"] == "firing"} - OF_LOAD


async def until(watch: Watch, holds: Callable[[set[str]], bool], timeout_s: float = 40.0) -> set[str]:
    began = time.monotonic()
    while not holds(found := await firing(watch)):
        assert time.monotonic() - began < timeout_s, found
        await asyncio.sleep(0.2)
    return found


async def asked(watch: Watch, expression: str) -> list[Any]:
    expression = expression.replace("$__rate_interval", "30s").replace("$venue", ".*")
    status, body = await watch.ask(f"/api/v1/query?query={quote(expression)}")
    assert status == 200, body
    return list(json.loads(body)["data"]["result"])


async def test_all_is_well_until_a_normalizer_is_killed(kafka: str, tmp_path: Path) -> None:
    ports = {name: int(free_port()) for name in ("feed-normalizer", "feed-gateway", "feed-recorder")}
    port_of = {name: ("--admin-port", str(port)) for name, port in ports.items()}
    recordings = str(tmp_path / "recordings")
    watched = tmp_path / "prometheus"
    watched.mkdir()
    async with Stage(kafka, tmp_path, ["desk"]) as stage:
        await stage.send("desk", [("A", trade(1))])
        async with (
            stage.running("normalize", *port_of["feed-normalizer"]) as normalizer,
            stage.running("record", "--to", recordings, *port_of["feed-recorder"]),
            stage.running("serve", "--port", "0", "--recordings", recordings, *port_of["feed-gateway"]) as gateway,
        ):
            url = await said(gateway, r"ws://\S+")
            for port in ports.values():
                await Watch.at(port).ready()
            async with prometheus(watched, ports) as watch, Viewer(lambda: url, ["trades"]) as viewer:
                await viewer.until(lambda: len(viewer.channels) == 1, "the symbol")
                numbers = iter(range(2, 1_000_000))

                async def ticks() -> None:
                    while True:
                        await stage.send("desk", [("A", trade(next(numbers)))], ts_recv=time.time_ns())
                        await asyncio.sleep(0.2)

                sending = asyncio.create_task(ticks())
                try:
                    panels = dict(of_dashboard())
                    panels.pop("venue")
                    await until_answered(watch, panels)
                    assert await firing(watch) == set()
                    normalizer.process.kill()
                    found = await until(watch, {"FeedSourceDisconnected", "FeedProcessDown"}.issubset)
                    # a gateway without any source that it could serve takes nobody
                    assert found - {"FeedGatewayNotReady"} == {"FeedSourceDisconnected", "FeedProcessDown"}
                    async with stage.running("normalize", *port_of["feed-normalizer"]):
                        await until(watch, lambda found: not found)
                finally:
                    sending.cancel()


async def until_answered(watch: Watch, panels: dict[str, str]) -> None:
    """Waits until each panel has something to show, of those that must have."""
    began = time.monotonic()
    while True:
        empty = {name for name, one in panels.items() if not await asked(watch, one)}
        if empty <= WITHOUT_DATA:
            return
        assert time.monotonic() - began < 20, sorted(empty - WITHOUT_DATA)
        await asyncio.sleep(1)
