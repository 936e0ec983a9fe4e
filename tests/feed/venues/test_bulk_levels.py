"""Sides as text: what is told is what reading number by number gives, and nothing is told of anything else."""

from __future__ import annotations

import random

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from feed.errors import BadTick
from feed.venues.bulk_levels import CanonicalBook, canonical_sides
from feed.wire.decimals import canonical_levels
from feed.wire.model import Book

Levels = list[tuple[str, str]]
encode = msgspec.json.encode
WHOLE = st.from_regex(r"0|[1-9][0-9]{0,19}", fullmatch=True, alphabet="0123456789")
POINTED = st.from_regex(r"(0|[1-9][0-9]{0,19})\.[0-9]{1,18}", fullmatch=True, alphabet="0123456789.")
ODD = st.one_of(WHOLE, POINTED, st.text('0123456789.,"\\-+eENaf _\u0661', max_size=8), st.text(max_size=3))
BOOKS = st.tuples(*[st.lists(st.tuples(ODD, ODD), max_size=4)] * 2)


def text_of(bids: Levels, asks: Levels) -> bytes:
    return b'%b,"a":%b' % (encode(bids), encode(asks))


def wanted(bids: Levels, asks: Levels) -> CanonicalBook | None:
    """What number by number gives; None where that refuses it."""
    try:
        book = Book(canonical_levels(bids), canonical_levels(asks))
    except BadTick:
        return None
    return CanonicalBook(encode(book), len(bids) + len(asks))


def alike(price: st.SearchStrategy[str], size: st.SearchStrategy[str]) -> st.SearchStrategy[tuple[Levels, Levels]]:
    side = st.lists(st.tuples(price, size), max_size=5)
    return st.tuples(side, side).filter(lambda sides: bool(sides[0] or sides[1]))


@pytest.mark.parametrize("size", [WHOLE, POINTED], ids=["whole", "pointed"])
@pytest.mark.parametrize("price", [WHOLE, POINTED], ids=["whole", "pointed"])
def test_usual_sides_are_told_as_number_by_number(price: st.SearchStrategy[str], size: st.SearchStrategy[str]) -> None:
    @settings(max_examples=25)
    @given(st.lists(alike(price, size), min_size=1, max_size=4))
    def check(books: list[tuple[Levels, Levels]]) -> None:
        books = [book for book in books if wanted(*book) is not None and not _runs_long(book)]
        assert canonical_sides([text_of(*book) for book in books]) == [wanted(*book) for book in books]

    check()


@given(st.lists(BOOKS, max_size=5))
@example([([("1.5", "2")], []), ([("1.5", "2.5")], []), ([("1", "2")], []), ([("0", "2.0")], [])])
def test_whatever_stands_there_is_told_right_or_not_at_all(books: list[tuple[Levels, Levels]]) -> None:
    try:
        texts = [text_of(*book) for book in books]
    except UnicodeEncodeError:  # no JSON holds a lone surrogate
        return
    for told, book in zip(canonical_sides(texts), books, strict=True):
        assert told is None or told == wanted(*book)


@pytest.mark.parametrize(
    "bad",
    [
        "", ".", "1.", ".1", "01.0", "00.5", "000.5", "9" * 19 + ".5", "0." + "1" * 19,
        "1..2", "1.2.3", "1.5e5", "-1.5", " 1.5", "1.5 ", "1", "1,2", "1.\u0665",
    ],
)  # fmt: skip
def test_number_that_is_not_plain_is_told_of_nothing_like_it(bad: str) -> None:
    for odd in ((bad, "2.0"), ("1.50", bad)):
        texts = [text_of([("1.50", "2.0"), odd], []), text_of([("1.50", "20")], [])]
        assert canonical_sides(texts) == [None, CanonicalBook(b'{"bids":[["1.5","20"]],"asks":[]}', 1)]


@pytest.mark.parametrize("zero", ["0", "0.0", "0.000"])
def test_zero_is_a_size_and_no_price(zero: str) -> None:
    size = zero if "." in zero else "7"
    assert canonical_sides([text_of([("2.5", zero)], [])]) == [CanonicalBook(b'{"bids":[["2.5","0"]],"asks":[]}', 1)]
    assert canonical_sides([text_of([("2.5" if "." in zero else "2", size), (zero, size)], [])]) == [None]


def test_text_made_otherwise_is_told_of_nothing() -> None:
    good = text_of([("1.5", "2")], [("3.5", "4")])
    told = CanonicalBook(b'{"bids":[["1.5","2"]],"asks":[["3.5","4"]]}', 2)
    for other in (
        b"", b"[]", b'[],"a":[]', good[:-1], good + b"]", good + b',"a":[]', good + good, b" " + good,
        good.replace(b",", b", "), good.replace(b'"a"', b'"c"'), good.replace(b'"2"', b'2'), b'[["1.5","2"]]',
        b'["1.5","2"],"a":[["1.5","2"]]', b'[["1.5","2"],],"a":[]', b'[["1.5","2","3"]],"a":[]', b'[["1.5"]],"a":[]',
        b'["1.5","2"]]],"a":[[["3.5","4"]',
    ):  # fmt: skip
        assert canonical_sides([other]) == [None], other
        assert canonical_sides([good, other, good]) in ([told, None, told], [None, None, None]), other
    assert canonical_sides([]) == []


def test_a_divider_too_many_and_one_too_few_are_not_taken_for_each_other() -> None:
    few, many = b'[["1.5","2"]]', b'[["1.5","2"]],"a":[["1.5","2"]],"a":[["1.5","2"]]'
    assert canonical_sides([few, many]) == [None, None]
    assert canonical_sides([many, few]) == [None, None]
    assert canonical_sides([b'[["1.5","2"]],"a":[["1.5",\n"2"]]', few]) == [None, None]


def test_changed_bytes_are_told_as_they_read_or_not_at_all() -> None:
    choose = random.Random(7)
    levels = [("61800.30", "0.500"), ("61800.10", "0.000"), ("7.00", "100.000")]
    texts = []
    for _ in range(1000):
        text = bytearray(text_of(levels[: choose.randrange(4)], levels[: choose.randrange(1, 4)]))
        for _ in range(choose.choice((1, 1, 2, 3))):
            text[choose.randrange(len(text))] = choose.choice(b'0123456789.,"[]a:-e\\ \n')
        texts.append(bytes(text))
    told = sum(_told_right(text, told) for text in texts for told in canonical_sides([text]))
    assert 50 < told < len(texts) - 50


def test_long_sides_are_told_too() -> None:
    levels = [(f"{price}.50", "1.0") for price in range(1, 3000)]
    assert canonical_sides([text_of(levels, levels)]) == [wanted(levels, levels)]


def _runs_long(book: tuple[Levels, Levels]) -> bool:
    """Whether a number has so many digits in a row that it is not a usual one."""
    return any(len(part) > 18 for side in book for level in side for text in level for part in text.split("."))


def _told_right(text: bytes, told: CanonicalBook | None) -> bool:
    if told is None:
        return False
    sides = msgspec.json.decode(b'{"b":%b}' % text, type=dict[str, Levels])
    assert told == wanted(sides["b"], sides["a"])
    return True
