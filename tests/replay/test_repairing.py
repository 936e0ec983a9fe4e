"""A recording that is repaired says what it has lost: no update is missing in silence, and no client is misled."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from feed.channels.channel import LOST_KINDS
from feed.recording.files import RecordedFile
from feed.recording.filter import Filter
from feed.recording.folder import Folder
from feed.recording.recording import RecordingFiles
from feed.recording.table_files import TO_END
from feed.wire.message import END, START
from feed.wire.model import KINDS
from replay.checking import Checked, file_faults
from replay.repairing import repair
from tests.feed.recorder.made_up import MadeUp, head, truth_of
from tests.feed.recorder.moving import Partition
from tests.feed.recorder.tape import Log, Tape
from tests.feed.recorder.test_session import EAGER, Stream, standing_of, stream_of, updates_of


def recorded(root: Path, seed: int) -> MadeUp:
    log = MadeUp("toy/0", ["TOY:A", "TOY:B"], random.Random(seed))
    log.grow(120)
    log.record()
    tape = Tape(root, [log.log], files=EAGER)
    while tape.read(0, 4):
        tape.commit()
        if tape.commits.number % 9 == 0:
            tape.rotate(tape.commits.tables)
    tape.end()
    return log


def damage(root: Path, table: str, number: int, block: int) -> None:
    """A bit of a batch is another one."""
    folder = Folder(str(root))
    place = folder.places([table])[number]
    file = RecordedFile(folder, place)
    data = bytearray((root / place.path).read_bytes())
    data[file.blocks[block].end - 20] ^= 8
    file.close()
    (root / place.path).write_bytes(data)


def followed(stream: Stream) -> dict[tuple[str, str], list[int]]:
    """The updates that a client by the rule applies; it never finds a hole of its own."""
    channels: dict[tuple[str, str], Any] = {}
    applied: dict[tuple[str, str], list[int]] = {}
    for *_, text in stream:
        message = head(text)
        key = message["channel"], message["symbol"]
        source, pos, waiting = channels.get(key, ("", -1, False))
        kind, seq = message["type"], message["seq"]
        if kind == "gap":
            if message["source"] != source or seq > pos:
                channels[key] = message["source"], seq, waiting or not message["lost"]
        elif kind == "snapshot" and waiting:
            channels[key] = message["source"], seq, False
        elif kind == "update" and not waiting and seq > pos:
            assert message["prev"] <= pos, (message, pos)
            channels[key] = source, seq, False
            applied.setdefault(key, []).append(seq)
    return applied


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("table", ["trades", "book", "quotes", "bars", "gaps", "states"])
def test_whatever_batch_is_lost_a_gap_tells_of_it(tmp_path: Path, table: str, seed: int) -> None:
    log = recorded(tmp_path, seed)
    chooser = random.Random(seed)
    count = len(Folder(str(tmp_path)).places([table]))
    for number in {chooser.randrange(count), count - 1}:
        blocks = RecordingFiles(str(tmp_path)).files_by_table[table].file(number).blocks
        damage(tmp_path, table, number, chooser.randrange(1, len(blocks)))
    assert sum(one.lost for one in repair(tmp_path))
    assert list(file_faults(Folder(str(tmp_path)))) == []
    recording = RecordingFiles(str(tmp_path))
    assert Checked(recording).run().faults == []
    stream = stream_of(recording, Filter())
    assert [entry[:4] for entry in stream] == sorted(entry[:4] for entry in stream)
    followed(stream)
    # of trades and bars a state found by keyframes has more than what was told
    made_up_for = Filter([kind for kind in KINDS if kind not in LOST_KINDS])
    standing = recording.standing(made_up_for, TO_END)
    told = {key: [m[len(START) : -len(END)] for m in one.messages] for key, one in standing.items()}
    assert told == {key: one for key, one in standing_of(stream).items() if key[0] in made_up_for.kinds}
    found = updates_of(stream)
    gaps = {(head(text)["channel"], head(text)["symbol"]) for *_, text in stream if b'"reason":"recording"' in text}
    for channel, updates in truth_of([log]).items():
        assert found.get(channel, []) == updates or channel in gaps
    assert list(repair(tmp_path)) == []


def turning(root: Path, seed: int) -> MadeUp:
    """A recording in which the source is replaced by another one, with holes of the venue and of the recorder."""
    log = MadeUp("toy/0", ["TOY:A", "TOY:B"], random.Random(seed))
    log.grow(60)
    log.new_source()
    log.grow(60)
    log.record()
    for begin in (0, 2 * len(log.records) // 5):
        tape = Tape(root, [Log("toy/0", log.records[: len(log.records) // 4 if not begin else None], begin)])
        while tape.read(0, 4):
            tape.commit()
        tape.end()
    return log


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("whole", [False, True], ids=["rows", "the file"])
def test_where_gaps_are_lost_nobody_is_misled(tmp_path: Path, seed: int, whole: bool) -> None:
    turning(tmp_path, seed)
    wanted = stream_of(RecordingFiles(str(tmp_path)), Filter())
    count = 0
    for number, place in enumerate(Folder(str(tmp_path)).places(["gaps"])):
        if whole:
            (tmp_path / place.path).write_bytes(b"nothing")
            continue
        blocks = RecordingFiles(str(tmp_path)).files_by_table["gaps"].file(number).blocks
        for block in [block for block, one in enumerate(blocks) if one.rows]:
            damage(tmp_path, "gaps", number, block)
            count += 1
    assert len(list(repair(tmp_path))) > 0
    assert whole or count
    recording = RecordingFiles(str(tmp_path))
    assert list(file_faults(recording.folder)) == []
    assert Checked(recording).run().faults == []
    found = stream_of(recording, Filter())
    assert [entry[:4] for entry in found] == sorted(entry[:4] for entry in found)
    assert followed(found) == followed(wanted)
    assert standing_of(found) == standing_of(wanted)
    # a venue tells of holes in its trades
    holes = {head(text)["symbol"] for *_, text in wanted if b'"venue"' in text and head(text)["channel"] == "trades"}
    told = {head(text)["symbol"] for *_, text in found if b'"lost":true' in text and head(text)["channel"] == "trades"}
    assert holes <= told


def books_of(stream: Stream) -> dict[tuple[str, int], str]:
    """For each update of a book that a client by the rule applies: the state that it has there."""
    channels: dict[str, Any] = {}
    found: dict[tuple[str, int], str] = {}
    for *_, text in stream:
        message = head(text)
        if message["channel"] != "book":
            continue
        symbol, kind, seq = message["symbol"], message["type"], message["seq"]
        source, pos, waiting, state, state_seq = channels.get(symbol, ("", -1, False, "ok", -1))
        if kind == "gap" and (message["source"] != source or seq > pos):
            source, pos, waiting = message["source"], seq, waiting or not message["lost"]
        elif kind == "snapshot" and waiting:
            source, pos, waiting, state, state_seq = message["source"], seq, False, "ok", -1
        elif kind == "state" and message["source"] in (source, "") and seq >= state_seq:
            state, state_seq = message["state"], seq
        elif kind == "update" and not waiting and seq > pos:
            pos = seq
        channels[symbol] = source or message.get("source", ""), pos, waiting, state, state_seq
        if pos >= 0 and not waiting:
            found[symbol, pos] = state
    return found


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
def test_where_states_are_lost_no_stale_book_is_told_as_good(tmp_path: Path, seed: int) -> None:
    recorded(tmp_path, seed)
    chooser = random.Random(seed)
    wanted = books_of(stream_of(RecordingFiles(str(tmp_path)), Filter()))
    count = len(Folder(str(tmp_path)).places(["states"]))
    for number in {chooser.randrange(count), chooser.randrange(count)}:
        blocks = RecordingFiles(str(tmp_path)).files_by_table["states"].file(number).blocks
        damage(tmp_path, "states", number, chooser.randrange(1, len(blocks)))
    assert sum(one.lost for one in repair(tmp_path))
    recording = RecordingFiles(str(tmp_path))
    assert Checked(recording).run().faults == []
    found = books_of(stream_of(recording, Filter()))
    assert found.keys() == wanted.keys()
    assert [key for key, state in found.items() if state == "ok" and wanted[key] == "stale"] == []
    doubted = [key for key, state in found.items() if state != wanted[key]]
    assert len(doubted) < len(found)


def test_what_a_channel_said_last_may_have_been_lost(tmp_path: Path) -> None:
    made = Partition("toy/0")
    for number in range(40):
        made.trade("TOY:A" if number < 30 else "TOY:B", number)
    tape = Tape(tmp_path, [made.log])
    tape.read(0, 11)
    tape.commit()
    tape.play(100)
    tape.end()
    damage(tmp_path, "trades", 0, 3)
    assert [one.lost for one in repair(tmp_path)] == [1]
    recording = RecordingFiles(str(tmp_path))
    assert Checked(recording).run().faults == []
    *told, gap = [head(text) for *_, text in stream_of(recording, Filter(["trades"], ["TOY:A"]))]
    assert [one["seq"] for one in told] == list(range(10))
    assert (gap["type"], gap["reason"], gap["prev"], gap["seq"], gap["count"], gap["lost"]) == (
        "gap",
        "recording",
        9,
        39,
        None,
        True,
    )
