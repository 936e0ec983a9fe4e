"""Overlapping recordings read as one: each message once, and only holes that are in all of them."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import msgspec
import pytest

import replay
from feed.recording.filter import Filter
from feed.recording.tables import TABLES
from feed.wire.model import Book, Update
from replay import once as module
from replay import together
from replay.opened import Face, Recording
from tests.feed.recorder.made_up import START_NS, MadeUp, head
from tests.feed.recorder.moving import SECOND, Partition
from tests.feed.recorder.tape import Log, Tape

NAMES = ("whole", "first", "second")


@pytest.fixture(scope="module", params=[3, 8, 17])
def folders(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> dict[str, str]:
    """A whole recording; one whose recorder was down in the middle for longer than the log reached back; one that began
    late and was ended early, and was there then."""
    chance = random.Random(request.param)
    log = MadeUp("toy/0", ["TOY:A", "TOY:B"], chance)
    for _ in range(60):
        log.grow(5)
        log.record()
        if chance.random() < 0.4:
            log.keyframe(chance.choice(log.symbols))
    root = tmp_path_factory.mktemp("recordings")
    records = log.records
    size = len(records)
    whole = Tape(root / "whole", [log.log])
    whole.play()
    whole.end()
    first = Tape(root / "first", [Log("toy/0", records[: size // 3])])
    first.play()
    first.end()
    first = Tape(root / "first", [Log("toy/0", records, records[2 * size // 3].floor)])
    first.play()
    first.end()
    second = Tape(root / "second", [Log("toy/0", records[: 5 * size // 6], records[size // 5].floor)])
    second.play(7)
    second.rotate(TABLES)
    second.end()
    return {name: str(root / name) for name in NAMES}


def told(recording: Face) -> dict[tuple[str, str], list[bytes]]:
    """The messages of each channel but snapshots: a recorder that begins late begins with some."""
    found: dict[tuple[str, str], list[bytes]] = {}
    for message in recording.messages():
        read = head(message)
        if read["type"] != "snapshot":
            found.setdefault((read["channel"], read["symbol"]), []).append(message)
    return found


def test_messages_come_once_and_a_hole_that_is_filled_is_none(folders: dict[str, str]) -> None:
    with replay.open(folders["whole"]) as whole, replay.open(folders["first"]) as first:
        wanted = told(whole)
        holes = [head(m) for m in first.messages() if b'"reason":"recording"' in m]
        assert holes, "the first one has no hole"
        assert told(first) != wanted
    for names in (("first", "second"), ("second", "first"), ("first", "first", "second")):
        with replay.open(*(folders[name] for name in names)) as both:
            assert both.filled()
            assert told(both) == wanted


@pytest.mark.parametrize("table", TABLES)
def test_rows_come_once(folders: dict[str, str], table: str) -> None:
    with replay.open(folders["whole"]) as whole:
        wanted = whole.table(table).to_pylist()
    with replay.open(folders["second"], folders["first"]) as both:
        assert both.table(table).to_pylist() == wanted


def test_a_hole_that_nobody_fills_stays(folders: dict[str, str]) -> None:
    with replay.open(folders["first"], folders["first"]) as both, replay.open(folders["first"]) as first:
        assert both.filled() == set()
        assert list(both.messages()) == list(first.messages())
        assert both.gaps().to_pylist() == first.gaps().to_pylist()


def test_what_cannot_come_again_is_forgotten(folders: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_GIVEN_MIN", 1)
    with replay.open(folders["whole"]) as whole, replay.open(folders["first"], folders["second"]) as both:
        assert told(both) == told(whole)


def test_a_book_is_of_the_one_that_knows_it(folders: dict[str, str]) -> None:
    with replay.open(folders["whole"]) as whole, replay.open(folders["first"], folders["second"]) as both:
        updates = whole.book("TOY:A").to_pylist()
        middle = updates[len(updates) // 2]["ts_recv"]
        assert both.book_at("TOY:A", middle) == whole.book_at("TOY:A", middle)
        start = list(both.messages("book", "TOY:A", start=middle))
        assert start == list(whole.messages("book", "TOY:A", start=middle))


def test_what_is_remembered_does_not_grow_when_the_other_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor where the other one goes on without this channel."""
    made = Partition("toy/0")
    for number in range(900):
        made.trade("TOY:A" if number % 9 else "TOY:B", number)
    for name, count, chosen in (("a", 900, None), ("b", 100, None), ("c", 900, Filter(["trades"], ["TOY:B"]))):
        tape = Tape(tmp_path / name, [Log("toy/0", made.records[:count])], chosen=chosen)
        tape.play()
        tape.end()
    made_of: list[module.Once] = []

    class Seen(module.Once):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            made_of.append(self)

    monkeypatch.setattr(together, "Once", Seen)
    with replay.open(*(str(tmp_path / name) for name in "abc")) as three, replay.open(str(tmp_path / "a")) as one:
        assert list(three.messages()) == list(one.messages())
    (once,) = made_of
    assert {len(updates.begins) for updates in once._updates.values()} == {1}
    assert sum(len(copies.given) for copies in once._copies.values()) <= 2


def test_copies_are_looked_through_only_when_there_are_twice_as_many() -> None:
    copies = module._Copies([-1, -1])
    looks = 0
    for seq in range(20_000):
        before = copies.given
        before[seq] = (0, seq, seq)
        copies.passed[0] = seq
        copies.forget(set())
        looks += copies.given is not before
    assert looks <= 8
    copies.forget({1})
    copies.given |= dict.fromkeys(range(50000))
    copies.forget({1})
    assert list(copies.given) == [*range(19_999, 50_000)]


def test_the_table_of_a_channel_is_read_once_for_all_its_holes(
    folders: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with replay.open(folders["first"], folders["second"]) as both:
        read: list[tuple[Any, ...]] = []
        table = Recording.table

        def seen(self: Recording, name: str, symbol: Any = None, *args: Any, **more: Any) -> Any:
            read.append((id(self), name, symbol))
            return table(self, name, symbol, *args, **more)

        monkeypatch.setattr(Recording, "table", seen)
        both.table("gaps")
        # the gaps themselves, and those by which holes are found
        assert all(read.count(one) <= (2 if one[1] == "gaps" else 1) for one in read)


class Books(Partition):
    """A partition of books."""

    def change(self, symbol: str, at_s: float) -> None:
        """A tick that sets the best bid to its own position."""
        self.seq += 1
        data = Book([(str(self.seq + 1), "1")], [])
        prev = self._lasts.get(symbol, -1)
        update = Update("book", symbol, prev, self.seq, None, str(START_NS + int(at_s * SECOND)), data)
        self._lasts[symbol] = self.seq
        self._add("data", b"[" + msgspec.json.encode(update) + b"]", after=self.seq - 1)


@pytest.mark.parametrize("names", ["ab", "ba"])
def test_positions_of_different_sources_do_not_compare(tmp_path: Path, names: str) -> None:
    """One recorder ended before the symbol moved to a partition with smaller positions."""
    old, new = Books("toy/0"), Books("toy/1")
    for number in range(50):
        old.change("TOY:A", number)
    for number in range(5):
        new.change("TOY:A", 100 + number)
    for name, partition in (("a", old), ("b", new)):
        tape = Tape(tmp_path / name, [partition.log])
        tape.play()
        tape.end()
    with replay.open(*(str(tmp_path / name) for name in names)) as both:
        before, after = START_NS + 60 * SECOND, START_NS + 110 * SECOND
        assert [(book.source, book.seq) for book in (both.book_at("TOY:A", time) for time in (before, after))] == [
            ("toy/0@a", 49),
            ("toy/1@a", 4),
        ]
        assert [head(message)["source"] for message in both.messages("book", start=after)] == ["toy/1@a"]
