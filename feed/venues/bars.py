"""Bars of one symbol: trades gathered by `ts_event`, closed and sent by the clock of the ticks.

Owns what a bar is and when a bars message is due. The clock is the source's (the running maximum of `ts_recv`) and
comes as an argument: there is no other. Trades are only appended when they come and added up when a message is due, so
that a trade costs an append; adding up is associative, so it does not matter when it happens.

Rules, all on tick time and therefore the same whoever runs them:
- a bar belongs to `ts_event` and closes when the clock reaches its end plus the grace;
- its open is the first trade by `ts_event`, its close the last one, in whatever order they arrive: of equal times the
  first taken opens and the last taken closes;
- at most one message every `bars_every_ns`, with each bar that changed or closed since the last one;
- a trade for a bar that is closed and still kept is added to it, and the bar is sent again; for an older one it is late
  and counted, as is a trade dated more than a day ahead of the clock (its bar would never close);
- a bar whose volume cannot be written, with more digits before the point than a number has, is not told: it is left out
  from then on, counted once, and its later trades are in no bar of its time.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Context, Decimal
from typing import Final, Literal

from msgspec import Struct

from feed.venues.counters import AHEAD_MAX_NS
from feed.wire.decimals import DIGITS_MAX
from feed.wire.model import BARS_CLOSED_KEPT, INTERVALS_NS, Bar, Interval

NEVER: Final = 2**63 - 1
_PENDING_MAX: Final = 256
_ADD: Final = Context(prec=100).add
_VOLUME_END: Final = Decimal(10**DIGITS_MAX)
_UNKNOWN: Final = (-1, -1)
"""Of a bar whose times were not written down: what came before opened it, what comes next closes it."""

Key = tuple[Interval, int]
Odd = Literal["bars_untold", "trades_ahead", "trades_late"]
"""What is counted: bars that cannot be written, trades that are in no bar, or not in one of each interval."""


class BarRules(Struct, frozen=True):
    """The settings of bars; all of them change bytes. The defaults of `normalize`, as those of `Rules`."""

    intervals: tuple[Interval, ...] = ("1s", "1m")
    grace_ns: int = 1_000_000_000
    every_ns: int = 1_000_000_000
    closed_kept: int = BARS_CLOSED_KEPT


class _BarSum:
    """Trades of one bar, added up. Texts are canonical, so equal numbers are equal texts. `first` and `last` are the
    times of the trades that open and close it."""

    __slots__ = ("close", "first", "high", "last", "low", "open", "trades", "volume")

    def __init__(
        self, first: int, open_: str, high: str, low: str, last: int, close: str, volume: Decimal, trades: int
    ) -> None:
        self.first, self.open, self.high, self.low = first, open_, high, low
        self.last, self.close, self.volume, self.trades = last, close, volume, trades

    def add(self, later: _BarSum) -> None:
        """Trades that were taken later."""
        if later.first < self.first:
            self.first, self.open = later.first, later.open
        if later.last >= self.last:
            self.last, self.close = later.last, later.close
        self.high = max(self.high, later.high, key=Decimal)
        self.low = min(self.low, later.low, key=Decimal)
        self.volume = _ADD(self.volume, later.volume)
        self.trades += later.trades

    def copy(self) -> _BarSum:
        return _BarSum(self.first, self.open, self.high, self.low, self.last, self.close, self.volume, self.trades)

    def bar(self, key: Key, *, closed: bool) -> Bar:
        volume = format(self.volume, "f")
        volume = volume.rstrip("0").rstrip(".") if "." in volume else volume
        return Bar(key[0], str(key[1]), self.open, self.high, self.low, self.close, volume, self.trades, closed)


class SavedBars(Struct, frozen=True, omit_defaults=True):
    """What bars keep that their channel's snapshot does not hold: changed bars and the time of the last message.

    `times`: of each bar, by interval and time, how long after its begin the trades were that open and close it.
    `untold`: the bars that cannot be written.
    """

    changed: list[Bar]
    sent_at: int
    times: list[tuple[int, int]] = []
    untold: list[Key] = []


class Bars:
    """The bars of one symbol. `due` is the clock at which `emit` has something to say, `NEVER` if nothing.

    `odd` is called with what is to be counted, and how many there were.
    """

    __slots__ = (
        "_changed",
        "_odd",
        "_pending",
        "_rules",
        "_soonest",
        "_sums",
        "_untold",
        "due",
        "scheduled",
        "sent",
        "sent_at",
    )

    def __init__(self, rules: BarRules, odd: Callable[[Odd, int], object] = lambda what, count: None) -> None:
        self._rules = rules
        self._odd = odd
        self._pending: list[tuple[int, str, str]] = []
        self._sums: dict[Key, _BarSum] = {}
        self._changed: set[Key] = set()
        self._untold: set[Key] = set()
        self.sent: dict[Key, Bar] = {}
        self._sent(-(2**62))
        self.due = self.scheduled = NEVER

    def add(self, ts_event: int, price: str, size: str, clock: int) -> None:
        """Takes a trade; `due` is at most the end of the present pause between messages afterwards."""
        if ts_event > clock + AHEAD_MAX_NS:
            self._odd("trades_ahead", 1)
            return
        pending = self._pending
        pending.append((ts_event, price, size))
        if len(pending) >= _PENDING_MAX:
            self._fold()
        if self._soonest < self.due:
            self.due = max(clock, self._soonest)

    def emit(self, clock: int) -> list[Bar]:
        """The bars that changed or closed since the last message, by interval and time; sets the next `due`."""
        self._fold()
        self._leave_out()
        self._changed.update(key for key, bar in self.sent.items() if not bar.closed and self._end(key) <= clock)
        bars = [self._sums[key].bar(key, closed=self._end(key) <= clock) for key in sorted(self._changed)]
        self.sent.update(zip(sorted(self._changed), bars, strict=True))
        self._changed.clear()
        self._sent(clock)
        self._trim()
        self._schedule()
        return bars

    def state(self) -> list[Bar]:
        """What the channel's updates have said so far: the open bars and the last closed ones."""
        return [self.sent[key] for key in sorted(self.sent)]

    def save(self) -> SavedBars:
        """The private part of the state; with `state()` it is all of it."""
        self._fold()
        changed = [self._sums[key].bar(key, closed=False) for key in sorted(self._changed)]
        times = [(found.first - key[1], found.last - key[1]) for key, found in sorted(self._sums.items(), key=_by_key)]
        return SavedBars(changed, self.sent_at, times, sorted(self._untold))

    def load(self, sent: list[Bar], saved: SavedBars, clock: int) -> None:
        """Takes up a state saved at `clock`."""
        self.sent = {_key(bar): bar for bar in sent}
        bars = self.sent | {_key(bar): bar for bar in saved.changed}
        times = dict(zip(sorted(bars), saved.times, strict=False))
        self._sums = {key: _sum(key, bar, *times.get(key, _UNKNOWN)) for key, bar in bars.items()}
        self._changed = {_key(bar) for bar in saved.changed}
        self._sent(saved.sent_at)
        self._untold = set(saved.untold)
        self._schedule()
        if self._changed:
            self.due = min(self.due, max(clock, self._soonest))

    def retell(self, bars: list[Bar], clock: int) -> None:
        """Takes up what a message said whose tick is gone, after the trades up to that tick."""
        self._fold()
        for bar in bars:
            key = _key(bar)
            if key in self._untold:
                continue
            known = self._sums.get(key)
            if known is None or known.bar(key, closed=bar.closed) != bar:
                self._sums[key] = _sum(key, bar, *_UNKNOWN)
            self.sent[key] = bar
            self._changed.discard(key)
        self._sent(clock)
        self._trim()
        self._schedule()

    def _end(self, key: Key) -> int:
        return key[1] + INTERVALS_NS[key[0]] + self._rules.grace_ns

    def _schedule(self) -> None:
        ends = [self._end(key) for key, bar in self.sent.items() if not bar.closed]
        self.due = max(min(ends), self._soonest) if ends else NEVER

    def _sent(self, clock: int) -> None:
        self.sent_at = clock
        self._soonest = clock + self._rules.every_ns

    def _fold(self) -> None:
        pending, self._pending = self._pending, []
        start = 0
        second = INTERVALS_NS["1s"]
        while start < len(pending):
            begin = pending[start][0] // second * second
            end = begin + second
            stop = start + 1
            while stop < len(pending) and begin <= pending[stop][0] < end:
                stop += 1
            self._add_run(begin, pending[start:stop])
            start = stop

    def _add_run(self, second: int, run: list[tuple[int, str, str]]) -> None:
        found = _added(run)
        late = False
        for interval in self._rules.intervals:
            key: Key = (interval, second - second % INTERVALS_NS[interval])
            known = self._sums.get(key)
            if known is not None:
                known.add(found)
            elif key in self._untold:
                continue
            elif self._too_old(key):
                late = True
                continue
            else:
                self._sums[key] = found.copy()
            self._changed.add(key)
        if late:
            self._odd("trades_late", len(run))

    def _leave_out(self) -> None:
        """Bars that cannot be written; before a message only, for the moments at which trades are added up vary."""
        untold = [key for key in self._changed if self._sums[key].volume >= _VOLUME_END]
        for key in untold:
            del self._sums[key]
            self.sent.pop(key, None)
        if untold:
            self._changed.difference_update(untold)
            self._untold.update(untold)
            self._odd("bars_untold", len(untold))

    def _closed(self, interval: Interval) -> list[Key]:
        """The bars of an interval that were closed at the last message, in order, with those that are not told."""
        told = [key for key, bar in self.sent.items() if bar.closed and key[0] == interval]
        return sorted(told + [key for key in self._untold if key[0] == interval and self._end(key) <= self.sent_at])

    def _too_old(self, key: Key) -> bool:
        closed = self._closed(key[0])
        return len(closed) >= self._rules.closed_kept and key < closed[0]

    def _trim(self) -> None:
        for interval in self._rules.intervals:
            closed = self._closed(interval)
            for key in closed[: max(0, len(closed) - self._rules.closed_kept)]:
                if key in self._untold:
                    self._untold.discard(key)
                else:
                    del self.sent[key], self._sums[key]


def _added(run: list[tuple[int, str, str]]) -> _BarSum:
    """Trades of one second in the order in which they were taken."""
    if len(run) == 1:
        ((time, price, size),) = run
        return _BarSum(time, price, price, price, time, price, Decimal(size), 1)
    times, prices, sizes = zip(*run, strict=True)
    first, last = min(times), max(times)
    exact = {Decimal(price): price for price in set(prices)}
    volume = Decimal(0)
    for size in sizes:
        volume = _ADD(volume, Decimal(size))
    close = prices[-1] if times[-1] == last else prices[-1 - times[::-1].index(last)]
    return _BarSum(
        first, prices[times.index(first)], exact[max(exact)], exact[min(exact)], last, close, volume, len(run)
    )


def _key(bar: Bar) -> Key:
    return bar.interval, int(bar.open_time)


def _by_key(item: tuple[Key, _BarSum]) -> Key:
    return item[0]


def _sum(key: Key, bar: Bar, first: int, last: int) -> _BarSum:
    begin = key[1]
    volume = Decimal(bar.volume)
    return _BarSum(begin + first, bar.open, bar.high, bar.low, begin + last, bar.close, volume, bar.trades)
