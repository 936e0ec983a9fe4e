"""Avro records, by the schema that each was written with.

Owns which schema that is (one for all, or by the id that stands before the record), and what Avro's values are here.
Leaves the decoding to fastavro, which is the extra `avro`.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import fastavro
import msgspec

from feed.errors import BadTick, ConfigError
from feed.venues.mapped.formats import Decode, framed
from feed.venues.mapped.schemas import Schemas
from feed.venues.mapped.shape import Schema
from feed.venues.mapped.values import moment_of


def avro(options: Schema, files: Mapping[str, bytes]) -> tuple[Decode, Schemas | None]:
    """A decoder for records of these schemas, and those that a registry has to give it.

    Raises:
        ConfigError: a schema cannot be read.
    """
    by_id = {_id(number): _parsed(file, files[file]) for number, file in options.schemas.items()}
    of_all = None if options.schema is None else _parsed(options.schema, files[options.schema])
    fetched = Schemas(_with_references, {*by_id, *options.refused}) if options.registry else None

    def decode(value: bytes) -> list[object]:
        schema = of_all
        if options.framing == "confluent":
            number, value = framed(value)
            if number in options.refused:
                raise BadTick(f"record of schema {number}, which the mapping refuses")
            schema = by_id.get(number, of_all if not by_id else None)
            if schema is None and fetched is not None:
                schema = fetched.get(number)
            if schema is None:
                raise BadTick(f"record of schema {number}, wanted one of {', '.join(map(str, by_id))}")
        return [_read(value, schema)]

    return decode, fetched


def _id(text: str) -> int:
    if not text.isdecimal():
        raise ConfigError(f"schemas has the id {text!r}, wanted a number")
    return int(text)


def _with_references(texts: Sequence[bytes]) -> Any:
    """A schema behind those that it refers to."""
    named: dict[str, Any] = {}
    parsed: Any = None
    try:
        for text in texts:
            parsed = fastavro.parse_schema(msgspec.json.decode(text), named_schemas=named)
    except Exception as error:  # as below
        raise ConfigError(f"schema of the registry cannot be read: {error!r}") from error
    return parsed


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
