"""The tables of a recording as Arrow schemas: what `schemas/arrow.json` says, as types.

Owns the names of the tables, and which files are of a table: those with its columns, and those made before its last
columns were there.
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec
import pyarrow as pa

import schemas
from feed.channels.state import FoldRules
from feed.wire.model import KINDS

GAPS: Final = "gaps"
STATES: Final = "states"
TABLES: Final[tuple[str, ...]] = (*KINDS, GAPS, STATES)
TICKS: Final = "ticks"
"""Records of tick topics as they are: a stream of its own, with positions of its own."""
DECIMAL: Final = pa.decimal128(38, 18)
TIME: Final = pa.timestamp("ns", tz="UTC")
WORD: Final = pa.dictionary(pa.int32(), pa.string())
_PLAIN: Final[dict[str, pa.DataType]] = {
    "int32": pa.int32(),
    "int64": pa.int64(),
    "bool": pa.bool_(),
    "string": pa.string(),
    "binary": pa.binary(),
    "timestamp[ns, tz=UTC]": TIME,
    "timestamp[ms, tz=UTC]": pa.timestamp("ms", tz="UTC"),
    "dictionary<values=string, indices=int32>": WORD,
    "decimal128(38, 18)": DECIMAL,
}
_NESTED: Final = re.compile(r"(list|struct)<(.*)>").fullmatch


def arrow_type(text: str) -> pa.DataType:
    """The type that a text of arrow.json names."""
    if text in _PLAIN:
        return _PLAIN[text]
    nested = _NESTED(text)
    assert nested is not None, f"{text} is no type"
    if nested[1] == "list":
        return pa.list_(arrow_type(nested[2]))
    parts = re.split(r", (?=[a-z_]+: )", nested[2])
    return pa.struct([(name, arrow_type(rest)) for name, rest in (part.split(": ", 1) for part in parts)])


def _schema(columns: list[dict[str, Any]]) -> pa.Schema:
    return pa.schema([pa.field(c["name"], arrow_type(c["type"]), nullable=c["nullable"]) for c in columns])


SCHEMAS: Final[dict[str, pa.Schema]] = {
    name: _schema(table["columns"]) for name, table in schemas.arrow()["tables"].items()
}
"""Each table's columns, in order."""
_RULES_KEY: Final = b"feed.rules"


def is_of(table: str, schema: pa.Schema) -> bool:
    """Whether these are a table's columns, or its first ones where all others may be null."""
    now = list(SCHEMAS[table])
    first, later = now[: len(schema)], now[len(schema) :]
    return schema.equals(pa.schema(first)) and all(field.nullable for field in later)


def as_now(table: str, batch: pa.RecordBatch) -> pa.RecordBatch:
    """The rows with all columns of their table: those that came after they were written are null."""
    later = list(SCHEMAS[table])[batch.num_columns :]
    if not later:
        return batch
    schema = pa.schema([*batch.schema, *later], metadata=batch.schema.metadata)
    return pa.record_batch([*batch.columns, *(pa.nulls(batch.num_rows, field.type) for field in later)], schema=schema)


def schema_of(table: str, rules: FoldRules) -> pa.Schema:
    """A table's columns, and in their metadata what its keyframes hold."""
    return SCHEMAS[table].with_metadata({_RULES_KEY: msgspec.json.encode(rules)})


def rules_of(schema: pa.Schema) -> FoldRules:
    """What the keyframes of a file hold."""
    found = (schema.metadata or {}).get(_RULES_KEY)
    try:
        return FoldRules() if found is None else msgspec.json.decode(found, type=FoldRules)
    except msgspec.DecodeError as error:
        raise pa.ArrowInvalid(f"rules {found!r}: {error}") from error
