"""A mapping at work: a record's bytes to canonical ticks. A pure function, made once of the mapping's file.

Owns which kinds a record is of, its entries, whose they are, and what is gathered of one symbol: trades one after the
other, levels, the last word of each side of a quote, of a status and of a definition. Leaves bytes to `formats`, single
values to `values`, and what a canonical tick may be to `feed.venues.canonical`, which reads what is made here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import msgspec
from msgspec.structs import replace

from feed.errors import BadTick, ConfigError, shown
from feed.venues import sent
from feed.venues.mapped import values
from feed.venues.mapped.formats import decode_of
from feed.venues.mapped.paths import ABSENT, Path, path
from feed.venues.mapped.schemas import Schemas
from feed.venues.mapped.shape import MappingFile, Part, Rule, Side, Spec, Value, mapping_file
from feed.venues.mapped.values import Convert
from feed.wire.model import Kind

_CHANNELS: Final[dict[Part, Kind]] = {
    "trades": "trades",
    "quotes": "quotes",
    "snapshot": "book",
    "changes": "book",
    "status": "status",
    "instruments": "instruments",
}
_NUMBERS: Final = ("price", "size", "bid_price", "bid_size", "ask_price", "ask_size", "tick_size", "lot_size")
_LISTS: Final = ("conditions", "aliases")
_ENCODE: Final = msgspec.json.Encoder().encode

Read = Callable[[object, object, str], Any]
"""From the whole record, the entry in hand and the record's key: a value as a canonical tick has it, None, `ABSENT`."""


class Told(NamedTuple):
    """What a record says of one symbol: canonical ticks, at most one of each channel but of the book; and what of it
    cannot be used, by channel."""

    ticks: list[bytes]
    odd: list[tuple[Kind, BadTick]]


class Mapped(NamedTuple):
    """What came of a mapping's file."""

    told: Callable[[bytes, str], dict[str, Told]]
    """What a record's value and key say, by symbol; raises `BadTick`, and `SchemaAway` where it has to wait."""
    by_key: bool
    """Whether the key alone says of which symbol a record is."""
    channels: tuple[Kind, ...]
    """Those of which it may say something."""
    version: str
    """A hash of all that changes what comes of a record."""
    key_header: str
    """The header that stands for the key, where one does."""
    schemas: Schemas | None
    """Those that a registry has to give, where one does."""


def mapping(text: str, files: Mapping[str, bytes]) -> Mapped:
    """The mapping that a file's text says; `files` are the schemas that it names, by name.

    Raises:
        ConfigError: it says what none can say, or its library is not there.
    """
    file = mapping_file(text)
    version, key_header = _version(file, files), ""
    if isinstance(file.symbol, Value) and file.symbol.header is not None:
        # whoever reads ticks takes it for the key
        key_header = file.symbol.header
        file = replace(file, symbol=replace(file.symbol, header=None, key=True))
    decode, schemas = decode_of(file, files)
    rules = [_Rule(rule, file, f"records[{number}]") for number, rule in enumerate(file.records)]

    def told(value: bytes, key: str) -> dict[str, Told]:
        gathered: dict[str, _Gathered] = {}
        for record in decode(value):
            meant = [rule for rule in rules if rule.is_of(record)]
            if not meant and file.others == "refuse":
                raise BadTick(f"record of no kind in the mapping: {_seen(record, rules)}")
            for rule in meant:
                rule.gather(record, key, gathered)
        return {symbol: one.told() for symbol, one in gathered.items()}

    symbols = [file.symbol if rule.symbol is None else rule.symbol for rule in file.records]
    return Mapped(
        told,
        all(isinstance(spec, Value) and spec.key for spec in symbols),
        tuple(dict.fromkeys(_CHANNELS[rule.kind] for rule in file.records)),
        version,
        key_header,
        schemas,
    )


class _Gathered:
    """What was found of one symbol in a record so far."""

    def __init__(self) -> None:
        self.trades: list[dict[str, Any]] = []
        self.single: dict[Kind, dict[str, Any]] = {}
        self.books: list[dict[str, Any]] = []
        self.times: dict[Kind, str | None] = {}
        self.odd: list[tuple[Kind, BadTick]] = []

    def told(self) -> Told:
        ticks: list[bytes] = []
        if self.trades:
            ticks.append(self._tick("trades", self.trades))
        ticks += [self._tick(channel, data) for channel, data in self.single.items()]
        if not any(channel == "book" for channel, _ in self.odd):  # of a book that is not whole nothing is told
            for book in self.books:
                ticks.append(_ENCODE({"channel": "book", **book}))
        return Told(ticks, self.odd)

    def _tick(self, channel: Kind, data: object) -> bytes:
        return _ENCODE({"channel": channel, "ts_event": self.times.get(channel), "data": data})

    def level(self, side: str, level: tuple[Any, Any], ts_event: str | None, *, snapshot: bool) -> None:
        """One level of a book that is told level by level."""
        last = self.books[-1] if self.books and self.books[-1]["snapshot"] is snapshot else None
        if last is None:
            last = {"data": {"bids": [], "asks": []}, "snapshot": snapshot}
            self.books.append(last)
        last["data"].setdefault(side, []).append(level)
        last["ts_event"] = ts_event


class _Rule:
    """One kind of record, ready to be used."""

    def __init__(self, rule: Rule, file: MappingFile, where: str) -> None:
        self._part, self._channel = rule.kind, _CHANNELS[rule.kind]
        self.when = [(path(name), _words(wanted)) for name, wanted in rule.when.items()]
        self._has = [path(name) for name in rule.has]
        self._each = None if rule.each is None else path(rule.each)
        floats = file.floats == "shortest"
        spec = file.symbol if rule.symbol is None else rule.symbol
        self._symbol = _read(spec, "symbol", values.text, f"{where}.symbol")
        self._ts_event = _read(rule.ts_event, "ts_event", values.time(_unit(rule.ts_event)), f"{where}.ts_event")
        self._fields = {
            name: _read(spec, name, _convert(name, spec, rule.kind, floats), f"{where}.fields.{name}")
            for name, spec in rule.fields.items()
        }
        self._sides = {
            name: _Side(side, name, floats, f"{where}.{name}")
            for name, side in (("bids", rule.bids), ("asks", rule.asks))
            if side is not None
        }

    def is_of(self, record: object) -> bool:
        """Whether a record is of this kind."""
        for where, wanted in self.when:
            found = where.look(record, record)
            if found is ABSENT or found is None or values.word(found) not in wanted:
                return False
        return all(where.look(record, record) is not ABSENT for where in self._has)

    def gather(self, record: object, key: str, gathered: dict[str, _Gathered]) -> None:
        """Adds what a record says.

        Raises:
            BadTick: it cannot be said of which symbol it is.
        """
        entries = [record] if self._each is None else _list(self._each, record, record)
        if not entries and self._part == "snapshot" and self._each is not None:
            self._of(record, record, key, gathered).books.append({"data": {"bids": [], "asks": []}, "snapshot": True})
        for entry in entries:
            one = self._of(record, entry, key, gathered)
            try:
                self._add(one, record, entry, key)
            except BadTick as error:
                one.odd.append((self._channel, error))

    def _of(self, record: object, entry: object, key: str, gathered: dict[str, _Gathered]) -> _Gathered:
        symbol = self._symbol(record, entry, key)
        if symbol is ABSENT or not symbol:
            raise BadTick("record without a symbol, wanted one where the mapping says")
        one = gathered.get(symbol)
        if one is None:
            one = gathered[symbol] = _Gathered()
        return one

    def _add(self, one: _Gathered, record: object, entry: object, key: str) -> None:
        ts_event = self._ts_event(record, entry, key)
        ts_event = None if ts_event is ABSENT else ts_event
        if self._sides:
            one.books.append(self._book(record, entry, key, ts_event))
            return
        found = {
            name: value for name, read in self._fields.items() if (value := read(record, entry, key)) is not ABSENT
        }
        if self._channel == "book":
            missing = [name for name in ("price", "size", "side") if found.get(name) is None]
            if missing:
                raise BadTick(f"level without {missing[0]}")
            level = found["price"], found["size"]
            one.level(found["side"], level, ts_event, snapshot=self._part == "snapshot")
            return
        if ts_event is not None:
            one.times[self._channel] = ts_event
        if self._channel == "trades":
            one.trades.append(found if "ts_event" in self._fields else {**found, "ts_event": ts_event})
        else:
            before = one.single.get(self._channel)
            one.single[self._channel] = self._merged(before, found, record, entry, key)

    def _merged(
        self, before: dict[str, Any] | None, found: dict[str, Any], record: object, entry: object, key: str
    ) -> dict[str, Any]:
        """The last word of a channel that holds one thing."""
        if self._channel == "quotes":
            for side in ("bid", "ask"):
                if found.get(f"{side}_price", ABSENT) is None:
                    found.pop(f"{side}_size", None)  # of a side that is not there
                if before is not None and f"{side}_price" not in found and f"{side}_price" in before:
                    found.update({name: value for name, value in before.items() if name.startswith(side)})
        if self._channel == "instruments" and "venue_symbol" not in found:
            found["venue_symbol"] = self._symbol(record, entry, key)
        return found

    def _book(self, record: object, entry: object, key: str, ts_event: str | None) -> dict[str, Any]:
        snapshot = self._part == "snapshot"
        data = {}
        for name, side in self._sides.items():
            levels = side.levels(record, entry, key)
            if levels is not None:
                data[name] = levels
            elif snapshot:
                raise BadTick(f"snapshot without {name}")
        if not data:
            raise BadTick("change of a book without bids and asks")
        return {"ts_event": ts_event, "data": data, "snapshot": snapshot}


class _Side:
    """One side of a book, ready to be used."""

    def __init__(self, side: Side, side_name: str, floats: bool, where: str) -> None:
        self._each = path(side.each)
        self._name = side_name
        self._price, self._size = (
            _read(spec, name, _convert(name, spec, "changes", floats), f"{where}.{name}")
            for name, spec in (("price", side.price), ("size", side.size))
        )

    def levels(self, record: object, entry: object, key: str) -> list[tuple[Any, Any]] | None:
        """The levels; None where there is no such side. Raises `BadTick`."""
        if self._each.look(record, entry) in (ABSENT, None):
            return None
        levels = []
        for level in _list(self._each, record, entry):
            price, size = self._price(record, level, key), self._size(record, level, key)
            if price is ABSENT or price is None or size is ABSENT or size is None:
                raise BadTick(f"level of {self._name} without price or size")
            levels.append((price, size))
        return levels


def _read(spec: Spec | None, name: str, convert: Convert, where: str) -> Read:
    """What gives a value, by what a mapping says of it."""
    if spec is None:
        return lambda record, entry, key: ABSENT
    value = Value(field=spec) if isinstance(spec, str) else spec
    given = [value.field is not None, value.key, value.constant is not None]
    if value.header is not None:
        raise ConfigError(f"{where}: found a header, wanted one for the symbol of all records only")
    if sum(given) != 1:
        raise ConfigError(f"{where}: found {sum(given)} of field, key and constant, wanted one")
    at = None if value.field is None else path(value.field)
    constant: object = value.constant
    nothing, words, default = _words(value.none), value.words, value.default

    def read(record: object, entry: object, key: str) -> Any:
        found = at.look(record, entry) if at is not None else key if value.key else constant
        if found is ABSENT:
            if default is None:
                return ABSENT
            found = default
        if found is None or (nothing and values.word(found) in nothing):
            return None
        if words:
            word = words.get(values.word(found))
            if word is None:
                raise BadTick(f"{name} {sent.said(found)}, wanted one of {', '.join(words)}")
            found = word
        return convert(name, found)

    return read


def _convert(name: str, spec: Spec, part: Part, floats: bool) -> Convert:
    if name in _NUMBERS:
        return values.number(spec.scale if isinstance(spec, Value) else 0, floats=floats)
    if name == "ts_event":
        return values.time(_unit(spec))
    if name in _LISTS:
        return values.texts
    if name == "side":
        return values.side if part == "trades" else values.book_side
    return values.text


def _unit(spec: Spec | None) -> str:
    return spec.unit if isinstance(spec, Value) else "ns"


def _list(where: Path, record: object, entry: object) -> list[Any]:
    found = where.look(record, entry)
    if not isinstance(found, list):
        raise BadTick(f"{where.text} is {'nothing' if found is ABSENT else sent.said(found)}, wanted a list")
    return found


def _words(given: object) -> frozenset[str]:
    return frozenset(values.word(one) for one in (given if isinstance(given, list) else [given]))


def _seen(record: object, rules: list[_Rule]) -> str:
    """What stands where kinds are told from each other."""
    paths = {where.text: where.look(record, record) for rule in rules for where, _ in rule.when}
    seen = [f"{name} is {'nothing' if found is ABSENT else sent.said(found)}" for name, found in paths.items()]
    return ", ".join(seen) or shown(str(record))


def _version(file: MappingFile, files: Mapping[str, bytes]) -> str:
    """A hash of what the file says, not of its comments, and of its schemas."""
    hashed = hashlib.sha256(msgspec.json.encode(file))
    for name in file.files:
        hashed.update(hashlib.sha256(files[name]).digest())
    return hashed.hexdigest()[:16]
