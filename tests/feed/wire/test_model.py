"""The forms of messages: field order is the order of keys, and what is left out is not there."""

from __future__ import annotations

import msgspec
import pytest

from feed.wire.model import KINDS, NO_SEQ, Book, Gap, Snapshot, State, Trade, Update

encode = msgspec.json.encode


def test_keys_stand_in_the_order_of_the_protocol() -> None:
    trade = Trade("1.5", "2", "buy", "7", None)
    assert encode(Update("trades", "V:A", NO_SEQ, 0, None, "5", [trade])) == (
        b'{"type":"update","channel":"trades","symbol":"V:A","prev":-1,"seq":0,"ts_event":null,"ts_recv":"5",'
        b'"data":[{"price":"1.5","size":"2","side":"buy","trade_id":"7","ts_event":null}]}'
    )
    assert encode(Gap("book", "V:A", "v/0@a", 1, 2, None, "lag", lost=True)) == (
        b'{"type":"gap","channel":"book","symbol":"V:A","source":"v/0@a","prev":1,"seq":2,"count":null,"reason":"lag",'
        b'"lost":true}'
    )


def test_what_is_not_told_is_left_out() -> None:
    assert encode(State("v/0@a")) == b'{"type":"state","source":"v/0@a"}'
    part = Snapshot("book", "V:A", "v/0@a", 1, None, None, Book([], []), (1, 2))
    assert encode(part).endswith(b'"data":{"bids":[],"asks":[]},"part":[1,2]}')
    told = encode(Trade("1", "1", None, None, None, ["x"], "y"))
    assert told.endswith(b'"ts_event":null,"conditions":["x"],"exchange":"y"}')


def test_messages_cannot_be_changed() -> None:
    for message in (State("v/0@a"), Book([], []), Trade("1", "1", None, None, None)):
        with pytest.raises(AttributeError):
            message.source = "x"  # type: ignore[union-attr, misc]


def test_the_kinds_are_told_in_one_order() -> None:
    assert KINDS == ("trades", "quotes", "book", "bars", "status", "instruments")
