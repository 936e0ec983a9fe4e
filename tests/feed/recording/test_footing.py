"""Recordings whose first files were deleted: what is left of them is told as what it is, and nothing as more."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from feed.gateway.recordings import range_of
from feed.recording.filter import Filter
from feed.recording.folder import Folder
from feed.recording.footing import WHOLE
from feed.recording.notes import CorruptRecording
from feed.recording.recording import RecordingFiles
from feed.recording.table_files import FROM_BEGIN, RecordingCut
from feed.recording.tables import TABLES
from feed.wire.message import END, START
from feed.wire.model import KINDS, NO_SEQ
from replay.checking import Checked
from replay.republish import begin_of
from tests.feed.recorder.made_up import MadeUp
from tests.feed.recorder.tape import Tape
from tests.feed.recorder.test_session import made_up, standing_of, stream_of
from tests.replay.desk import Desk

SEEDS = range(4)
HOW = ["restarted", "rotated"]


def trimmed(root: Path, logs: list[MadeUp], how: str, *, step: int = 6, delete: bool = True) -> RecordingFiles:
    """Recorded in two pieces, the second by another recorder or in other files, and the files of the first are gone."""
    tape = Tape(root, [log.log for log in logs])
    for number, log in enumerate(logs):
        for _ in range(len(log.records) // (2 * step)):
            tape.read(number, step)
            tape.commit()
    if how == "restarted":
        tape.end()
        tape = Tape(root, [log.log for log in logs])
    else:
        tape.rotate(TABLES)
    first = Folder(str(root)).places()
    tape.play(step)
    tape.end()
    for place in first if delete else []:
        (root / place.path).unlink(missing_ok=True)
    return RecordingFiles(str(root))


@pytest.mark.slow
@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("seed", SEEDS)
def test_a_channel_stands_as_in_the_whole_recording_or_not_at_all(seed: int, how: str, tmp_path: Path) -> None:
    chance = random.Random(seed)
    logs = made_up(chance)
    stream = stream_of(trimmed(tmp_path / "whole", logs, how, delete=False), Filter())
    recording = trimmed(tmp_path / "trimmed", logs, how)
    footing = recording.footing()
    assert footing > WHOLE
    left = [entry[0] for entry in stream_of(recording, Filter())]
    cuts = [left[0], footing - 1, footing, footing + 1, *left[:40], *(chance.choice(left) for _ in range(8))]
    for clock in cuts:
        wanted = standing_of([entry for entry in stream if entry[0] <= clock])
        found = {
            key: [message[len(START) : -len(END)] for message in one.messages]
            for key, one in recording.standing(Filter(), RecordingCut(clock)).items()
        }
        for key, messages in found.items():
            # where the states of the deleted files are missing, nothing is said of them
            assert messages == wanted[key] or (clock < footing and messages == wanted[key][:-1]), key
        assert clock < footing or found.keys() == wanted.keys()


@pytest.mark.slow
@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("seed", SEEDS)
def test_a_replay_of_it_begins_with_snapshots(seed: int, how: str, tmp_path: Path) -> None:
    logs = made_up(random.Random(seed))
    recording = trimmed(tmp_path, logs, how)
    there, stream = range_of(recording), stream_of(recording, Filter())
    wanted = recording.standing(Filter(), RecordingCut(there.begin - 1))
    assert wanted
    desk = Desk(tmp_path)
    desk.subscribe([*KINDS], ["*"])
    desk.replay("open", speed="max")
    begun = {(one["channel"], one["symbol"]): one for one in desk.messages("joined")}
    assert {key: (one["mode"], one["seq"]) for key, one in begun.items()} == {
        key: ("snapshot", found.seq) for key, found in wanted.items()
    }
    desk.replay("play")
    for one in desk.messages("joined"):
        if one["channel"] == "book" and (one["channel"], one["symbol"]) not in begun:
            assert one["mode"] == "snapshot" or one["seq"] == NO_SEQ, one
    assert not desk.client.holes
    assert list(desk.data())[-1] == stream[-1][4]
    desk.close()


def test_it_is_published_from_where_its_channels_stand(tmp_path: Path) -> None:
    recording = trimmed(tmp_path, made_up(random.Random(1), 60), "restarted")
    footing = recording.footing(Filter(["book"]).tables)
    assert begin_of(recording, Filter(["book"]), FROM_BEGIN) == RecordingCut(footing)
    assert begin_of(recording, Filter(["book"]), RecordingCut(footing + 9)) == RecordingCut(footing + 9)
    assert recording.standing(Filter(["book"]), RecordingCut(footing))


@pytest.mark.slow
@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_is_wrong_with_it(seed: int, how: str, tmp_path: Path) -> None:
    assert Checked(trimmed(tmp_path, made_up(random.Random(seed)), how)).run().faults == []


def test_a_damaged_batch_at_its_begin_moves_nothing(tmp_path: Path) -> None:
    recording = trimmed(tmp_path, made_up(random.Random(1), 60), "restarted")
    wanted = range_of(recording)
    file = recording.files_by_table["book"].file(0)
    path, blocks = tmp_path / file.place.path, [block for block in file.blocks if block.rows]
    recording.close()
    data = bytearray(path.read_bytes())
    data[blocks[0].end - 40] ^= 1
    path.write_bytes(data)
    damaged = RecordingFiles(str(tmp_path))
    with pytest.raises(CorruptRecording):
        stream_of(damaged, Filter(["book"]))
    assert range_of(damaged) == wanted
    damaged.close()


def test_a_kind_that_was_chosen_later_takes_nothing_of_the_others(tmp_path: Path) -> None:
    log = MadeUp("toy/0", ["TOY:A", "TOY:B"], random.Random(5))
    log.grow(60)
    log.record()
    for kinds in (["trades"], ["trades", "book"]):
        tape = Tape(tmp_path, [log.log], chosen=Filter(kinds))
        tape.play(6)
        tape.end()
        log.grow(60)
        log.record()
    recording = RecordingFiles(str(tmp_path))
    assert not recording.files_by_table["book"].has_first
    assert recording.footing() == WHOLE
    assert range_of(recording).begin == stream_of(recording, Filter())[0][0]


def test_what_ends_before_its_first_round_is_nothing_to_stand_on(tmp_path: Path) -> None:
    """A recorder died behind its first commit: without the files before, that is a change to nobody knows what."""
    log = MadeUp("toy/0", ["TOY:A", "TOY:B"], random.Random(6))
    log.grow(150)
    log.record()
    tape = Tape(tmp_path, [log.log])
    while not log.source.truth("book", "TOY:A").begun or tape.logs[0].at < len(log.records) // 2:
        tape.read(0, 5)
        tape.commit()
    tape.end()
    first = Folder(str(tmp_path)).places()
    tape = Tape(tmp_path, [log.log])
    while tape.read(0, 30):
        pass
    positions = {one.source: (one.reader.pos, one.taken) for one in tape.logs}
    tape.commits.write(*tape.session.take(positions))
    tape.die()
    for place in first:
        (tmp_path / place.path).unlink()
    recording = RecordingFiles(str(tmp_path))
    end = range_of(recording).end
    assert [update for update in stream_of(recording, Filter(["book"])) if b'"type":"update"' in update[4]]
    assert not any(kind == "book" for kind, _ in recording.standing(Filter(), RecordingCut(end)))
    assert range_of(recording).begin > max(span.clock for span in recording.positions.values())
