"""Bars: what opens and what closes them is told by the venue's time, in whatever order trades arrive."""

from __future__ import annotations

from decimal import Context, Decimal
from functools import reduce
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feed.venues.bars import BarRules, Bars, SavedBars
from feed.wire.model import INTERVALS_NS, Bar, Interval
from tests.feed.venues.playing import T0, Feeder

SECOND = 1_000_000_000
HUGE = "99999999999999999999.999999999999999999"
"""The largest size that a trade may have."""
encode = msgspec.json.encode


def trade(number: int, price: str, second: float | None) -> dict[str, Any]:
    time = None if second is None else str(T0 + int(second * SECOND))
    entry = {"price": price, "size": "1", "side": None, "trade_id": str(number), "ts_event": time}
    return {"channel": "trades", "data": [entry]}


class Desk(Feeder):
    """Feeds our own ticks at given seconds."""

    def __init__(self) -> None:
        super().__init__("acme", "X")

    def at(self, second: float, frame: dict[str, Any]) -> Desk:
        self.now = T0 + int(second * SECOND) - 10_000_000
        self(frame)
        return self

    def bars(self, interval: Interval, second: int) -> list[Bar]:
        """Each bar of that time that was told, in order."""
        told = [bar for update in self.folded.other if update.channel == "bars" for bar in update.data]  # type: ignore[union-attr]
        return [bar for bar in told if (bar.interval, int(bar.open_time)) == (interval, T0 + second * SECOND)]


def test_a_late_trade_of_a_closed_bar_takes_neither_its_open_nor_its_close() -> None:
    desk = Desk().at(0.3, trade(1, "102", 0.2)).at(1, trade(2, "105", 0.9)).at(3.6, trade(3, "110", 3.5))
    desk.at(3.7, trade(4, "103", 0.5)).at(6.6, trade(5, "111", 6.5))
    *_, before, after = desk.bars("1s", 0)
    assert (before.open, before.close, before.volume, before.trades, before.closed) == ("102", "105", "2", 2, True)
    assert (after.open, after.close, after.volume, after.trades, after.closed) == ("102", "105", "3", 3, True)
    assert (after.low, after.high) == ("102", "105")


def test_the_first_by_time_opens_and_the_last_by_time_closes() -> None:
    desk = Desk().at(0.6, trade(1, "10", 0.5)).at(0.7, trade(2, "11", 0.1)).at(0.8, trade(3, "12", 0.3))
    desk.at(5, trade(4, "1", 4.9))
    bar = desk.bars("1s", 0)[-1]
    assert (bar.open, bar.close) == ("11", "10")
    # of equal times the first taken opens, the last taken closes
    desk = Desk().at(0.5, trade(1, "10", 0.2)).at(0.6, trade(2, "11", 0.2)).at(0.7, trade(3, "12", 0.2))
    desk.at(5, trade(4, "1", 4.9)).at(5.1, trade(5, "13", 0.2)).at(8, trade(6, "1", 7.9))
    assert [(bar.open, bar.close) for bar in desk.bars("1s", 0)[-2:]] == [("10", "12"), ("10", "13")]


def test_a_trade_without_a_time_counts_at_the_clock_of_its_source() -> None:
    desk = Desk().at(0.2, trade(1, "10", None)).at(0.5, trade(2, "11", 0.1)).at(0.6, trade(3, "12", 0.15))
    desk.at(5, trade(4, "1", 4.9))
    bar = desk.bars("1s", 0)[-1]
    assert (bar.open, bar.close) == ("11", "10")


def volume_of(trades: list[tuple[int, str, Decimal]]) -> Decimal:
    return reduce(Context(prec=100).add, [size for _, _, size in trades], Decimal(0))


TIMES = st.integers(0, 3 * SECOND - 1)
STEPS = st.lists(
    st.tuples(
        st.one_of(TIMES, st.sampled_from([0, 1, SECOND - 1, SECOND])),
        st.integers(1, 30).map(str),
        st.sampled_from(["1", "1", "1", HUGE]),
        st.sampled_from(["nothing", "nothing", "emit", "restart"]),
    ),
    min_size=1,
    max_size=60,
)


@given(STEPS)
def test_any_order_folds_and_restarts(steps: list[tuple[int, str, str, str]]) -> None:
    rules = BarRules(intervals=("1s", "1m"), grace_ns=10 * SECOND, every_ns=0, closed_kept=5)
    bars, begin = Bars(rules), T0 // (60 * SECOND) * 60 * SECOND
    taken: list[tuple[int, str, Decimal]] = []
    clock = begin
    for time, price, size, then in steps:
        bars.add(begin + time, price, size, clock)
        taken.append((begin + time, price, Decimal(size)))
        if then == "emit":
            assert all(Decimal(bar.volume) < 10**20 for bar in bars.emit(clock))
        elif then == "restart":
            saved, told = bars.save(), bars.state()
            bars = Bars(rules)
            bars.load(told, msgspec.json.decode(encode(saved), type=SavedBars), clock)
            assert bars.save() == saved
    bars.emit(begin + 600 * SECOND)
    for bar in bars.state():
        length = INTERVALS_NS[bar.interval]
        own = [trade for trade in taken if 0 <= trade[0] - int(bar.open_time) < length]
        first, last = min(time for time, _, _ in own), max(time for time, _, _ in own)
        assert bar.open == next(price for time, price, _ in own if time == first)
        assert bar.close == next(price for time, price, _ in reversed(own) if time == last)
        assert (bar.low, bar.high) == (
            min((price for _, price, _ in own), key=Decimal),
            max((price for _, price, _ in own), key=Decimal),
        )
        assert (bar.trades, Decimal(bar.volume)) == (len(own), volume_of(own))
    seconds = {time // SECOND for time, _, _ in taken}
    whole = [volume_of([trade for trade in taken if trade[0] // SECOND == second]) for second in seconds]
    assert len(bars.state()) == sum(volume < 10**20 for volume in [*whole, volume_of(taken)])


def test_bars_that_were_written_down_without_times_go_on() -> None:
    rules = BarRules(intervals=("1s",), grace_ns=0, every_ns=0)
    bars = Bars(rules)
    bar = Bar("1s", str(T0), "10", "12", "9", "11", "3", 3, closed=False)
    bars.load([bar], msgspec.json.decode(b'{"changed":[],"sent_at":0,"late":0}', type=SavedBars), T0)
    bars.add(T0 + 5, "10.5", "1", T0 + 5)
    assert [(bar.open, bar.close) for bar in bars.emit(T0 + 5)] == [("10", "10.5")]


@pytest.mark.parametrize("count", [255, 256, 257, 600])
def test_many_trades_of_one_second_are_folded_on_the_way(count: int) -> None:
    bars = Bars(BarRules(intervals=("1s",), grace_ns=0, every_ns=SECOND))
    for number in range(count):
        bars.add(T0 + (number * 7919) % SECOND, str(number + 1), "0.1", T0)
    times = [(number * 7919) % SECOND for number in range(count)]
    (bar,) = bars.emit(T0 + 2 * SECOND)
    assert (bar.open, bar.close) == (str(times.index(min(times)) + 1), str(times.index(max(times)) + 1))
    assert Decimal(bar.volume) == Decimal("0.1") * count


# ---- bars that are not told, and trades that are in none


def odd(desk: Desk) -> dict[str, int]:
    """What was counted of bars since the last look."""
    counts = desk.played.source.take_counts()
    return {name: getattr(counts, name) for name in ("bars_untold", "trades_ahead", "trades_late")}


def sized(number: int, size: str, second: float) -> dict[str, Any]:
    frame = trade(number, "1", second)
    frame["data"][0]["size"] = size
    return frame


def test_a_bar_whose_volume_cannot_be_written_is_left_out_from_then_on() -> None:
    desk = Desk().at(0.1, sized(1, HUGE, 0.1)).at(2, trade(2, "1", 1.9))
    assert [(bar.volume, bar.closed) for bar in desk.bars("1s", 0)] == [(HUGE, False), (HUGE, True)]
    # with the next trade of its second it has 21 digits, and its minute, too
    desk.at(2.1, sized(3, "0.000000000000000001", 0.2)).at(4, trade(4, "1", 3.9)).at(8, trade(5, "1", 0.3))
    desk.at(70, trade(6, "1", 69.9)).at(75, trade(7, "1", 74.9))
    assert len(desk.bars("1s", 0)) == 2
    assert all(len(bar.volume.partition(".")[0]) <= 20 for bar in desk.bars("1m", -20))
    assert not any(bar.closed for bar in desk.bars("1m", -20))
    left = [int(bar.open_time) for bar in desk.played.snapshot("X", "bars")]
    assert T0 not in left
    assert T0 - 20 * SECOND not in left
    assert odd(desk) == {"bars_untold": 2, "trades_ahead": 0, "trades_late": 0}
    # those of before and after are told as ever
    assert [(bar.volume, bar.closed) for bar in desk.bars("1s", 3)][-1] == ("1", True)
    assert desk.bars("1m", 40)[-1].trades == 2


def test_bars_that_are_not_told_are_forgotten_like_closed_ones() -> None:
    found: list[tuple[str, int]] = []
    rules = BarRules(intervals=("1s",), grace_ns=0, every_ns=0, closed_kept=2)
    bars = Bars(rules, lambda what, count: found.append((what, count)))
    for second in range(6):
        for _ in range(2):
            bars.add(T0 + second * SECOND, "1", HUGE, T0 + second * SECOND)
        assert bars.emit(T0 + second * SECOND) == []
    assert len(bars.save().untold) == 3  # two of the past, and the present one
    assert found == [("bars_untold", 1)] * 6
    bars.add(T0, "1", "1", T0 + 5 * SECOND)  # older than those
    bars.add(T0 + 5 * SECOND, "1", "1", T0 + 5 * SECOND)
    bars.add(T0 + 6 * SECOND, "1", "1", T0 + 6 * SECOND)
    (bar,) = bars.emit(T0 + 6 * SECOND)
    assert (bar.open_time, bar.volume) == (str(T0 + 6 * SECOND), "1")
    assert found[6:] == [("trades_late", 1)]


def test_trades_that_are_in_no_bar_are_counted_by_why() -> None:
    desk = Desk().at(1, trade(1, "1", 0.9)).at(2, trade(2, "1", 2 + 24 * 3600 + 1))
    assert odd(desk) == {"bars_untold": 0, "trades_ahead": 1, "trades_late": 0}
    for number in range(10):
        desk.at(3 + 3 * number, trade(10 + number, "1", 2.9 + 3 * number))
    desk.at(40, trade(30, "1", 0.5)).at(45, trade(31, "1", 44.9))
    # its minute has it, its second has not
    assert odd(desk) == {"bars_untold": 0, "trades_ahead": 0, "trades_late": 1}
    assert desk.played.source.name_of("X") == "ACME:X"
