"""Values as people send them in JSON, to the texts of the model: exact, by the digits that were written.

Owns what a number, a time, a side and an id may look like beside the text that they become. Leaves what a plain number
is to `decimals`, and moments to `feed.wire.times`. Nothing is guessed: a time without a zone, and a side of the book
where a taker's side is wanted, are refused.

A JSON number with a point or an exponent never becomes a float: it is read as `Written`, its own text.
"""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from typing import Any, Final

import msgspec

from feed.errors import BadTick, shown
from feed.wire.decimals import DECIMALS_MAX, DIGITS_MAX
from feed.wire.model import Side
from feed.wire.times import NS_MAX, NS_MIN, ns_of, unit_of

NUMBER_CHARS_MAX: Final = 100
_TIME_DIGITS_MAX: Final = len(str(NS_MAX))
_DIGITS: Final = re.compile(r"0|[1-9][0-9]*", re.ASCII).fullmatch
_MOMENT: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII).fullmatch
_SIDES: Final[dict[str, Side]] = {"buy": "buy", "b": "buy", "sell": "sell", "s": "sell"}
_WORD_CHARS_MAX: Final = 4


class Written(str):
    """A JSON number that has a point or an exponent, as it was written."""

    __slots__ = ()


def decoder(shape: Any) -> msgspec.json.Decoder[Any]:
    """A decoder in which numbers with a point or an exponent are `Written`, wherever the shape says `Any`."""
    return msgspec.json.Decoder(shape, float_hook=Written)


def number(name: str, value: object) -> str:
    """The text of a number, for `decimals` to check: a text as it is, a JSON number without its exponent.

    Raises:
        BadTick: it is neither, or far longer than any number.
    """
    if type(value) is str:
        return value
    if type(value) is int or isinstance(value, Written):
        text = str(value)
        if len(text) > NUMBER_CHARS_MAX:
            raise BadTick(f"{name} of {len(text)} characters, wanted a number")
        return _without_exponent(name, text)
    raise BadTick(f"{name} {said(value)}, wanted a number, or a text of one")


def moment(value: object) -> str | None:
    """Nanoseconds since 1970 as text, of an integer, of digits, or of RFC 3339 with its zone; None is None.

    Raises:
        BadTick: it is none of them, or not between 1990 and 2262.
    """
    if value is None:
        return None
    if not isinstance(value, str) or _DIGITS(value) is None:
        return _other_moment(value)
    if len(value) > _TIME_DIGITS_MAX or (ns := int(value)) > NS_MAX:
        raise BadTick(f"time {shown(value)}, wanted nanoseconds since 1970 up to {NS_MAX}")
    if ns < NS_MIN:
        raise BadTick(f"time {value} looks like {unit_of(ns)}, wanted nanoseconds since 1970")
    return value


def side(value: object) -> Side | None:
    """The taker's side of a word: `buy`, `b`, `sell`, `s` in letters of any size; None is None.

    Raises:
        BadTick: it is another one. `bid` and `ask` are: some say by it where the trade was, some who took.
    """
    if value is None:
        return None
    if type(value) is str and len(value) <= _WORD_CHARS_MAX and value.isascii():
        found = _SIDES.get(value.lower())
        if found is not None:
            return found
    raise BadTick(f"side {said(value)}, wanted the taker's: buy, sell, B, S or null")


def identity(name: str, value: object) -> str | None:
    """An id as text, of a text or an integer; None is None.

    Raises:
        BadTick: it is neither.
    """
    if value is None or type(value) is str:
        return value
    if type(value) is int:
        return str(value)
    raise BadTick(f"{name} {said(value)}, wanted a text or an integer, or null")


def said(value: object) -> str:
    """What was found, as an error names it."""
    if isinstance(value, Written):
        return shown(str(value)).strip("'")
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, (list, dict)):
        return "list" if isinstance(value, list) else "object"
    return shown(value) if isinstance(value, (str, bytes)) else str(value)[:NUMBER_CHARS_MAX]


def _without_exponent(name: str, text: str) -> str:
    """JSON's numbers as plain ones: without exponent, and without the minus of a zero."""
    if "e" in text or "E" in text:
        if not text.replace("E", "e").partition("e")[0].strip("-0."):
            return "0"
        try:
            exact = Decimal(text)
        except InvalidOperation:
            exact = Decimal("Infinity")  # an exponent of twenty digits
        if not exact.is_finite() or abs(exact.adjusted()) > 2 * DIGITS_MAX:
            raise BadTick(
                f"{name} {shown(text)}, wanted at most {DIGITS_MAX} digits before the point and {DECIMALS_MAX} after it"
            )
        text = format(exact, "f")
        text = text.rstrip("0").rstrip(".") if "." in text else text
    return text.removeprefix("-") if text.startswith("-") and not text.strip("-0.") else text


def _other_moment(value: object) -> str:
    try:
        if type(value) is int or (type(value) is str and _MOMENT(value)):
            ns = ns_of(value)
        else:
            raise BadTick(f"time {said(value)}, wanted nanoseconds since 1970, or RFC 3339 with its zone")
    except ValueError as error:
        raise BadTick(str(error)) from error
    if ns < NS_MIN:
        raise BadTick(f"time {said(value)}, wanted one from 1990 on")
    return str(ns)
