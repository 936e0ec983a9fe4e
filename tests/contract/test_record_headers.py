"""The headers of the feed log's records are those of their schema."""

from __future__ import annotations

from typing import get_args

import pytest
from msgspec.structs import replace

import schemas
from feed.channels.record import Record, RecordKind, headers_of
from tests.schemas.validation import check, faults

RECORD = Record(
    source="coinbase/0@k7qd",
    after=88130,
    first=88131,
    last=88140,
    crc=7,
    partitions=4,
    version="1.ab",
    floor=12,
    since=9,
    end=88141,
)


@pytest.mark.parametrize("kind", get_args(RecordKind))
def test_headers_are_those_of_the_schema(kind: RecordKind) -> None:
    record = replace(RECORD, kind=kind, symbol="COINBASE:BTC-USD", at=88140, ends="coinbase/0@aaaa", carries=True)
    headers = {name: value.decode("ascii") for name, value in headers_of(record)}
    check("feed_record", headers)
    for name in headers:
        assert faults("feed_record", {k: v for k, v in headers.items() if k != name}), f"without {name}"


def test_no_header_is_missing_in_either() -> None:
    written = {name for kind in get_args(RecordKind) for name, _ in headers_of(replace(RECORD, kind=kind))}
    assert written == schemas.schema("feed_record")["properties"].keys()
    assert set(schemas.schema("feed_record")["properties"]["kind"]["enum"]) == set(get_args(RecordKind))
