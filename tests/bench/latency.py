"""Latencies as HdrHistograms: microseconds, three digits, up to a minute; what they say and how they add up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any, Final

from hdrh.histogram import HdrHistogram

_US_MAX: Final = 60_000_000
_DIGITS: Final = 3
_SHOWN: Final = (50, 90, 99, 99.9)
CURVE: Final = (0, 10, 25, 50, 75, 90, 95, 97.5, 99, 99.5, 99.9, 99.95, 99.99, 100)
"""Percentiles of a plotted curve."""


def histogram_of(nanoseconds: Iterable[int]) -> HdrHistogram:
    """A histogram of these times; what is above a minute counts as a minute, what is below a microsecond as one."""
    made = HdrHistogram(1, _US_MAX, _DIGITS)
    for value, count in Counter(min(max(1, value // 1000), _US_MAX) for value in nanoseconds).items():
        made.record_value(value, count)
    return made


def merged(encoded: Iterable[str]) -> HdrHistogram:
    """One histogram of all times in these (`told`'s `hdr`)."""
    made = HdrHistogram(1, _US_MAX, _DIGITS)
    for one in encoded:
        made.decode_and_add(one.encode())
    return made


def told(histogram: HdrHistogram) -> dict[str, Any] | None:
    """Percentiles in milliseconds and the histogram itself (`hdr`); None where there is no time in it."""
    if not histogram.get_total_count():
        return None
    found = {f"p{p:g}_ms": histogram.get_value_at_percentile(p) / 1000 for p in _SHOWN}
    return {
        **found,
        "max_ms": histogram.get_max_value() / 1000,
        "samples": histogram.get_total_count(),
        "curve_ms": [histogram.get_value_at_percentile(p) / 1000 for p in CURVE],
        "hdr": histogram.encode().decode(),
    }
