"""Rows with more elements than are known."""

from __future__ import annotations

import msgspec
import pytest
from msgspec import Struct, field

from feed.venues.rows import longer


class Sides(Struct):
    asks: list[tuple[str, str]] = field(name="a")
    bids: list[tuple[str, str]]
    time: int = 0


READ = longer(Sides, 2, "asks", "bids")


def test_what_stands_at_the_end_of_a_row_is_left_alone() -> None:
    found = READ(b'{"a":[["1","2",[]],["3","4"]],"bids":[["5","6",7,8]],"time":9}')
    assert (found.asks, found.bids, found.time) == ([("1", "2"), ("3", "4")], [("5", "6")], 9)


@pytest.mark.parametrize(
    "frame", [b'{"a":[["1"]],"bids":[]}', b'{"a":[["1",2]],"bids":[]}', b'{"a":[]}', b'{"a":[1],"bids":[]}', b"{"]
)
def test_anything_else_is_refused_as_a_decoder_does(frame: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        READ(frame)
