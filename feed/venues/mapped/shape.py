"""What a mapping file may say: its tables, field by field.

Owns the shape, by which a file is read and its errors are told. What it means is in `mapping`; in words, with examples,
in this folder's README.md.
"""

from __future__ import annotations

import tomllib
from typing import Final, Literal

import msgspec
from msgspec import Struct

from feed.errors import ConfigError
from feed.venues.sent import Written

Format = Literal["json", "csv", "avro", "protobuf"]
Part = Literal["trades", "quotes", "snapshot", "changes", "status", "instruments"]
Plain = str | int | bool
PARTS: Final[dict[Part, tuple[str, ...]]] = {
    "trades": ("price", "size", "side", "trade_id", "ts_event", "conditions", "exchange"),
    "quotes": ("bid_price", "bid_size", "ask_price", "ask_size"),
    "snapshot": ("price", "size", "side"),
    "changes": ("price", "size", "side"),
    "status": ("action", "reason"),
    "instruments": ("venue", "venue_symbol", "kind", "base", "quote", "tick_size", "lot_size", "aliases"),
}
"""The fields that each kind of record may have."""


_TAKEN: Final = ("ts_recv", "request", "symbols")
"""Headers that mean something else (`schemas/tick_record.json`)."""


class Value(Struct, frozen=True, forbid_unknown_fields=True):
    """Where a value comes from, and what is done to it."""

    field: str | None = None
    """A path."""
    key: bool = False
    """The record's key."""
    header: str | None = None
    """Of the symbol of all records, at the top of the file: a header of the record; it stands for the key."""
    constant: Plain | list[str] | None = None
    words: dict[str, str] = {}
    """The record's word to ours."""
    scale: int = 0
    """A number is an integer that counts 10 to the minus this."""
    unit: Literal["ns", "us", "ms", "s"] = "ns"
    """Of a time that is a number."""
    default: Plain | None = None
    """Where the field is absent."""
    none: list[Plain] = []
    """What stands for null."""


Spec = str | Value
"""A path alone, or all that can be said of a value."""


class Side(Struct, frozen=True, forbid_unknown_fields=True):
    """One side of a book: a list of levels, and where price and size are in each."""

    each: str
    price: Spec
    size: Spec


class Rule(Struct, frozen=True, forbid_unknown_fields=True):
    """One kind of record."""

    kind: Part
    when: dict[str, Plain | list[Plain]] = {}
    """By path: what must stand there."""
    has: list[str] = []
    """Paths at which something must stand, null too."""
    each: str | None = None
    """A list in the record, each element an entry of its own; without it the record is one."""
    symbol: Spec | None = None
    ts_event: Spec | None = None
    fields: dict[str, Spec] = {}
    bids: Side | None = None
    asks: Side | None = None


class Csv(Struct, frozen=True, forbid_unknown_fields=True):
    """Lines: with `columns` each is an object, else a list of cells."""

    columns: list[str] = []
    delimiter: str = ","


class Schema(Struct, frozen=True, forbid_unknown_fields=True):
    """Binary records: their schemas are files beside the mapping."""

    framing: Literal["none", "confluent"] = "none"
    """`confluent`: a zero byte, the id of the schema in four bytes, and of Protobuf the place of the message."""
    schema: str | None = None
    """The file: an Avro schema, or a Protobuf descriptor set."""
    schemas: dict[str, str] = {}
    """Of Avro with ids: the file of each."""
    registry: bool = False
    """Of Avro with ids: others than those of `schemas` are fetched from the registry that the settings name."""
    refused: list[int] = []
    """Ids whose records are dead letters, whatever the registry has."""
    message: str = ""
    """Of Protobuf: the full name of the message."""


class MappingFile(Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file."""

    format: Format
    records: list[Rule]
    symbol: Spec = Value(key=True)
    others: Literal["refuse", "ignore"] = "refuse"
    """Records of which no kind is known."""
    floats: Literal["refuse", "shortest"] = "refuse"
    """Binary floats as numbers: by the shortest text that is the same double."""
    csv: Csv = Csv()
    avro: Schema = Schema()
    protobuf: Schema = Schema()

    @property
    def files(self) -> list[str]:
        """The schema files that it names."""
        schema = self.avro if self.format == "avro" else self.protobuf if self.format == "protobuf" else Schema()
        return sorted({*schema.schemas.values(), *([schema.schema] if schema.schema else [])})


def mapping_file(text: str) -> MappingFile:
    """What a mapping file says.

    Raises:
        ConfigError: it is no TOML, or says what none can say.
    """
    try:
        read = msgspec.convert(tomllib.loads(text, parse_float=Written), MappingFile)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise ConfigError(f"mapping cannot be read: {error}") from error
    if not read.records:
        raise ConfigError("mapping without [[records]], wanted one at least")
    if isinstance(read.symbol, Value) and read.symbol.header is not None:
        if read.symbol.header in ("", *_TAKEN):
            raise ConfigError(f"symbol.header {read.symbol.header!r}, wanted another name than {', '.join(_TAKEN)}")
        if any(rule.symbol for rule in read.records):
            raise ConfigError("symbol is in a header, wanted it so of all records")
    for number, rule in enumerate(read.records):
        _check(rule, f"records[{number}]")
    if (read.avro.registry and read.avro.framing != "confluent") or read.protobuf.registry:
        raise ConfigError('registry = true, wanted it of avro with framing = "confluent" only')
    if read.format in ("avro", "protobuf") and not read.files and not read.avro.registry:
        raise ConfigError(f"mapping of {read.format} without a schema, wanted [{read.format}] schema = FILE")
    return read


def _check(rule: Rule, where: str) -> None:
    known = PARTS[rule.kind]
    for name in rule.fields:
        if name not in known:
            raise ConfigError(f"{where}.fields has {name}, wanted of {rule.kind} some of {', '.join(known)}")
    of_book = rule.kind in ("snapshot", "changes")
    if (rule.bids or rule.asks) and not of_book:
        raise ConfigError(f"{where} of {rule.kind} has bids or asks, wanted them in snapshot and changes only")
    if rule.kind == "snapshot" and bool(rule.bids) != bool(rule.asks):
        raise ConfigError(f"{where}: a snapshot of one side, wanted bids and asks")
    needed = {"trades": ("price", "size"), "status": ("action",), "instruments": ("venue",)}.get(rule.kind, ())
    if of_book and not (rule.bids or rule.asks):
        needed = ("price", "size", "side")
    for name in needed:
        if name not in rule.fields:
            raise ConfigError(f"{where}.fields of {rule.kind} without {name}")
    if rule.kind == "quotes" and not {"bid_price", "ask_price"} & rule.fields.keys():
        raise ConfigError(f"{where}.fields of quotes without bid_price and ask_price")
