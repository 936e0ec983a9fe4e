"""What a replay costs others: live clients on the same gateway, and memory."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread

import pytest
from websockets.sync.client import ClientConnection, connect

from feed.channels.hub import Hub, HubSettings
from feed.gateway.ws import StreamProtocol
from feed.wire.model import Quote
from replay.flow import READ_AHEAD_BYTES
from replay.session import ReplaySession
from tests.bench.recorded import record
from tests.gateways import Running
from tests.market import SYMBOL, Market

UPDATES = 300_000
REQUESTS = (
    {"op": "subscribe", "id": 1, "channels": ["trades", "quotes"], "symbols": ["*"]},
    {"op": "replay", "id": 2, "do": "open", "speed": "max"},
    {"op": "replay", "id": 3, "do": "play"},
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("made") / "recordings"
    record(root, UPDATES)
    return root


@pytest.fixture
def running(folder: Path) -> Iterator[Running]:
    with Running(hub=Hub(HubSettings()), recordings=folder) as found:
        yield found


def replaying(running: Running) -> ClientConnection:
    return connect(f"ws://127.0.0.1:{running.port}/v1/replay", compression=None, max_size=None)


def updates_in(frame: str | bytes) -> int:
    assert isinstance(frame, str)
    return frame.count('{"type":"update"')


def test_live_updates_are_not_held_up_by_replays_at_full_speed(running: Running) -> None:
    """Two replays take what they can; a live update is on its way within some turns of the loop."""
    market = Market(running)
    market.open()
    over = Event()
    played = [0, 0]

    def play(number: int) -> None:
        with replaying(running) as socket:
            for request in REQUESTS:
                socket.send(json.dumps(request))
            while not over.is_set():
                frame = socket.recv(timeout=20)
                played[number] += updates_in(frame)
                if '"ended"' in str(frame[-200:]):
                    for again in ({"do": "seek", "time": "1795467600000000000"}, {"do": "play"}):
                        socket.send(json.dumps({"op": "replay", "id": 9, **again}))

    threads = [Thread(target=play, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    late: list[float] = []
    try:
        with connect(f"ws://127.0.0.1:{running.port}/v1/stream", compression=None) as live:
            live.recv(timeout=5)
            live.send(json.dumps({"op": "subscribe", "id": 1, "channels": ["quotes"], "symbols": [SYMBOL]}))
            live.recv(timeout=5)
            deadline = time.monotonic() + 20
            while min(played) == 0 and time.monotonic() < deadline:
                time.sleep(0.01)
            for number in range(150):
                began = time.perf_counter()
                market.tick("quotes", SYMBOL, Quote(str(1 + number), "1", None, None))
                while f'"seq":{market.seq}' not in str(live.recv(timeout=20)):
                    pass
                late.append(time.perf_counter() - began)
                time.sleep(0.005)
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert min(played) > 20_000
    # a turn of the loop is some ms, and two clients in this very process take most of two cores
    assert statistics.median(late) < 0.05, f"median {statistics.median(late):.3f}, worst {max(late):.3f} s"


def test_a_stalled_reader_is_waited_for_at_bounded_memory(running: Running) -> None:
    with replaying(running) as socket:
        for request in REQUESTS:
            socket.send(json.dumps(request))
        seen = 0
        while not seen:
            seen += updates_in(socket.recv(timeout=10))
        connection = running.do(lambda: next(iter(running.gateway.connections)))
        session = connection.session
        assert isinstance(session, ReplaySession)
        socket.socket.settimeout(None)
        assert running.wait_until(lambda: connection.full and not session.hungry, 20)
        time.sleep(1.0)  # what would grow, grows meanwhile
        held = running.do(lambda: (session.flow.pages.size, connection.transport.get_write_buffer_size()))
        limits = running.gateway.settings.limits
        assert held[0] <= 2 * READ_AHEAD_BYTES
        assert held[1] <= 2 * (limits.write_bytes_max + running.gateway.settings.page_bytes)
        assert running.do(lambda: session.flow.state) == "playing"
        ended = False
        while not ended:
            frame = socket.recv(timeout=20)
            seen += updates_in(frame)
            ended = '"ended"' in str(frame[-200:])
        assert seen == UPDATES, "nothing is skipped"
    assert isinstance(connection, StreamProtocol)
