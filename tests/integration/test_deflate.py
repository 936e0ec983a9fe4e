"""permessage-deflate (RFC 7692): what is agreed, what is sent, what is taken; each frame compressed once for all."""

from __future__ import annotations

import asyncio
import json
import os
import zlib
from collections.abc import Iterator
from typing import Any, Final

import psutil
import pytest
from websockets.asyncio.client import connect
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory, PerMessageDeflate

from feed.gateway.deflate import Inflating
from feed.runtime.settings import LimitSettings, ServeSettings
from feed.wire.model import Trade
from tests.gateways import Running
from tests.integration.test_gateway import messages, subscribe, until
from tests.market import SYMBOL, Market
from tests.raw_client import CONT, PING, PONG, TEXT, RawClient, deflated, frame, handshake, text

BROWSER: Final = "permessage-deflate; client_max_window_bits"
AGREED: Final = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
ASK: Final = b'{"op":"ping","id":1}'
BIG: Final = [Trade("60000.5", "0.1", "buy", str(number), None) for number in range(40)]


@pytest.fixture
def running() -> Iterator[Running]:
    """A gateway with room for its rates."""
    limits = LimitSettings(bytes_per_second=100_000_000, frames_per_second=1_000_000, close_seconds=1.0)
    settings = ServeSettings(port=0, heartbeat_ms=60_000, ping_interval_ms=60_000, limits=limits, deflate_share=0.9)
    with Running(settings) as found:
        yield found


@pytest.fixture
def market(running: Running) -> Market:
    found = Market(running)
    found.open()
    return found


def count_of(running: Running, name: str) -> int:
    """A counter of the gateway."""
    return running.gateway.metrics.counter(name, "").value


# ---- what is agreed

OFFERS: Final = {
    "permessage-deflate": AGREED,
    BROWSER: AGREED,
    "permessage-deflate; server_no_context_takeover; client_no_context_takeover": AGREED,
    "permessage-deflate; client_no_context_takeover; client_max_window_bits": AGREED,
    "permessage-deflate; client_max_window_bits=10": f"{AGREED}; client_max_window_bits=10",
    'permessage-deflate; client_max_window_bits="10"': f"{AGREED}; client_max_window_bits=10",
    "permessage-deflate; server_max_window_bits=15": f"{AGREED}; server_max_window_bits=15",
    "permessage-deflate; server_max_window_bits=12": f"{AGREED}; server_max_window_bits=12",
    # our window is larger: the next offer, or none
    "permessage-deflate; server_max_window_bits=10, permessage-deflate": AGREED,
    "permessage-deflate; server_max_window_bits=10": None,
    "permessage-deflate; server_max_window_bits=8": None,
    # the first of several that will do
    "permessage-deflate; client_max_window_bits, permessage-deflate": AGREED,
    "x-webkit-deflate-frame, permessage-deflate": AGREED,
    "x-webkit-deflate-frame": None,
    # parameters that RFC 7692 does not have, or not so: declined (7.1)
    "permessage-deflate; unheard_of": None,
    "permessage-deflate; server_no_context_takeover=1": None,
    "permessage-deflate; client_no_context_takeover; client_no_context_takeover": None,
    "permessage-deflate; server_max_window_bits": None,
    "permessage-deflate; server_max_window_bits=7": None,
    "permessage-deflate; server_max_window_bits=16": None,
    "permessage-deflate; server_max_window_bits=012": None,
    "permessage-deflate; server_max_window_bits=-1": None,
    "permessage-deflate; client_max_window_bits=999": None,
    'permessage-deflate; server_max_window_bits="8"; server_max_window_bits=9': None,
    "permessage-deflate; server_max_window_bits=15" * 50: None,
}


@pytest.mark.parametrize("offered", OFFERS, ids=range(len(OFFERS)))
def test_what_is_agreed(running: Running, offered: str) -> None:
    with RawClient(running.port) as client:
        client.send(handshake(running.port, Sec_WebSocket_Extensions=offered))
        answer = client.answer()
    assert answer.status == 101
    assert answer.headers.get("sec-websocket-extensions") == OFFERS[offered]


@pytest.mark.parametrize("offered", [";;;,,,===", 'permessage-deflate; =; "', "permessage-deflate;", " ; a", "\xe9"])
def test_what_is_no_offer_at_all_is_refused(running: Running, offered: str) -> None:
    with RawClient(running.port) as client:
        client.send(handshake(running.port, Sec_WebSocket_Extensions=offered))
        assert client.answer().status == 400


def test_it_may_be_off(market: Market) -> None:
    with Running(ServeSettings(port=0, deflate=False)) as running:
        for offered in (BROWSER, ";;;,,,==="):
            with RawClient(running.port) as client:
                client.send(handshake(running.port, Sec_WebSocket_Extensions=offered))
                answer = client.answer()
            assert answer.status == 101
            assert "sec-websocket-extensions" not in answer.headers


# ---- what is sent


def test_the_same_bytes_as_a_client_without(running: Running, market: Market) -> None:
    with (
        RawClient(running.port).open() as plain,
        RawClient(running.port).open(Sec_WebSocket_Extensions=BROWSER) as packed,
    ):
        payloads: list[list[bytes]] = [[], []]
        for client in (plain, packed):
            subscribe(client, ["trades", "quotes"], ["*"])
            until(client, "snapshot", 4)
        for count in (1, 40, 3, 400, 40):
            market.tick("trades", SYMBOL, BIG * (count // 40) or BIG[:count])
        for client, seen in zip((plain, packed), payloads, strict=True):
            while sum(payload.count(b'"update"') for payload in seen) < 5:
                found = client.frame()
                assert found is not None
                seen.append(found.payload)
        assert payloads[0] == payloads[1]
        assert len(packed.compressed) == 3
        assert sum(map(len, packed.compressed)) < sum(map(len, payloads[0])) / 5


def test_a_frame_is_compressed_once_for_fifty_clients(
    running: Running, market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    made = zlib.compressobj

    def counting(*how: Any) -> Any:
        calls.append(1)
        return made(*how)

    clients = [RawClient(running.port).open(Sec_WebSocket_Extensions=BROWSER) for _ in range(50)]
    for client in clients:
        subscribe(client, ["trades"], [SYMBOL])
        until(client, "snapshot")
    running.do(lambda: monkeypatch.setattr("feed.gateway.deflate.zlib.compressobj", counting))
    for _ in range(3):
        market.tick("trades", SYMBOL, BIG)
    for client in clients:
        until(client, "update", 3)
        assert len(client.compressed) == 3
        client.socket.close()
    assert len({tuple(client.compressed) for client in clients}) == 1
    assert len(calls) == 3
    assert count_of(running, "feed_gateway_deflated") == 3
    assert count_of(running, "feed_gateway_deflated_bytes") > 4 * count_of(running, "feed_gateway_deflated_to_bytes")


def test_who_was_left_behind_shares_it_too(running: Running, market: Market) -> None:
    """Pages of readers with equal selections hold equal frames."""
    clients = [RawClient(running.port, receive_buffer=8192).open(Sec_WebSocket_Extensions=BROWSER) for _ in range(5)]
    for client in clients:
        subscribe(client, ["trades"], [SYMBOL])
        until(client, "snapshot")
    before = count_of(running, "feed_gateway_deflated")
    big = [Trade("1", "2", "buy", os.urandom(300).hex(), None) for _ in range(14)]
    for _ in range(300):
        market.tick("trades", SYMBOL, big)
    assert running.do(lambda: running.gateway.distributor.behind) > 0
    for client in clients:
        assert sum(message["type"] == "update" for message in until(client, "update", 300)) == 300
        client.socket.close()
    assert count_of(running, "feed_gateway_deflated") - before <= 310


@pytest.mark.anyio
async def test_a_client_of_websockets(running: Running, market: Market) -> None:
    """With its default offer, and with one that asks for context takeover in vain."""
    for extensions in (None, [ClientPerMessageDeflateFactory(client_max_window_bits=9)]):
        async with connect(
            f"ws://127.0.0.1:{running.port}/v1/stream",
            extensions=extensions,
            compression=None if extensions else "deflate",
        ) as socket:
            agreed = socket.protocol.extensions[0]
            assert isinstance(agreed, PerMessageDeflate)
            assert agreed.remote_no_context_takeover
            assert agreed.local_no_context_takeover
            await socket.send(json.dumps({"op": "subscribe", "id": 1, "channels": ["trades"], "symbols": [SYMBOL]}))
            await asyncio.to_thread(market.tick, "trades", SYMBOL, BIG)
            seen: list[Any] = []
            while not any(message["type"] == "update" for message in seen):
                seen += json.loads(await asyncio.wait_for(socket.recv(), 5))
            assert [message["type"] for message in seen[:2]] == ["welcome", "ack"]
            assert len(seen[-1]["data"]) == len(BIG)


def test_no_connection_keeps_a_compressor(running: Running, market: Market) -> None:
    with RawClient(running.port).open(Sec_WebSocket_Extensions=BROWSER) as client:
        client.send(frame(TEXT, deflated(ASK), rsv=4))
        assert messages(client.frame())[0]["type"] == "pong"
        (connection,) = running.gateway.connections
        (extension,) = connection.conn.extensions
        assert not hasattr(extension, "encoder")
        assert not hasattr(extension, "decoder")


# ---- what is taken


def opened(running: Running) -> RawClient:
    return RawClient(running.port).open(Sec_WebSocket_Extensions=BROWSER)


def test_compressed_and_plain_requests_in_any_order(running: Running) -> None:
    with opened(running) as client:
        for number in range(7):
            ask = b'{"op":"ping","id":%d}' % number
            packed = deflated(ask)
            kinds = [
                text(ask),
                frame(TEXT, packed, rsv=4),
                frame(TEXT, packed[:5], rsv=4, fin=False) + frame(PING, b"x") + frame(CONT, packed[5:]),
                frame(TEXT, deflated(ask, level=0), rsv=4),
                # two blocks (7.2.3.5), one that is final (7.2.3.4), an empty fragment
                frame(TEXT, deflated(ask[:9]) + b"\0\0\xff\xff" + deflated(ask[9:]), rsv=4),
                frame(TEXT, zlib.compress(ask, wbits=-15) + b"\0", rsv=4),
                frame(TEXT, packed, rsv=4, fin=False) + frame(CONT, b""),
            ]
            client.send(kinds[number])
            while (found := client.frame()) is not None and found.opcode == PONG:
                pass
            assert messages(found)[0] == {**messages(found)[0], "type": "pong", "id": number}


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (frame(TEXT, ASK, rsv=4), 1002),
        (frame(TEXT, b"\xff" * 50, rsv=4), 1002),
        (frame(TEXT, deflated(ASK)[:5], rsv=4, fin=False) + frame(CONT, deflated(ASK)[5:], rsv=4), 1002),
        (frame(CONT, deflated(ASK), rsv=4), 1002),
        (frame(TEXT, deflated(ASK), rsv=2), 1002),
        (frame(PING, b"ab", rsv=4), 1002),
        (frame(TEXT, deflated(b"\xff\xfe" * 10), rsv=4), 1007),
        (frame(TEXT, deflated(b" " * (64 * 1024 + 1)), rsv=4), 1009),
        (
            frame(TEXT, deflated(b" " * 80_000)[:60], rsv=4, fin=False) + frame(CONT, deflated(b" " * 80_000)[60:]),
            1009,
        ),
    ],
    ids=["plain", "junk", "rsv1 in a continuation", "continuation", "rsv2", "ping", "not UTF-8", "big", "big pieces"],
)
def test_what_is_broken_has_its_code(running: Running, sent: bytes, code: int) -> None:
    with opened(running) as client:
        client.send(sent)
        assert client.closed_with() == code


def test_a_bomb_is_refused_and_costs_nothing(running: Running) -> None:
    """64 MiB of blanks are 64 KiB compressed."""
    bomb = frame(TEXT, deflated(b" " * (64 << 20)), rsv=4)
    with opened(running) as client:
        before, cpu = psutil.Process().memory_info().rss, running.cpu()
        client.send(bomb[: 64 * 1024])
        client.send(bomb[64 * 1024 :])
        assert client.closed_with() == 1009
        assert psutil.Process().memory_info().rss - before < 4 << 20
        assert running.cpu() - cpu < 0.2


def test_inflated_bytes_count_for_the_rate() -> None:
    limits = LimitSettings(bytes_per_second=20_000, burst_seconds=2.0)
    with Running(ServeSettings(port=0, limits=limits)) as running, opened(running) as client:
        ask = frame(TEXT, deflated(ASK + b" " * 30_000), rsv=4)
        client.send(ask * 3)
        assert [messages(client.frame())[0]["type"] for _ in range(2)] == ["pong"] * 2
        told = messages(client.frame())[0]
        assert told["code"] == "rate_limited"
        assert 500 < told["retry_after_ms"] < 1500
        assert messages(client.frame())[0]["type"] == "pong"


def test_a_compressed_message_counts_while_it_inflates(monkeypatch: pytest.MonkeyPatch) -> None:
    """4 KB of a client are one read, and may be forty messages that become 2.4 MB: no more than its burst at once."""
    limits = LimitSettings(bytes_per_second=65_536, burst_seconds=2.0)
    with Running(ServeSettings(port=0, limits=limits)) as running, opened(running) as client:
        inflated: list[int] = []
        take = Inflating.take

        def counting(self: Inflating, *how: Any) -> bytes:
            found = take(self, *how)
            inflated.append(len(found))
            return found

        monkeypatch.setattr(Inflating, "take", counting)
        ask = frame(TEXT, deflated(ASK + b" " * 65_000, level=9), rsv=4)
        client.send(ask * 40)
        assert len(ask) * 40 < 5000
        while messages(client.frame())[0].get("code") != "rate_limited":
            pass
        assert sum(inflated) <= 3 * 65_536


def test_without_the_extension_nothing_is_inflated(running: Running) -> None:
    with RawClient(running.port).open() as client:
        client.send(frame(TEXT, deflated(ASK), rsv=4))
        assert client.closed_with() == 1002
