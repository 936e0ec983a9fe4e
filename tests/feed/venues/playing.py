"""Plays captures through the state machine of a source, and folds what comes out as a client does.

The fold is a dict of Decimals of its own: it shares nothing with the machine but the messages.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from feed.errors import BadTick
from feed.venues.now import Message
from feed.venues.source import Checkpoint, Source
from feed.venues.symbol import Rules, Tick
from feed.venues.table import venue
from feed.venues.venue import Venue
from feed.wire.model import Book, Gap, Quote, Snapshot, State, Trade, Update
from replay.captures import Captured, read

T0 = 1_700_000_000_000_000_000
STEP_NS = 10_000_000
BOOK = msgspec.json.Decoder(Book)
encode = msgspec.json.encode


class Capture(NamedTuple):
    """Files that were captured together; `symbol` is that of REST answers which do not name it."""

    venue: str
    files: tuple[str, ...]
    symbol: str | None = None


CAPTURES = {
    "binance/coinm_btcusd_perp_20240808": Capture("binance-coinm", ("binance/coinm_btcusd_perp_20240808.log.gz",)),
    "binance/spot_btcusdt_20240808": Capture("binance", ("binance/spot_btcusdt_20240808.log.gz",), "BTCUSDT"),
    "binance/spot_multi_20211011": Capture(
        "binance", ("binance/spot_multi_20211011.ws.cf.gz", "binance/spot_multi_20211011.http.cf.gz")
    ),
    "binance/usdm_btcusdt_20240808": Capture("binance-usdm", ("binance/usdm_btcusdt_20240808.log.gz",), "BTCUSDT"),
    "binance/usdm_multi_20210722": Capture(
        "binance-usdm", ("binance/usdm_multi_20210722.ws.cf.gz", "binance/usdm_multi_20210722.http.cf.gz")
    ),
    "kraken/v1_5pairs_20210417.book": Capture("kraken", ("kraken/v1_5pairs_20210417.book.ws.cf.gz",)),
    "kraken/v1_5pairs_20210417.ticker": Capture("kraken", ("kraken/v1_5pairs_20210417.ticker.ws.cf.gz",)),
    "kraken/v1_5pairs_20210417.trade": Capture("kraken", ("kraken/v1_5pairs_20210417.trade.ws.cf.gz",)),
    "kraken/v2_btcusd_d10_20260705": Capture("kraken", ("kraken/v2_btcusd_d10_20260705.jsonl",)),
    "coinbase/exchange_5products_20210417": Capture("coinbase", ("coinbase/exchange_5products_20210417.ws.cf.gz",)),
    "coinbase/advanced_btcusd_l2_20260824": Capture("coinbase", ("coinbase/advanced_btcusd_l2_20260824.jsonl",)),
}
BIG = {name for name in CAPTURES if name.startswith("binance/") and "20240808" in name}


def captured(data_dir: Path, name: str) -> list[Captured]:
    """All frames of a capture."""
    capture = CAPTURES[name]
    return list(read([data_dir / file for file in capture.files], symbol=capture.symbol))


def ticks(name: str, frames: Iterable[Captured]) -> list[Tick]:
    """The ticks that a collector makes of frames: one a symbol, without a key where a frame speaks of all."""
    made: list[Tick] = []
    keys = venue(CAPTURES[name].venue).keys
    for number, frame in enumerate(frames):
        ts_recv = T0 + number if frame.ts_recv is None else frame.ts_recv
        named = [frame.symbol] if frame.symbol is not None else keys(frame.frame) or [""]
        for key in named:
            made.append(Tick(len(made), key, frame.frame, ts_recv, ts_recv, frame.request))
    return made


def numbered(again: Iterable[Tick]) -> list[Tick]:
    """Ticks with offsets of their own, from 0."""
    return [msgspec.structs.replace(tick, seq=seq) for seq, tick in enumerate(again)]


def twice(once: Iterable[Tick]) -> list[Tick]:
    """Each tick sent two times in a row."""
    return numbered(tick for tick in once for _ in range(2))


class Side(dict[Decimal, str]):
    """One side of a book."""

    def take(self, levels: list[tuple[str, str]]) -> None:
        for price, size in levels:
            if size == "0":
                self.pop(Decimal(price), None)
            else:
                self[Decimal(price)] = size


class Folded:
    """What a client holds of one symbol, and what it was told."""

    def __init__(self) -> None:
        self.trades: list[Trade] = []
        self.quotes: list[tuple[Quote, str | None]] = []
        self.bids = Side()
        self.asks = Side()
        self.updates: dict[str, int] = defaultdict(int)
        self.last: dict[str, int] = {}
        self.gaps: list[Gap] = []
        self.states: list[State] = []
        self.other: list[Update] = []

    def apply(self, message: Update | Gap | State) -> None:
        if isinstance(message, Gap):
            assert message.prev == message.seq == self.last.get("trades", -1)
            self.gaps.append(message)
        elif isinstance(message, State):
            self.states.append(message)
        else:
            self._update(message)

    def _update(self, update: Update) -> None:
        kind = update.channel
        if self.last.get(kind) != update.seq:  # else another part of the same one
            assert update.prev == self.last.get(kind, -1)
            self.updates[kind] += 1
        self.last[kind] = update.seq
        data: Any = BOOK.decode(update.data) if isinstance(update.data, msgspec.Raw) else update.data
        if kind == "trades":
            self.trades += data
        elif kind == "quotes":
            self.quotes.append((data, update.ts_event))
        elif kind == "book":
            self.bids.take(data.bids)
            self.asks.take(data.asks)
        else:
            self.other.append(update)

    def sides(self) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
        """Bids and asks, best first, as text."""
        bids = [(format(price, "f"), size) for price, size in sorted(self.bids.items(), reverse=True)]
        asks = [(format(price, "f"), size) for price, size in sorted(self.asks.items())]
        return bids, asks

    def book_sha256(self) -> str:
        """The hash that facts.json has of a whole book."""
        bids, asks = self.sides()
        lines = [f"b {price} {size}\n" for price, size in bids] + [f"a {price} {size}\n" for price, size in asks]
        return hashlib.sha256("".join(lines).encode()).hexdigest()


class Played:
    """A source that played ticks. `bad` are those that were refused, and the entries that were."""

    def __init__(self, venue_name: str, rules: Rules | None = None) -> None:
        self.source = Source(venue(venue_name), f"{venue_name}/0@test", rules or Rules())
        self.symbols: dict[str, Folded] = defaultdict(Folded)
        self.bad: list[tuple[Tick, str]] = []
        self.said: list[Message] = []

    def play(self, played: Iterable[Tick]) -> Played:
        for tick in played:
            try:
                bad: Sequence[BadTick] = self.source.apply(tick)
            except BadTick as error:
                bad = [error]
            self.bad += [(tick, str(error)) for error in bad]
            said = self.source.take()
            self.said += said
            for message in said:
                assert not isinstance(message, Snapshot)
                assert message.symbol
                self.symbols[message.symbol.partition(":")[2]].apply(message)
        return self

    def snapshot(self, key: str, kind: str) -> Any:
        """The data of a channel's snapshot, None without one."""
        for message in self.source.keyframe(key):
            if isinstance(message, Snapshot) and message.channel == kind:
                return message.data
        return None


def play(name: str, played: Iterable[Tick]) -> Played:
    """A new source of that capture's venue, after these ticks."""
    return Played(CAPTURES[name].venue).play(played)


def book_of(data: Book) -> tuple[dict[str, str], dict[str, str]]:
    """A book of a snapshot as dicts."""
    return dict(data.bids), dict(data.asks)


def restarted(source: Source, of: Venue, seq: int) -> Source:
    """A source that knows nothing but what this one has written down after tick `seq`."""
    written = [
        Checkpoint(seq, [encode([message]) for message in source.keyframe(key)], source.checkpoint(key))
        for key in source
    ]
    again = Source(of, source.now.source, Rules())
    again.restore(written)
    again.wake_all()
    return again


class Feeder:
    """Gives frames to a source, one offset and 10 ms after the other.

    A second one is restarted after each of them: both must say the same.
    """

    def __init__(self, venue_name: str, key: str) -> None:
        self.played = Played(venue_name)
        self.key = key
        self.seq = 0
        self.now = T0
        self._venue = venue(venue_name)
        self._broken = Source(self._venue, self.played.source.now.source, Rules())

    @property
    def folded(self) -> Folded:
        return self.played.symbols[self.key]

    def __call__(self, *frames: bytes | dict[str, Any], request: str | None = None) -> Feeder:
        for frame in frames:
            value = frame if isinstance(frame, bytes) else encode(frame)
            self.now += STEP_NS
            self.play(Tick(self.seq, self.key, value, self.now, self.now, request))
        return self

    def wait(self, seconds: float) -> Feeder:
        """Lets time pass before the next frame is received."""
        self.now += int(seconds * 1e9)
        return self

    def play(self, tick: Tick) -> None:
        """One tick, as it is."""
        before = len(self.played.said)
        self.played.play([tick])
        with contextlib.suppress(BadTick):
            self._broken.apply(tick)
        assert encode(self._broken.take()) == encode(self.played.said[before:])
        self._broken = restarted(self._broken, self._venue, tick.seq)
        self.seq = tick.seq + 1

    def rest(self, last: int, bids: Any, asks: Any, **more: Any) -> Feeder:
        return self({"lastUpdateId": last, "bids": bids, "asks": asks, **more}, request="https://x/depth")

    def book(self) -> Any:
        data = self.played.snapshot(self.key, "book")
        return None if data is None else book_of(data)


def state_of(source: Source, key: str) -> tuple[Any, Any]:
    """The whole state of a symbol; the clock may move with a bad tick."""
    saved = msgspec.json.decode(source.checkpoint(key))
    saved.pop("clock")
    return source.keyframe(key), saved


def without_doubts(source: Source, key: str) -> tuple[Any, Any]:
    """The state of a symbol but for what an odd entry may change: a stale book, a hole in the trades."""
    keyframe, saved = state_of(source, key)
    return [message for message in keyframe if not isinstance(message, State)], {**saved, "stale": None, "hole": False}


def doubts(source: Source, key: str) -> list[str]:
    """What is in doubt of a symbol: its book, its trades."""
    saved = state_of(source, key)[1]
    return [*(["book"] if saved["stale"] else []), *(["trades"] if saved["hole"] else [])]
