"""Bars: what opens and what closes them is told by the venue's time, in whatever order trades arrive."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feed.model import INTERVALS_NS, Bar, Interval
from feed.venues.bars import BarRules, Bars, Saved
from tests.feed.venues.playing import T0, Feeder

SECOND = 1_000_000_000
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


TIMES = st.integers(0, 3 * SECOND - 1)
STEPS = st.lists(
    st.tuples(
        st.one_of(TIMES, st.sampled_from([0, 1, SECOND - 1, SECOND])),
        st.integers(1, 30).map(str),
        st.sampled_from(["nothing", "nothing", "emit", "restart"]),
    ),
    min_size=1,
    max_size=60,
)


@given(STEPS)
def test_any_order_folds_and_restarts(steps: list[tuple[int, str, str]]) -> None:
    rules = BarRules(intervals=("1s", "1m"), grace_ns=10 * SECOND, every_ns=0, closed_kept=5)
    bars, begin = Bars(rules), T0 // (60 * SECOND) * 60 * SECOND
    taken: list[tuple[int, str]] = []
    clock = begin
    for time, price, then in steps:
        bars.add(begin + time, price, "1", clock)
        taken.append((begin + time, price))
        if then == "emit":
            bars.emit(clock)
        elif then == "restart":
            saved, told = bars.save(), bars.state()
            bars = Bars(rules)
            bars.load(told, msgspec.json.decode(encode(saved), type=Saved), clock)
            assert bars.save() == saved
    bars.emit(begin + 600 * SECOND)
    for bar in bars.state():
        length = INTERVALS_NS[bar.interval]
        own = [(time, price) for time, price in taken if 0 <= time - int(bar.open_time) < length]
        first, last = min(time for time, _ in own), max(time for time, _ in own)
        assert bar.open == next(price for time, price in own if time == first)
        assert bar.close == next(price for time, price in reversed(own) if time == last)
        assert (bar.low, bar.high) == (
            min((price for _, price in own), key=Decimal),
            max((price for _, price in own), key=Decimal),
        )
        assert (bar.trades, bar.volume) == (len(own), str(len(own)))
    assert len(bars.state()) == len({time // SECOND for time, _ in taken}) + 1


def test_bars_that_were_written_down_without_times_go_on() -> None:
    rules = BarRules(intervals=("1s",), grace_ns=0, every_ns=0)
    bars = Bars(rules)
    bar = Bar("1s", str(T0), "10", "12", "9", "11", "3", 3, closed=False)
    bars.load([bar], msgspec.json.decode(b'{"changed":[],"sent_at":0,"late":0}', type=Saved), T0)
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
