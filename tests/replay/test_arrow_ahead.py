"""`feed.v1.arrow`: the rows of the files in the order of the messages, all else as text."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from websockets.sync.client import connect

import replay
from feed.recording.tables import SCHEMAS
from feed.wire.model import KINDS
from feed.wire.times import text_of
from tests.feed.recorder.made_up import MadeUp
from tests.feed.recorder.tape import FILES, Tape
from tests.gateways import Running
from tests.replay.desk import Desk

ALL = [*KINDS]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sources, one of which is replaced: gaps, states and snapshots between the updates."""
    root = tmp_path_factory.mktemp("recordings")
    logs = [MadeUp(f"{name}/0", [f"{name.upper()}:A"], random.Random(n)) for n, name in enumerate(("toy", "pop"))]
    for log in logs:
        log.grow(200)
        log.record()
    logs[0].new_source()
    for log in logs:
        log.grow(150)
        log.record()
    tape = Tape(root, [log.log for log in logs], files=FILES.model_copy(update={"rotate_bytes": 20_000}))
    tape.play(15)
    tape.end()
    return root


def rows_of(desk: Desk) -> dict[str, list[Any]]:
    """All rows sent, by kind."""
    found: dict[str, list[Any]] = defaultdict(list)
    for _, table in desk.rows:
        kind = table.schema.metadata[b"feed.table"].decode()
        assert table.schema.equals(SCHEMAS[kind])
        found[kind] += table.to_pylist()
    return found


def recorded(folder: Path, kind: str) -> list[Any]:
    with replay.open(str(folder)) as opened:
        table = opened.table(kind, snapshots=True)
    return [row for row in table.to_pylist() if not row["is_keyframe"]]


def in_order(rows: list[Any]) -> list[Any]:
    def place(row: Any) -> tuple[int, str, int]:
        return row["ts_recv"].value + row["clock_lag"], row["source"], row["seq"] + row["at_lag"]

    return sorted(rows, key=place)


@pytest.mark.parametrize("steps", [None, 1, 9])
def test_rows_are_those_of_the_files_in_order(folder: Path, steps: int | None) -> None:
    desk = Desk(folder, arrow=True)
    desk.subscribe(ALL, ["*"])
    desk.replay("open", speed="max")
    while desk.states[-1] != "ended":
        desk.replay("step", n=steps) if steps else desk.replay("play")
    found = rows_of(desk)
    for kind in KINDS:
        assert found[kind] == in_order(recorded(folder, kind)), kind
    assert not desk.messages("update")
    told = desk.messages("gap", "state")
    with replay.open(str(folder)) as opened:
        live = [m for m in opened.messages() if m.startswith((b'{"type":"gap"', b'{"type":"state"'))]
    assert told == [json.loads(message) for message in live]
    desk.close()


def test_what_comes_after_a_gap_comes_after_it(folder: Path) -> None:
    """Texts cut the stretches: all rows before a gap in the order are sent before it, all others after."""
    desk = Desk(folder, arrow=True)
    desk.subscribe(["book"], ["TOY:A"])
    desk.replay("open", speed="max")
    desk.replay("play")
    turn = next(m for m in desk.messages("gap") if m["reason"] == "source")
    at = next(n for n, message in enumerate(desk.sent) if json.loads(message) == turn)
    sources = [(sent, set(table["source"].to_pylist())) for sent, table in desk.rows]
    assert {source for sent, found in sources for source in found if sent <= at} == {"toy/0@a"}
    assert {source for sent, found in sources for source in found if sent > at} == {"toy/0@b"}
    desk.close()


def test_an_update_of_several_rows_is_one_step(folder: Path) -> None:
    desk = Desk(folder, arrow=True)
    desk.subscribe(["trades", "bars"], ["*"])
    desk.replay("open")
    for _ in range(30):
        before = len(desk.rows)
        desk.replay("step", n=1)
        updates = [table.filter(pa.compute.invert(table["is_snapshot"])) for _, table in desk.rows[before:]]
        assert len({(row["seq"], row["symbol"]) for table in updates for row in table.to_pylist()}) == 1
    desk.close()


def test_a_seek_and_positions_are_as_in_json(folder: Path) -> None:
    found = []
    for arrow in (True, False):
        desk = Desk(folder, arrow=arrow)
        desk.subscribe(ALL, ["*"])
        desk.replay("open", from_=text_of(150), speed="max")
        desk.replay("step", n=40)
        desk.told(desk.session.heartbeat(0))
        desk.replay("seek", time=text_of(120))
        answer = desk.subscribe(["book"], ["POP:A"], from_="snapshot")
        desk.replay("step", until=text_of(200))
        control = desk.messages("ack", "joined", "gap", "state", "snapshot", "replay", "heartbeat")
        found.append((control, answer, desk.time))
        desk.close()
    assert found[0] == found[1]


def test_binary_frames_over_a_socket(folder: Path) -> None:
    with (
        Running(recordings=folder) as running,
        connect(f"ws://127.0.0.1:{running.port}/v1/replay", subprotocols=["feed.v1.json", "feed.v1.arrow"]) as first,  # type: ignore[list-item]
        connect(f"ws://127.0.0.1:{running.port}/v1/replay", subprotocols=["feed.v1.arrow"]) as socket,  # type: ignore[list-item]
    ):
        assert (first.subprotocol, socket.subprotocol) == ("feed.v1.json", "feed.v1.arrow")
        for request in (
            {"op": "subscribe", "id": 1, "channels": ["quotes"], "symbols": ["*"]},
            {"op": "replay", "id": 2, "do": "open", "speed": "max"},
            {"op": "replay", "id": 3, "do": "play"},
        ):
            socket.send(json.dumps(request))
        rows: list[Any] = []
        state = ""
        while state != "ended":
            frame = socket.recv(timeout=10)
            if isinstance(frame, bytes):
                rows += pa.ipc.open_stream(frame).read_all().to_pylist()
                continue
            for message in json.loads(frame):
                state = message["state"] if message["type"] == "replay" else state
        assert rows == in_order(recorded(folder, "quotes"))
