"""One symbol: what it is told, the messages that it makes of it, and what survives a restart."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec import Raw

from feed.errors import BadEntry, CorruptLog, Unforeseen
from feed.venues.bars import BarRules
from feed.venues.now import SavedSymbol
from feed.venues.symbol import Symbol
from feed.venues.tick import Rules
from feed.wire.model import Bar, Book, Instrument, Quote, Snapshot, State, Status, Trade
from tests.feed.toy import Toy
from tests.feed.venues.alone import T0, Alone

SECOND = 1_000_000_000
QUOTE = Quote("1", "2", "3", "4")
PAIR = Instrument("v", "X", "spot", None, None, None, None, [])


def trade(number: int, price: str = "10") -> Trade:
    return Trade(price, "1", "buy", str(number), str(T0 + number))


def test_each_update_names_the_one_before_it() -> None:
    alone = Alone()
    for number in (1, 2):
        alone.symbol.trades([trade(number)], "5")
        alone.symbol.quote(QUOTE, None)
        trades, quote = alone.messages()
        assert (trades.prev, trades.seq) == (quote.prev, quote.seq) == (number - 2, number - 1)  # type: ignore[union-attr]


def test_a_second_update_of_a_kind_in_one_tick_is_our_own_fault() -> None:
    alone = Alone()
    alone.symbol.quote(QUOTE, None)
    with pytest.raises(CorruptLog, match="second update of quotes"):
        alone.symbol.quote(QUOTE, None)


def test_trades_sent_twice_are_dropped_and_a_hole_goes_before_the_next() -> None:
    alone = Alone()
    alone.symbol.trades([trade(1)], None)
    assert alone.said() == [("Update", [trade(1)])]
    assert alone.symbol.trades([trade(1)], None) is False
    alone.symbol.hole()
    assert alone.said() == []
    alone.symbol.trades([trade(2)], None)
    assert alone.said() == [("Gap", None, "venue"), ("Update", [trade(2)])]
    assert alone.symbol.counts.copies == 1


def test_a_skipped_id_is_a_hole_and_one_that_lags_is_not() -> None:
    alone = Alone()
    alone.symbol.count_trades()
    follow = alone.symbol.follow
    assert (follow(None, 5, None), follow(5, 6, None)) == (5, 6)
    assert follow(6, 8, None) == 8, "a hole"
    assert follow(8, 7, None) == 8, "late"
    alone.symbol.trades([trade(9)], None)
    assert [kind for kind, *_ in alone.said()] == ["Gap", "Update"]


def test_ids_that_begin_anew_are_told_behind_a_gap() -> None:
    alone = Alone()
    alone.symbol.count_trades()
    alone.symbol.trades([trade(100)], None)
    alone.messages()
    assert alone.symbol.follow(100, 1, str(T0 + 2 * SECOND)) == 1
    alone.symbol.trades([Trade("1", "1", None, "1", str(T0 + 2 * SECOND))], None)
    assert [kind for kind, *_ in alone.said()] == ["Gap", "Update"]
    assert alone.symbol.counts.epochs == 1
    assert alone.symbol.trades([Trade("1", "1", None, "1", str(T0 + 9 * SECOND))], None), "a known id that is later"
    assert [kind for kind, *_ in alone.said()] == ["Gap", "Update"]


def test_history_stands_in_the_snapshot_until_the_first_live_trade() -> None:
    alone = Alone()
    alone.symbol.history([trade(1), trade(2)])
    assert alone.messages() == []
    (snapshot,) = alone.symbol.snapshots()
    assert (snapshot.seq, snapshot.data) == (-1, [trade(1), trade(2)])  # type: ignore[union-attr]
    alone.symbol.trades([trade(3)], None)
    alone.messages()
    alone.symbol.history([trade(2)])
    assert alone.symbol.snapshots()[0].data == [trade(3)]  # type: ignore[union-attr]


def test_the_changes_of_one_tick_are_one_update() -> None:
    alone = Alone()
    alone.symbol.book_replace({"1": "1"}, {"2": "1"}, None)
    assert alone.said() == [("Update", Book([("1", "1")], [("2", "1")]))]
    alone.symbol.book_change([("1", "2")], [], None)
    alone.symbol.book_change([("1", "0")], [("2", "3")], "7")
    assert alone.said() == [("Update", Book([("1", "0")], [("2", "3")]))]
    assert alone.book() == ({}, {"2": "3"})


@pytest.mark.parametrize("quotes_from", ["stream", "book"])
def test_a_change_as_json_says_the_same(quotes_from: Any) -> None:
    alone = Alone(rules=Rules(quotes_from=quotes_from))
    alone.symbol.book_replace({}, {}, None)
    alone.messages()
    text = b'{"bids":[["1","2"]],"asks":[]}'
    alone.symbol.book_change_json(text, 1, None)
    update, *rest = alone.messages()
    assert msgspec.json.encode(update.data) == text  # type: ignore[union-attr]
    assert [message.data for message in rest] == ([Quote("1", "2", None, None)] if quotes_from == "book" else [])  # type: ignore[union-attr]
    alone.symbol.quote(QUOTE, None)
    assert len(alone.messages()) == (quotes_from == "stream"), "the venue's own quotes count in one case only"
    alone.symbol.book_change([("0.5", "1")], [], None)
    assert len(alone.messages()) == 1, "the best level is what it was"


def test_a_large_update_goes_out_in_parts() -> None:
    alone = Alone()
    bids = {f"{number}.{'1' * 18}": "1" * 20 for number in range(10_000)}
    alone.symbol.book_replace(bids, {}, None)
    parts = alone.messages()
    assert len(parts) > 1
    assert {part.seq for part in parts} == {0}  # type: ignore[union-attr]
    assert len(alone.symbol.snapshots()) == len(parts)


def test_a_stale_book_says_so_once_until_a_snapshot() -> None:
    alone = Alone()
    alone.symbol.book_stale("gap")
    assert alone.said() == [], "there is no book yet"
    alone.symbol.book_replace({"1": "1"}, {}, None)
    assert alone.symbol.book_is_live
    alone.messages()
    alone.symbol.book_stale("checksum")
    alone.symbol.book_missed()
    assert alone.said() == [("State", "stale", "checksum")]
    assert not alone.symbol.book_is_live
    assert isinstance(alone.symbol.snapshots()[-1], State)
    alone.symbol.book_replace({"1": "1"}, {}, None)
    assert alone.said() == [("Update", Book([], [])), ("State", "ok", None)]
    assert alone.symbol.counts.changes_lost == 1


def test_an_odd_entry_puts_its_channel_in_doubt() -> None:
    alone = Alone()
    alone.symbol.book_replace({}, {}, None)
    alone.messages()
    assert isinstance(alone.symbol.spoiled("quotes", ValueError("odd")), BadEntry)
    assert alone.said() == []
    assert str(alone.symbol.spoiled("book", ValueError("odd"))) == "entry of X: odd"
    alone.symbol.spoiled("trades", ValueError("odd"))
    assert alone.said() == [("State", "stale", "gap")]
    alone.symbol.trades([trade(1)], None)
    assert [kind for kind, *_ in alone.said()] == ["Gap", "Update"]
    assert alone.symbol.counts.bad_entries == 3


def test_an_exception_ends_the_tick_and_what_cannot_be_told_comes_with_the_next() -> None:
    alone = Alone()
    alone.symbol.book_replace({"1": "1"}, {}, None)
    alone.messages()
    alone.symbol.book_change_json(b'{"bids":[["1","2"]],"asks":[]}', 1, None)
    alone.symbol.book_change([("1", "3")], [], None)
    error = alone.symbol.unforeseen(RuntimeError("boom"))
    assert isinstance(error, Unforeseen)
    assert isinstance(error.__cause__, RuntimeError)
    kinds, alone.now.out = [type(message).__name__ for message in alone.now.out], []
    assert kinds == ["Update", "State"]
    alone.now.seq += 1
    assert alone.said() == [("Update", Book([("1", "3")], []))]


def test_a_symbol_trades_only_where_the_venue_says_so_of_all_too() -> None:
    alone = Alone()
    alone.symbol.tell_venue_status()
    assert alone.said() == []
    alone.symbol.status("trading", None, None)
    alone.symbol.instrument(PAIR, None)
    assert alone.said() == [("Update", Status("trading", None)), ("Update", PAIR)]
    alone.now.set_venue_status("halt", "maintenance")
    alone.symbol.tell_venue_status()
    assert alone.said() == [("Update", Status("halt", "maintenance"))]
    alone.symbol.status("trading", None, None)
    alone.symbol.instrument(PAIR, None)
    assert alone.said() == [], "a repeated word is no update"
    assert alone.symbol.instrument_known == PAIR


def test_bars_are_made_of_trades_and_of_what_cannot_be_in_one_is_counted() -> None:
    alone = Alone(rules=Rules(bars=BarRules(("1s",))))
    alone.symbol.trades([trade(1, "10"), trade(2, "12")], None)
    alone.symbol.trades([], None)
    alone.messages()
    alone.symbol.end_bars()
    (update,) = alone.messages()
    (bar,) = update.data  # type: ignore[union-attr]
    assert (bar.open, bar.close, bar.trades) == ("10", "12", 2)
    alone.symbol.trades(
        [Trade("1", "1", None, "3", str(T0 + 9 * 24 * 3600 * SECOND)), Trade("1", "1", None, "4", None)], None
    )
    assert (alone.symbol.counts.trades_ahead, alone.symbol.counts.bars_of) == (1, "V:X")


def filled() -> tuple[Alone, Toy]:
    """A symbol with something in each channel, its book stale, a hole before its next trades."""
    alone = Alone()
    symbol, machine = alone.symbol, Toy(alone.symbol)
    machine.frames = 7
    symbol.trades([trade(1)], "1")
    symbol.quote(QUOTE, "2")
    symbol.status("halt", "x", "3")
    symbol.instrument(PAIR, "4")
    symbol.book_replace({"1": "1"}, {"2": "2"}, "5")
    symbol.end_bars()
    alone.messages()
    symbol.end_bars()
    symbol.spoiled("book", ValueError())
    symbol.hole()
    alone.messages()
    return alone, machine


def loaded(alone: Alone, machine: Toy) -> tuple[Symbol, Toy]:
    saved = msgspec.json.decode(alone.symbol.save(machine), type=SavedSymbol)
    symbol = Symbol("V:X", "X", alone.now, Rules())
    again = Toy(symbol)
    symbol.load([each for each in alone.symbol.snapshots() if isinstance(each, Snapshot)], saved, again)
    return symbol, again


def test_what_was_saved_is_all_of_it() -> None:
    alone, machine = filled()
    symbol, again = loaded(alone, machine)
    assert again.frames == 7
    assert symbol.snapshots() == alone.symbol.snapshots()
    assert symbol.save(again) == alone.symbol.save(machine)
    assert [symbol.stands(kind) for kind in ("trades", "book", "bars")] == [0, 0, 0]
    assert Alone().symbol.stands("book") == -1


def test_after_a_cut_no_position_is_beyond_it_and_no_book_is_trusted() -> None:
    alone, _ = filled()
    alone.symbol.quote(QUOTE, None)
    assert alone.symbol.stands("quotes") == 2
    alone.symbol.cut(0)
    assert max(message.seq for message in alone.symbol.snapshots()) == 0  # type: ignore[type-var]
    fresh = Alone()
    fresh.symbol.book_replace({"1": "1"}, {}, None)
    fresh.messages()
    fresh.symbol.cut(0)
    state = fresh.symbol.snapshots()[-1]
    assert isinstance(state, State)
    assert (state.state, state.reason, state.seq) == ("stale", "gap", 0)


def test_what_a_lost_ticks_update_said_is_taken_up() -> None:
    alone = Alone()
    bar = Bar("1s", str(T0), "1", "1", "1", "1", "1", 1, False)
    told: list[tuple[Any, Any]] = [
        ("book", Book([("1", "1")], [])), ("quotes", QUOTE), ("status", Status("halt", None)), ("instruments", PAIR),
        ("trades", [trade(1), trade(2)]), ("trades", [trade(2), trade(3)]), ("bars", [bar]),
    ]  # fmt: skip
    for seq, (kind, data) in enumerate(told):
        alone.symbol.retell(kind, seq, None, str(T0), data)
    held = {snapshot.channel: snapshot.data for snapshot in alone.symbol.snapshots() if isinstance(snapshot, Snapshot)}
    assert held == dict(told) | {"trades": [trade(1), trade(2), trade(3)]}
    assert alone.symbol.book_is_live
    assert alone.symbol.stands("trades") == 5


def test_data_of_an_update_may_be_text() -> None:
    alone = Alone()
    alone.symbol.book_change_json(b'{"bids":[],"asks":[["3","1"]]}', 1, None)
    (update,) = alone.messages()
    assert isinstance(update.data, Raw)  # type: ignore[union-attr]
    assert alone.book() == ({}, {"3": "1"})
