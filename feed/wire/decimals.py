"""Numbers as text: what a price or size must look like, and its one canonical form.

Owns the decimal range of the wire (20 digits before the point, 18 after it) and the bulk forms that make checking every
number of a depth update affordable. Leaves where numbers stand in a frame to the venues.

A plain number is ASCII digits with at most one point inside: no sign, exponent, blank, NaN or leading zero ("0.5" is
plain, ".5", "5.", "00.5" are not). Canonical is plain without trailing zeros after the point, and without a point that
nothing follows: equal numbers are equal texts.

Sizes are plain. Prices are plain and above zero where a venue means "none" by zero; in our own ticks they may be zero,
or have a minus before the number (spreads, power, rates do). There is no "-0".

Measured in place (two busy cores, CPython 3.11), per level: `canonical_levels` 0.4 us in updates of 70 levels and 0.6
in updates of 10; a pattern number by number 0.55 us; Decimal 0.8 us; float() accepts what is not plain. `sides` has a
form without numbers, for the usual case and many updates at once. `canonical` and `positive` remember: of the prices
and sizes of trades 95 in 100 were seen shortly before. For levels that does not pay: of spot's prices 7 in 10 were.
"""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING, Final

from feed.errors import BadTick, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from feed.wire.model import Level

DIGITS_MAX: Final = 20
DECIMALS_MAX: Final = 18
_PLAIN: Final = re.compile(
    rf"(?:0|[1-9][0-9]{{0,{DIGITS_MAX - 1}}})(?:\.[0-9]{{1,{DECIMALS_MAX}}})?", re.ASCII
).fullmatch
_LONG: Final = re.compile(r"(0|[1-9][0-9]*)(?:\.([0-9]+))?", re.ASCII).fullmatch
_REMEMBERED_MAX: Final = 8192
_DIGITS: Final = b"0123456789"
# Quotes become points, so that one search for ".." finds an empty number and a point at either end of one.
_EDGES: Final = bytes(ord("0") if chr(i).isdecimal() else ord(".") if chr(i) == '"' else i for i in range(128)) + bytes(
    range(128, 256)
)
_LONG_RUN: Final = b"0" * (DECIMALS_MAX + 1)
_LEADING_ZERO: Final = re.compile(rb'"0[0-9]').search


@lru_cache(_REMEMBERED_MAX)
def canonical(text: str) -> str:
    """The canonical form of a plain number.

    Raises:
        BadTick: the text is no plain number.
    """
    if _PLAIN(text) is None:
        raise BadTick(f"number {shown(text)}, wanted {_wanted(text)}")
    return text.rstrip("0").rstrip(".") if "." in text else text


@lru_cache(_REMEMBERED_MAX)
def positive(text: str) -> str:
    """The canonical form of a plain number above zero: a price, the size of a trade.

    Raises:
        BadTick: the text is no plain number, or it is zero.
    """
    number = canonical(text)
    if number == "0":
        raise BadTick(f"number {shown(text)}, wanted one above 0")
    return number


@lru_cache(_REMEMBERED_MAX)
def signed(text: str) -> str:
    """The canonical form of a price that may be zero or negative.

    Raises:
        BadTick: the text is no plain number, and none with a minus before it.
    """
    if not text.startswith("-"):
        return canonical(text)
    number = canonical(text[1:])
    return number if number == "0" else f"-{number}"


def _wanted(text: str) -> str:
    """What a text is not that is no plain number."""
    found = _LONG(text)
    if found is None:
        return "digits with at most one point inside"
    before, after = found.groups("")
    if len(before) > DIGITS_MAX:
        return f"at most {DIGITS_MAX} digits before the point, not {len(before)}"
    return f"at most {DECIMALS_MAX} digits after the point, not {len(after)}"


def canonical_levels(levels: Sequence[tuple[str, str]]) -> list[Level]:
    """Levels in canonical form; a size may be 0, a price may not.

    Raises:
        BadTick: a number is not plain, or a price is zero.
    """
    if not _are_plain(levels):
        return [(positive(price), canonical(size)) for price, size in levels]
    cut = _cut(levels)
    for price, _ in cut:
        if price == "0":
            raise BadTick("price 0, wanted one above it")
    return cut


def signed_levels(levels: Sequence[tuple[str, str]]) -> list[Level]:
    """Levels in canonical form whose prices may be zero or negative; a size may be 0.

    Raises:
        BadTick: a size is not plain, or a price is not but for its minus.
    """
    if not _are_plain(levels):
        return [(signed(price), canonical(size)) for price, size in levels]
    return _cut(levels)


def _are_plain(levels: Sequence[tuple[str, str]]) -> bool:
    """Whether all numbers are plain; one that is long may be, and is not known to be."""
    joined = '","'.join(chain.from_iterable(levels))
    numbers = f'"{joined}"'.encode("ascii", "replace")
    left = numbers.translate(None, _DIGITS)
    empty = b'"",' * (2 * len(levels))
    return b".." not in left and left.translate(None, b".") == empty[:-1] and _is_sound(numbers)


def _is_sound(json: bytes) -> bool:
    """Whether strings of digits and points have no point at an end, no leading zero and no long run of digits."""
    edges = json.translate(_EDGES)
    return b".." not in edges and _LONG_RUN not in edges and _LEADING_ZERO(json) is None


def _cut(levels: Sequence[tuple[str, str]]) -> list[Level]:
    return [
        (
            price.rstrip("0").rstrip(".") if "." in price else price,
            size.rstrip("0").rstrip(".") if "." in size else size,
        )
        for price, size in levels
    ]
