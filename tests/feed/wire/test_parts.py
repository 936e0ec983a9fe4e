"""Large messages in parts: cut by the size of their text, and nothing is lost."""

from __future__ import annotations

import random

import msgspec
import pytest

from feed.wire.model import Book, Snapshot, Trade, Update
from feed.wire.parts import PART_TEXT_MAX, parted

LEVEL_OVERHEAD = 8


def snapshot(bids: int, asks: int, digits: int, seed: int = 1) -> Snapshot:
    rng = random.Random(seed)
    sides = [[(str(rng.randrange(10**digits)), str(rng.randrange(10**digits))) for _ in range(n)] for n in (bids, asks)]
    return Snapshot("book", "X:Y", "x/0@a", 1, None, "2", Book(*sides))


@pytest.mark.parametrize(("bids", "asks"), [(0, 0), (1, 0), (0, 1), (2667, 0), (1334, 1334), (3000, 3000)])
@pytest.mark.parametrize("digits", [1, 10, 39])
def test_message_is_whole_exactly_as_long_as_its_text_fits(bids: int, asks: int, digits: int) -> None:
    message = snapshot(bids, asks, digits)
    assert isinstance(message.data, Book)
    levels = message.data.bids + message.data.asks
    fits = sum(LEVEL_OVERHEAD + len(price) + len(size) for price, size in levels) <= PART_TEXT_MAX
    parts = parted(message)
    assert (len(parts) == 1) is fits
    assert parts[0].part is msgspec.UNSET if fits else parts[-1].part == (len(parts), len(parts))
    assert all(len(msgspec.json.encode(part)) <= 256 * 1024 for part in parts)
    told: tuple[list[object], list[object]] = [], []
    for part in parts:
        assert isinstance(part.data, Book)
        told[0].extend(part.data.bids)
        told[1].extend(part.data.asks)
    assert told == (message.data.bids, message.data.asks)


@pytest.mark.parametrize("letter", ["a", "\x01", "\u00e9"])
@pytest.mark.parametrize("count", [1, 40, 60, 700, 1500])
def test_long_trades_are_cut_so_that_each_part_fits(letter: str, count: int) -> None:
    trades = [
        Trade("-" + "9" * 20 + "." + "9" * 18, "1", None, letter * 100, None, [letter * 32] * 16, letter * 32)
        for _ in range(count)
    ]
    parts = parted(Update("trades", "X:Y", 1, 2, None, "2", trades))
    assert all(len(msgspec.json.encode(part)) <= 256 * 1024 for part in parts)
    assert [trade for part in parts for trade in part.data] == trades  # type: ignore[union-attr]  # trades


def test_usual_trades_are_cut_by_their_number() -> None:
    trades = [Trade("67187.48", "0.00214", "buy", str(number), None) for number in range(1500)]
    parts = parted(Update("trades", "X:Y", 1, 2, None, "2", trades))
    assert [len(part.data) for part in parts] == [716, 716, 68]  # type: ignore[arg-type]  # trades
