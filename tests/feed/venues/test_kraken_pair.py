"""What is known of a Kraken pair, whichever socket told it."""

from __future__ import annotations

import msgspec
import pytest

from feed.errors import BadTick
from feed.venues.kraken_book import BookChange, ask
from feed.venues.kraken_pair import Pair, action
from feed.wire.model import Quote, Trade
from tests.feed.venues.alone import Alone


def test_a_side_that_is_left_out_stays_and_null_and_zero_say_that_it_is_empty() -> None:
    alone = Alone()
    pair = Pair(alone.symbol)
    assert pair.quote("", "", "", "") is None
    assert pair.quote("1.0", "2", "", "") == Quote("1", "2", None, None)
    alone.symbol.quote(Quote("1", "2", "3", "4"), None)
    assert pair.quote("null", "", "", "") == Quote(None, None, "3", "4")
    assert pair.quote("", "", "5", "0") == Quote("1", "2", None, None)
    assert pair.quote("0.0", "1", "5", "null") == Quote(None, None, "5", None)
    assert pair.quote("7", "", "", "", before=Quote(None, None, "8", "9")) == Quote("7", None, "8", "9")
    with pytest.raises(BadTick):
        pair.quote("x", "1", "", "")


@pytest.mark.parametrize(
    ("status", "wanted"),
    [
        ("online", ("trading", None)),
        ("post_only", ("pre-open", "post_only")),
        ("delisted", ("close", "delisted")),
        ("new word", ("unknown", "new word")),
    ],
)
def test_what_a_status_means(status: str, wanted: tuple[str, str | None]) -> None:
    assert action(status) == wanted


def test_a_spoiled_stream_loses_its_book() -> None:
    alone = Alone()
    pair = Pair(alone.symbol)
    pair.books.apply("book-10", BookChange(True, [], [ask(("1", "1"))], None, None), 10, 0)
    alone.messages()
    assert str(pair.spoiled_book(ValueError("odd"), "book-25")) == "entry of X: odd"
    assert alone.said() == []
    pair.spoiled_book(ValueError("odd"), "book-10")
    assert alone.said() == [("State", "stale", "gap")]


def test_all_of_it_is_saved_under_the_names_of_checkpoints() -> None:
    alone = Alone()
    pair = Pair(alone.symbol)
    assert pair.save() == b"{}"
    pair.books.subscribed_depth(25)
    pair.books.apply("book-10", BookChange(True, [], [ask(("1.0", "1"))], None, None), 10, 0)
    pair.trades.apply_with_ids([Trade("1", "1", "buy", "5", None)])
    pair.trades.subscribed(7)
    saved = msgspec.json.decode(pair.save())
    assert saved == {
        "depths": [25], "main": "book-10", "trade": 5, "since": 7,
        "books": [{"stream": "book-10", "depth": 10, "told": True, "asks": [["1.0", "1"]]}],
    }  # fmt: skip
    again = Pair(Alone().symbol)
    again.load(pair.save())
    assert again.save() == pair.save()
