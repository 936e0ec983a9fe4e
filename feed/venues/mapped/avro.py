"""Avro records, by the schema that each was written with.

Owns which schema that is (one for all, or by the id that stands before the record), and what Avro's values are here.
Leaves the decoding to fastavro, which is the extra `avro`.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

import fastavro
import msgspec

from feed.errors import BadTick, ConfigError
from feed.venues.mapped.formats import Decode, framed
from feed.venues.mapped.shape import Schema
from feed.venues.mapped.values import moment_of


def avro(options: Schema, files: Mapping[str, bytes]) -> Decode:
    """A decoder for records of these schemas.

    Raises:
        ConfigError: a schema cannot be read.
    """
    by_id = {number: _parsed(file, files[file]) for number, file in options.schemas.items()}
    of_all = None if options.schema is None else _parsed(options.schema, files[options.schema])

    def decode(value: bytes) -> list[object]:
        schema = of_all
        if options.framing == "confluent":
            number, value = framed(value)
            schema = by_id.get(str(number), of_all if not by_id else None)
            if schema is None:
                raise BadTick(f"record of schema {number}, wanted one of {', '.join(by_id)}")
        return [_read(value, schema)]

    return decode


def _parsed(file: str, text: bytes) -> Any:
    try:
        return fastavro.parse_schema(msgspec.json.decode(text))
    except Exception as error:  # whatever the library says of a schema that it cannot take
        raise ConfigError(f"schema {file} cannot be read: {error!r}") from error


def _read(value: bytes, schema: Any) -> object:
    opened = io.BytesIO(value)
    try:
        record = fastavro.schemaless_reader(opened, schema, None)
    except Exception as error:  # EOFError, IndexError, ValueError, …: the library has no error of its own for it
        raise BadTick(f"record is not Avro of its schema: {error!r}") from error
    left = len(value) - opened.tell()
    if left:
        raise BadTick(f"record has {left} bytes behind what its schema says")
    return _plain(record)


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    if isinstance(value, datetime):
        return moment_of(value)
    return str(value) if isinstance(value, UUID) else value
