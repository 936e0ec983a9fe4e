"""Times as venues write them, to nanoseconds since 1970 as text: exact, by slicing digits.

Owns ISO 8601 in UTC and seconds with a fraction. `datetime` alone would cut what is below a microsecond. A second is
remembered: mostly it was seen just before.
"""

from __future__ import annotations

import re
from datetime import datetime
from functools import lru_cache
from typing import Final

from feed.errors import BadTick

_SECOND_MAX: Final = 2**63 // 1_000_000_000 - 1
_SHOWN_CHARS_MAX: Final = 50
_REMEMBERED_MAX: Final = 4096
_ISO_CHARS: Final = len("2021-04-17T16:43:30")
_ISO_SECOND: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", re.ASCII).fullmatch
_FRACTION: Final = re.compile(r"(?:\.(\d{1,9}))?Z", re.ASCII).fullmatch
_SECONDS: Final = re.compile(r"([1-9]\d{0,10})(?:\.(\d{1,9}))?", re.ASCII).fullmatch


def iso_ns(text: str) -> str:
    """Nanoseconds of `2021-04-17T16:43:30.244075Z`; none to nine digits of fraction.

    Raises:
        BadTick: it is no such time, or none between 1970 and 2262.
    """
    fraction = _FRACTION(text[_ISO_CHARS:])
    if fraction is None:
        raise BadTick(f"time {text[:_SHOWN_CHARS_MAX]!r}, wanted YYYY-MM-DDThh:mm:ss.fffffffffZ")
    return f"{_second(text[:_ISO_CHARS])}{fraction[1] or '':0<9}"


def seconds_ns(text: str) -> str:
    """Nanoseconds of `1618678142.557535`; none to nine digits of fraction.

    Raises:
        BadTick: it is no such time, or none between 1970 and 2262.
    """
    found = _SECONDS(text)
    if found is None or int(found[1]) > _SECOND_MAX:
        raise BadTick(f"time {text[:_SHOWN_CHARS_MAX]!r}, wanted seconds since 1970")
    return f"{found[1]}{found[2] or '':0<9}"


@lru_cache(_REMEMBERED_MAX)
def _second(text: str) -> int:
    try:
        if _ISO_SECOND(text) is None:
            raise ValueError("not YYYY-MM-DDThh:mm:ss")
        second = int(datetime.fromisoformat(f"{text}+00:00").timestamp())
    except ValueError as error:
        raise BadTick(f"time {text!r}: {error}") from error
    if not 0 < second <= _SECOND_MAX:
        raise BadTick(f"time {text!r}, wanted one between 1970 and 2262")
    return second
