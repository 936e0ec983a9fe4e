"""Bars of one symbol: trades gathered by `ts_event`, closed and sent by the clock of the ticks.

Owns what a bar is and when a bars message is due. The clock is the source's (the running maximum of `ts_recv`) and
comes as an argument: there is no other. Trades are only appended when they come and added up when a message is due, so
that a trade costs an append; adding up is associative, so it does not matter when it happens.

Rules, all on tick time and therefore the same whoever runs them:
- a bar belongs to `ts_event` and closes when the clock reaches its end plus the grace;
- at most one message every `bars_every_ns`, with each bar that changed or closed since the last one;
- a trade for a bar that is closed and still kept is added to it, and the bar is sent again; for an older one it is late
  and counted in `late`, as is a trade dated more than a day ahead of the clock (its bar would never close).
"""

from __future__ import annotations

from decimal import Context, Decimal
from typing import Final

from msgspec import Struct

from feed.model import INTERVALS_NS, Bar, Interval

NEVER: Final = 2**63 - 1
_PENDING_MAX: Final = 256
_AHEAD_MAX_NS: Final = 24 * 3600 * 1_000_000_000
_ADD: Final = Context(prec=100).add

Key = tuple[Interval, int]


class BarRules(Struct, frozen=True):
    """The settings of bars; all of them change bytes."""

    intervals: tuple[Interval, ...] = ("1s", "1m")
    grace_ns: int = 1_000_000_000
    every_ns: int = 1_000_000_000
    closed_kept: int = 5


class _Sum:
    """A bar that still grows. Texts are canonical, so equal numbers are equal texts."""

    __slots__ = ("close", "high", "low", "open", "trades", "volume")

    def __init__(self, open_: str, high: str, low: str, close: str, volume: Decimal, trades: int) -> None:
        self.open, self.high, self.low, self.close = open_, high, low, close
        self.volume, self.trades = volume, trades

    def add(self, high: str, low: str, close: str, volume: Decimal, trades: int) -> None:
        self.high = max(self.high, high, key=Decimal)
        self.low = min(self.low, low, key=Decimal)
        self.close = close
        self.volume = _ADD(self.volume, volume)
        self.trades += trades

    def bar(self, key: Key, *, closed: bool) -> Bar:
        volume = format(self.volume, "f")
        volume = volume.rstrip("0").rstrip(".") if "." in volume else volume
        return Bar(key[0], str(key[1]), self.open, self.high, self.low, self.close, volume, self.trades, closed)


class Saved(Struct, frozen=True):
    """What bars keep that their channel's snapshot does not hold: changed bars and the time of the last message."""

    changed: list[Bar]
    sent_at: int
    late: int


class Bars:
    """The bars of one symbol. `due` is the clock at which `emit` has something to say, `NEVER` if nothing."""

    __slots__ = ("_changed", "_pending", "_rules", "_soonest", "_sums", "due", "late", "scheduled", "sent", "sent_at")

    def __init__(self, rules: BarRules) -> None:
        self._rules = rules
        self._pending: list[tuple[int, str, str]] = []
        self._sums: dict[Key, _Sum] = {}
        self._changed: set[Key] = set()
        self.sent: dict[Key, Bar] = {}
        self._sent(-(2**62))
        self.due = self.scheduled = NEVER
        self.late = 0

    def add(self, ts_event: int, price: str, size: str, clock: int) -> None:
        """Takes a trade; `due` is at most the end of the present pause between messages afterwards."""
        if ts_event > clock + _AHEAD_MAX_NS:
            self.late += 1
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
        self._changed.update(key for key, bar in self.sent.items() if not bar.closed and self._end(key) <= clock)
        bars = [self._sums[key].bar(key, closed=self._end(key) <= clock) for key in sorted(self._changed)]
        self.sent.update(zip(sorted(self._changed), bars, strict=True))
        self._changed.clear()
        self._trim()
        self._sent(clock)
        self._schedule()
        return bars

    def state(self) -> list[Bar]:
        """What the channel's updates have said so far: the open bars and the last closed ones."""
        return [self.sent[key] for key in sorted(self.sent)]

    def save(self) -> Saved:
        """The private part of the state; with `state()` it is all of it."""
        self._fold()
        return Saved([self._sums[key].bar(key, closed=False) for key in sorted(self._changed)], self.sent_at, self.late)

    def load(self, sent: list[Bar], saved: Saved, clock: int) -> None:
        """Takes up a state saved at `clock`."""
        self.sent = {_key(bar): bar for bar in sent}
        self._sums = {_key(bar): _sum(bar) for bar in sent}
        self._sums.update({_key(bar): _sum(bar) for bar in saved.changed})
        self._changed = {_key(bar) for bar in saved.changed}
        self._sent(saved.sent_at)
        self.late = saved.late
        self._schedule()
        if self._changed:
            self.due = min(self.due, max(clock, self._soonest))

    def retell(self, bars: list[Bar]) -> None:
        """Takes up what a message said whose tick is gone."""
        self._fold()
        for bar in bars:
            key = _key(bar)
            self.sent[key], self._sums[key] = bar, _sum(bar)
            self._changed.discard(key)
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
        prices = [price for _, price, _ in run]
        if len(run) == 1:
            high = low = prices[0]
            volume = Decimal(run[0][2])
        else:
            exact = {Decimal(price): price for price in set(prices)}
            high, low = exact[max(exact)], exact[min(exact)]
            volume = Decimal(0)
            for _, _, size in run:
                volume = _ADD(volume, Decimal(size))
        for interval in self._rules.intervals:
            key: Key = (interval, second - second % INTERVALS_NS[interval])
            known = self._sums.get(key)
            if known is not None:
                known.add(high, low, prices[-1], volume, len(run))
            elif self._too_old(key):
                self.late += len(run)
                continue
            else:
                self._sums[key] = _Sum(prices[0], high, low, prices[-1], volume, len(run))
            self._changed.add(key)

    def _too_old(self, key: Key) -> bool:
        closed = sorted(k for k, bar in self.sent.items() if bar.closed and k[0] == key[0])
        return len(closed) >= self._rules.closed_kept and key < closed[0]

    def _trim(self) -> None:
        for interval in self._rules.intervals:
            closed = sorted(key for key, bar in self.sent.items() if bar.closed and key[0] == interval)
            for key in closed[: max(0, len(closed) - self._rules.closed_kept)]:
                del self.sent[key], self._sums[key]


def _key(bar: Bar) -> Key:
    return bar.interval, int(bar.open_time)


def _sum(bar: Bar) -> _Sum:
    return _Sum(bar.open, bar.high, bar.low, bar.close, Decimal(bar.volume), bar.trades)
