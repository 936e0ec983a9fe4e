"""Of a client that is gone nothing stays, and no full collection is needed for that: this collector runs seldom."""

from __future__ import annotations

import gc
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final

import pytest

from feed.runtime.settings import LimitSettings, ServeSettings
from feed.wire.model import Trade
from tests.gateways import Running
from tests.integration.test_gateway import subscribe, until
from tests.market import SYMBOL, Market
from tests.raw_client import PING, TEXT, RawClient, close, frame, handshake, text

DEFLATE: Final = "permessage-deflate"
COUNT: Final = 5
KINDS: Final = {
    "StreamProtocol",
    "HttpProtocol",
    "FrameParser",
    "StrictConnection",
    "RequestResponseCycle",
    "Session",
    "Line",
    "Readers",
    "Reader",
    "View",
    "Selection",
}


def bomb() -> bytes:
    """60 MiB in 61 KB, without having them."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    piece = b" " * (1 << 20)
    return b"".join([compressor.compress(piece) for _ in range(60)]) + compressor.flush(zlib.Z_SYNC_FLUSH)[:-4]


BOMB: Final = frame(TEXT, bomb(), rsv=4)


def closes(client: RawClient) -> None:
    subscribe(client.open(), ["trades", "quotes"], ["*"])
    until(client, "snapshot", 4)
    client.send(close(1000))
    client.closed_with()


def breaks_off(client: RawClient) -> None:
    subscribe(client.open(), ["trades"], ["*"])
    until(client, "snapshot", 2)


def has_views(client: RawClient) -> None:
    ask = '{"op":"subscribe","id":1,"channels":["trades","quotes"],"symbols":["*"],"every_ms":100}'
    client.open().send(text(ask))
    until(client, "snapshot", 4)


def sends_a_bomb(client: RawClient) -> None:
    client.open(Sec_WebSocket_Extensions=DEFLATE).send(BOMB)
    assert client.closed_with() == 1009


def breaks_the_protocol(client: RawClient) -> None:
    client.open().send(frame(0x3, b"x"))
    assert client.closed_with() == 1002


def asks_for_another_path(client: RawClient) -> None:
    client.send(handshake(client.port, path="/v1/elsewhere"))
    assert client.answer().status == 404


def asks_by_http(client: RawClient) -> None:
    for _ in range(2):
        client.send(b"GET /livez HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
        assert client.answer().status == 200


def sends_no_http(client: RawClient) -> None:
    client.send(b"GET\x00\r\n\r\n")
    assert client.ends_within(2)


CLIENTS: Final = (
    closes,
    breaks_off,
    has_views,
    sends_a_bomb,
    breaks_the_protocol,
    asks_for_another_path,
    asks_by_http,
    sends_no_http,
)


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    with Running(ServeSettings(port=0, heartbeat_ms=60_000, ping_interval_ms=60_000)) as found:
        Market(found).open()
        yield found


@pytest.fixture
def uncollected() -> Iterator[None]:
    """Nothing is collected but what nobody refers to."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def there() -> Counter[str]:
    """How many objects of those that make a client there are."""
    names = [type(one).__name__ for one in gc.get_objects()]
    return Counter(name for name in names if name in KINDS)


@pytest.mark.usefixtures("uncollected")
@pytest.mark.parametrize("behaves", CLIENTS, ids=lambda act: act.__name__)
def test_nothing_stays_of_a_client_that_is_gone(running: Running, behaves: Callable[[RawClient], None]) -> None:
    before = there()
    for _ in range(COUNT):
        with RawClient(running.port) as client:
            behaves(client)
    running.do(running.gateway.fanout.notify)
    assert running.wait_until(lambda: not there() - before, 3), there() - before


@pytest.mark.slow
def test_who_says_nothing_more_and_takes_nothing_is_dropped() -> None:
    limits = LimitSettings(close_seconds=0.3)
    with Running(ServeSettings(port=0, heartbeat_ms=60_000, limits=limits)) as running:
        market = Market(running)
        market.open()
        with RawClient(running.port, receive_buffer=4096).open() as client:
            subscribe(client, ["trades"], [SYMBOL])
            until(client, "snapshot")
            for _ in range(60):
                market.tick("trades", SYMBOL, [Trade("1", "2", "buy", "x" * 500, None)] * 14)
            running.shown()
            assert running.do(lambda: max(one.transport.get_write_buffer_size() for one in running.gateway.connections))
            client.socket.shutdown(1)
            assert running.wait_until(lambda: len(running.gateway.doors) == 0, 3)


def test_who_says_nothing_more_and_reads_on_gets_what_was_on_its_way(running: Running) -> None:
    with RawClient(running.port).open() as client:
        client.send(text('{"op":"ping","id":1}'))
        assert running.wait_until(lambda: running.gateway.counts.received.value > 0)
        client.socket.shutdown(1)
        found = client.frames()
        assert [one.opcode for one in found if one.opcode != PING] == [TEXT]
