"""A venue made up for tests: `{"op": …}` frames that reach every method of a symbol."""

from __future__ import annotations

import json

from feed.errors import BadTick
from feed.venues.symbol import Symbol, Tick
from feed.venues.venue import Venue
from feed.wire.model import Action, Quote, Trade


class Toy:
    """Trades, quotes, book changes and snapshots, holes; private state is a count of frames."""

    def __init__(self, symbol: Symbol) -> None:
        self.symbol = symbol
        self.frames = 0

    def apply(self, tick: Tick) -> None:
        try:
            frame = json.loads(tick.value)
            op = frame["op"]
        except (ValueError, KeyError, TypeError, UnicodeDecodeError, RecursionError) as error:
            raise BadTick("not a toy frame") from error
        self.frames += 1
        symbol, ts_event = self.symbol, str(frame["ts"])
        if op == "trade":
            if frame.get("hole"):
                symbol.hole()
            symbol.trades([Trade(p, s, "buy", i, ts_event) for p, s, i in frame["trades"]], ts_event)
        elif op == "quote":
            symbol.quote(Quote("1", str(self.frames), "2", None), ts_event)
        elif op == "book":
            symbol.book_change([tuple(x) for x in frame["bids"]], [tuple(x) for x in frame["asks"]], ts_event)
        elif op == "snapshot":
            symbol.book_replace(dict(frame["bids"]), dict(frame["asks"]), ts_event)
        elif op == "stale":
            symbol.book_stale("checksum")
        elif op == "status":
            symbol.status(frame["action"], None, ts_event)

    def apply_entry(self, tick: Tick, entry: object) -> None:
        self.apply(tick)

    def refused(self, tick: Tick) -> None:
        self.symbol.in_doubt("book", "trades")

    def save(self) -> bytes:
        return b"%d" % self.frames

    def load(self, saved: bytes) -> None:
        self.frames = int(saved)


def keys(frame: bytes) -> list[str]:
    return [json.loads(frame)["symbol"]]


def venue_status(frame: bytes) -> tuple[Action, str | None] | None:
    return ("halt", frame.decode())


TOY = Venue("toy", "TOY", Toy, keys, venue_status, 10)
