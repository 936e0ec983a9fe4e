"""The Arrow types: known to pyarrow, and a column for each field of the messages."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from msgspec import Struct
from msgspec.structs import fields

import schemas
from feed.recording.tables import arrow_type
from feed.wire.model import Bar, Book, Gap, Instrument, Quote, State, Status, Trade, Update

TABLES: dict[str, Any] = schemas.arrow()["tables"]
FIELDS: dict[str, type[Struct]] = {
    "trades": Trade,
    "quotes": Quote,
    "book": Book,
    "bars": Bar,
    "status": Status,
    "instruments": Instrument,
    "gaps": Gap,
    "states": State,
}


@pytest.mark.parametrize("table", TABLES)
def test_every_type_exists(table: str) -> None:
    columns = TABLES[table]["columns"]
    schema = pa.schema([pa.field(c["name"], arrow_type(c["type"]), nullable=c["nullable"]) for c in columns])
    assert len(set(schema.names)) == len(columns)


@pytest.mark.parametrize("table", FIELDS)
def test_every_field_has_its_column(table: str) -> None:
    names = {column["name"] for column in TABLES[table]["columns"]}
    assert {field.name for field in fields(FIELDS[table])} <= names
    if table not in ("gaps", "states"):
        assert {field.name for field in fields(Update)} - {"channel", "data", "count", "part"} <= names


def test_there_are_no_other_tables() -> None:
    assert TABLES.keys() == {*FIELDS, "ticks"}
