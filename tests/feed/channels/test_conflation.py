"""What merged updates say: every key that was touched, with its value at the end."""

from __future__ import annotations

import random

import msgspec

from feed.channels.conflation import Bars, Best, Levels, Quotes, merger
from feed.channels.state import Body, Folded
from feed.wire.message import bare
from feed.wire.model import Bar, Book, Level, Quote, Snapshot

EMPTY: list[Level] = []


def body(data: object, part: tuple[int, int] | None = None) -> Body:
    return Body("update", seq=7, data=msgspec.Raw(msgspec.json.encode(data)), part=part)


def best(depth: int, bids: list[Level], asks: list[Level]) -> Best:
    made = Best(depth)
    whole = Snapshot("book", "X:A", "x/0@a", 5, None, "1", Book(bids, asks))
    made.start("book", "X:A", "x/0@a", Folded(5, [bare(whole)], None, 5))
    return made


def test_which_kinds_are_merged() -> None:
    assert [type(merger(kind, 0)) for kind in ("quotes", "book", "bars")] == [Quotes, Levels, Bars]
    assert type(merger("book", 10)) is Best
    assert [merger(kind, 0) for kind in ("trades", "status", "instruments")] == [None, None, None]


def test_quotes_become_the_last_one() -> None:
    quotes = Quotes()
    assert all(quotes.take(body(Quote(price, "1", None, None))) for price in ("1", "2"))
    assert msgspec.json.decode(quotes.give() or b"", type=Quote).bid_price == "2"
    assert quotes.give() is None


def test_a_level_is_named_with_its_last_size_deletes_too() -> None:
    levels = Levels()
    levels.take(body(Book([("1", "5"), ("2", "1")], EMPTY)))
    levels.take(body(Book([("1", "0")], [("3", "2")])))
    assert levels.give() == Book([("1", "0"), ("2", "1")], [("3", "2")])
    assert levels.give() == Book([], [])


def test_of_a_bar_the_last_one_counts() -> None:
    bars = Bars()
    for trades in (1, 2):
        bars.take(body([Bar("1s", "10", "1", "1", "1", "1", "1", trades, trades == 2)]))
    assert [(bar.trades, bar.closed) for bar in bars.give() or []] == [(2, True)]


def test_a_snapshot_has_the_best_levels_of_each_side() -> None:
    made = Best(2)
    whole = Snapshot("book", "X:A", "x/0@a", 5, None, "1", Book([("3", "1"), ("2", "1"), ("1", "1")], [("10", "1")]))
    seen = made.start("book", "X:A", "x/0@a", Folded(5, [bare(whole)], None, 5))
    assert b'"bids":[["3","1"],["2","1"]],"asks":[["10","1"]]' in seen.messages[0]
    assert (seen.seq, seen.covers) == (5, 5)


def test_a_level_pushed_out_is_deleted_and_one_that_moves_up_is_named() -> None:
    book = best(2, [("3", "1"), ("2", "1"), ("1", "7")], EMPTY)
    assert book.take(body(Book([("4", "1")], EMPTY)))
    assert book.give() == Book([("4", "1"), ("2", "0")], [])
    assert book.take(body(Book([("4", "0"), ("3", "0")], EMPTY)))
    assert book.give() == Book([("4", "0"), ("3", "0"), ("2", "1"), ("1", "7")], [])


def test_what_was_among_the_best_for_a_moment_is_named_as_gone() -> None:
    book = best(1, [("3", "1")], [("10", "1")])
    assert book.take(body(Book([("4", "1")], [("9", "1")])))
    assert book.take(body(Book([("4", "0")], [("9", "0")])))
    assert book.give() == Book([("4", "0"), ("3", "1")], [("9", "0"), ("10", "1")])


def test_a_change_below_the_best_is_not_seen_but_known() -> None:
    book = best(1, [("3", "1"), ("2", "1")], EMPTY)
    assert not book.take(body(Book([("2", "9"), ("1", "4")], EMPTY)))
    assert book.give() is None
    assert book.take(body(Book([("3", "0")], EMPTY)))
    assert book.give() == Book([("3", "0"), ("2", "9")], [])


def test_an_update_in_parts_is_taken_when_it_is_whole() -> None:
    book = best(1, [("3", "1")], EMPTY)
    assert not book.take(body(Book([("5", "1")], EMPTY), (1, 2)))
    assert book.take(body(Book([("5", "0"), ("4", "1")], EMPTY), (2, 2)))
    assert book.give() == Book([("4", "1"), ("3", "0")], [])


def test_prices_of_many_digits_are_compared_exactly() -> None:
    book = best(1, [("12345678901234567890.000000000000000001", "1")], EMPTY)
    assert book.take(body(Book([("12345678901234567890.000000000000000002", "1")], EMPTY)))
    assert (book.give() or Book([], [])).bids[0] == ("12345678901234567890.000000000000000002", "1")


def test_who_applies_what_is_given_holds_the_best_levels() -> None:
    chance = random.Random(5)
    for depth in (1, 3, 10):
        book = best(depth, [], [])
        whole: tuple[dict[str, str], dict[str, str]] = ({}, {})
        held: tuple[dict[str, str], dict[str, str]] = ({}, {})
        for _ in range(2_000):
            sides = [[(str(chance.randrange(1, 40)), str(chance.randrange(3)))] for _ in range(chance.randrange(3))]
            change = Book(sides[0] if sides else [], sides[1] if len(sides) > 1 else [])
            book.take(body(change))
            for mine, levels in zip(whole, (change.bids, change.asks), strict=True):
                mine.update(levels)
            if chance.random() < 0.4:
                given = book.give() or Book([], [])
                for mine, levels in zip(held, (given.bids, given.asks), strict=True):
                    mine.update(levels)
                for number, (mine, all_) in enumerate(zip(held, whole, strict=True)):
                    there = sorted((p for p, size in all_.items() if size != "0"), key=int, reverse=not number)
                    assert {p: s for p, s in mine.items() if s != "0"} == {p: all_[p] for p in there[:depth]}
