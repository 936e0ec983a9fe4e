"""Which trades were seen before, and when ids begin anew."""

from __future__ import annotations

import msgspec

from feed.venues.counters import AHEAD_MAX_NS
from feed.venues.known import KnownTrades, dated
from feed.venues.now import SavedSymbol, SourceCounts
from feed.wire.model import Trade
from tests.feed.venues.alone import T0, Alone


def trade(number: object, ns: int | None = 0) -> Trade:
    return Trade("1", "1", "buy", None if number is None else str(number), None if ns is None else str(T0 + ns))


def known(*trades: Trade, counted: bool = False) -> KnownTrades:
    found = KnownTrades(10)
    found.are_counted = counted
    assert all(found.add(each, T0) for each in trades)
    return found


def test_new_ones_pass_and_copies_are_counted() -> None:
    counts, found = SourceCounts(), known(trade(1))
    assert found.sift([trade(2)], counts, False, T0) == ([trade(2)], False)
    assert found.sift([trade(2), trade(3), trade(None)], counts, False, T0) == ([trade(3), trade(None)], False)
    assert found.sift([trade(None)], counts, False, T0) == ([trade(None)], False)
    assert counts.copies == 1
    assert not found.add(trade(3), T0)


def test_a_known_id_that_is_later_than_every_trade_begins_anew() -> None:
    counts, found = SourceCounts(), known(trade(1), trade(2, 5))
    assert found.sift([trade(1, 6)], counts, False, T0) == ([trade(1, 6)], True)
    assert counts.epochs == 1
    assert found.sift([trade(2, 5)], counts, False, T0) == ([trade(2, 5)], False), "the old ids are forgotten"


def test_of_counted_ids_a_time_that_was_rounded_is_the_same() -> None:
    counts, found = SourceCounts(), known(trade(1), counted=True)
    assert found.sift([trade(1, 999_999)], counts, False, T0) == ([], False)
    assert found.sift([trade(1, 1_000_000)], counts, False, T0) == ([trade(1, 1_000_000)], True)


def test_aggregates_count_by_themselves() -> None:
    counts, found = SourceCounts(), known(trade(1))
    assert found.sift([trade(1)], counts, True, T0) == ([trade(1)], False)
    assert found.sift([trade(1)], counts, True, T0) == ([], False)


def test_consecutive_ids_restart_far_back_and_later_only() -> None:
    found = known(trade(100))
    assert found.restarts(100, 10, str(T0 + 2_000_000_000), T0)
    assert not found.restarts(100, 99, str(T0 + 2_000_000_000), T0)
    assert not found.restarts(100, 10, None, T0)
    assert not found.restarts(100, 10, str(T0 + AHEAD_MAX_NS + 1), T0), "dated too far ahead"


def test_a_time_far_ahead_is_none() -> None:
    assert dated(trade(1, AHEAD_MAX_NS), T0) == T0 + AHEAD_MAX_NS
    assert dated(trade(1, AHEAD_MAX_NS + 1), T0) == 0
    assert dated(trade(1, None), T0) == 0


def test_what_was_seen_is_seen_after_a_restart() -> None:
    found = known(trade(1), trade("a", 7))
    found.sift([trade(5)], SourceCounts(), True, T0)
    ids, texts, aggregates = found.save()
    saved: SavedSymbol = msgspec.json.decode(Alone().now.save(), type=SavedSymbol)
    again = KnownTrades(10)
    again.load(msgspec.structs.replace(saved, ids=ids, texts=texts, aggregates=aggregates, newest=found.newest))
    assert again.save() == found.save()
    assert (again.newest, again.add(trade("a"), T0)) == (T0 + 7, False)
