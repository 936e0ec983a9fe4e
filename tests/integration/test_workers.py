"""One gateway of several processes, on a real broker: one port, one set of numbers, and no client that loses anything.

Workers are killed with SIGKILL while captures are published. What their clients applied is compared with what an
undisturbed machine makes of the ticks, and what any worker tells of all of them may not go down.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, Final
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from tests.feed.venues.playing import CAPTURES
from tests.integration.commands import Command
from tests.integration.stage import Stage, Viewer, check_exact, dispose, said

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

CAPTURE: Final = "coinbase/exchange_5products_20210417"
VENUE: Final = "coinbase"
KINDS: Final = ("trades", "quotes", "book")


class Port:
    """A service of several workers, as it is seen at its port."""

    def __init__(self, command: Command, url: str) -> None:
        self.command = command
        self.url = url
        self.http = url.replace("ws://", "http://").removesuffix("/v1/stream")

    def get(self, path: str, timeout_s: float = 5.0) -> tuple[int, str]:
        """Status and body; 0 where nobody answers."""
        try:
            with urlopen(f"{self.http}{path}", timeout=timeout_s) as answer:
                return answer.status, answer.read().decode()
        except HTTPError as error:
            return error.code, error.read().decode()
        except (URLError, OSError):
            return 0, ""

    async def status(self) -> Any:
        """What one of them tells of all."""
        return json.loads((await asyncio.to_thread(self.get, "/v1/status"))[1])

    async def samples(self) -> dict[str, dict[str, float]]:
        """The numbers: by name, then by labels."""
        text = ""
        while not text:  # a connection that the kernel gave to one that was just killed is reset
            text = (await asyncio.to_thread(self.get, "/metrics"))[1]
        found: dict[str, dict[str, float]] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                found.setdefault(sample.name, {})[",".join(sample.labels.values())] = sample.value
        return found

    async def ready(self, timeout_s: float = 30.0) -> None:
        deadline = time.monotonic() + timeout_s
        while (await asyncio.to_thread(self.get, "/readyz"))[0] != 200:
            assert time.monotonic() < deadline, self.get("/readyz?verbose")
            await asyncio.sleep(0.1)


@asynccontextmanager
async def workers(stage: Stage, count: int = 2) -> AsyncIterator[Port]:
    """A normalizer, and a gateway of so many workers that are all ready."""
    async with stage.running("normalize") as normalizer:
        await said(normalizer, "normalizing")
        async with stage.running("serve", "--workers", str(count), "--port", "0") as command:
            port = Port(command, await said(command, r"ws://\S+"))
            await port.ready()
            try:
                yield port
            finally:
                print(*command.err, sep="\n")  # seen where the test fails


async def publish(stage: Stage, data_dir: Path, speed: str) -> None:
    capture = CAPTURES[CAPTURE]
    await stage.publish(capture.venue, *(data_dir / file for file in capture.files), speed=speed, symbol=capture.symbol)


async def test_clients_are_spread_and_the_numbers_are_those_of_all(kafka: str, tmp_path: Path, data_dir: Path) -> None:
    async with Stage(kafka, tmp_path, [VENUE]) as stage, workers(stage) as port:
        await publish(stage, data_dir, "max")
        truth = await stage.truth()
        async with AsyncExitStack() as stack:
            viewers = [await stack.enter_async_context(Viewer(lambda: port.url, KINDS)) for _ in range(30)]
            for viewer in viewers:
                await viewer.has(truth)
            status = await port.status()
            assert status["connections"] == 30
            each = [worker["connections"] for worker in status["workers"]]
            assert len(each) == 2
            assert sum(each) == 30
            assert min(each) >= 3
            assert len({worker["pid"] for worker in status["workers"]} | {port.command.process.pid}) == 3
            assert status["ready"]
            # whoever answers
            for _ in range(10):
                samples = await port.samples()
                assert samples["feed_gateway_accepted_total"] == {"": 30}
                assert samples["feed_gateway_connections"] == {"1": each[0], "2": each[1]}
                assert samples["process_resident_memory_bytes"].keys() == {"0", "1", "2"}
                assert samples["feed_gateway_flush_seconds_count"][""] > 0
            clients = json.loads((await asyncio.to_thread(port.get, "/v1/clients?limit=50"))[1])
            assert clients["total"] == len(clients["clients"]) == 30
            assert {client["worker"] for client in clients["clients"]} == {1, 2}
        assert await asyncio.to_thread(port.command.end, signal.SIGTERM) == 0


async def test_a_worker_is_killed_and_its_clients_lose_nothing(kafka: str, tmp_path: Path, data_dir: Path) -> None:
    async with Stage(kafka, tmp_path, [VENUE]) as stage, workers(stage) as port:
        publishing = asyncio.create_task(publish(stage, data_dir, "2"))
        async with AsyncExitStack() as stack:
            viewers = [await stack.enter_async_context(Viewer(lambda: port.url, KINDS)) for _ in range(12)]
            for viewer in viewers:
                await viewer.answered()
            told = [await port.samples()]
            for kill in range(3):
                await asyncio.gather(*(viewer.has_marks(1) for viewer in viewers))
                before = (await port.status())["workers"][kill % 2]
                os.kill(before["pid"], signal.SIGKILL)
                told.append(await port.samples())
                await said(port.command, rf"worker {kill % 2 + 1} ended with -9; it is started again")
                told.append(await port.samples())
                assert told[-1]["feed_worker_restarts_total"] == {"": kill + 1}
                await said(port.command, rf"worker {kill % 2 + 1} is ready again")
                await port.ready()
                after = (await port.status())["workers"][kill % 2]
                assert after["worker"] == before["worker"]
                assert after["pid"] != before["pid"]
                told.append(await port.samples())
                port.command.err.clear()
            await publishing
            truth = await stage.truth()
            for viewer in viewers:
                await viewer.has(truth)
                check_exact(viewer.client, truth)
            assert sum(viewer.connections > 1 for viewer in viewers) >= 4
            told.append(await port.samples())
            check_sums(told)
            assert told[-1]["feed_gateway_accepted_total"][""] == sum(viewer.connections for viewer in viewers)
        assert await asyncio.to_thread(port.command.end, signal.SIGTERM) == 0


def check_sums(told: list[dict[str, dict[str, float]]]) -> None:
    """No counter of ours goes down, whoever tells it and whoever died in between."""
    for before, after in pairwise(told):
        for name, samples in before.items():
            if name.startswith("feed_") and name.endswith(("_total", "_bucket", "_count", "_sum")):
                for labels, value in samples.items():
                    assert after[name][labels] >= value, f"{name} {labels}: {after[name][labels]} after {value}"


async def test_readiness_is_that_of_all_that_are_there(kafka: str, tmp_path: Path) -> None:
    async with Stage(kafka, tmp_path, [VENUE]) as stage, workers(stage) as port:
        one, two = (worker["pid"] for worker in (await port.status())["workers"])
        os.kill(two, signal.SIGSTOP)
        try:
            # the kernel gives some connections to the one that stands: those time out
            found: list[tuple[int, str]] = []
            while not any(status for status, _ in found):
                found.append(await asyncio.to_thread(port.get, "/readyz", 2.0))
            assert found[-1][0] == 503
            assert "[-] worker_2: does not answer" in found[-1][1]
        finally:
            os.kill(two, signal.SIGCONT)
        await port.ready()
        os.kill(one, signal.SIGKILL)
        await said(port.command, "worker 1 ended with -9")
        meanwhile = []
        async with asyncio.timeout(60):
            while not any("worker 1 is ready again" in line for line in port.command.err):
                meanwhile.append(await asyncio.to_thread(port.get, "/readyz?verbose"))
        assert {status for status, _ in meanwhile} == {200}
        assert "[+] worker_1: not there, the others serve its clients" in meanwhile[0][1]
        await port.ready()
        assert await asyncio.to_thread(port.command.end, signal.SIGINT) == 0


async def test_a_worker_that_stands_still_is_killed(kafka: str, tmp_path: Path) -> None:
    async with Stage(kafka, tmp_path, [VENUE], serve="stall_ms_max = 1000") as stage, workers(stage) as port:
        two = (await port.status())["workers"][1]["pid"]
        os.kill(two, signal.SIGSTOP)
        try:
            await said(port.command, "worker 2 has not answered for 3.0 s and is killed")
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(two, signal.SIGCONT)
        await said(port.command, "worker 2 is ready again")
        await port.ready()
        assert (await port.status())["workers"][1]["pid"] != two
        assert await asyncio.to_thread(port.command.end, signal.SIGTERM) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
async def test_the_drain_and_its_end(kafka: str, tmp_path: Path, number: signal.Signals) -> None:
    async with Stage(kafka, tmp_path, [VENUE]) as stage, workers(stage, 3) as port:
        async with AsyncExitStack() as stack:
            sockets = [await stack.enter_async_context(connect(port.url, compression=None)) for _ in range(12)]
            port.command.process.send_signal(number)
            for socket in sockets:
                last = None
                with contextlib.suppress(ConnectionClosed):
                    while True:
                        last = json.loads(await socket.recv())[-1]
                assert last is not None
                assert last["type"] == "goaway"
                assert socket.close_code == 1012
        assert await asyncio.to_thread(port.command.wait) == 0
        assert port.get("/livez")[0] == 0


async def test_without_their_parent_they_end(kafka: str, tmp_path: Path) -> None:
    async with Stage(kafka, tmp_path, [VENUE]) as stage, workers(stage) as port:
        pids = [worker["pid"] for worker in (await port.status())["workers"]]
        await dispose(port.command)
        deadline = time.monotonic() + 10
        while any(map(alive, pids)):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def test_what_cannot_begin_says_so(kafka: str, fresh: Callable[[str], str], tmp_path: Path) -> None:
    async with Stage(kafka, tmp_path, [VENUE]) as stage:
        async with stage.running("serve", "--workers", "2", "--port", "0", "--kafka", "127.0.0.1:1") as command:
            assert await asyncio.to_thread(command.wait) == 3
            assert "error: worker" in command.err[-1]
        async with workers(stage) as port:
            taken = port.http.rpartition(":")[2]
            async with stage.running("serve", "--workers", "2", "--port", taken) as command:
                assert await asyncio.to_thread(command.wait) == 1
                assert f"port {taken} of 127.0.0.1 is in use" in command.err[-1]


async def test_all_roles_with_a_gateway_of_workers(kafka: str, tmp_path: Path) -> None:
    """Normalizer and recorder are the parent's, and any worker tells of them."""
    async with Stage(kafka, tmp_path, [VENUE]) as stage:
        folder = str(tmp_path / "recordings")
        async with stage.running("up", "--workers", "2", "--port", "0", "--record", folder) as command:
            port = Port(command, await said(command, r"ws://\S+"))
            await port.ready()
            samples = await port.samples()
            assert samples["feed_record_ok"] == {"0": 1}
            assert set(samples["feed_gateway_connections"]) == {"1", "2"}
            verbose = (await asyncio.to_thread(port.get, "/readyz?verbose"))[1]
            assert "[+] parent: ready" in verbose
            assert [worker["worker"] for worker in (await port.status())["workers"]] == [1, 2]
            assert await asyncio.to_thread(command.end, signal.SIGTERM) == 0
        assert not any("Traceback" in line for line in command.err)
