"""A mapping proposed from a look at records: a file to be read and mended by a person, then checked.

Owns what fields are mostly called, and how kinds of records are told from each other. It guesses, and so it is never
used by itself: what is proposed goes into a file, and each guess that could be wrong in silence has a comment.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, Final

from feed.errors import BadTick
from feed.venues import sent
from feed.venues.mapped.paths import ABSENT, path
from feed.venues.mapped.values import word
from feed.wire.times import NS_MIN, unit_of

_CALLED: Final = {
    "symbol": ("symbol", "sym", "instrument", "ticker", "product_id", "security", "isin", "pair", "code"),
    "price": ("price", "px", "p", "last_price", "trade_price", "rate"),
    "size": ("size", "qty", "quantity", "amount", "volume", "q", "sz", "shares"),
    "side": ("side", "aggressor", "taker_side", "sd", "direction"),
    "trade_id": ("trade_id", "tradeid", "tid", "exec_id", "execid", "match_id", "id"),
    "ts_event": ("ts_event", "timestamp", "event_time", "time", "ts", "executedat", "at", "sent"),
    "bid_price": ("bid_price", "bid", "bidpx", "best_bid", "bp"),
    "bid_size": ("bid_size", "bidsize", "bidsz", "bid_qty", "bq"),
    "ask_price": ("ask_price", "ask", "askpx", "best_ask", "offer", "ap"),
    "ask_size": ("ask_size", "asksize", "asksz", "ask_qty", "aq"),
    "bids": ("bids", "bid_levels", "b"),
    "asks": ("asks", "ask_levels", "offers", "a"),
    "action": ("action", "status", "state", "trading_status"),
    "reason": ("reason", "text", "message"),
}
_KINDS: Final = ("type", "msg_type", "msgtype", "event", "kind", "channel", "e", "record_type", "message_type")
_CHANGES: Final = ("delta", "update", "change", "diff", "incremental")
_UNITS: Final = {"seconds": "s", "milliseconds": "ms", "microseconds": "us"}
_SIDES: Final = {"buyer": "buy", "seller": "sell", "bid": "buy", "ask": "sell", "1": "buy", "2": "sell"}
_WORDS_MAX: Final = 12
_DEEP_MAX: Final = 6


def proposal(records: Sequence[object], head: str) -> str:
    """The text of a mapping for such records; `head` is what is known of their format, as lines of the file."""
    kind_at = _kind_at(records)
    groups: dict[str, list[object]] = {}
    for record in records:
        groups.setdefault("" if kind_at is None else word(path(kind_at).look(record, record)), []).append(record)
    symbol = _found("symbol", records)
    lines = ["# Proposed from a sample: read every line of it, then `feed map check` it.", *head.splitlines()]
    if symbol is None:
        lines += ["# no field looks like the symbol: the record's key is taken for it", ""]
    else:
        lines += [f"symbol = {{ field = {_text(f'$.{symbol}')} }}", ""]
    for name, group in groups.items():
        lines += [*_rule(kind_at, name, group), ""]
    return "\n".join(lines)


def _rule(kind_at: str | None, name: str, records: list[object]) -> Iterator[str]:
    """The lines of one kind of record."""
    when = [] if kind_at is None else [f"when = {{ {_text(kind_at)} = {_text(name)} }}"]
    found = {field: where for field in _CALLED if (where := _found(field, records)) is not None}
    time = [f"ts_event = {_time(found['ts_event'], records)}"] if "ts_event" in found else []
    bids, asks = (_side(found.get(side), records) for side in ("bids", "asks"))
    if bids and asks:
        part = "changes" if any(mark in name.lower() for mark in _CHANGES) else "snapshot"
        yield from ["[[records]]", f"kind = {_text(part)}  # whole books are a snapshot, what changed are changes"]
        yield from [*when, *time, f"bids = {bids}", f"asks = {asks}"]
    elif "bid_price" in found and "ask_price" in found:
        yield from ["[[records]]", 'kind = "quotes"', *when, *time, "[records.fields]"]
        yield from _fields(("bid_price", "bid_size", "ask_price", "ask_size"), found, records)
    elif "price" in found and "size" in found:
        yield from ["[[records]]", 'kind = "trades"  # or changes, where these are levels of a book', *when, *time]
        yield "[records.fields]"
        yield from _fields(("price", "size", "side", "trade_id"), found, records)
    elif "action" in found:
        words = ", ".join(f'{_text(each)} = "?"' for each in _seen(found["action"], records))
        yield from ["[[records]]", 'kind = "status"', *when, *time, "[records.fields]"]
        yield f"action = {{ field = {_text(found['action'])}, words = {{ {words} }} }}"
        yield "# each ? is one of trading, halt, pre-open, close, unknown"
        yield from _fields(("reason",), found, records)
    elif (entries := _entries(records)) is not None:
        at, inner = entries
        part = "changes" if any(mark in f"{name} {at}".lower() for mark in (*_CHANGES, "level")) else "trades"
        within = {field: where for field in _CALLED if (where := _found(field, inner)) is not None}
        yield from ["[[records]]", f"kind = {_text(part)}  # trades, or changes of a book", *when]
        yield from [f"each = {_text(at)}", *(line.replace('"', '"$.', 1) for line in time), "[records.fields]"]
        yield from _fields(("price", "size", "side", *(["trade_id"] if part == "trades" else [])), within, inner)
    else:
        yield f"# of no kind that is known: {name or 'these records'}, which have"
        yield f"# {', '.join(_paths(records[0]))[:400]}"
        yield from (f"# {line}" for line in when)
        yield '# others = "ignore" at the top passes over them'


def _fields(names: Sequence[str], found: dict[str, str], records: list[object]) -> Iterator[str]:
    for name in names:
        if name not in found:
            continue
        at = found[name]
        values = [value for record in records if (value := path(at).look(record, record)) not in (ABSENT, None)]
        if name == "side":
            yield f"side = {_words(at, records)}"
        elif name.endswith(("price", "size")) and values and all(type(value) is int for value in values):
            yield f"{name} = {_text(at)}  # integers: where they count 1e-9, {{ field = {_text(at)}, scale = 9 }}"
        else:
            yield f"{name} = {_text(at)}"


def _words(at: str, records: list[object]) -> str:
    seen = _seen(at, records)
    try:
        for each in seen:
            sent.side(each)
    except BadTick:
        words = ", ".join(f"{_text(each)} = {_text(_SIDES.get(each.lower(), '?'))}" for each in seen)
        return f"{{ field = {_text(at)}, words = {{ {words} }} }}  # the taker's side, each buy or sell"
    return f"{_text(at)}  # the taker's side"


def _time(at: str, records: list[object]) -> str:
    numbers = [
        int(text.partition(".")[0])
        for record in records
        if (text := word(path(at).look(record, record))).replace(".", "", 1).isdecimal()
    ]
    unit = _UNITS.get(unit_of(numbers[0])) if numbers and numbers[0] < NS_MIN else None
    return f"{{ field = {_text(at)}, unit = {_text(unit)} }}" if unit else _text(at)


def _side(at: str | None, records: list[object]) -> str | None:
    """A list of levels, as pairs or as objects."""
    lists = [path(at).look(record, record) for record in records] if at is not None else []
    level = next((levels[0] for levels in lists if isinstance(levels, list) and levels), None)
    if isinstance(level, list) and len(level) > 1:
        return f'{{ each = {_text(at)}, price = "[0]", size = "[1]" }}'
    price, size = _found("price", [level]), _found("size", [level])
    if price is None or size is None:
        return None
    return f"{{ each = {_text(at)}, price = {_text(price)}, size = {_text(size)} }}"


def _kind_at(records: Sequence[object]) -> str | None:
    """Where records say of which kind they are: a field that is called so, with few words."""
    for record in records[:1]:
        for at in _paths(record):
            if _last(at) in _KINDS or at == "[0]":
                seen = _seen(at, records)
                if 0 < len(seen) <= _WORDS_MAX:
                    return at
    return None


def _found(field: str, records: Sequence[object]) -> str | None:
    """The path at which a field is, by what it is called: the usual names first; a list where sides of a book are."""
    wanted_list = field in ("bids", "asks")
    for called in _CALLED[field]:
        for record in records:
            for at in _paths(record):
                if _last(at) != called:
                    continue
                value = path(at).look(record, record)
                if not isinstance(value, dict) and isinstance(value, list) is wanted_list:
                    return at
    return None


def _entries(records: Sequence[object]) -> tuple[str, list[object]] | None:
    """The path of a list whose elements have a price, and all of them."""
    for at in _paths(records[0]):
        lists = [path(at).look(record, record) for record in records]
        found = [one for each in lists if isinstance(each, list) for one in each]
        if found and _found("price", found) is not None:
            return at, found
    return None


def _seen(at: str, records: Sequence[object]) -> list[str]:
    found = (path(at).look(record, record) for record in records)
    return list(dict.fromkeys(word(value) for value in found if value is not ABSENT and value is not None))


def _paths(value: object, before: str = "", deep: int = 0) -> Iterator[str]:
    """The paths of a record, without those within its lists."""
    inner: list[tuple[str, Any]] = []
    if isinstance(value, dict):
        inner = [(_joined(before, str(name)), each) for name, each in value.items()]
    elif isinstance(value, list) and not before:
        inner = [(f"[{place}]", each) for place, each in enumerate(value)]
    for at, each in inner:
        yield at
        if deep < _DEEP_MAX and isinstance(each, dict):
            yield from _paths(each, at, deep + 1)


def _joined(before: str, name: str) -> str:
    if not (name.isascii() and name.replace("_", "a").replace("-", "a").isalnum() and not name[0].isdigit()):
        return f'{before}["{name}"]'
    return f"{before}.{name}" if before else name


def _last(at: str) -> str:
    return at.rpartition(".")[2].rpartition('["')[2].removesuffix('"]').lower()


def _text(text: str | None) -> str:
    """A text as TOML has it."""
    return json.dumps(text, ensure_ascii=False)
