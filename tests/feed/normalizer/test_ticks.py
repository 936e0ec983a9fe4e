"""Records of tick topics as ticks, whatever lies in their headers and times."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from feed.normalizer.ticks import tick_of
from feed.venues.symbol import NO_TIME

MS = 1_000_000


def raw(timestamp: int, *headers: tuple[str, bytes]) -> Any:
    return SimpleNamespace(offset=7, timestamp=timestamp, key=b"A", value=b"{}", headers=list(headers))


@pytest.mark.parametrize(
    ("timestamp", "headers", "ts_recv", "bounded"),
    [
        (1_700_000_000_000, (), 1_700_000_000_000 * MS, True),
        (1_700_000_000_000, (("ts_recv", b"17"),), 17, True),
        (-1, (("ts_recv", b"1700000000000000000"),), 1_700_000_000_000_000_000, False),
        (-1, (), NO_TIME, False),
        (-1, (("ts_recv", b"soon"),), -1, False),
    ],
)
def test_when_a_tick_came(timestamp: int, headers: tuple[tuple[str, bytes], ...], ts_recv: int, bounded: bool) -> None:
    tick = tick_of(raw(timestamp, *headers))
    assert tick.ts_recv == ts_recv
    assert (tick.ts_kafka == timestamp * MS) is bounded
    assert bounded or tick.ts_kafka > 2**62
