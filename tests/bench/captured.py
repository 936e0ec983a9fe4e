"""Frames of real captures, repeated as often as a benchmark needs them, as if the market had gone on.

Each repetition has later times and higher ids, so that the normalizer takes its frames for new ones: trade ids rise,
and depth updates follow those of the repetition before (`U`, `u`, `pu`).
"""

from __future__ import annotations

import gzip
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from tests.bench.machine import ROOT

USDM: Final = "binance/usdm_btcusdt_20240808.log.gz"
COINM: Final = "binance/coinm_btcusd_perp_20240808.log.gz"
_TIMES: Final = re.compile(rb'"([ET])":(\d+)')
_UPDATE_IDS: Final = re.compile(rb'"U":(\d+),"u":(\d+),"pu":(\d+)')
_TRADE_ID: Final = re.compile(rb'"t":(\d+)')
_LEVEL: Final = b'["'
_PAUSE_MS: Final = 100


class CapturedTick(NamedTuple):
    """A tick and how many book levels it sets."""

    ts_recv: int
    value: bytes
    request: str | None
    levels: int


def data_folder() -> Path | None:
    """The captures, where they are: `FEED_TEST_DATA`, else beside the project."""
    folder = Path(os.environ.get("FEED_TEST_DATA") or ROOT.parent / "shared" / "data")
    return folder if (folder / USDM).is_file() else None


def trades(file: Path, count: int) -> Iterator[CapturedTick]:
    """So many trades: those of the capture, again and again."""
    captured = [line for line in _lines(file) if b'@trade","data":{' in line[1][:40]]
    ids = [int(_TRADE_ID.search(frame)[1]) for _, frame in captured]  # type: ignore[index]  # every trade has one
    made = 0
    while made < count:
        turn, at = divmod(made, len(captured))
        ts_recv, frame = captured[at]
        shift_ms = turn * _span_ms(captured)
        new_id = ids[at] + turn * (ids[-1] - ids[0] + 1)
        frame = _later(frame.replace(b'"t":%d,' % ids[at], b'"t":%d,' % new_id), shift_ms)
        yield CapturedTick(ts_recv + shift_ms * 1_000_000, frame, None, 0)
        made += 1


def books(file: Path, levels_min: int) -> Iterator[CapturedTick]:
    """A depth snapshot and the updates after it, again and again, until there are so many levels."""
    lines = list(_lines(file))
    at, snapshot = next((ts, frame) for ts, frame in lines if frame.startswith(b'{"lastUpdateId"'))
    found = re.search(rb'"lastUpdateId":(\d+)', snapshot)
    assert found is not None
    newest = int(found[1])
    captured = []
    for ts_recv, frame in lines:
        ids = _UPDATE_IDS.search(frame) if b"@depth" in frame[:40] else None
        if ids is not None and int(ids[2]) >= newest:
            captured.append((ts_recv, frame))
    yield CapturedTick(at, snapshot, "https://fapi.binance.com/fapi/v1/depth", 0)
    first, last = _UPDATE_IDS.search(captured[0][1]), _UPDATE_IDS.search(captured[-1][1])
    assert first is not None
    assert last is not None
    jump = int(last[2]) - int(first[3])
    levels = turn = 0
    while levels < levels_min:
        shift_ms = turn * _span_ms(captured)
        for ts_recv, frame in captured:
            own = frame.count(_LEVEL)
            moved = _UPDATE_IDS.sub(
                lambda ids, by=turn * jump: b'"U":%d,"u":%d,"pu":%d' % tuple(int(i) + by for i in ids.groups()), frame
            )
            levels += own
            yield CapturedTick(ts_recv + shift_ms * 1_000_000, _later(moved, shift_ms), None, own)
        turn += 1


def _later(frame: bytes, milliseconds: int) -> bytes:
    return _TIMES.sub(lambda time: b'"%s":%d' % (time[1], int(time[2]) + milliseconds), frame)


def _span_ms(captured: list[tuple[int, bytes]]) -> int:
    return (captured[-1][0] - captured[0][0]) // 1_000_000 + _PAUSE_MS


def _lines(file: Path) -> Iterator[tuple[int, bytes]]:
    with gzip.open(file) as lines:
        for line in lines:
            time, _, frame = line.rstrip().partition(b" ")
            yield int(time), frame
