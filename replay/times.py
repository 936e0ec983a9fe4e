"""Moments as people write them, as nanoseconds since 1970 UTC.

Owns the forms: nanoseconds (also as text), RFC 3339 with up to nine digits of a second, a date, a `datetime`.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

from feed.errors import ConfigError

Moment = int | str | datetime
_YEAR_CHARS: Final = 4
_NS: Final = 1_000_000_000
_TIME: Final = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d(?::\d\d)?)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)?)?", re.ASCII
).fullmatch


def ns_of(moment: Moment) -> int:
    """Nanoseconds of a moment; what has no zone is UTC.

    Raises:
        ConfigError: it is none of the forms.
    """
    if isinstance(moment, int):
        return moment
    if isinstance(moment, datetime):
        aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        since = aware - datetime(1970, 1, 1, tzinfo=UTC)
        return (since.days * 86_400 + since.seconds) * _NS + since.microseconds * 1000
    if moment.isdecimal() and len(moment) != _YEAR_CHARS:
        return int(moment)
    found = _TIME(moment)
    try:
        if found is None:
            raise ValueError("wanted 2026-11-20, 2026-11-20T14:30:00Z or nanoseconds")
        day, clock, fraction, zone = found.groups()
        zone = "+00:00" if zone in (None, "Z") else zone
        seconds = int(datetime.fromisoformat(f"{day}T{clock or '00:00'}{zone}").timestamp())
    except ValueError as error:
        raise ConfigError(f"time {moment!r}: {error}") from error
    return seconds * _NS + int((fraction or "").ljust(9, "0"))


def text_of(ns: int) -> str:
    """A moment as RFC 3339, to the nanosecond where it has any."""
    seconds, rest = divmod(ns, _NS)
    head = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{head}.{rest:09d}".rstrip("0").rstrip(".") + "Z"
