"""How an object of Kraken says which socket it comes from."""

from __future__ import annotations

import pytest

from feed.errors import BadTick
from feed.venues.kraken_frames import head_of


def test_events_are_v1s() -> None:
    head = head_of(b'{"event":"subscriptionStatus","channelName":"book-10","subscription":{"name":"book","depth":10}}')
    assert head.is_event
    assert (head.channel_name, head.subscription and head.subscription.name) == ("book-10", "book")


def test_answers_and_data_are_v2s() -> None:
    head = head_of(b'{"method":"subscribe","result":{"channel":"book","symbol":"X","depth":25},"success":true}')
    assert not head.is_event
    assert (head.method, head.result and head.result.depth) == ("subscribe", 25)
    assert bytes(head_of(b'{"channel":"book","data":[ 1.50 ]}').data) == b"[ 1.50 ]"


def test_what_is_left_out_is_absent_which_is_not_null() -> None:
    assert bytes(head_of(b"{}").data) == b""
    assert bytes(head_of(b'{"data":null}').data) == b"null"


@pytest.mark.parametrize("frame", [b"", b"[]", b'{"channel":1}', b'{"result":[]}', b"\xff", b"{" * 100_000])
def test_what_cannot_be_read_is_refused(frame: bytes) -> None:
    with pytest.raises(BadTick):
        head_of(frame)
