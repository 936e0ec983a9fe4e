"""Tables of a recording as files of others: Parquet and CSV.

Owns the formats. Rows pass through block by block, so a table of any length takes the memory of one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from feed.recording.decimals import text_of
from feed.recording.json_text import joined, listed, strings

if TYPE_CHECKING:
    from replay.opened import Recording, Symbols
    from replay.times import Moment

Format = Literal["parquet", "csv"]
FORMATS: Final[tuple[Format, ...]] = ("parquet", "csv")
_ROW_GROUP: Final = 1 << 17


def export(
    recording: Recording,
    table: str,
    to: Path,
    form: Format,
    *,
    symbols: Symbols = None,
    start: Moment | None = None,
    end: Moment | None = None,
    tell: Callable[[int], None] = lambda rows: None,
) -> int:
    """Writes one table into a file; how many rows. Numbers and times of CSV are exact text; lists are JSON."""
    rows = 0
    batches = recording.batches(table, symbols, start, end)
    first = next(batches, None)
    if first is None:
        first = recording.table(table, symbols, start, end).to_batches(max_chunksize=1)[:1]
        schema = recording.table(table, symbols, start, end).schema
        batches = iter(first)
    else:
        schema = first.schema
        batches = _again(first, batches)
    partial = to.with_name(f".{to.name}.part")
    try:
        with _writer(partial, schema, form) as write:
            for batch in batches:
                write(batch)
                rows += batch.num_rows
                tell(rows)
        partial.replace(to)
    finally:
        partial.unlink(missing_ok=True)
    return rows


def _again(first: pa.RecordBatch, rest: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    yield first
    yield from rest


class _writer:  # noqa: N801  # a context, used as a function
    def __init__(self, path: Path, schema: pa.Schema, form: Format) -> None:
        self._form = form
        self._schema = _plain(schema) if form == "parquet" else csv_schema(schema)
        if form == "parquet":
            self._file = pa.parquet.ParquetWriter(path, self._schema, compression="zstd")
        else:
            self._file = pa.csv.CSVWriter(path, self._schema)

    def __enter__(self) -> Callable[[pa.RecordBatch], None]:
        return self._write

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def _write(self, batch: pa.RecordBatch) -> None:
        if self._form == "parquet":
            # dictionaries differ from file to file: written as what they mean, Parquet makes its own
            self._file.write_table(pa.Table.from_batches([batch]).cast(self._schema), row_group_size=_ROW_GROUP)
        else:
            columns = [csv_text(column) for column in batch.columns]
            self._file.write_table(pa.Table.from_arrays(columns, schema=self._schema))


def _plain(schema: pa.Schema) -> pa.Schema:
    fields = [
        field.with_type(field.type.value_type) if pa.types.is_dictionary(field.type) else field for field in schema
    ]
    return pa.schema(fields)


def csv_schema(schema: pa.Schema) -> pa.Schema:
    """The columns as they stand in a CSV file: text, but for whole numbers and truths."""
    return pa.schema([pa.field(field.name, _flat_type(field.type)) for field in schema])


def _flat_type(type_: pa.DataType) -> pa.DataType:
    return type_ if pa.types.is_integer(type_) or pa.types.is_boolean(type_) else pa.string()


def csv_text(column: pa.Array) -> pa.Array:
    """A column as it stands in a CSV file."""
    type_ = column.type
    if pa.types.is_dictionary(type_):
        return column.cast(pa.string())
    if pa.types.is_decimal(type_):
        return text_of(column)
    if pa.types.is_timestamp(type_):
        return column.cast(pa.int64()).cast(pa.string())
    if pa.types.is_list(type_):
        return _listed(column)
    return column


def _listed(column: pa.ListArray) -> pa.Array:
    if not pa.types.is_struct(column.type.value_type):
        return pc.if_else(column.is_valid(), joined(["", *strings(column)]), None)
    values, offsets = column.flatten(), column.offsets.to_numpy()
    prices, sizes = values.flatten()
    levels = joined(['["', text_of(prices), '","', text_of(sizes), '"]'])
    return joined(["[", listed(levels, offsets - offsets[0]), "]"])
