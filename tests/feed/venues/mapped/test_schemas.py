"""Schemas by id: which are missing, and that a tick whose schema is away is no bad tick and changes nothing."""

from __future__ import annotations

import io
import json
from typing import Any

import fastavro
import pytest

from feed.errors import ConfigError, SchemaAway
from feed.venues.mapped.machine import mapped_venue
from feed.venues.mapped.schemas import Schemas
from feed.venues.source import Source
from feed.venues.symbol import Rules, Tick

MAPPING = """
format = "avro"
symbol = { field = "symbol" }
[avro]
framing = "confluent"
registry = true
refused = [9]
schemas = { 1 = "one.avsc" }
[[records]]
kind = "trades"
fields = { price = "price", size = "size" }
"""
TRADE: dict[str, Any] = {
    "type": "record",
    "name": "desk.Trade",
    "fields": [{"name": name, "type": "string"} for name in ("symbol", "price", "size")],
}
FILES = {"one.avsc": json.dumps(TRADE).encode()}
WITH_REFERENCE = [
    b'{"type":"fixed","name":"desk.Tag","size":1}',
    json.dumps({**TRADE, "fields": [*TRADE["fields"], {"name": "tag", "type": "desk.Tag"}]}).encode(),
]


def record(number: int, more: bytes = b"") -> bytes:
    out = io.BytesIO()
    values = {"symbol": "A", "price": "1", "size": str(number)}
    fastavro.schemaless_writer(out, fastavro.parse_schema(TRADE), values)
    return b"\0" + number.to_bytes(4, "big") + out.getvalue() + more


def tick(seq: int, value: bytes) -> Tick:
    now = 1_795_467_600_131_000_000 + seq
    return Tick(seq, "", value, now, now)


def test_which_schema_a_record_needs() -> None:
    schemas = Schemas(lambda texts: list(texts), {1})
    assert [schemas.missing(value) for value in (b"", b"{}", record(1), record(2))] == [None, None, None, 2]
    with pytest.raises(SchemaAway, match="schema 2 is not here yet") as away:
        schemas.get(2)
    assert away.value.number == 2
    schemas.supply(2, [b"x"])
    assert schemas.missing(record(2)) is None
    assert schemas.get(2) == [b"x"]


def test_a_tick_whose_schema_is_away_waits_whatever_is_known_of_its_symbol() -> None:
    venue = mapped_venue("desk", MAPPING, FILES)
    assert venue.schemas is not None
    source = Source(venue, "desk/0@a", Rules())
    with pytest.raises(SchemaAway):
        source.apply(tick(0, record(2)))
    assert list(source) == []
    assert source.apply(tick(1, record(1))) == []
    with pytest.raises(SchemaAway):
        source.apply(tick(2, record(2)))
    assert source.now.counts.bad_entries == 0
    venue.schemas.supply(2, WITH_REFERENCE)
    assert source.apply(tick(2, record(2, b"x"))) == []
    sizes = [message.data[0].size for message in source.take() if getattr(message, "channel", "") == "trades"]  # type: ignore[union-attr, index]
    assert sizes == ["1", "2"]


def test_by_key_too_and_the_first_tick_of_a_symbol() -> None:
    venue = mapped_venue("desk", MAPPING.replace('symbol = { field = "symbol" }', ""), FILES)
    source = Source(venue, "desk/0@a", Rules())
    for seq in (0, 2):
        with pytest.raises(SchemaAway):
            source.apply(Tick(seq, "A", record(2), 1_795_467_600_131_000_000, 1_795_467_600_131_000_000))
        source.apply(Tick(seq + 1, "A", record(1), 1_795_467_600_131_000_000, 1_795_467_600_131_000_000))
    assert list(source) == ["A"]


def test_a_schema_that_cannot_be_read_is_named() -> None:
    venue = mapped_venue("desk", MAPPING, FILES)
    assert venue.schemas is not None
    with pytest.raises(ConfigError, match="schema of the registry cannot be read"):
        venue.schemas.supply(2, [b"{"])
    assert venue.schemas.missing(record(2)) == 2
    assert venue.schemas.missing(record(9)) is None, "it is refused"
