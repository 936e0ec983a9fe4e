"""The trades of one Kraken pair, as told by two sockets.

Owns which trades are new: v2 counts them, v1 has no ids. Where a pair is called alike in both sockets, v1's trades are
not taken any more once v2's have come: they are the same ones.

- v2: a skipped id is a hole, and one that is far back and later has begun anew (`Symbol.follow`).
- v1: what its first frame after a subscription holds from before that is history. Subscribing again is a hole: the
  connection was another one, and nothing tells what came between.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from feed.venues.symbol import Symbol
    from feed.wire.model import Trade


class SavedTrades(Struct):
    """`trade` is the last id; `since` is when trades were subscribed (v1, until their first frame); `traded`: whether
    any of v1 came."""

    trade: int | None = None
    since: int | None = None
    traded: bool = False


class PairTrades:
    """Whose trades are new, and where v2's ids stand."""

    def __init__(self, symbol: Symbol) -> None:
        self._symbol = symbol
        self._state = SavedTrades()

    def subscribed(self, ts_recv: int) -> None:
        """Trades of v1 were subscribed."""
        if self._state.traded:
            self._symbol.hole()
        self._state.since = ts_recv

    def apply_without_ids(self, trades: list[Trade]) -> None:
        """Trades of v1."""
        state, symbol = self._state, self._symbol
        if state.trade is not None:
            return
        since, state.since = state.since, None
        if since is not None:
            symbol.history([trade for trade in trades if int(trade.ts_event or since) < since])
            trades = [trade for trade in trades if int(trade.ts_event or since) >= since]
        if trades:
            state.traded = True
            symbol.trades(trades, trades[-1].ts_event)

    def apply_with_ids(self, trades: list[Trade]) -> None:
        """Trades of v2."""
        if not trades:
            return
        symbol, state = self._symbol, self._state
        symbol.count_trades()
        for trade in trades:
            state.trade = symbol.follow(state.trade, int(trade.trade_id or 0), trade.ts_event)
        if symbol.trades(trades, trades[-1].ts_event):
            state.trade = int(trades[-1].trade_id or 0)

    def apply_history(self, trades: list[Trade]) -> None:
        """Trades that v2 sent at subscription; those that were missed show as a hole at the next one."""
        if trades:
            self._symbol.history(trades)

    def save(self) -> SavedTrades:
        """All of it, as `load` takes it."""
        return self._state

    def load(self, saved: SavedTrades) -> None:
        """Takes up what `save` gave."""
        self._state = saved
