"""Overlapping recordings read as one: each message once, and only holes that are in all of them."""

from __future__ import annotations

import random

import pytest

import replay
from feed.recording.tables import TABLES
from replay import together as module
from replay.opened import Face
from tests.feed.recorder.made_up import MadeUp, head
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
