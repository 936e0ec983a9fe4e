"""Values of records to the texts of our own tick: exactly, or not at all.

Owns words, scales, units and what a binary float may be. Leaves JSON's numbers, times and sides to `feed.venues.sent`,
and what a number may be in the end to the canonical tick.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from math import isfinite
from typing import Final

from feed.errors import BadTick, shown
from feed.venues import sent
from feed.venues.sent import Written

Convert = Callable[[str, object], object]
"""From the name of a field and a value that is neither absent nor null."""
_PLACES: Final = {"ns": 0, "us": 3, "ms": 6, "s": 9}
_DECIMAL: Final = re.compile(r"(-?)(0|[1-9][0-9]{0,30})(?:\.([0-9]{1,30}))?", re.ASCII).fullmatch
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_CHARS_MAX: Final = 1000


class Moment(int):
    """Nanoseconds since 1970, whatever unit was asked for."""


def moment_of(time: datetime) -> Moment | datetime:
    """A time of a library as a moment; as it is where it has no zone: nobody knows which moment that is."""
    if time.tzinfo is None:
        return time
    return Moment((time - _EPOCH) // timedelta(microseconds=1) * 1000)


def number(scale: int, *, floats: bool) -> Convert:
    """Texts of numbers, of which integers count 10 to the minus `scale`."""

    def convert(name: str, value: object) -> str:
        text = _number(name, value, floats=floats)
        if not scale:
            return text
        if not text.removeprefix("-").isdecimal():
            raise BadTick(f"{name} {shown(text)}, wanted an integer that counts 1e-{scale}")
        return _shifted(text, -scale)

    return convert


def time(unit: str) -> Convert:
    """Nanoseconds as text."""
    places = _PLACES[unit]

    def convert(name: str, value: object) -> str | None:
        if isinstance(value, Moment):
            return sent.moment(int(value))
        if isinstance(value, bool) or not isinstance(value, (int, str, Decimal)):
            raise BadTick(f"{name} {sent.said(value)}, wanted a time")
        if isinstance(value, str) and not isinstance(value, Written) and _DECIMAL(value) is None:
            return sent.moment(value)
        shifted = _shifted(_number(name, value, floats=False), places)
        if "." in shifted:
            raise BadTick(f"{name} {sent.said(value)} {unit}, wanted at most nanoseconds")
        return sent.moment(shifted)

    return convert


def text(name: str, value: object) -> str:
    """Texts, and integers as texts."""
    if isinstance(value, str):
        return str(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise BadTick(f"{name} {sent.said(value)}, wanted a text or an integer")


def texts(name: str, value: object) -> list[str]:
    """Lists of texts; a text alone is a list of one."""
    return [text(name, one) for one in (value if isinstance(value, list) else [value])]


def side(name: str, value: object) -> str | None:
    """The taker's side."""
    return sent.side(value)


def book_side(name: str, value: object) -> str:
    """`bids` or `asks`."""
    word = value.lower() if isinstance(value, str) and len(value) <= len("sell") else ""
    if word in ("bid", "buy", "b"):
        return "bids"
    if word in ("ask", "sell", "s", "a"):
        return "asks"
    raise BadTick(f"{name} {sent.said(value)}, wanted bid or ask")


def word(value: object) -> str:
    """A value as mapping files name it: numbers by their digits, `true` and `false`."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)[:_CHARS_MAX]


def _number(name: str, value: object, *, floats: bool) -> str:
    if isinstance(value, Decimal):
        if not value.is_finite() or abs(value.adjusted()) > sent.NUMBER_CHARS_MAX:
            raise BadTick(f"{name} {value!s:.50}, wanted a number")
        plain = format(value, "f")
        return plain.rstrip("0").rstrip(".") if "." in plain else plain
    if isinstance(value, float):
        if not floats:
            raise BadTick(f'{name} {value!r} is a binary float, wanted digits, or `floats = "shortest"` in the mapping')
        if not isfinite(value):
            raise BadTick(f"{name} {value!r}, wanted a number")
        value = Written(repr(value))
    return sent.number(name, value)


def _shifted(text: str, places: int) -> str:
    """A decimal with its point moved, to the right or to the left."""
    found = _DECIMAL(text)
    if found is None:
        raise BadTick(f"number {shown(text)}, wanted digits with at most one point inside")
    minus, before, after = found.groups("")
    if places >= 0:
        before, after = before + after[:places].ljust(places, "0"), after[places:]
    else:
        padded = before.rjust(1 - places, "0")
        before, after = padded[:places], padded[places:] + after
    before, after = before.lstrip("0") or "0", after.rstrip("0")
    number = f"{before}.{after}" if after else before
    return number if number == "0" else minus + number
