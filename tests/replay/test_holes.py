"""Where the holes of a repaired recording are told: only of what may be lost, and at its place in time."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path
from typing import Any

import msgspec
import pytest

from feed.recording.disk import Disk, NewFile
from feed.recording.files import RecordedFile
from feed.recording.filter import Filter
from feed.recording.folder import Folder
from feed.recording.recording import RecordingFiles
from feed.recording.table_files import RecordingCut
from feed.recording.tables import TABLES
from feed.wire.model import KINDS, Gap, Trade, Update
from feed.wire.times import text_of
from replay.checking import Checked, file_faults
from replay.repairing import repair
from tests.feed.recorder.made_up import START_NS, MadeUp, head
from tests.feed.recorder.moving import SECOND, Partition
from tests.feed.recorder.tape import Tape
from tests.feed.recorder.test_session import stream_of
from tests.replay.desk import Desk


class Venue(Partition):
    """A partition that may also tell of a hole of the venue's own, right before a trade."""

    def trade_behind_hole(self, symbol: str, at_s: float) -> None:
        """A tick."""
        self.seq += 1
        prev = self._lasts[symbol]
        gap = msgspec.json.encode(Gap("trades", symbol, self.source, prev, prev, None, "venue", lost=True))
        data = [Trade("1", "2", None, str(self.seq), None)]
        received = str(START_NS + int(at_s * SECOND))
        update = msgspec.json.encode(Update("trades", symbol, prev, self.seq, None, received, data))
        self._lasts[symbol] = self.seq
        self._add("data", b"[" + gap + b"," + update + b"]", after=self.seq - 1)


def recorded(root: Path, partitions: list[Partition], step: int) -> Tape:
    """A recorder that is killed at the end of the logs: a batch for every so many ticks, and as many sources."""
    tape = Tape(root, [partition.log for partition in partitions])
    tape.play(step)
    return tape


def damage(root: Path, table: str, seq: int, source: str | None = None) -> None:
    """A bit of the first batch with a row at this position is another one."""
    folder = Folder(str(root))
    for place in folder.places([table]):
        file = RecordedFile(folder, place)
        for number, block in enumerate(file.blocks):
            rows = [(row["seq"], row["source"]) for row in file.batch(number).to_pylist()]
            if not block.note.keyframes and any(at == seq and source in (None, name) for at, name in rows):
                damage_block(root, file, number)
                file.close()
                return
        file.close()
    raise AssertionError(f"no row of {table} at {seq}")


def damage_block(root: Path, file: RecordedFile, number: int) -> None:
    """A bit of a batch is another one."""
    path = root / file.place.path
    data = bytearray(path.read_bytes())
    data[file.blocks[number].end - 20] ^= 8
    path.write_bytes(data)


def repaired(root: Path) -> RecordingFiles:
    """A recording after its repair, with nothing left to be found."""
    assert sum(one.lost for one in repair(root)) == 1
    assert list(file_faults(Folder(str(root)))) == []
    recording = RecordingFiles(str(root))
    assert Checked(recording).run().faults == []
    for table in TABLES:
        table_files = recording.files_by_table[table]
        lanes: dict[str, tuple[int, int]] = {}
        for ref in table_files.refs():
            for source, span in table_files.block(ref).note.sources.items():
                if span.rows and not table_files.block(ref).note.keyframes:
                    assert (span.first_clock, span.first_at) >= lanes.get(source, (0, -1)), table
                    lanes[source] = span.last_clock, span.last_at
    return recording


def told(recording: RecordingFiles) -> list[dict[str, Any]]:
    """The gaps, with their clocks in seconds after the start."""
    return [
        head(text) | {"s": (clock - START_NS) / SECOND}
        for clock, *_, text in stream_of(recording, Filter())
        if text.startswith(b'{"type":"gap"')
    ]


def short(gap: dict[str, Any]) -> tuple[Any, ...]:
    return gap["symbol"], gap["reason"], gap["prev"], gap["seq"], gap["lost"]


def alternating(count: int, symbols: str = "AB") -> Venue:
    made = Venue("toy/0")
    for number in range(count):
        made.trade(f"TOY:{symbols[number % len(symbols)]}", number)
    return made


@pytest.mark.parametrize("sealed", [True, False])
def test_what_was_there_before_the_first_file_is_no_hole(tmp_path: Path, sealed: bool) -> None:
    tape = Tape(tmp_path, [alternating(60).log])
    for _ in range(2):
        for _ in range(3):
            tape.read(0, 10)
            tape.commit()
        tape.rotate(TABLES)
    tape.read(0, 10)
    tape.end() if sealed else tape.die()
    for table in TABLES:
        oldest = Folder(str(tmp_path)).places([table])[0]
        (tmp_path / oldest.path).unlink()
    damage(tmp_path, "trades", 45)
    recording = repaired(tmp_path)
    gaps = told(recording)
    assert {gap["symbol"] for gap in gaps} == {"TOY:A", "TOY:B"}
    assert [short(gap)[1:] for gap in gaps if gap["prev"] < 0] == []
    assert all(gap["s"] >= 28 for gap in gaps)


def in_rounds(root: Path, partition: Partition, step: int) -> None:
    """A file of trades in which each batch is of so many ticks, with keyframes behind it."""
    tape = Tape(root, [partition.log])
    while tape.read(0, step):
        tape.commit()
        tape.commits.write_round("trades", *tape.session.keyframes("trades"))
    tape.end()


def test_a_channel_that_began_in_what_is_lost_has_a_hole_there(tmp_path: Path) -> None:
    made = alternating(40, "A")
    for number in range(40, 80):
        made.trade("TOY:B" if number % 2 else "TOY:A", number)
    in_rounds(tmp_path, made, 10)
    damage(tmp_path, "trades", 42)
    gaps = told(repaired(tmp_path))
    assert [short(gap) for gap in gaps] == [("TOY:A", "recording", 38, 48, True), ("TOY:B", "recording", -1, 47, True)]
    assert all(38 <= gap["s"] <= 40 for gap in gaps)


def test_the_first_batch_of_a_sealed_file_is_lost_and_told(tmp_path: Path) -> None:
    recorded(tmp_path, [alternating(40)], 10).end()
    damage(tmp_path, "trades", 3)
    recording = repaired(tmp_path)
    assert all(gap["prev"] == -1 and gap["s"] < 10 for gap in told(recording))
    assert len(told(recording)) == 2


def test_what_is_lost_before_a_hole_of_the_venue_is_told(tmp_path: Path) -> None:
    made = alternating(20, "A")
    for number in range(20, 40):
        made.trade_behind_hole("TOY:A", number) if number == 29 else made.trade("TOY:A", number)
    recorded(tmp_path, [made], 10).die()
    damage(tmp_path, "trades", 25)
    recording = repaired(tmp_path)
    # the log begins with a record without a trade: batches end at 8, 18, 28
    assert [short(gap) for gap in told(recording)] == [
        ("TOY:A", "recording", 18, 28, True),
        ("TOY:A", "venue", 28, 28, True),
    ]


def test_verify_finds_what_is_lost_before_a_hole_of_the_venue(tmp_path: Path) -> None:
    made = alternating(18, "A")
    made.trade_behind_hole("TOY:A", 18)
    made.trade("TOY:A", 19)
    tape = Tape(tmp_path, [made.log])
    for step in (9, 10, 2):
        tape.read(0, step)
        tape.lose("trades") if step == 10 else tape.commit()
    tape.end()
    recording = RecordingFiles(str(tmp_path))
    assert len(told(recording)) == 1
    assert len(Checked(recording).run().faults) == 1


@pytest.mark.parametrize("rotated", [False, True])
def test_a_hole_lies_where_the_loss_begins(tmp_path: Path, rotated: bool) -> None:
    made = Venue("toy/0")
    made.trade("TOY:A", 0)
    for number in range(1, 30):
        made.trade("TOY:B", number)
    for number in range(30, 40):
        made.trade("TOY:A" if number == 35 else "TOY:B", number)
    for number in range(40, 60):
        made.trade("TOY:A" if number == 55 else "TOY:B", number)
    if rotated:
        in_rounds(tmp_path, made, 10)
    else:
        recorded(tmp_path, [made], 10).die()
    damage(tmp_path, "trades", 35)
    recording = repaired(tmp_path)
    gaps = {gap["symbol"]: gap for gap in told(recording)}
    assert short(gaps["TOY:A"])[2:4] == (0, 35)
    assert 28 <= gaps["TOY:A"]["s"] <= 29
    chosen = Filter(["trades"], ["TOY:A"])
    for second in (10, 27, 28, 30, 45, 56):
        cut = RecordingCut(START_NS + second * SECOND)
        pos = next((one.seq for one in recording.standing(chosen, cut).values()), None)
        for *_, text in stream_of(recording, chosen, cut):
            message = head(text)
            # who begins inside the hole has nothing, and goes on at the next update
            assert message["type"] == "gap" or pos is None or message["prev"] <= pos, second
            pos = message["seq"]


@pytest.mark.parametrize("known", [False, True])
def test_only_what_may_be_lost_is_told(tmp_path: Path, known: bool) -> None:
    """Of C keyframes may tell that it had nothing more; D's partition is silent; E has moved to the other partition."""
    made, other = Venue("toy/0"), Venue("toy/1")
    for number in range(10):
        made.trade("TOY:C" if number % 2 else "TOY:E", number)
        other.trade("TOY:D", number)
    tape = Tape(tmp_path, [made.log, other.log])
    tape.play(5)
    for number in range(10, 40):
        made.trade("TOY:A", number)
    other.trade("TOY:E", 10.5)
    tape.read(1, 5)
    tape.commit()
    for _ in range(3):
        tape.read(0, 10)
        tape.commit()
        if known:
            tape.commits.write_round("trades", *tape.session.keyframes("trades"))
    tape.die()
    damage(tmp_path, "trades", 25)
    gaps = [short(gap)[:2] for gap in told(repaired(tmp_path))]
    assert ("TOY:E", "source") in gaps
    lost = {symbol for symbol, reason in gaps if reason == "recording"}
    assert lost == ({"TOY:A"} if known else {"TOY:A", "TOY:C"})


@pytest.mark.slow
@pytest.mark.parametrize("fails", [*range(1, 10), *range(21, 30)])
def test_a_repair_that_is_interrupted_is_gone_on_with(tmp_path: Path, fails: int) -> None:
    made = alternating(40)
    recorded(tmp_path / "whole", [made], 10).die()
    recorded(tmp_path / "broken", [made], 10).die()
    for name in ("whole", "broken"):
        damage(tmp_path / name, "trades", 15)
    wanted = stream_of(repaired(tmp_path / "whole"), Filter())

    class Failing(Disk):
        left = fails

        def create(self, path: str) -> NewFile:
            self.spend()
            return super().create(path)

        def publish(self, path: str, final: str) -> None:
            self.spend()
            super().publish(path, final)

        def spend(self) -> None:
            self.left -= 1
            if self.left == 0:
                raise OSError("the disk is full")

    with contextlib.suppress(OSError):
        list(repair(tmp_path / "broken", disk=Failing(tmp_path / "broken")))
    list(repair(tmp_path / "broken"))
    recording = RecordingFiles(str(tmp_path / "broken"))
    assert stream_of(recording, Filter()) == wanted
    assert list(file_faults(recording.folder)) == []
    left = sorted(path.name for path in (tmp_path / "broken").rglob("*") if path.is_file())
    assert left == sorted(path.name for path in (tmp_path / "whole").rglob("*") if path.is_file())


def test_a_repair_that_its_caller_leaves_is_gone_on_with(tmp_path: Path) -> None:
    recorded(tmp_path, [alternating(40)], 10).die()
    damage(tmp_path, "trades", 15)
    begun = repair(tmp_path)
    first = next(begun)
    begun.close()  # type: ignore[attr-defined]
    assert list(repair(tmp_path)) == [first]
    assert len(told(RecordingFiles(str(tmp_path)))) == 2
    assert list(repair(tmp_path)) == []


@pytest.mark.slow
@pytest.mark.parametrize("table", ["trades", "book", "quotes"])
@pytest.mark.parametrize("seed", range(3))
def test_who_begins_anywhere_in_a_repaired_recording_is_not_misled(tmp_path: Path, seed: int, table: str) -> None:
    log = MadeUp("toy/0", ["TOY:A", "TOY:B"], random.Random(seed))
    log.grow(150)
    log.record()
    tape = Tape(tmp_path, [log.log])
    for _ in range(2):
        for _ in range(9):
            tape.read(0, 4)
            tape.commit()
        tape.commits.write_round(table, *tape.session.keyframes(table))
    tape.play(4)
    tape.die()
    file = RecordingFiles(str(tmp_path)).files_by_table[table].file(0)
    rounds = [number for number, block in enumerate(file.blocks) if block.note.keyframes]
    damage_block(tmp_path, file, rounds[-2] + 3)
    recording = repaired(tmp_path)
    clocks = sorted({clock for clock, *_ in stream_of(recording, Filter())})
    wanted = None
    for clock in clocks[: -1 : 1 + len(clocks) // 16]:
        desk = Desk(tmp_path)
        desk.subscribe([*KINDS], ["*"])
        desk.replay("open", from_=text_of(clock), speed="max")
        desk.replay("play")
        assert desk.states[-1] == "ended" and desk.client.holes == [], clock
        held = {key: one.holds() for key, one in desk.client.channels.items() if key[0] == "book" and not one.waiting}
        wanted = held if wanted is None else wanted
        assert held == wanted, clock
        desk.close()
