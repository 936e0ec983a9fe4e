"""A source that is taken up from its keyframes and checkpoints goes on with the bytes of one that never stopped."""

from __future__ import annotations

import contextlib
from pathlib import Path

import msgspec
import pytest

from feed.errors import BadTick
from feed.venues.now import Message
from feed.venues.source import Source
from feed.venues.symbol import Rules, Tick
from feed.venues.table import venue
from tests.feed.venues.playing import BIG, CAPTURES, captured, numbered, restarted, ticks

encode = msgspec.json.encode
STRIDES = {
    "binance/spot_multi_20211011": 1,
    "kraken/v2_btcusd_d10_20260705": 1,
    "coinbase/advanced_btcusd_l2_20260824": 1,
    "kraken/v1_5pairs_20210417.ticker": 1,
    "kraken/v1_5pairs_20210417.trade": 1,
    "binance/usdm_multi_20210722": 5,
    "kraken/v1_5pairs_20210417.book": 23,
    "coinbase/exchange_5products_20210417": 47,
}

QUICK = {name for name, stride in STRIDES.items() if stride == 1 and not name.startswith("binance")}


def fresh(name: str) -> Source:
    return Source(venue(CAPTURES[name].venue), "source", Rules())


def after(source: Source, tick: Tick) -> list[Message]:
    with contextlib.suppress(BadTick):
        source.apply(tick)
    return source.take()


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in CAPTURES]
)
def test_restart_at_any_tick_changes_no_byte(data_dir: Path, name: str) -> None:
    frames = captured(data_dir, name)
    # of the big ones the start has it all: diffs kept, the snapshot, the bridge; then ticks of every kind
    played = ticks(name, frames[:400] if name in BIG else frames)
    stride = STRIDES.get(name, 7)
    unbroken, broken = fresh(name), fresh(name)
    for tick in played:
        assert encode(after(broken, tick)) == encode(after(unbroken, tick))
        if tick.seq % stride == 0:
            broken = restarted(broken, venue(CAPTURES[name].venue), tick.seq)
    for key in unbroken:
        assert encode(broken.keyframe(key)) == encode(unbroken.keyframe(key))
        assert broken.checkpoint(key) == unbroken.checkpoint(key)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["binance/spot_multi_20211011", "kraken/v2_btcusd_d10_20260705"])
def test_restart_while_a_book_is_stale_changes_no_byte(data_dir: Path, name: str) -> None:
    played = ticks(name, captured(data_dir, name))
    at = [i for i, tick in enumerate(played) if b"depthUpdate" in tick.value or b'"update"' in tick.value]
    holed = numbered([*played[: at[2]], *played[at[2] + 1 :], *played])
    unbroken, broken = fresh(name), fresh(name)
    said = b""
    for tick in holed:
        messages = encode(after(unbroken, tick))
        assert encode(after(broken, tick)) == messages
        said += messages
        broken = restarted(broken, venue(CAPTURES[name].venue), tick.seq)
    if "kraken" in name:
        assert b'"state":"stale"' in said
        assert b'"state":"ok"' in said
