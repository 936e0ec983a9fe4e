"""Which records of a log are valid, and what a damaged one leaves in doubt."""

from __future__ import annotations

from typing import Any

import pytest

from feed.errors import DamagedRecord
from feed.wire.log_reader import HoleInLog, LogReader, valid_source
from feed.wire.record import Record, headers_of, record_of

SOURCE = "toy/0@a"


def record(after: int, last: int, offset: int, kind: Any = "data", **more: Any) -> Record:
    fields: dict[str, Any] = {
        "source": SOURCE, "kind": kind, "after": after, "first": min(after + 1, last), "last": last, "crc": 1,
        "partitions": 1, "version": "2.x", "floor": 0, "since": -1, "end": last + 1, "value": b"[]", "offset": offset,
    }  # fmt: skip
    return Record(**(fields | more))


def reader_at(pos: int) -> LogReader:
    found = LogReader()
    found.take(record(-1, pos, 0))
    return found


@pytest.mark.parametrize(("told", "next_last"), [(False, 6), (False, 4), (True, 4)])
def test_nothing_is_missing_where_the_next_record_says_so(told: bool, next_last: int) -> None:
    reader = reader_at(4)
    assert reader.pass_over(DamagedRecord(SOURCE, 1, "why", told=told))
    assert reader.damaged_at == 1
    assert reader.take(record(4, next_last, 2)) == 4
    assert reader.damaged_at is None


def test_what_may_have_been_a_part_of_the_tick_that_comes_next_is_lost() -> None:
    """Of a tick that fills several records only the last one covers it."""
    reader = reader_at(4)
    reader.pass_over(DamagedRecord(SOURCE, 1, "why"))
    reader.pass_over(DamagedRecord(SOURCE, 2, "why", told=False))
    assert reader.take(record(4, 4, 3, value=b"[{}]")) == 4  # another part
    assert reader.take(record(4, 5, 4)) == 4
    assert reader.take(record(5, 5, 5)) == 5
    assert reader.damaged_at == 2
    reader.take(record(5, 5, 6, floor=3))
    assert reader.damaged_at is None
    reader.pass_over(DamagedRecord(SOURCE, 7, "why", told=False))
    reader.take(record(5, 6, 8))
    assert reader.damaged_at is None, "what was in doubt before is no longer"


@pytest.mark.parametrize(
    ("changed", "value", "told"),
    [
        ({"kind": "keyframe"}, b"[{}]", False),
        ({"kind": "checkpoint"}, b"{}", False),
        ({"last": 4}, b"x]", False),
        ({"last": 4}, b"[{}]", True),
        ({"last": 5}, b"[", True),
        ({"kind": "gossip"}, b"[]", True),
        ({"after": None}, b"[]", True),
        ({"after": None, "last": None}, b"[]", True),
    ],
)
def test_what_a_damaged_record_may_have_held(changed: dict[str, Any], value: bytes, told: bool) -> None:
    good = dict(headers_of(record(4, 5, 0)))
    bad = [(name, _bytes(changed.get(name, text))) for name, text in good.items() if name != "checksum"]
    with pytest.raises(DamagedRecord) as damaged:
        record_of([*bad, ("checksum", b"1")], value, 7)
    assert damaged.value.told is told


def _bytes(text: Any) -> Any:
    return text if text is None or isinstance(text, bytes) else str(text).encode()


def test_what_was_covered_by_it_is_lost_until_every_channel_has_a_keyframe() -> None:
    reader = reader_at(4)
    reader.pass_over(DamagedRecord(SOURCE, 1, "why"))
    assert reader.take(record(6, 8, 2)) == 6
    assert reader.damaged_at == 1
    assert reader.take(record(8, 9, 3)) == 8
    assert reader.damaged_at == 1, "that a later one follows on it says nothing of what is missing"
    reader.take(record(9, 10, 4, floor=1))
    assert reader.damaged_at == 1, "a keyframe before it is no help"
    reader.take(record(10, 11, 5, floor=2))
    assert reader.damaged_at is None


def test_keyframes_alone_say_nothing_of_what_is_missing() -> None:
    reader = reader_at(4)
    reader.pass_over(DamagedRecord(SOURCE, 1, "why"))
    reader.take(record(4, 4, 2, "keyframe", at=4))
    assert reader.damaged_at == 1


def test_a_record_that_was_taken_and_is_of_no_use_is_lost() -> None:
    reader = reader_at(4)
    taken = record(4, 6, 1)
    assert reader.take(taken) == 4
    reader.spoil(taken)
    assert reader.take(record(6, 7, 2)) == 6
    assert reader.damaged_at == 1
    reader.take(record(7, 8, 3, floor=2))
    assert reader.damaged_at is None


def test_a_new_source_ends_the_doubt() -> None:
    reader = reader_at(4)
    reader.pass_over(DamagedRecord(SOURCE, 1, "why"))
    reader.take(record(4, 4, 2, "source", source="toy/0@b", ends=SOURCE))
    assert (reader.source, reader.damaged_at) == ("toy/0@b", None)


def test_damage_of_a_void_source_is_nothing() -> None:
    reader = reader_at(4)
    assert not reader.pass_over(DamagedRecord("toy/0@z", 1, "why"))
    assert reader.damaged_at is None


def test_a_hole_that_no_damage_explains_is_one() -> None:
    with pytest.raises(HoleInLog) as hole:
        reader_at(4).take(record(6, 7, 5, floor=3))
    assert (hole.value.floor, hole.value.offset) == (3, 5)


def test_records_of_another_source_are_void_and_copies_are_dropped() -> None:
    reader = reader_at(4)
    assert reader.take(record(4, 6, 1, source="toy/0@z")) is None
    assert reader.take(record(3, 4, 2)) is None
    assert reader.take(record(3, 3, 3)) is None
    assert (reader.void, reader.copies, reader.pos) == (1, 2, 4)
    with pytest.raises(HoleInLog):
        reader.take(record(5, 6, 4))


def test_a_keyframe_counts_unless_it_is_older_than_what_was_read() -> None:
    reader = reader_at(4)
    assert reader.take(record(4, 4, 1, "keyframe", at=4)) == 4
    assert reader.take(record(4, 4, 2, "keyframe", at=3)) is None


def test_a_source_record_opens_the_source_that_ends_the_valid_one() -> None:
    reader = reader_at(4)
    assert reader.take(record(7, 7, 1, "source", source="toy/0@b", ends="toy/0@else")) is None
    assert reader.take(record(7, 7, 2, "source", source="toy/0@b", ends=SOURCE)) == 7
    assert (reader.source, reader.pos, reader.void) == ("toy/0@b", 7, 1)
    assert not reader.pass_over(DamagedRecord(SOURCE, 3, "why"))


def test_a_record_that_was_taken_and_is_of_no_use_leaves_a_doubt() -> None:
    reader = reader_at(4)
    spoiled = record(4, 5, 1)
    reader.take(spoiled)
    reader.spoil(spoiled)
    assert (reader.damaged, reader.damaged_at) == (1, 1)
    reader.take(record(5, 6, 2))
    assert reader.damaged_at == 1
    reader.take(record(6, 7, 3, floor=2))
    assert reader.damaged_at is None


def test_the_source_that_is_valid_after_some_records() -> None:
    records = [record(0, 0, 0), record(0, 0, 1, source="toy/0@x"), record(0, 0, 2, "source", source="b", ends=SOURCE)]
    assert valid_source(records) == "b"
    assert valid_source(records[:2]) == SOURCE
    assert valid_source([], "before") == "before"
