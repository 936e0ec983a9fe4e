"""`feed map init` and `check`: a mapping proposed from the records of a file, and what becomes of each by a mapping.

Owns how a sample is read (a record a line) and what is said of each. Leaves proposing to `feed.venues.mapped`. Records
go through the very machine of a normalizer, so what is said here is what clients would get.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from feed.errors import BadTick, ConfigError
from feed.venues.bars import BarRules
from feed.venues.source import Source
from feed.venues.symbol import Rules, Tick
from feed.wire.model import Update

if TYPE_CHECKING:
    from feed.venues.now import Message
    from feed.venues.venue import Venue

_RECEIVED: Final = 1_700_000_000_000_000_000
"""When the first record counts as received: the same for ever, and so is what is said."""
_NO_BARS: Final = Rules(bars=BarRules(intervals=()))
encode: Final = msgspec.json.encode
_LOOKED_AT: Final = 1000


class Record(NamedTuple):
    """A line of a sample."""

    line: int
    key: str
    value: bytes


class Checked(NamedTuple):
    """What became of a record: what clients get, and what was refused."""

    line: int
    said: list[str]
    refused: list[str]


def sample(file: Path, *, keyed: bool, binary: bool) -> list[Record]:
    """The records of a file, one a line; `keyed`: behind the key and a tab; `binary`: as base64. Empty lines are none.

    Raises:
        ConfigError: it cannot be read so.
    """
    try:
        lines = file.read_bytes().splitlines()
    except OSError as error:
        raise ConfigError(f"sample {file} cannot be read: {error}") from error
    records = []
    for number, line in enumerate(lines, 1):
        key, tab, value = line.partition(b"\t") if keyed else (b"", b"", line)
        if keyed and not tab:
            raise ConfigError(f"line {number} of {file} has no tab, wanted KEY<tab>RECORD")
        if not value.strip():
            continue
        try:
            records.append(Record(number, key.decode(), base64.b64decode(value, validate=True) if binary else value))
        except (binascii.Error, UnicodeDecodeError) as error:
            raise ConfigError(f"line {number} of {file}, wanted base64 behind a key in UTF-8: {error}") from error
    return records


def fetch_schemas(venue: Venue, records: Sequence[Record], url: str | None) -> None:
    """Has all schemas that records need from a registry.

    Raises:
        ConfigError: no registry is named.
        Unreachable: it does not give one of them.
    """
    from feed.normalizer.registry import Registry

    schemas = venue.schemas
    if schemas is None:
        return
    for record in records:
        number = schemas.missing(record.value)
        if number is not None:
            if url is None:
                raise ConfigError(f"line {record.line} needs schema {number} of a registry, wanted --registry URL")
            schemas.supply(number, Registry(url).read(number))


def check(venue: Venue, records: Sequence[Record]) -> Iterator[Checked]:
    """What becomes of each record, after those before it."""
    source = Source(venue, f"{venue.name}/0@check", _NO_BARS)
    for seq, (line, key, value) in enumerate(records):
        received = _RECEIVED + seq
        try:
            refused = [str(error) for error in source.apply(Tick(seq, key, value, received, received))]
        except BadTick as error:
            refused = [str(error)]
        yield Checked(line, [_words(message) for message in source.take()], refused)


def proposed(file: Path, *, format: str | None, schema: str | None, message: str, framed: bool, keyed: bool) -> str:
    """A mapping for the records of a file, by a look at the first ones.

    Raises:
        ConfigError: they cannot be read.
    """
    from feed.venues.mapped.formats import decode_of, json
    from feed.venues.mapped.proposal import proposal
    from feed.venues.mapped.shape import MappingFile

    records = sample(file, keyed=keyed, binary=format in ("avro", "protobuf"))[:_LOOKED_AT]
    if not records:
        raise ConfigError(f"sample {file} has no records")
    if format is None:
        try:
            json(records[0].value)
            format = "json"
        except BadTick:
            format = "csv"
    said: dict[str, Any] = {"format": format, "records": []}
    head = f'format = "{format}"'
    if format in ("avro", "protobuf"):
        said[format] = {"schema": schema, "message": message, "framing": "confluent" if framed else "none"}
        given = {name: value for name, value in said[format].items() if value}
        head += f"\n{format} = {{ {', '.join(f'{name} = {encode(value).decode()}' for name, value in given.items())} }}"
    try:
        asked = msgspec.convert(said, MappingFile)
        decode, _ = decode_of(asked, {name: Path(name).read_bytes() for name in asked.files})
    except (msgspec.ValidationError, OSError, KeyError) as error:
        raise ConfigError(f"records of {format}: {error}") from error
    found = []
    for line, _, value in records:
        try:
            found += decode(value)
        except BadTick as error:
            raise ConfigError(f"line {line} of {file}: {error}") from error
    return proposal(found, head) + "\n"


def _words(message: Message) -> str:
    if isinstance(message, Update):
        time = "" if message.ts_event is None else f" at {message.ts_event}"
        return f"{message.channel} {message.symbol}{time} {encode(message.data).decode()}"
    return encode(message).decode()
