"""How a frame of Coinbase says what it is, and which products it speaks of."""

from __future__ import annotations

import msgspec
import pytest

from feed.errors import BadTick
from feed.venues.coinbase_frames import HEAD, listed, products_of


def test_a_channel_makes_a_frame_advanced_trades() -> None:
    assert HEAD(b'{"type":"match"}').kind == "match"
    assert HEAD(b'{"channel":"ticker","type":"x"}').kind == "channel ticker"


def test_products_stand_at_the_frame_in_lists_and_in_events() -> None:
    head = HEAD(
        b'{"channel":"x","product_id":"A","products":[{"id":"B"},{}],"events":[{"product_id":"C","trades":'
        b'[{"product_id":"D"},{"product_id":"A"}],"candles":[{"product_id":"E"}],"products":[{"id":"F"}]}]}'
    )
    assert products_of(head) == ["A", "B", "C", "D", "E", "F"]
    assert products_of(HEAD(b'{"type":"subscriptions"}')) == []
    with pytest.raises(BadTick, match="without `type` or `channel`"):
        products_of(HEAD(b"{}"))


def test_a_list_that_is_left_out_is_not_an_empty_one() -> None:
    assert listed([], "events") == []
    with pytest.raises(BadTick, match="`events` is left out"):
        listed(msgspec.UNSET, "events")
