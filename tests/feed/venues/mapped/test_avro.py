"""Avro records: of one schema or by its id, with exact decimals and times; any bytes give a record or a bad tick."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feed.errors import BadTick, ConfigError, SchemaAway
from feed.venues.mapped.avro import avro
from feed.venues.mapped.shape import Schema

TRADE = {
    "type": "record",
    "name": "Trade",
    "fields": [
        {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 38, "scale": 9}},
        {"name": "at", "type": ["null", {"type": "long", "logicalType": "timestamp-micros"}]},
        {"name": "side", "type": {"type": "enum", "name": "Side", "symbols": ["BUY", "SELL"]}},
        {"name": "id", "type": {"type": "string", "logicalType": "uuid"}},
        {"name": "legs", "type": {"type": "array", "items": {"type": "map", "values": "long"}}},
    ],
}
OTHER = {"type": "record", "name": "Other", "fields": [{"name": "price", "type": "string"}]}
ID = UUID(int=7)
RECORD: dict[str, Any] = {
    "price": Decimal("67187.480000000"),
    "at": datetime(2026, 11, 23, 21, 0, 0, 131000, UTC),
    "side": "SELL",
    "id": ID,
    "legs": [{"a": 2**62}],
}
PLAIN = {"price": RECORD["price"], "at": 1795467600131000000, "side": "SELL", "id": str(ID), "legs": [{"a": 2**62}]}
FILES = {"trade.avsc": json.dumps(TRADE).encode(), "other.avsc": json.dumps(OTHER).encode()}


def written(record: dict[str, Any], schema: Any = TRADE) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), record)
    return out.getvalue()


def test_values_are_exact() -> None:
    decode = avro(Schema(schema="trade.avsc"), FILES)[0]
    assert decode(written(RECORD)) == [PLAIN]
    assert decode(written({**RECORD, "at": None})) == [{**PLAIN, "at": None}]


def test_the_id_before_a_record_says_its_schema() -> None:
    decode = avro(Schema(framing="confluent", schemas={"1": "trade.avsc", "258": "other.avsc"}), FILES)[0]
    assert decode(b"\0\0\0\0\1" + written(RECORD)) == [PLAIN]
    assert decode(b"\0\0\0\1\2" + written({"price": "1"}, OTHER)) == [{"price": "1"}]
    with pytest.raises(BadTick, match="record of schema 3, wanted one of 1, 258"):
        decode(b"\0\0\0\0\3" + written(RECORD))
    one = avro(Schema(framing="confluent", schema="trade.avsc"), FILES)[0]
    assert one(b"\0\0\0\0\7" + written(RECORD)) == [PLAIN]


def test_what_is_left_over_is_odd() -> None:
    decode = avro(Schema(schema="other.avsc"), FILES)[0]
    with pytest.raises(BadTick, match="2 bytes behind"):
        decode(written({"price": "1"}, OTHER) + b"xy")
    with pytest.raises(BadTick, match="not Avro of its schema"):
        decode(written({"price": "1234"}, OTHER)[:-1])


@given(st.binary(max_size=60))
def test_any_bytes_are_a_record_or_a_bad_tick(value: bytes) -> None:
    decode = avro(Schema(schema="trade.avsc"), FILES)[0]
    try:
        decode(value)
    except BadTick:
        return


def test_ids_are_numbers_and_may_be_refused() -> None:
    decode = avro(Schema(framing="confluent", schema="trade.avsc", refused=[2]), FILES)[0]
    with pytest.raises(BadTick, match="schema 2, which the mapping refuses"):
        decode(b"\0\0\0\0\2" + written(RECORD))
    with pytest.raises(ConfigError, match="wanted a number"):
        avro(Schema(framing="confluent", schemas={"x": "trade.avsc"}), FILES)


def test_a_registry_may_have_the_rest() -> None:
    decode, schemas = avro(Schema(framing="confluent", registry=True, schemas={"1": "trade.avsc"}), FILES)
    assert schemas is not None
    assert decode(b"\0\0\0\0\1" + written(RECORD)) == [PLAIN]
    with pytest.raises(SchemaAway):
        decode(b"\0\0\0\0\2" + written({"price": "1"}, OTHER))
    with pytest.raises(ConfigError, match="of the registry cannot be read"):
        schemas.supply(2, [b"{"])
    schemas.supply(2, [FILES["other.avsc"]])
    assert decode(b"\0\0\0\0\2" + written({"price": "1"}, OTHER)) == [{"price": "1"}]


@pytest.mark.parametrize("text", [b"", b"{", b'{"type":"colour"}'])
def test_a_schema_that_cannot_be_read_is_named(text: bytes) -> None:
    with pytest.raises(ConfigError, match=r"schema x\.avsc cannot be read"):
        avro(Schema(schema="x.avsc"), {"x.avsc": text})
