"""Every capture of these venues, against what an independent oracle found in it."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from feed.wire.model import Trade
from tests.feed.venues.playing import BIG, CAPTURES, Folded, captured, play, ticks, twice

NAMES = [pytest.param(name, marks=pytest.mark.slow if name in BIG else ()) for name in CAPTURES]
# Kraken v1 has no ids of trades, and nobody identifies a book's changes but Binance: two ticks are two ticks
IDENTIFIED = {"binance", "binance-usdm", "binance-coinm"}


def facts_of(data_dir: Path, name: str) -> dict[str, dict[str, Any]]:
    """What the oracle says, by symbol."""
    facts = msgspec.json.decode((data_dir / "facts.json").read_bytes())[name]["symbols"]
    assert not [symbol for symbol in facts if "#" in symbol], "trades that were not at market are kept apart"
    return facts  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", NAMES)
def test_capture_agrees_with_the_facts(data_dir: Path, name: str) -> None:
    facts = facts_of(data_dir, name)
    played = play(name, ticks(name, captured(data_dir, name)))
    assert played.bad == []
    # what the venue says of all its symbols is told of those, too, of which it says nothing else
    assert {name for name, folded in played.symbols.items() if folded.updates.keys() - {"status"}} == set(facts)
    for symbol, fact in facts.items():
        folded = played.symbols[symbol]
        assert folded.states == []
        assert folded.gaps == []
        check_trades(folded, fact.get("trades"))
        check_quotes(folded, fact.get("quotes"))
        check_book(folded, fact.get("book"))


@pytest.mark.parametrize("name", NAMES)
def test_ticks_sent_twice_are_known_where_the_venue_says_which_they_are(data_dir: Path, name: str) -> None:
    facts = facts_of(data_dir, name)
    played = play(name, twice(ticks(name, captured(data_dir, name))))
    assert played.bad == []
    for symbol, fact in facts.items():
        folded = played.symbols[symbol]
        assert folded.states == []
        assert folded.gaps == []
        if CAPTURES[name].venue in IDENTIFIED:
            check_trades(folded, fact.get("trades"))
            check_quotes(folded, fact.get("quotes"))
            check_book(folded, fact.get("book"))
            continue
        check_sides(folded, fact.get("book"))
        if "coinbase" in name:
            check_trades(folded, fact.get("trades"))
        elif "trades" in fact:
            assert len(folded.trades) == 2 * fact["trades"]["count"]
        if "book" in fact:
            assert folded.updates["book"] == 2 * (fact["book"]["updates"] + fact["book"]["snapshots"])


def check_trades(folded: Folded, fact: dict[str, Any] | None) -> None:
    trades = folded.trades
    if fact is None:
        assert trades == []
        return
    assert len(trades) == fact["count"]
    assert total(trades) == Decimal(fact["volume"])
    assert sum(Decimal(trade.price) * Decimal(trade.size) for trade in trades) == Decimal(fact["notional"])
    for side in ("buy", "sell"):
        made = [trade for trade in trades if trade.side == side]
        wanted = fact["by_side"].get(side, {"count": 0, "volume": "0"})
        assert (len(made), total(made)) == (wanted["count"], Decimal(wanted["volume"]))
    for trade, wanted in ((trades[0], fact["first"]), (trades[-1], fact["last"])):
        found = {"id": trade.trade_id, "price": trade.price, "side": trade.side, "size": trade.size}
        assert {**found, "ts_ns": trade.ts_event} == wanted
    prices = [Decimal(trade.price) for trade in trades]
    assert (min(prices), max(prices)) == (Decimal(fact["min_price"]), Decimal(fact["max_price"]))


def check_quotes(folded: Folded, fact: dict[str, Any] | None) -> None:
    if fact is None:
        assert folded.quotes == []
        return
    assert len(folded.quotes) == fact["count"]
    for (quote, time), wanted in ((folded.quotes[0], fact["first"]), (folded.quotes[-1], fact["last"])):
        assert quote.bid_price == wanted["bid"]
        assert quote.ask_price == wanted["ask"]
        assert quote.bid_size == wanted["bid_size"]
        assert quote.ask_size == wanted["ask_size"]
        assert time == wanted["ts_ns"]


def check_book(folded: Folded, fact: dict[str, Any] | None) -> None:
    check_sides(folded, fact)
    if fact is not None:
        # diffs that were kept for the snapshot go out with it
        kept = max(0, fact["updates_before_snapshot"] - fact["stale_updates_dropped"])
        assert folded.updates["book"] == fact["snapshots"] + fact["updates"] - kept


def check_sides(folded: Folded, fact: dict[str, Any] | None) -> None:
    bids, asks = folded.sides()
    if fact is None:
        assert (bids, asks) == ([], [])
        return
    assert [list(level) for level in bids[:5]] == fact["final_bids"]
    assert [list(level) for level in asks[:5]] == fact["final_asks"]
    assert (len(bids), len(asks)) == (fact["bid_levels"], fact["ask_levels"])
    assert folded.book_sha256() == fact["book_sha256"]


def total(trades: list[Trade]) -> Decimal:
    return sum((Decimal(trade.size) for trade in trades), Decimal(0))
