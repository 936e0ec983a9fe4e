"""Moments as Python has them, beside the texts and numbers that `feed.wire.times` reads.

Owns datetimes, dates, numpy's and pandas' moments, to the nanosecond, and the error that users of `replay.open` get.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Final

import numpy as np

from feed.errors import SHOWN_MAX, ConfigError
from feed.wire import times

Moment = int | str | date | np.datetime64
"""pandas' `Timestamp` is a `datetime`, which is a `date`."""
_NS_PER_S: Final = 1_000_000_000
_NS_PER_US: Final = 1_000
_S_PER_DAY: Final = 86_400
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class BadTime(ConfigError, ValueError):
    """What was given as a moment is none: a wrong value in Python, a wrong option on a command line."""


def ns_of(moment: Moment) -> int:
    """Nanoseconds since 1970 UTC of a moment; what has no zone is UTC, a date is its midnight.

    Raises:
        BadTime: it is none, or none that nanoseconds reach; says what was found and what was wanted.
    """
    try:
        if isinstance(moment, np.datetime64):
            return _of_numpy(moment)
        if isinstance(moment, date):
            return _of_date(moment)
        if isinstance(moment, int | str | np.integer):
            return times.ns_of(moment if isinstance(moment, str) else int(moment))
    except ValueError as error:
        raise BadTime(str(error)) from error
    raise BadTime(f"time {_shown(moment)} of type {type(moment).__name__}, wanted nanoseconds since 1970 or RFC 3339")


def _of_date(moment: date) -> int:
    if not isinstance(moment, datetime):
        moment = datetime(moment.year, moment.month, moment.day, tzinfo=UTC)
    if moment != moment:  # pandas' NaT is a datetime, and equals nothing
        raise ValueError("time NaT is none")
    since = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _EPOCH
    # a `Timedelta` of pandas has nanoseconds besides
    rest = since.microseconds * _NS_PER_US + int(getattr(since, "nanoseconds", 0))
    return _within((since.days * _S_PER_DAY + since.seconds) * _NS_PER_S + rest, moment)


def _of_numpy(moment: np.datetime64) -> int:
    in_ns = moment.astype("datetime64[ns]")
    # NaT equals nothing; out of range numpy wraps around, and what is finer than a nanosecond is cut off
    if in_ns.astype(moment.dtype) != moment:
        raise ValueError(f"time {moment} is none in nanoseconds since 1970")
    return int(in_ns.astype(np.int64))


def _within(ns: int, moment: object) -> int:
    if abs(ns) > times.NS_MAX:
        raise ValueError(f"time {_shown(moment)}, wanted one between 1677 and 2262")
    return ns


def _shown(moment: object) -> str:
    return str(moment)[:SHOWN_MAX]
