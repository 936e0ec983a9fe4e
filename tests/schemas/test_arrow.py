"""The Arrow types: known to pyarrow, and a column for each field of the messages."""

from __future__ import annotations

import re
from typing import Any

import pyarrow as pa
import pytest
from msgspec import Struct
from msgspec.structs import fields

import schemas
from feed.model import Bar, Book, Gap, Instrument, Quote, State, Status, Trade, Update

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
PLAIN = {"int32": pa.int32(), "int64": pa.int64(), "bool": pa.bool_(), "string": pa.string()}


def arrow_type(text: str) -> pa.DataType:
    """The type that a text of arrow.json names."""
    if text in PLAIN:
        return PLAIN[text]
    if text == "timestamp[ns, tz=UTC]":
        return pa.timestamp("ns", tz="UTC")
    if text == "dictionary<values=string, indices=int32>":
        return pa.dictionary(pa.int32(), pa.string())
    if match := re.fullmatch(r"decimal128\((\d+), (\d+)\)", text):
        return pa.decimal128(int(match[1]), int(match[2]))
    if match := re.fullmatch(r"list<(.*)>", text):
        return pa.list_(arrow_type(match[1]))
    match = re.fullmatch(r"struct<(.*)>", text)
    assert match, f"{text} is no type"
    parts = re.split(r", (?=[a-z_]+: )", match[1])
    return pa.struct([(name, arrow_type(rest)) for name, rest in (part.split(": ", 1) for part in parts)])


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
        assert {field.name for field in fields(Update)} - {"channel", "data", "part"} <= names


def test_there_are_no_other_tables() -> None:
    assert TABLES.keys() == FIELDS.keys()
