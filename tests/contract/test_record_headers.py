"""The headers of the feed log's records are those of their schema."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

import schemas
from feed.errors import DamagedRecord, ForeignRecord
from feed.wire.record import Record, RecordKind, headers_of, record_of
from tests.schemas.validation import check, faults

RECORD = Record(
    source="coinbase/0@k7qd",
    after=88130,
    first=88131,
    last=88140,
    crc=7,
    partitions=4,
    version="2.ab",
    floor=12,
    since=9,
    end=88141,
    position=88141,
)


@pytest.mark.parametrize("kind", get_args(RecordKind))
def test_headers_are_those_of_the_schema(kind: RecordKind) -> None:
    record = replace(RECORD, kind=kind, symbol="COINBASE:BTC-USD", at=88140, ends="coinbase/0@aaaa", carries=True)
    if kind == "source":
        record = replace(record, owner="feed-1:4711", settings="{}")
    headers = {name: value.decode("ascii") for name, value in headers_of(record)}
    check("feed_record", headers)
    for name in headers:
        assert faults("feed_record", {k: v for k, v in headers.items() if k != name}), f"without {name}"


def test_no_header_is_missing_in_either() -> None:
    record = replace(RECORD, owner="feed-1:4711", settings="{}", appointed=True)
    written = {name for kind in get_args(RecordKind) for name, _ in headers_of(replace(record, kind=kind))}
    assert written == schemas.schema("feed_record")["properties"].keys()
    assert set(schemas.schema("feed_record")["properties"]["kind"]["enum"]) == set(get_args(RecordKind))


def strange_of(headers: Any, value: bytes | None) -> DamagedRecord | ForeignRecord | None:
    """Why these are no record, if they are none."""
    try:
        record_of(headers, value, 7)
    except (DamagedRecord, ForeignRecord) as strange:
        return strange
    return None


@given(
    st.lists(
        st.tuples(
            st.sampled_from([*schemas.schema("feed_record")["properties"], "x"]),
            st.none() | st.binary(max_size=30) | st.just(b"9" * 5000) | st.just(b"coinbase/0@k7qd"),
        )
    ),
    st.none() | st.binary(max_size=20),
)
def test_any_headers_are_a_record_or_a_strange_one(
    headers: list[tuple[str, bytes | None]], value: bytes | None
) -> None:
    strange = strange_of(headers, value)
    assert strange is None or strange.offset == 7
    assert not isinstance(strange, DamagedRecord) or strange.source == "coinbase/0@k7qd"


@given(st.sampled_from(get_args(RecordKind)), st.data())
def test_one_header_that_is_spoiled_makes_a_damaged_record(kind: RecordKind, data: st.DataObject) -> None:
    headers = headers_of(replace(RECORD, kind=kind, owner="feed-1:4711", settings="{}"))
    assert record_of(headers, b"[]", 3).kind == kind
    at = data.draw(st.integers(1, len(headers) - 1))
    spoiled = data.draw(st.sampled_from([None, b"", b"x", b"9" * 5000, b"\xff"]))
    name = headers[at][0]
    headers[at] = name, spoiled  # type: ignore[assignment]  # what others may write
    strange = strange_of(headers, b"[]")
    if strange is None:
        assert name in ("version", "symbol", "ends", "carries", "missing", "owner", "settings", "appointed")
    else:
        assert isinstance(strange, DamagedRecord)
        assert strange.source == RECORD.source


def test_a_value_that_was_changed_is_damage() -> None:
    headers = headers_of(replace(RECORD, value=b'[{"type":"update"}]'))
    with pytest.raises(DamagedRecord, match="checksum"):
        record_of(headers, b'[{"type":"updaxe"}]', 3)
    with pytest.raises(DamagedRecord, match="checksum"):
        record_of(headers, None, 3)
    # version 1 wrote none
    old = [(name, b"1.ab" if name == "version" else text) for name, text in headers if name != "checksum"]
    assert record_of(old, b'[{"type":"updaxe"}]', 3).last == RECORD.last
