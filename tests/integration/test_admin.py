"""The port of each role for those who look after it, and the numbers there, as Prometheus' own tool wants them."""

from __future__ import annotations

import asyncio
import platform
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest
from broker import free_port

from tests.integration.commands import FEED, Command, running
from tests.integration.stage import Stage, Viewer, said
from tests.integration.test_standstill import trade
from tests.integration.watching import Watch, samples_of
from tests.raw_client import RawClient, handshake

pytestmark = [pytest.mark.anyio, pytest.mark.slow]
VENUE: Final = "desk"
TAKEN: Final = 'feed_ticks_taken_total{partition="0",venue="desk"} 1.0'
PROMTOOL: Final = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(
    PROMTOOL is None, reason="NO PROMTOOL: nothing here checks numbers; install Debian's prometheus"
)


@asynccontextmanager
async def watched(stage: Stage, *arguments: str) -> AsyncIterator[tuple[Command, Watch]]:
    """A command of `feed` with a port for those who look after it."""
    port = int(free_port())
    async with stage.running(*arguments, "--admin-port", str(port)) as command:
        watch = Watch.at(port)
        try:
            await watch.until("/livez", lambda status, _: status == 200, "an answer")
            yield command, watch
        finally:
            print(*arguments, *command.err, sep="\n")


def checked(text: str) -> list[str]:
    """What `promtool check metrics` has against it."""
    assert PROMTOOL is not None
    done = subprocess.run(
        [PROMTOOL, "check", "metrics"], input=text, capture_output=True, text=True, timeout=60, check=False
    )
    found = (done.stdout + done.stderr).splitlines()
    assert not done.returncode or found
    return found


@needs_promtool
def test_the_tool_finds_what_is_wrong() -> None:
    assert checked("# HELP feed_age_s Age\n# TYPE feed_age_s gauge\nfeed_age_s 1\n")
    assert checked("# HELP feed_x Things\n# TYPE feed_x counter\nfeed_x 1\n")
    assert not checked("# HELP feed_x_total Things\n# TYPE feed_x_total counter\nfeed_x_total 1\n")


async def test_each_role_has_its_paths(kafka: str, tmp_path: Path) -> None:
    async with Stage(kafka, tmp_path, [VENUE], partitions=2) as stage:
        await stage.send(VENUE, [("A", trade(1)), ("A", b"junk")], partition=0)
        async with (
            watched(stage, "normalize") as (normalizing, normalizer),
            watched(stage, "record", "--to", str(tmp_path / "recordings"), "--raw") as (recording, recorder),
            watched(stage, "serve", "--port", "0") as (serving, gateway),
        ):
            url = await said(serving, r"ws://\S+")
            for watch in (normalizer, recorder, gateway):
                await watch.ready()
                assert await watch.ask("/livez") == (200, "ok\n")
                assert (await watch.ask("/readyz"))[1] == "ok\n"
                assert await watch.ask("/v1/status") == (404, "Not Found\n")
                assert await watch.ask("/docs") == (404, "Not Found\n")
                built = (await watch.samples())["feed_build_info"]
                [labels] = [dict(one) for one in built]
                assert (labels["python"], labels["protocol"]) == (platform.python_version(), "feed.v1")
                assert (await watch.samples())["feed_ready"] == {(): 1}
                assert_promtool((await watch.ask("/metrics"))[1])
            _, lines = await normalizer.verbose()
            assert lines[1:] == ["[+] partitions: 2 of 2 are written", "ok"]
            assert lines[0].startswith("[+] kafka: answered")
            assert [line.partition(":")[0] for line in (await recorder.verbose())[1]] == [
                "[+] kafka",
                "[+] recording",
                "ok",
            ]
            clients = Watch.of_stream(url)
            assert (await gateway.verbose())[1][1:4] == (await clients.verbose())[1][1:4]
            assert await clients.health() == (200, {"ok": True, "reasons": [], "silent": []})
            async with Viewer(lambda: url, ["trades"]) as viewer:
                await viewer.until(lambda: len(viewer.channels) == 1, "the symbol")
                await stage.send(VENUE, [("A", trade(2))], ts_recv=time.time_ns())
                await viewer.until(lambda: len(viewer.channels["trades", "DESK:A"].applied) >= 1, "the trade")
            await check_numbers(normalizer, gateway)
            for command in (serving, recording, normalizing):
                assert await asyncio.to_thread(command.end, signal.SIGTERM) == 0


def assert_promtool(text: str) -> None:
    if PROMTOOL is not None:
        assert checked(text) == []


async def check_numbers(normalizer: Watch, gateway: Watch) -> None:
    """A trade that a client joined with, a bad tick, a trade that it was sent."""
    zero, one = (("partition", "0"), ("venue", VENUE)), (("partition", "1"), ("venue", VENUE))
    found = await normalizer.samples()
    assert found["feed_ticks_taken_total"] == {zero: 3, one: 0}
    assert found["feed_updates_total"][zero] >= 2
    assert found["feed_updates_total"][one] == 0
    assert found["feed_dead_letters_total"] == {(zero[0], ("reason", "tick"), zero[1]): 1}
    assert found["feed_partitions_owned"] == {(("venue", VENUE),): 2}
    assert found["feed_incarnations_total"] == {zero: 1, one: 1}
    assert found["feed_rebalances_total"][()] >= 1
    assert found["feed_lag_seconds"].keys() == {zero, one}
    assert max(found["feed_lag_seconds"].values()) < 1
    assert found["feed_newest_tick_age_seconds"].keys() == {zero}
    assert 0 <= found["feed_newest_tick_age_seconds"][zero] < 30
    found = await gateway.samples()
    states = found["feed_source_state"]
    assert {labels for labels, value in states.items() if value} == {(*zero[:1], ("state", "ok"), zero[1])} | {
        (*one[:1], ("state", "ok"), one[1])
    }
    assert found["feed_lag_seconds"].keys() == {zero, one}
    assert found["feed_foreign_records_total"] == {zero: 0, one: 0}
    # one flush had a client to be sent to, and the trade was as old as the way is long
    assert found["feed_delivery_seconds_count"][()] >= 1
    assert 0 < found["feed_delivery_seconds_sum"][()] < 5 * found["feed_delivery_seconds_count"][()]


@pytest.mark.parametrize("record", [(), ("--record", "recordings")])
async def test_all_roles_in_one_process_and_with_workers(kafka: str, tmp_path: Path, record: Sequence[str]) -> None:
    async with Stage(kafka, tmp_path, [VENUE]) as stage:
        for workers in ("1", "2"):
            await stage.send(VENUE, [("A", trade(int(workers)))])
            async with watched(stage, "up", "--port", "0", "--workers", workers, *record) as (command, admin):
                clients = Watch.of_stream(await said(command, r"ws://\S+"))
                await clients.ready()
                await admin.ready()
                for watch in (admin, clients):
                    await watch.until("/metrics", lambda _, text: TAKEN in text, TAKEN)
                    text = (await watch.ask("/metrics"))[1]
                    assert_promtool(text)
                    found = await watch.samples()
                    assert max(found["feed_source_state"].values()) == 1
                    assert ("feed_record_ok" in found) is bool(record)
                    assert ("feed_worker_restarts_total" in found) is (workers == "2")
                    assert (await watch.ask("/livez"))[0] == 200
                _, lines = await admin.verbose()
                if workers == "1":
                    assert "[+] normalizer: partitions: 1 of 1 are written" in [line.strip() for line in lines]
                else:
                    assert "[+] worker_1: ready" in lines
                assert await asyncio.to_thread(command.end, signal.SIGTERM) == 0


def taken_in(text: str) -> float:
    """Ticks that normalizers have read, as the numbers say."""
    return sum(samples_of(text).get("feed_ticks_taken_total", {}).values())


async def test_the_demo_has_one_too(tmp_path: Path) -> None:
    port = free_port()
    with running(*FEED, "demo", "--port", "0", "--admin-port", str(port), "--seconds", "12", cwd=tmp_path) as demo:
        watch = Watch.at(port)
        await watch.ready()
        await watch.until("/metrics", lambda _, text: taken_in(text) > 100, "ticks")
        assert_promtool((await watch.ask("/metrics"))[1])
        assert await asyncio.to_thread(demo.wait) == 0, demo.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["demo", "--port", "0"],
        ["up", "--kafka", "127.0.0.1:1", "--port", "0"],
        ["up", "--kafka", "127.0.0.1:1", "--port", "0", "--workers", "2"],
        ["serve", "--kafka", "127.0.0.1:1", "--port", "0"],
        ["normalize", "--kafka", "127.0.0.1:1"],
        ["record", "--kafka", "127.0.0.1:1", "--to", "recordings"],
    ],
)
def test_a_port_in_use_is_an_error_before_anything_starts(arguments: list[str], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        with running(*FEED, *arguments, "--admin-port", port, cwd=tmp_path) as command:
            assert command.wait() == 1
    assert command.err[-1] == f"error: port {port} of 127.0.0.1 is in use; another one with --admin-port"
    assert not (tmp_path / "recordings").exists()


@pytest.mark.parametrize("command", ["serve", "up"])
def test_both_ports_of_a_gateway_cannot_be_one(command: str, tmp_path: Path) -> None:
    port = str(free_port())
    more = ["--kafka", "127.0.0.1:1", "--port", port, "--admin-port", port]
    with running(*FEED, command, *more, cwd=tmp_path) as ended:
        assert ended.wait() == 1
    assert ended.err[-1] == f"error: port {port} of 127.0.0.1 is in use; another one with --port"


async def test_strangers_at_the_port_cost_no_more_than_at_a_gateways(kafka: str, tmp_path: Path) -> None:
    async with Stage(kafka, tmp_path, [VENUE]) as stage, watched(stage, "normalize") as (_, watch):
        port = int(watch.http.rpartition(":")[2])

        def strange(request: bytes) -> bytes:
            with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
                client.sendall(request)
                found = b""
                while part := client.recv(65536):
                    found += part
                return found

        huge = b"GET /livez HTTP/1.1\r\nhost: x\r\n" + b"a: b\r\n" * 10_000 + b"\r\n"
        assert (await asyncio.to_thread(strange, huge)).startswith(b"HTTP/1.1 431 ")
        assert (await asyncio.to_thread(strange, b"GET /livez HTTP/1.1\r\nhost: ")).startswith(b"HTTP/1.1 408 ")
        stranger = b"GET /livez HTTP/1.1\r\nhost: evil.example\r\n\r\n"
        assert (await asyncio.to_thread(strange, stranger)).startswith(b"HTTP/1.1 421 ")
        assert (await asyncio.to_thread(strange, b"GET /livez HTTP/9\r\n\r\n")).startswith(b"HTTP/1.1 400 ")
        with RawClient(port) as client:
            client.send(handshake(port))
            assert client.answer().status == 404
        idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(200)]
        try:
            await watch.until("/livez", lambda status, _: status == 200, "an answer again")  # the idle ones are cut
        finally:
            for one in idle:
                one.close()
        found = await watch.samples()
        assert found["feed_gateway_refused_total"][(("status", "431"),)] == 1
