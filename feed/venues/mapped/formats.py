"""Bytes of a record to what paths are looked for in: objects, lists, texts and numbers.

Owns JSON and lines of CSV, and which decoder a format has. Leaves Avro and Protobuf to modules of their own, which are
imported where a mapping asks for them: their libraries are extras.

A decoder gives the records in the bytes (several lines are several records) and raises `BadTick`.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from feed.errors import BadTick, ConfigError
from feed.venues.mapped.paths import ABSENT
from feed.venues.mapped.shape import Csv, MappingFile
from feed.venues.sent import decoder
from feed.wire.frames import UNREADABLE

if TYPE_CHECKING:
    from feed.venues.mapped.schemas import Schemas

Decode = Callable[[bytes], list[object]]
_JSON: Final = decoder(Any)


def decode_of(file: MappingFile, files: Mapping[str, bytes]) -> tuple[Decode, Schemas | None]:
    """The decoder that a mapping asks for, and the schemas that a registry has to give it, where one does; `files` are
    those that the mapping names.

    Raises:
        ConfigError: its library is not there, or a schema cannot be read.
    """
    if file.format == "json":
        return json, None
    if file.format == "csv":
        return lines(file.csv), None
    try:
        if file.format == "avro":
            from feed.venues.mapped.avro import avro

            return avro(file.avro, files)
        from feed.venues.mapped.protobuf import protobuf

        return protobuf(file.protobuf, files), None
    except ImportError as error:
        raise ConfigError(
            f"mapping of {file.format} needs a library that is not there: pip install 'market-feed[{file.format}]'"
        ) from error


def json(value: bytes) -> list[object]:
    """One JSON value; numbers keep their digits."""
    try:
        return [_JSON.decode(value)]
    except UNREADABLE as error:
        raise BadTick(f"record is not JSON: {error}") from error


def lines(options: Csv) -> Decode:
    """Lines of CSV; an empty cell is absent."""
    if len(options.delimiter) != 1 or options.delimiter in '"\r\n':
        raise ConfigError(f"csv.delimiter {options.delimiter!r}, wanted one character")
    columns = options.columns

    def decode(value: bytes) -> list[object]:
        try:
            rows = list(csv.reader(io.StringIO(value.decode(), newline=""), delimiter=options.delimiter, strict=True))
        except (UnicodeDecodeError, csv.Error) as error:
            raise BadTick(f"record is not CSV: {error}") from error
        return [_row(row, columns) for row in rows if row]

    return decode


def framed(value: bytes) -> tuple[int, bytes]:
    """The schema's id and the rest of a record that begins as Confluent's serializers write it."""
    if len(value) < 5 or value[0] != 0:
        raise BadTick(f"record begins with {value[:5].hex() or 'nothing'}, wanted 00 and the id of a schema")
    return int.from_bytes(value[1:5], "big"), value[5:]


def _row(row: list[str], columns: list[str]) -> object:
    cells = [cell or ABSENT for cell in row]
    if not columns:
        return cells
    if len(cells) != len(columns):
        raise BadTick(f"line of {len(cells)} cells, wanted {len(columns)}")
    return {name: cell for name, cell in zip(columns, cells, strict=True) if cell is not ABSENT}
