"""A book and what changed it, against a plain dict and a sort by exact price."""

from __future__ import annotations

import random
from decimal import Decimal

import msgspec
import pytest

from feed.channels.books import book_of, folded
from feed.channels.steps import whole
from feed.wire.model import Book, Level

Levels = list[tuple[str, str]]


def raw(bids: Levels, asks: Levels) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(Book(bids, asks)))


def wanted(levels: Levels, changes: list[Levels], sign: int) -> list[Level]:
    sizes = dict(levels)
    for change in changes:
        sizes.update(change)
    left = [(price, size) for price, size in sizes.items() if size != "0"]
    return sorted(left, key=lambda level: sign * Decimal(level[0]))


def price(chooser: random.Random, digits: int) -> str:
    text = f"{chooser.randrange(1, 200)}.{chooser.randrange(10):0{digits}}"
    return text.rstrip("0").rstrip(".")


@pytest.mark.parametrize("digits", [1, 17])
@pytest.mark.parametrize("count", [1, 5, 300])
@pytest.mark.parametrize("held", [0, 400])
def test_levels_are_by_exact_price_best_first_and_none_of_size_0(held: int, count: int, digits: int) -> None:
    chooser = random.Random(held + count + digits)
    prices = list({price(chooser, digits) for _ in range(held)})
    bids = wanted([(one, "1") for one in prices], [], -1)
    asks = wanted([(one, "1") for one in prices], [], 1)
    changes = [[(price(chooser, digits), str(chooser.randrange(3))) for _ in range(count)] for _ in range(3)]
    # a snapshot in two parts
    parts = [raw(bids[:100], asks[:100]), raw(bids[100:], asks[100:])]
    book = whole(folded(parts, [raw(change, change) for change in changes]))
    assert book.bids == wanted(bids, changes, -1)
    assert book.asks == wanted(asks, changes, 1)


def test_prices_that_are_equal_as_floats_are_two_levels() -> None:
    bids = [("100000000000000000.2", "1"), ("99", "1"), *[(str(number), "1") for number in range(50, 10, -1)]]
    book = whole(folded([raw(bids, [])], [raw([("100000000000000000.1", "2"), ("100000000000000000.3", "3")], [])]))
    assert [level[1] for level in book.bids[:4]] == ["3", "1", "2", "1"]


def test_what_only_goes_leaves_the_others_where_they_are() -> None:
    book = whole(folded([raw([("2", "1"), ("1", "1")], [("3", "1")])], [raw([("2", "0"), ("7", "0")], [])]))
    assert book == Book([("1", "1")], [("3", "1")])


def test_a_small_book_is_one_step_and_a_large_one_or_many_updates_are_several() -> None:
    small = raw([("1", "1")], [])
    assert list(folded([small], [small] * 99)) == []
    assert len(list(folded([small], [small] * 250))) == 2
    large = raw([(str(number), "1") for number in range(6_000, 0, -1)], [])
    assert len(list(folded([large, small], [small]))) > 2


def test_the_levels_of_a_message() -> None:
    assert book_of(b'{"bids":[["1","2"]],"asks":[]}') == Book([("1", "2")], [])
