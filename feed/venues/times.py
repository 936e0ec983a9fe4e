"""Times as venues write them, to nanoseconds since 1970 as text: exact, by slicing digits.

Owns ISO 8601 in UTC, seconds with a fraction, and milliseconds or microseconds told by their size. `datetime` alone
would cut what is below a microsecond. A second is remembered: mostly it was seen just before.

A venue that does not know a time leaves it out, or writes null, an empty text or the zero of its clock (1970, or the
year 1 as Go does): all of them are None here. Any other time before 1990 is an odd one, mostly in another unit.
"""

from __future__ import annotations

import re
from datetime import datetime
from functools import lru_cache
from typing import Final

from feed.errors import BadTick, shown
from feed.wire.times import NS_MIN

_SECOND_MIN: Final = NS_MIN // 1_000_000_000
_SECOND_MAX: Final = 2**63 // 1_000_000_000 - 1
_MS_MIN: Final = _SECOND_MIN * 1000
_MS_MAX: Final = 9_200_000_000_000
_US_MIN: Final = _SECOND_MIN * 1_000_000
_US_MAX: Final = _MS_MAX * 1000
_REMEMBERED_MAX: Final = 4096
_ISO_CHARS: Final = len("2021-04-17T16:43:30")
_ISO_SECOND: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", re.ASCII).fullmatch
_FRACTION: Final = re.compile(r"(?:\.(\d{1,9}))?Z", re.ASCII).fullmatch
_SECONDS: Final = re.compile(r"(0|[1-9]\d{0,10})(?:\.(\d{1,9}))?", re.ASCII).fullmatch
_ZEROS: Final = ("1970-01-01T00:00:00", "0001-01-01T00:00:00")


def iso_ns(text: str | None) -> str | None:
    """Nanoseconds of `2021-04-17T16:43:30.244075Z`; none to nine digits of fraction.

    Raises:
        BadTick: it is no such time, or none between 1990 and 2262.
    """
    if not text:
        return None
    fraction = _FRACTION(text[_ISO_CHARS:])
    if fraction is None:
        raise BadTick(f"time {shown(text)}, wanted YYYY-MM-DDThh:mm:ss.fffffffffZ")
    second = _second(text[:_ISO_CHARS])
    return f"{second}{fraction[1] or '':0<9}" if second else None


def seconds_ns(text: str) -> str | None:
    """Nanoseconds of `1618678142.557535`; none to nine digits of fraction.

    Raises:
        BadTick: it is no such time, or none between 1990 and 2262.
    """
    found = _SECONDS(text)
    if found is None:
        raise BadTick(f"time {shown(text)}, wanted seconds since 1970")
    second = int(found[1])
    if second == 0:
        return None
    if not _SECOND_MIN <= second <= _SECOND_MAX:
        raise BadTick(f"time {shown(text)}, wanted seconds since 1970, from 1990 to 2262")
    return f"{second}{found[2] or '':0<9}"


def ms_or_us_ns(time: int | None) -> str | None:
    """Nanoseconds of milliseconds or of microseconds, whichever it can only be.

    Raises:
        BadTick: as either it is no time between 1990 and 2261.
    """
    if not time:
        return None
    if _MS_MIN <= time <= _MS_MAX:
        return f"{time}000000"
    if _US_MIN <= time <= _US_MAX:
        return f"{time}000"
    unit = "seconds" if _SECOND_MIN <= time <= _SECOND_MAX else "nanoseconds" if time >= NS_MIN else "neither"
    raise BadTick(f"time {time} looks like {unit}, wanted milliseconds or microseconds since 1970")


@lru_cache(_REMEMBERED_MAX)
def _second(text: str) -> int:
    if text in _ZEROS:
        return 0
    try:
        if _ISO_SECOND(text) is None:
            raise ValueError("not YYYY-MM-DDThh:mm:ss")
        second = int(datetime.fromisoformat(f"{text}+00:00").timestamp())
    except ValueError as error:
        raise BadTick(f"time {text!r}: {error}") from error
    if not _SECOND_MIN <= second <= _SECOND_MAX:
        raise BadTick(f"time {text!r}, wanted one between 1990 and 2262")
    return second
