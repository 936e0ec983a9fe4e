"""The record of a feed log: its headers and back, what is foreign, and what is damaged."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
from msgspec.structs import replace

from feed.errors import CorruptLog, DamagedRecord, ForeignRecord
from feed.wire.record import EMPTY, Record, floor_of, headers_of, known_records, record_of, records_of

DATA = Record(
    source="v/0@a", after=1, first=2, last=5, first_crc=7, crc=8, epoch=3, partitions=4, version="2.x", floor=1,
    since=-1, end=9, position=6, waits_ms=11, value=b"[{}]",
)  # fmt: skip
KEYFRAME = replace(DATA, kind="keyframe", first=1, last=1, symbol="V:A", at=1, position=2, waits_ms=0)
SOURCE = replace(
    DATA, kind="source", first=1, last=1, ends="v/0@z", carries=True, missing=True, owner="me", settings="{}",
    position=2, waits_ms=0, appointed=True,
)  # fmt: skip


class Lies(NamedTuple):
    offset: int
    value: bytes | None
    headers: Any


@pytest.mark.parametrize("record", [DATA, KEYFRAME, SOURCE, replace(DATA, owner="me", settings="s", value=EMPTY)])
def test_headers_and_back(record: Record) -> None:
    assert record_of(headers_of(record), record.value, 12) == replace(record, offset=12)


def test_a_record_covers_ticks_or_none() -> None:
    assert DATA.covers
    assert not KEYFRAME.covers


def without(*names: str, **changed: bytes) -> list[tuple[str, bytes]]:
    return [(name, changed.get(name, value)) for name, value in headers_of(DATA) if name not in names]


def test_what_older_versions_did_not_write_is_read() -> None:
    old = without("checksum", "position", "waits_ms", "epoch", "first_crc", version=b"1.y")
    found = record_of(old, b"[{}]", 3)
    assert (found.position, found.waits_ms, found.epoch, found.first_crc) == (6, 0, -1, -1)
    with pytest.raises(DamagedRecord):
        record_of(without("checksum"), b"[{}]", 3)


@pytest.mark.parametrize(
    "headers",
    [None, [], [("source", b"v/0@a", 1)], without("source"), without(source=b"v"), without("last", source=b"\xff/0@a")],
)
def test_what_names_no_source_is_foreign(headers: Any) -> None:
    with pytest.raises(ForeignRecord):
        record_of(headers, b"[]", 1)


@pytest.mark.parametrize(
    ("headers", "value", "told"),
    [
        (without("last"), b"[{}]", True),
        (without(kind=b"else"), b"[{}]", True),
        (without(), b"[{ }]", True),  # not its checksum
        (without(last=b"1"), b"[]", False),  # covers none, and is as short as an empty one
        (without(last=b"1"), b"[{}]]", True),
        (without("last", kind=b"keyframe"), b"[{}]", False),
    ],
)
def test_what_names_a_source_and_cannot_be_its_is_damaged(headers: Any, value: bytes, told: bool) -> None:
    with pytest.raises(DamagedRecord) as damaged:
        record_of(headers, value, 1)
    assert (damaged.value.source, damaged.value.offset, damaged.value.told) == ("v/0@a", 1, told)


def test_among_all_that_lies_there() -> None:
    raws = [
        Lies(0, DATA.value, headers_of(DATA)),
        Lies(1, b"x", []),
        Lies(2, b"x", headers_of(DATA)),
        Lies(3, None, []),
    ]
    good, damaged = records_of(raws)
    assert isinstance(good, Record)
    assert isinstance(damaged, DamagedRecord)
    assert (good.offset, damaged.offset) == (0, 2)
    assert [record.offset for record in known_records(raws)] == [0]


def test_a_floor_beyond_the_record_is_loud() -> None:
    assert floor_of(replace(DATA, offset=1)) == 1
    with pytest.raises(CorruptLog, match="lies beyond it"):
        floor_of(replace(DATA, offset=0))
