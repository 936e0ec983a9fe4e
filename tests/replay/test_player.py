"""Replays over sockets: the whole way from files to a client, and what one client may cost."""

from __future__ import annotations

import contextlib
import errno
import json
import random
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from feed.gateway.recordings import Range, Recordings
from feed.recording.files import RecordedFile
from feed.recording.filter import Filter
from feed.recording.folder import Folder
from feed.recording.notes import CorruptRecording
from feed.recording.recording import RecordingFiles
from feed.runtime.settings import LimitSettings, ServeSettings
from feed.wire.model import KINDS
from feed.wire.times import text_of
from tests.feed.recorder.made_up import MadeUp
from tests.feed.recorder.tape import Tape
from tests.gateways import Running

Json = dict[str, Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    log = MadeUp("toy/0", ["TOY:A", "TOY:B", "TOY:C"], random.Random(3))
    log.grow(300)
    log.record()
    root = tmp_path_factory.mktemp("recordings")
    tape = Tape(root, [log.log])
    tape.play()
    tape.end()
    return root


@pytest.fixture(scope="module")
def served(folder: Path) -> Iterator[Running]:
    limits = LimitSettings(replays_max=3)
    settings = ServeSettings(port=0, limits=limits, heartbeat_ms=200, ping_interval_ms=60_000)
    with Running(settings, recordings=folder) as running:
        yield running


class Viewer:
    """A client of a replay, over a socket."""

    def __init__(self, running: Running, **more: Any) -> None:
        self._stack = contextlib.ExitStack()
        opened = connect(f"ws://127.0.0.1:{running.port}/v1/replay", **more)
        self.socket: ClientConnection = self._stack.enter_context(opened)
        self.messages: list[Json] = []
        self._next = 0
        self._asked = 0

    def __enter__(self) -> Viewer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._stack.close()

    def ask(self, **request: Any) -> Json:
        """A request; its answer, what comes before it is kept."""
        self._next += 1
        self._asked = len(self.messages)
        self.socket.send(json.dumps({"id": self._next, **request}))
        return self.until(lambda message: message.get("id") == self._next)

    def replay(self, do: str, **more: Any) -> Json:
        return self.ask(op="replay", do=do, **more)

    def until(self, wanted: Any, seconds: float = 20) -> Json:
        """The first message since the last request that is wanted."""
        deadline = time.monotonic() + seconds
        seen = self._asked
        while True:
            for message in self.messages[seen:]:
                if wanted(message):
                    return message
            seen = len(self.messages)
            self.messages += json.loads(self.socket.recv(timeout=deadline - time.monotonic()))

    def state(self, state: str) -> Json:
        return self.until(lambda message: message["type"] == "replay" and message["state"] == state)

    def data(self) -> list[Json]:
        return [m for m in self.messages if m["type"] in ("update", "snapshot", "gap", "state")]


def recorded(folder: Path) -> list[Json]:
    recording = RecordingFiles(str(folder))
    found = [json.loads(m) for p in recording.pages(Filter(), separator="") for m in p.messages.to_pylist()]
    recording.close()
    return found


@pytest.mark.parametrize("subprotocol", [None, "feed.v1.json"])
def test_a_replay_over_a_socket(served: Running, folder: Path, subprotocol: Any) -> None:
    with Viewer(served, subprotocols=[subprotocol] if subprotocol else None) as viewer:
        assert viewer.socket.subprotocol == subprotocol
        assert viewer.until(lambda m: True)["type"] == "welcome"
        viewer.ask(op="subscribe", channels=[*KINDS], symbols=["*"])
        assert viewer.replay("open", speed="max")["ok"]
        viewer.state("ready")
        viewer.replay("play")
        viewer.state("ended")
        assert viewer.data() == recorded(folder)
        beat = viewer.until(lambda m: m["type"] == "heartbeat")
        assert beat["marks"] == {"toy/0@a": max(m["seq"] for m in viewer.data())}
        # and back to the middle, while it is open
        middle = recorded(folder)[len(recorded(folder)) // 2]["seq"]
        viewer.replay("seek", time=text_of(middle))
        viewer.state("paused")
        assert [m["reason"] for m in viewer.data() if m["type"] == "gap"].count("seek") == len(
            {(m["channel"], m["symbol"]) for m in recorded(folder)}
        )


def test_it_goes_at_the_pace_that_it_is_told(served: Running, folder: Path) -> None:
    """The recording is 300 ns and a few us long, so every speed is quick; what counts is that it ends by the clock."""
    with Viewer(served) as viewer:
        viewer.ask(op="subscribe", channels=[*KINDS], symbols=["TOY:A"])
        viewer.replay("open", speed=0.1)
        viewer.replay("play")
        viewer.state("ended")
        assert viewer.data() == [m for m in recorded(folder) if m["symbol"] == "TOY:A"]


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        ({"op": "replay", "do": "play"}, "bad_replay"),
        ({"op": "replay", "do": "fly"}, "bad_message"),
        ({"op": "replay"}, "bad_message"),
        ({"op": "replay", "do": "open", "from": "soon"}, "bad_replay"),
        ({"op": "replay", "do": "open", "from": "1795973660"}, "bad_replay"),
        ({"op": "replay", "do": "open", "to": "0"}, "bad_replay"),
        ({"op": "replay", "do": "open", "from": text_of(2), "to": text_of(2)}, "bad_replay"),
        ({"op": "replay", "do": "open", "from": "2026-01-01T00:00:00Z"}, "no_recording"),
        ({"op": "replay", "do": "open", "speed": 0.01}, "bad_replay"),
        ({"op": "replay", "do": "open", "speed": 1001}, "bad_replay"),
        ({"op": "replay", "do": "open", "speed": "fast"}, "bad_message"),
        ({"op": "subscribe", "channels": ["book"], "symbols": ["*"], "from": {"marks": {}}}, "bad_position"),
        ({"op": "subscribe", "channels": ["book"], "symbols": ["*"], "from": {"last": 3}}, "bad_position"),
        ({"op": "subscribe", "channels": ["book"], "symbols": ["*"], "from": {"time": text_of(3)}}, "bad_position"),
        ({"op": "subscribe", "channels": ["book"], "symbols": ["*"], "every_ms": 50}, "bad_message"),
        ({"op": "subscribe", "channels": ["book"], "symbols": ["*"], "depth": 10}, "bad_message"),
    ],
)
def test_refusals_are_named(served: Running, request_: Json, code: str) -> None:
    with Viewer(served) as viewer:
        assert viewer.ask(**request_)["code"] == code


@pytest.mark.parametrize(
    "request_",
    [
        {"do": "open"},
        {"do": "seek"},
        {"do": "seek", "time": "9" * 18},
        {"do": "seek", "time": "1795973660123"},
        {"do": "step"},
        {"do": "step", "n": 0},
        {"do": "step", "n": 1, "until": text_of(300)},
        {"do": "step", "until": text_of(0)},
        {"do": "speed"},
        {"do": "speed", "speed": 0},
    ],
)
def test_refusals_after_open_are_named_and_change_nothing(served: Running, request_: Json) -> None:
    with Viewer(served) as viewer:
        viewer.replay("open", **{"from": text_of(100)})
        assert viewer.ask(op="replay", **request_)["code"] == "bad_replay"
        assert viewer.replay("pause")["ok"]
        viewer.replay("stop")
        assert viewer.replay("play")["code"] == "bad_replay"
        assert viewer.replay("open")["ok"]


def test_items_that_cannot_be_are_named_and_the_others_go_on(served: Running) -> None:
    with Viewer(served) as viewer:
        answer = viewer.ask(op="subscribe", channels=["book", "tapes"], symbols=["TOY:A", "NO:PE", "NO:*"])
        assert [(r["ok"], r.get("code"), r.get("matched")) for r in answer["results"]] == [
            (True, None, None),
            (False, "unknown_symbol", None),
            (True, None, 0),
            (False, "unknown_channel", None),
            (False, "unknown_channel", None),
            (False, "unknown_channel", None),
        ]
        listed = viewer.ask(op="list")["results"]
        assert [(r["channel"], r["symbol"], r.get("matched")) for r in listed] == [
            ("book", "TOY:A", None),
            ("book", "NO:*", 0),
        ]


def test_one_replay_more_than_allowed_is_refused_and_places_are_given_back(served: Running) -> None:
    viewers = [Viewer(served) for _ in range(3)]
    with pytest.raises(InvalidStatus, match="503"):
        Viewer(served)
    viewers.pop().close()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            viewers.append(Viewer(served))
            break
        except InvalidStatus:
            time.sleep(0.02)
    assert len(viewers) == 3
    for viewer in viewers:
        viewer.close()


def test_the_door(served: Running, tmp_path: Path) -> None:
    with pytest.raises(InvalidStatus, match="403"):
        Viewer(served, origin="https://elsewhere.example")
    with pytest.raises(InvalidStatus, match="400"):
        Viewer(served, subprotocols=["feed.v9"])
    with Running() as bare, pytest.raises(InvalidStatus, match="404"):
        Viewer(bare)
    with Running(recordings=tmp_path / "later") as empty, Viewer(empty) as viewer:
        assert viewer.replay("open")["code"] == "no_recording"


def test_a_damaged_batch_ends_the_connection_and_says_so(folder: Path, tmp_path: Path) -> None:
    root = tmp_path / "damaged"
    shutil.copytree(folder, root)
    place = Folder(str(root)).places(["trades"])[0]
    file = root / place.path
    data = bytearray(file.read_bytes())
    opened = RecordedFile(Folder(str(root)), place)
    block = next(block for block in opened.blocks if any(span.rows for span in block.note.sources.values()))
    data[block.end - 40] ^= 1
    opened.close()
    file.write_bytes(data)
    with Running(recordings=root) as running, Viewer(running) as viewer:
        viewer.ask(op="subscribe", channels=["trades"], symbols=["*"])
        viewer.replay("open", speed="max")
        viewer.socket.send(json.dumps({"op": "replay", "id": 0, "do": "play"}))
        with pytest.raises(ConnectionClosed) as closed:
            viewer.state("ended")
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1011


def test_files_are_closed_when_the_client_goes(served: Running, folder: Path) -> None:
    viewer = Viewer(served)
    viewer.ask(op="subscribe", channels=["trades"], symbols=["*"])
    viewer.replay("open")
    viewer.state("ready")
    assert _open_files(folder)
    viewer.socket.socket.shutdown(socket.SHUT_RDWR)
    deadline = time.monotonic() + 10
    while _open_files(folder) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not _open_files(folder)


@pytest.mark.parametrize(
    ("error", "status"),
    [(partial(OSError, errno.EMFILE), 503), (CorruptRecording, 500), (KeyError, 500)],
)
def test_a_replay_that_cannot_begin_leaves_no_file_open(
    error: Callable[[str], Exception], status: int, served: Running, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(self: Recordings, recording: RecordingFiles) -> Range:
        assert recording.positions
        raise error("planted")

    monkeypatch.setattr(Recordings, "range_of", fails)
    with pytest.raises(InvalidStatus, match=str(status)):
        Viewer(served)
    deadline = time.monotonic() + 10
    while _open_files(folder) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not _open_files(folder)


def _open_files(folder: Path) -> int:
    count = 0
    for entry in Path("/proc/self/fd").iterdir():
        try:
            count += str(entry.readlink()).startswith(str(folder))
        except OSError:
            continue
    return count
