"""Which records of a log are valid, and what a damaged one leaves in doubt."""

from __future__ import annotations

from typing import Any

import pytest

from feed.channels.reader import HoleInLog, LogReader
from feed.channels.record import Record
from feed.errors import DamagedRecord

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


def test_nothing_is_missing_where_the_next_record_says_so() -> None:
    reader = reader_at(4)
    assert reader.pass_over(DamagedRecord(SOURCE, 1, "why"))
    assert reader.damaged_at == 1
    assert reader.take(record(4, 6, 2)) == 4
    assert reader.damaged_at is None


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
