"""Symbols that move to another partition: nothing of them is lost, and no clock is thrown out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from feed.recorder.rows import RowBuilder
from feed.recording.filter import Filter
from feed.recording.recording import RecordingFiles
from feed.recording.verify import faults_of
from replay.checking import Checked
from replay.repairing import repair
from tests.feed.recorder.made_up import START_NS
from tests.feed.recorder.moving import SECOND, Partition
from tests.feed.recorder.tape import Tape
from tests.feed.recorder.test_session import Stream, stream_of, updates_of


def moved(root: Path, *, step: int) -> tuple[RecordingFiles, list[Partition]]:
    """A and B in one partition; then another one is there, and A goes on in it: recorded so many records at a time."""
    old, new = Partition("toy/0"), Partition("toy/1")
    for number in range(20):
        old.trade("TOY:A" if number % 2 else "TOY:B", number)
    tape = Tape(root, [old.log])
    tape.play()
    tape.end()
    for number in range(20, 60):
        (new.trade("TOY:A", number) if number % 2 else old.trade("TOY:B", number))
    tape = Tape(root, [old.log, new.log])
    tape.play(step)
    tape.end()
    return RecordingFiles(str(root)), [old, new]


def clocks_of(stream: Stream) -> list[int]:
    return [clock for clock, *_ in stream]


@pytest.mark.parametrize("step", [1, 7, 100])
def test_a_symbol_that_moves_leaves_the_clocks_where_the_ticks_are(tmp_path: Path, step: int) -> None:
    recording, _ = moved(tmp_path, step=step)
    stream = stream_of(recording, Filter())
    assert min(clocks_of(stream)) >= START_NS
    assert max(clocks_of(stream)) < START_NS + 60 * SECOND
    assert {span.clock // SECOND for span in recording.positions.values()} <= {
        (START_NS // SECOND) + s for s in (58, 59)
    }
    assert Checked(recording).run().faults == []


@pytest.mark.parametrize("step", [1, 7, 100])
def test_each_trade_of_a_symbol_that_moves_is_an_update(tmp_path: Path, step: int) -> None:
    recording, partitions = moved(tmp_path, step=step)
    told = [message for partition in partitions for message in partition.told["TOY:A"]]
    assert updates_of(stream_of(recording, Filter()))["trades", "TOY:A"] == told


def thrown_out(
    taker: RowBuilder, turned: Any, orders: dict[str, np.ndarray], turn: np.ndarray, clock: np.ndarray
) -> None:
    """The wrong one: a turn at clock 0 adds all time since 1970 to what follows."""
    left = orders.get(turned.left)
    behind = max(taker.clocks.get(turned.left, 0), int(clock[left[-1]]) if left is not None else 0) + 1_000
    order = orders[turned.source]
    begin = int(np.flatnonzero(turn[order] == turned.number)[0])
    missing = behind - int(clock[order[begin]])
    if missing > 0:
        clock[order[begin:]] += missing


@pytest.mark.parametrize("step", [25, 100])
def test_clocks_that_no_tick_had_are_found_and_set_right(
    tmp_path: Path, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    right, _ = moved(tmp_path / "right", step=step)
    wanted = stream_of(right, Filter())
    with monkeypatch.context() as planted:
        planted.setattr(RowBuilder, "_place_after", thrown_out)
        wrong, _ = moved(tmp_path / "wrong", step=step)
    (fault,) = Checked(wrong).run().faults
    assert "clock of toy/1@a is 2083" in fault
    wrong.close()

    mended = list(repair(tmp_path / "wrong"))
    assert mended
    assert all(one.clocks and not one.lost for one in mended)
    assert not list((tmp_path / "wrong").glob("*/date=2083*/*.arrow"))
    recording = RecordingFiles(str(tmp_path / "wrong"))
    assert Checked(recording).run().faults == []
    assert [fault for place in recording.folder.places() for fault in faults_of(recording.folder, place)] == []
    found = stream_of(recording, Filter())
    assert [entry[1:] for entry in found] == [entry[1:] for entry in wanted]
    assert max(clocks_of(found)) < START_NS + 60 * SECOND
    assert list(repair(tmp_path / "wrong")) == []
