"""Frames that a server sends, and client frames as objects."""

from __future__ import annotations

import pytest

from feed.errors import BadRequest
from feed.wire.frames import objects, text_frame
from tests.reference_client import payloads


@pytest.mark.parametrize("length", [0, 1, 125, 126, 127, 65_535, 65_536, 100_000])
def test_lengths_are_in_the_shortest_form(length: int) -> None:
    framed = text_frame(b"x" * length)
    assert framed[0] == 0x81
    assert framed[1] < 0x80, "a server does not mask"
    head = 2 if length < 126 else 4 if length < 65_536 else 10
    assert len(framed) == head + length
    assert list(payloads(framed + framed)) == [b"x" * length] * 2


@pytest.mark.parametrize("text", [b'{"a":1}', b' [{"a":1}] '])
def test_one_object_or_an_array_of_them(text: bytes) -> None:
    assert [found.strip() for found in objects(text)] == [b'{"a":1}']


@pytest.mark.parametrize(
    "text",
    [b"", b"[]", b"x", b"{", b'{"a":NaN}', b'{"a":"\xff"}', b'{"a":"\\ud800"}', b"[" * 100_000, b'{"a":1}{"b":2}'],
)
def test_what_is_no_json_is_refused(text: bytes) -> None:
    with pytest.raises(BadRequest) as refused:
        objects(text)
    assert refused.value.code == "bad_message"
