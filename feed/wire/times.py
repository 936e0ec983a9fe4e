"""Moments: the one grammar of times, wherever one is written.

Owns the forms, and what is said of a text or a number that is none: requests, HTTP, commands, Python and ticks read
times by this. Two forms: integer nanoseconds since 1970 UTC, as a number or as digits, and RFC 3339 with up to nine
digits of a second, in which `T` and `Z` may be small, seconds may be left out, a date alone is its midnight, and what
has no zone is UTC.

An integer before 1990 is refused with the unit that it looks like: seconds, milliseconds and microseconds pass for
nanoseconds of 1970 otherwise, and the answer looks right. RFC 3339 may be older.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

from feed.errors import SHOWN_MAX, shown

NS_MIN: Final = 631_152_000_000_000_000
"""1990: no integer below it is a time."""
NS_MAX: Final = 2**63 - 1
_NS_PER_S: Final = 1_000_000_000
_S_PER_DAY: Final = 86_400
_DIGITS_MAX: Final = 19
_UNITS: Final = ((10**11, "seconds"), (10**14, "milliseconds"), (10**17, "microseconds"))
_DIGITS: Final = re.compile(r"-?[0-9]+", re.ASCII).fullmatch
_RFC_3339: Final = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:[Tt ](\d\d:\d\d(?::\d\d)?)(?:(?<=:\d\d:\d\d)\.(\d{1,9}))?([Zz]|[+-]\d\d:\d\d)?)?", re.ASCII
).fullmatch


def ns_of(moment: int | str) -> int:
    """Nanoseconds since 1970 UTC of a moment in any of the forms.

    Raises:
        ValueError: it is none of them; says what was found and what was wanted.
    """
    if isinstance(moment, int):
        return _integer(moment, str(moment) if abs(moment) <= NS_MAX else "of more than 63 bits")
    if _DIGITS(moment):
        digits = moment.lstrip("-").lstrip("0")
        if len(digits) > _DIGITS_MAX:
            raise ValueError(f"time of {len(digits)} digits, wanted nanoseconds since 1970 or RFC 3339")
        # without its zeros: Python refuses to read thousands of digits
        sign = -1 if moment.startswith("-") else 1
        return _integer(sign * int(digits or "0"), moment[:SHOWN_MAX])
    return _rfc_3339(moment)


def text_of(ns: int) -> str:
    """A moment as RFC 3339, to the nanosecond where it has any."""
    seconds, rest = divmod(ns, _NS_PER_S)
    head = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{head}.{rest:09d}".rstrip("0").rstrip(".") + "Z"


def unit_of(number: int) -> str:
    """What an integer before `NS_MIN` looks like."""
    return next((unit for bound, unit in _UNITS if number < bound), "nanoseconds before 1990")


def _integer(ns: int, shown: str) -> int:
    if NS_MIN <= ns <= NS_MAX:
        return ns
    if ns > NS_MAX:
        raise ValueError(f"time {shown}, wanted nanoseconds since 1970 up to {NS_MAX}")
    raise ValueError(f"time {shown} looks like {unit_of(ns)}, wanted nanoseconds since 1970 or RFC 3339")


def _rfc_3339(text: str) -> int:
    found = _RFC_3339(text)
    try:
        if found is None:
            raise ValueError("wanted 2026-11-20, 2026-11-20T14:30:00Z or nanoseconds since 1970")
        day, clock, fraction, zone = found.groups()
        zone = "+00:00" if zone in (None, "Z", "z") else zone
        since = datetime.fromisoformat(f"{day}T{clock or '00:00'}{zone}") - datetime(1970, 1, 1, tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"time {shown(text)}: {error}") from error
    ns = (since.days * _S_PER_DAY + since.seconds) * _NS_PER_S + int((fraction or "").ljust(9, "0"))
    if abs(ns) > NS_MAX:
        raise ValueError(f"time {shown(text)}, wanted one between 1677 and 2262")
    return ns
