"""A made-up source of updates: records for a hub, and the truth about every channel, kept as plain lists and dicts.

`TrueSource` plays the normalizer: `tick` says what one tick does, `record` gives what was gathered since the last one
as the value of a data record, `keyframe` a symbol's snapshots. It folds with code of its own.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec

from feed.wire.model import KINDS, Bar, Book, Gap, Instrument, Kind, Quote, Snapshot, State, Status, Trade, Update
from feed.wire.parts import parted

encode = msgspec.json.encode
Change = tuple[str, str, Any]


class Truth:
    """One channel: all updates of this source in order, and the state that they come to."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.updates: list[tuple[int, int, list[bytes]]] = []
        """prev, seq, the messages of the update (several where it was sent in parts)."""
        self.last: Update | None = None
        self.start: Snapshot | None = None
        self.trades: list[Trade] = []
        self.sides: tuple[dict[str, str], dict[str, str]] = ({}, {})
        self.bars: dict[tuple[str, int], Bar] = {}
        self.value: Any = None
        self.state: State | None = None

    @property
    def begun(self) -> bool:
        """Whether it has had an update, or goes on from a snapshot."""
        return self.last is not None or self.start is not None

    @property
    def stale(self) -> bool:
        """Whether it is told that it cannot be trusted; that may be all that is known of it."""
        return self.state is not None and self.state.state != "ok"

    @property
    def seq(self) -> int:
        """Its last update."""
        if self.last is not None:
            return self.last.seq
        return -1 if self.start is None else self.start.seq

    def apply(self, update: Update, messages: list[bytes]) -> None:
        """One more update."""
        data: Any = update.data
        if self.kind == "trades":
            self.trades = (self.trades if self.seq != -1 else []) + list(data)
        elif self.kind == "book":
            for side, levels in zip(self.sides, (data.bids, data.asks), strict=True):
                for price, size in levels:
                    if size == "0":
                        side.pop(price, None)
                    else:
                        side[price] = size
        elif self.kind == "bars":
            self.bars.update({(bar.interval, int(bar.open_time)): bar for bar in data})
        else:
            self.value = data
        self.updates.append((update.prev, update.seq, messages))
        self.last = update

    def data(self) -> Any:
        """The state as a snapshot holds it."""
        if self.kind == "trades":
            return self.trades[-100:]
        if self.kind == "book":
            bids, asks = self.sides
            return Book(
                sorted(bids.items(), key=lambda level: -Decimal(level[0])),
                sorted(asks.items(), key=lambda level: Decimal(level[0])),
            )
        if self.kind == "bars":
            kept: list[Bar] = []
            for interval in ("1m", "1s"):
                keys = sorted(key for key in self.bars if key[0] == interval)
                closed = [key for key in keys if self.bars[key].closed]
                kept += [self.bars[key] for key in keys if key not in closed[:-5]]
            return kept
        return self.value


class TrueSource:
    """One source. `seq` is its last tick; `truths` are its channels by kind and symbol."""

    def __init__(self, source: str, seq: int = -1) -> None:
        self.source = source
        self.seq = seq
        self.truths: dict[tuple[str, str], Truth] = {}
        self._gathered: list[bytes] = []
        self._pos = seq

    def truth(self, kind: str, symbol: str) -> Truth:
        """A channel; made where it is new."""
        return self.truths.setdefault((kind, symbol), Truth(kind))  # type: ignore[arg-type]

    def carry(self, before: TrueSource) -> None:
        """Goes on with the state of the source before."""
        for key, old in before.truths.items():
            if not (old.begun or old.stale):
                continue
            truth = self.truths[key] = Truth(old.kind)
            truth.start = self._snapshot(key[1], old) if old.begun else None
            truth.trades, truth.bars, truth.value = list(old.trades), dict(old.bars), old.value
            truth.sides = dict(old.sides[0]), dict(old.sides[1])
            if old.state is not None and old.stale:
                truth.state = msgspec.structs.replace(old.state, source=self.source)

    def tick(self, changes: list[Change], *, skip: int = 1, hole: bool = False, parts: bool = False) -> None:
        """One tick: kind, symbol and data for each channel that it changes."""
        self.seq += skip
        for kind, symbol, data in changes:
            truth = self.truth(kind, symbol)
            update = Update(kind, symbol, truth.seq, self.seq, None, str(self.seq), data)  # type: ignore[arg-type]
            if hole and kind == "trades":
                gap = Gap("trades", symbol, self.source, truth.seq, truth.seq, None, "venue", lost=True)
                self._gathered.append(encode(gap))
            messages = [encode(part) for part in (_in_parts(update) if parts else parted(update))]
            truth.apply(update, messages)
            self._gathered += messages

    def history(self, symbol: str, trades: list[Trade]) -> None:
        """Trades that the venue sent again, before the first live one."""
        truth = self.truth("trades", symbol)
        truth.trades = trades
        truth.start = Snapshot("trades", symbol, self.source, -1, None, None, trades)

    def stale(self, symbol: str, reason: Any, *, skip: int = 1) -> None:
        """One tick after which the book cannot be trusted; `reason` None: it can again."""
        self.seq += skip
        told: Any = "ok" if reason is None else "stale"
        state = State(self.source, "book", symbol, self.seq, told, reason, str(self.seq))
        self.truth("book", symbol).state = state
        self._gathered.append(encode(state))

    def record(self) -> tuple[int, int, bytes]:
        """`pos`, `last` and value of a data record with everything since the last one."""
        pos, self._pos = self._pos, self.seq
        value = b"[" + b",".join(self._gathered) + b"]"
        self._gathered = []
        return pos, self._pos, value

    def records(self) -> list[tuple[int, int, bytes]]:
        """The same with one record a message: only the last one covers the ticks."""
        gathered, self._gathered = self._gathered, []
        if not gathered:
            return [self.record()]
        pos, self._pos = self._pos, self.seq
        return [(pos, pos, b"[" + message + b"]") for message in gathered[:-1]] + [
            (pos, self.seq, b"[" + gathered[-1] + b"]")
        ]

    def keyframe(self, symbol: str) -> bytes:
        """The value of a keyframe record."""
        messages = []
        for kind in KINDS:
            truth = self.truths.get((kind, symbol))
            if truth is None:
                continue
            if truth.begun:
                messages += [encode(part) for part in parted(self._snapshot(symbol, truth))]
            if truth.stale:
                messages.append(encode(truth.state))
        return b"[" + b",".join(messages) + b"]"

    def snapshot(self, kind: str, symbol: str) -> list[bytes]:
        """What a snapshot of a channel is now."""
        return [encode(part) for part in parted(self._snapshot(symbol, self.truths[kind, symbol]))]

    def _snapshot(self, symbol: str, truth: Truth) -> Snapshot:
        last = truth.last or truth.start
        assert last is not None
        return Snapshot(truth.kind, symbol, self.source, last.seq, last.ts_event, last.ts_recv, truth.data())


def _in_parts(update: Update) -> list[Update]:
    data = update.data
    pieces: list[Any] = [data]
    if isinstance(data, Book):
        pieces = [Book(data.bids, []), Book([], data.asks)]
    elif isinstance(data, list):
        pieces = [data[:1], data[1:]]
    if len(pieces) == 1:
        return [update]
    return [msgspec.structs.replace(update, data=piece, part=(i, len(pieces))) for i, piece in enumerate(pieces, 1)]


def some_data(kind: str, number: int) -> Any:
    """Data of an update of this kind, from a number."""
    price = f"{number % 7 + 1}.{number % 9 + 1}"
    if kind == "trades":
        return [Trade(price, "1", "buy", str(number + i), None) for i in range(1 + number % 3)]
    if kind == "quotes":
        return Quote(price, "1", None, None)
    if kind == "book":
        return Book([(price, str(number % 4))], [(f"{number % 5 + 10}", str(number % 3))])
    if kind == "bars":
        start = str(number // 3)
        return [Bar("1s" if number % 2 else "1m", start, price, price, price, price, "1", number, number % 3 == 2)]
    if kind == "status":
        return Status("trading", str(number))
    return Instrument("x", "y", str(number), None, None, None, None, [])
