"""A gateway under its clients: those that listen, read slowly, stall, flood or vanish; and the gateway's end."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.error import HTTPError
from urllib.request import urlopen

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from feed.gateway.ws import StreamProtocol
from feed.protocol.line import Line
from feed.protocol.session import Session
from feed.runtime.settings import LimitSettings, ServeSettings
from feed.wire.model import Quote, Trade
from tests.gateways import Running
from tests.market import OTHER, SOURCE, SYMBOL, Market
from tests.raw_client import CLOSE, PING, PONG, TEXT, Frame, RawClient, close, frame, handshake, text

Json = dict[str, Any]  # messages as a client reads them


def messages(found: Frame | None) -> list[Json]:
    """The messages of a text frame."""
    assert found is not None
    assert found.opcode == TEXT
    result: list[Json] = json.loads(found.payload)
    return result


def until(client: RawClient, kind: str, count: int = 1) -> list[Json]:
    """Messages up to the `count`th of a type."""
    seen: list[Json] = []
    while sum(message["type"] == kind for message in seen) < count:
        seen += messages(client.frame())
    return seen


def subscribe(client: RawClient, channels: list[str], symbols: list[str], **more: object) -> None:
    """Sends the request."""
    client.send(text(json.dumps({"op": "subscribe", "id": 1, "channels": channels, "symbols": symbols, **more})))


def get(running: Running, path: str) -> tuple[int, str]:
    """Status and body of a GET."""
    try:
        with urlopen(f"http://127.0.0.1:{running.port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except HTTPError as error:
        return error.code, error.read().decode()


@pytest.fixture
def running() -> Iterator[Running]:
    """A gateway with quick pulses."""
    settings = ServeSettings(port=0, heartbeat_ms=200, ping_interval_ms=400, reconnect_spread_ms=1)
    with Running(settings) as found:
        yield found


@pytest.fixture
def market(running: Running) -> Market:
    """Its market, open."""
    found = Market(running)
    found.open()
    return found


def eventually(holds: Any, seconds: float = 5.0) -> None:
    """Waits until it holds."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.01)


# ---- data


def test_snapshot_then_updates(running: Running, market: Market) -> None:
    with RawClient(running.port).open() as client:
        subscribe(client, ["quotes"], [SYMBOL])
        seen = until(client, "snapshot")
        assert [message["type"] for message in seen if message["type"] != "heartbeat"] == ["ack", "snapshot"]
        for price in ("1", "2", "3"):
            market.tick("quotes", SYMBOL, Quote(price, "1", None, None))
        updates = [message for message in until(client, "update", 3) if message["type"] == "update"]
        assert [message["data"]["bid_price"] for message in updates] == ["1", "2", "3"]
        assert [message["prev"] for message in updates] == [
            seen[-1]["seq"],
            *(message["seq"] for message in updates[:-1]),
        ]


def test_heartbeats_have_marks(running: Running, market: Market) -> None:
    with RawClient(running.port).open() as client:
        subscribe(client, ["quotes"], ["*"])
        until(client, "snapshot", 2)
        market.tick("quotes", SYMBOL, Quote("1", "1", None, None))
        until(client, "update")
        assert until(client, "heartbeat")[-1]["marks"] == {SOURCE: market.seq}


def test_equal_selections_share_the_same_bytes(running: Running, market: Market) -> None:
    clients = [RawClient(running.port).open() for _ in range(5)]
    for client in clients:
        subscribe(client, ["trades", "quotes"], ["KRAKEN:*"])
        until(client, "snapshot", 4)
    market.tick("trades", SYMBOL, [Trade("1", "2", "buy", "9", None)])
    found = []
    for client in clients:
        while b'"update"' not in (got := client.frame() or Frame(0, b"", True)).payload:
            pass
        found.append(got.payload)
        client.socket.close()
    assert len(set(found)) == 1


# ---- HTTP


def test_rest(running: Running, market: Market) -> None:
    status, body = get(running, "/v1/symbols")
    assert status == 200
    assert [row["symbol"] for row in json.loads(body)] == sorted([SYMBOL, OTHER])
    assert json.loads(body)[0]["channels"] == ["trades", "quotes", "status"]
    for path in (f"/v1/snapshot/quotes/{SYMBOL}", "/v1/snapshot/quotes/KRAKEN%3AXBT%2FUSD"):
        status, body = get(running, path)
        assert status == 200
        assert json.loads(body)[0]["data"]["bid_price"] == "60000.1"
    assert get(running, "/v1/snapshot/quotes/KRAKEN:NOPE")[0] == 404
    assert json.loads(get(running, "/v1/snapshot/quotes/KRAKEN:NOPE")[1])["code"] == "unknown_symbol"
    assert json.loads(get(running, f"/v1/snapshot/nonsense/{SYMBOL}")[1])["code"] == "unknown_channel"
    assert get(running, "/livez") == (200, "ok\n")
    for probe in ("/livez", "/readyz"):
        head = urllib.request.Request(f"http://127.0.0.1:{running.port}{probe}", method="HEAD")
        with urllib.request.urlopen(head, timeout=10) as answer:
            assert (answer.status, answer.read()) == (200, b"")
    assert get(running, "/readyz") == (200, "ok\n")
    assert "[+] kafka" in get(running, "/readyz?verbose")[1]
    status, body = get(running, "/v1/status")
    assert json.loads(body)["sources"][SOURCE]["seq"] == market.seq
    assert get(running, "/v1/asyncapi.yaml")[1].count("asyncapi: 3") == 1
    assert json.loads(get(running, "/v1/schemas/update.json")[1])
    assert get(running, "/v1/schemas/nope.json")[0] == 404
    assert get(running, "/v1/schemas/..%2f..%2fpyproject.json")[0] == 404
    assert get(running, "/board/..%2fapp.py")[0] == 404
    assert get(running, "/openapi.json")[0] == 200


def test_a_snapshot_over_http_is_the_one_of_the_stream(running: Running, market: Market) -> None:
    with RawClient(running.port).open() as client:
        subscribe(client, ["trades"], [SYMBOL])
        streamed = until(client, "snapshot")[-1]
    assert json.loads(get(running, f"/v1/snapshot/trades/{SYMBOL}")[1]) == [streamed]


def test_metrics_count(running: Running, market: Market) -> None:
    with RawClient(running.port).open() as client:
        subscribe(client, ["quotes"], [SYMBOL])
        until(client, "snapshot")
        market.tick("quotes", SYMBOL, Quote("1", "1", None, None))
        until(client, "update")
        families = text_string_to_metric_families(get(running, "/metrics")[1])
        samples = {sample.name: sample.value for family in families for sample in family.samples}
    assert samples["feed_gateway_connections"] == 1
    assert samples["feed_gateway_accepted_total"] == 1
    assert samples["feed_gateway_received_total"] == 1
    assert samples["feed_gateway_writes_total"] >= 1


def test_not_ready_before_kafka_and_the_log_are_there() -> None:
    with Running(ready=False) as running:
        status, body = get(running, "/readyz")
        assert status == 503
        assert "[-] kafka" in body
        assert "[-] caught_up" in body
        assert get(running, "/livez")[0] == 200
        running.do(running.gateway.health.kafka_answered)
        running.do(running.gateway.health.caught_up)
        assert get(running, "/readyz")[0] == 200


# ---- clients that are not well


def test_a_client_that_answers_no_ping_is_dropped(running: Running) -> None:
    with RawClient(running.port).open() as client:
        began = time.monotonic()
        assert client.ends_within(3)
        assert 0.3 < time.monotonic() - began < 1.6
    assert running.gateway.counts.dropped.of("silent").value == 1


def test_a_client_that_answers_pings_stays(running: Running) -> None:
    with RawClient(running.port).open() as client:
        pings = 0
        while pings < 4:
            found = client.frame()
            assert found is not None
            if found.opcode == PING:
                pings += 1
                client.send(frame(PONG, found.payload))


def flood(market: Market, stop_when: Any, ticks: int = 4000) -> None:
    """Updates of 8 KiB, until `stop_when()`."""
    big = [Trade("1", "2", "buy", "x" * 500, None)] * 14
    for _ in range(ticks):
        market.tick("trades", SYMBOL, big)
        if stop_when():
            return


def test_a_stalled_client_is_dropped_and_costs_a_bounded_amount(running: Running, market: Market) -> None:
    with RawClient(running.port, receive_buffer=4096).open() as client:
        subscribe(client, ["trades"], [SYMBOL])
        before = psutil.Process().memory_info().rss
        began = time.monotonic()
        dropped = running.gateway.counts.dropped.of("stalled")
        flood(market, lambda: dropped.value or time.monotonic() - began > 4, ticks=100_000)
        took = time.monotonic() - began
        assert running.gateway.counts.dropped.of("stalled").value == 1
        assert took < 4
        window = running.do(lambda: running.gateway.hub.window.bytes)
        assert psutil.Process().memory_info().rss - before < window * 1.1 + (8 << 20)
    assert running.wait_until(lambda: not running.gateway.connections)


def test_a_slow_client_is_left_behind_and_catches_up(running: Running, market: Market) -> None:
    """It reads at its own pace and gets every update once; others are not disturbed."""
    with RawClient(running.port, receive_buffer=8192).open() as slow, RawClient(running.port).open() as fast:
        for client in (slow, fast):
            subscribe(client, ["trades"], [SYMBOL])
        until(fast, "snapshot")
        big = [Trade("1", "2", "buy", "x" * 500, None)] * 14
        for _ in range(200):
            market.tick("trades", SYMBOL, big)
        updates = [message for message in until(fast, "update", 200) if message["type"] == "update"]
        assert len(updates) == 200
        left = running.gateway.metrics.counter("feed_gateway_left_behind", "").value
        assert left >= 1
        seqs: list[int] = []
        while not seqs or seqs[-1] < market.seq:
            found = slow.frame()
            assert found is not None
            if found.opcode == PING:
                slow.send(frame(PONG, found.payload))
            elif found.opcode == TEXT:
                for message in messages(found):
                    if message["type"] in ("update", "gap"):
                        assert message["prev"] == (seqs[-1] if seqs else message["prev"])
                        seqs.append(message["seq"])
        assert len(seqs) == 200


def test_on_lag_close() -> None:
    """Further behind than the window reaches, a client that asked for it is closed with 4008, after its marks."""
    from feed.channels.hub import Hub, HubSettings

    settings = ServeSettings(port=0, heartbeat_ms=60_000, ping_interval_ms=60_000)
    hub = Hub(HubSettings(resume_window_bytes_max=200_000))
    with Running(settings, hub=hub) as running:
        market = Market(running)
        market.open()
        with RawClient(running.port, receive_buffer=4096).open() as client:
            subscribe(client, ["trades"], [SYMBOL], on_lag="close")
            flood(market, lambda: False, ticks=400)
            market.keyframe()
            frames = client.frames()
        assert frames[-1].code == 4008
        assert messages(frames[-2])[-1]["type"] == "goaway"
        assert SOURCE in messages(frames[-2])[-1]["marks"]


def test_requests_over_the_rate_are_answered_later_or_refused(running: Running) -> None:
    with RawClient(running.port).open() as client:
        ask = b"".join(text(json.dumps({"op": "ping", "id": i})) for i in range(120))
        client.send(ask)
        seen = until(client, "pong", 101)
        assert sorted(message["id"] for message in seen if message["type"] == "pong") == list(range(101))


def flood_until_closed(client: RawClient, junk: bytes, seconds: float = 8.0) -> tuple[int | None, list[str]]:
    """Sends junk as fast as it is taken; the close code, and the codes of errors before it."""
    client.socket.settimeout(0.05)
    deadline = time.monotonic() + seconds
    errors: list[str] = []
    while time.monotonic() < deadline:
        with contextlib.suppress(TimeoutError):
            client.send(junk * 50)
        with contextlib.suppress(TimeoutError):
            while (found := client.frame()) is not None:
                if found.opcode == TEXT:
                    errors += [message["code"] for message in messages(found) if message["type"] == "error"]
                if found.opcode == CLOSE:
                    return found.code, errors
    return None, errors


@pytest.mark.slow
def test_what_long_requests_pin_while_they_wait_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    most = 0
    honest = Line.receive

    def receive(line: Line, payload: bytes, now_ns: int) -> None:
        nonlocal most
        honest(line, payload, now_ns)
        most = max(most, sum(len(waiting.text) for waiting in line._line))

    monkeypatch.setattr(Line, "receive", receive)
    settings = ServeSettings(port=0, heartbeat_ms=60_000, limits=LimitSettings(bytes_per_second=1 << 30))
    with Running(settings) as running, RawClient(running.port).open() as client:
        burst = 100
        for number in range(burst + 15):
            padded = {"op": "list", "id": number, "unknown": "x" * 60_000}
            client.send(text(json.dumps(padded)))
        acks = [message for message in until(client, "ack", burst + 15) if message["type"] == "ack"]
        assert [ack["id"] for ack in acks] == [*range(burst + 15)]
        # and it is read again
        client.send(text(json.dumps({"op": "ping", "id": "p"})))
        assert until(client, "pong")[-1]["id"] == "p"
    assert most <= 5 * 64 * 1024


@pytest.mark.parametrize("junk", [frame(PING, b"x" * 100), text("{" + "x" * 200)], ids=["pings", "junk"])
def test_a_flooding_client_is_held_back_and_then_closed(junk: bytes) -> None:
    limits = LimitSettings(bytes_per_second=20_000, frames_per_second=200, burst_seconds=1.0, overload_seconds=1.0)
    with (
        Running(ServeSettings(port=0, limits=limits)) as running,
        RawClient(running.port).open() as victim,
        RawClient(running.port).open() as client,
    ):
        cpu = running.cpu()
        code, errors = flood_until_closed(client, junk)
        assert code == 1008
        assert "rate_limited" in errors
        assert running.cpu() - cpu < 0.6
        victim.send(text('{"op":"ping","id":1}'))
        assert messages(victim.frame())[0]["type"] == "pong"


def test_many_requests_at_once_give_way_to_others(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    take = StreamProtocol._take

    def taking(self: StreamProtocol, message: Any) -> None:
        events.append("message")
        take(self, message)

    def turning() -> None:
        events.append("turn")
        if events.count("message") < 100:
            running.loop.call_soon(turning)

    monkeypatch.setattr(StreamProtocol, "_take", taking)
    client = RawClient(running.port).open()
    running.loop.call_soon_threadsafe(turning)
    client.send(b"".join(text(json.dumps({"op": "list", "id": number})) for number in range(100)))
    answers = [message["id"] for message in until(client, "ack", 100) if message["type"] == "ack"]
    assert answers == list(range(100))
    runs = "".join("m" if event == "message" else " " for event in events).split()
    assert max(map(len, runs)) <= 16


@pytest.mark.parametrize("busy", [False, True])
def test_a_session_that_cannot_be_closed_costs_nobody_else(
    running: Running, market: Market, *, busy: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def close(self: Session) -> None:
        raise RuntimeError("planted")

    fanout, gateway = running.gateway.fanout, running.gateway
    with RawClient(running.port).open() as other:
        subscribe(other, ["trades"], [SYMBOL])
        until(other, "snapshot")
        sockets = len(gateway.doors)
        with monkeypatch.context() as planted:
            planted.setattr(Session, "close", close)
            with RawClient(running.port).open():
                eventually(lambda: len(gateway.connections) == 2)
                # a client that goes while a flush is sent is given back behind it, by the task that sends
                running.do(lambda: setattr(fanout, "busy", busy))
            eventually(lambda: len(gateway.connections) == 1 and len(gateway.doors) == sockets)
            running.do(lambda: setattr(fanout, "busy", False))
            for price in ("1", "2"):
                market.tick("trades", SYMBOL, [Trade(price, "1", "buy", price, "1")])
                until(other, "update")
        assert gateway.counts.failed.value == 1


def test_one_stalled_client_of_many_delays_nobody(running: Running, market: Market) -> None:
    with RawClient(running.port, receive_buffer=4096).open() as stalled:
        subscribe(stalled, ["trades"], [SYMBOL])
        clients = [RawClient(running.port).open() for _ in range(20)]
        for client in clients:
            subscribe(client, ["trades"], [SYMBOL])
            until(client, "snapshot")
        flood(market, lambda: running.gateway.metrics.counter("feed_gateway_left_behind", "").value, ticks=300)
        for client in clients:
            while not any(message.get("seq") == market.seq for message in messages_or_pong(client)):
                pass
            client.socket.close()


def messages_or_pong(client: RawClient) -> list[Json]:
    """The messages of the next frame; a ping is answered."""
    found = client.frame()
    assert found is not None
    if found.opcode == PING:
        client.send(frame(PONG, found.payload))
        return []
    return messages(found)


# ---- the end


def test_the_drain_tells_marks_and_where_to_go(running: Running, market: Market) -> None:
    clients = [RawClient(running.port).open() for _ in range(10)]
    for client in clients:
        subscribe(client, ["quotes"], ["*"])
        until(client, "snapshot", 2)
    for price in range(1, 50):
        market.tick("quotes", SYMBOL, Quote(str(price), "1", None, None))
    began = time.monotonic()
    running.server.should_exit = True
    for client in clients:
        frames = []
        while (found := client.frame()) is not None:
            frames.append(found)
            if found.opcode == CLOSE:
                client.send(close(1012))
        assert frames[-1].code == 1012
        last = messages(frames[-2])[-1]
        assert last["type"] == "goaway"
        seen = [
            message for one in frames if one.opcode == TEXT for message in messages(one) if message["type"] == "update"
        ]
        assert seen[-1]["seq"] == market.seq
        assert last["marks"] == {SOURCE: market.seq}
        client.socket.close()
    running.stop()
    assert time.monotonic() - began < 3


SERVER: Final = """
import asyncio, sys, uvloop
from tests.gateways import make_gateway
from feed.runtime.settings import ServeSettings
from feed.gateway.server import build_server, serve

async def main():
    gateway = make_gateway(ServeSettings(port=0, drain_ms=3000))
    gateway.health.caught_up()
    server = build_server(gateway)
    async def tell():
        await server.ready.wait()
        print(server.port, flush=True)
    telling = asyncio.create_task(tell())
    await serve(server)

with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
    runner.run(main())
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("stalls", [False, True])
def test_a_signal_ends_the_process_with_0(number: signal.Signals, stalls: bool) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER], stdout=subprocess.PIPE, cwd=Path.cwd(), env={**os.environ}
    )
    assert process.stdout is not None
    try:
        port = int(process.stdout.readline())
        with RawClient(port).open() as client:
            process.send_signal(number)
            began = time.monotonic()
            if not stalls:
                while (found := client.frame()) is not None and found.opcode != CLOSE:
                    pass
                assert found is not None
                assert found.code == 1012
                client.send(close(1012))
            assert process.wait(10) == 0
            assert time.monotonic() - began < (3.5 if stalls else 1.5)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_draining_gateway_takes_nobody() -> None:
    with Running(ServeSettings(port=0, drain_ms=2000)) as running, RawClient(running.port).open() as staying:
        running.do(lambda: setattr(running.gateway.health, "draining", True))
        assert get(running, "/readyz")[0] == 503
        with RawClient(running.port) as late:
            late.send(handshake(running.port))
            assert late.answer().status == 503
        staying.send(close(1000))


def test_a_gateway_takes_clients_when_it_has_read_the_log() -> None:
    with Running(ready=False) as running:
        with RawClient(running.port, timeout=5.0) as early:
            early.send(handshake(running.port))
            answer = early.answer()
            assert (answer.status, answer.headers["retry-after"]) == (503, "5")
        with RawClient(running.port) as waiting:
            waiting.send(handshake(running.port))
            time.sleep(0.1)
            running.do(running.gateway.health.caught_up)
            assert waiting.answer().status == 101


def test_a_client_that_resumes_while_the_log_is_read_is_not_taken_back() -> None:
    with Running(ready=False) as running:
        market = Market(running)
        with RawClient(running.port) as client:
            client.send(handshake(running.port))
            market.open()
            for price in range(1, 9):
                market.tick("quotes", SYMBOL, Quote(str(price), "1", None, None))
            running.do(running.gateway.health.caught_up)
            assert client.answer().status == 101
            subscribe(client, ["quotes"], ["*"], **{"from": {"marks": {SOURCE: market.seq}}})
            seen = until(client, "caught_up")
            assert not [message for message in seen if message["type"] in ("snapshot", "update", "gap")]
