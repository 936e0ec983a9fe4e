"""What can be read of a spoiled frame: the plain members with which it begins."""

from __future__ import annotations

import pytest

from feed.venues.legible import leading


@pytest.mark.parametrize(
    ("frame", "wanted"),
    [
        (b'{"e":"trade","u":12,"p":', {"e": "trade", "u": "12"}),
        (b' { "channel" : "book" , "data":[{', {"channel": "book"}),
        (b'{"a":null,"b":true,"c":1.5,"d":{', {"b": "True", "c": "1.5"}),
        (b'{"a":"1","b":"2"', {"a": "1"}),  # what is cut may have been longer
        (b'{"a":[1],"e":"trade",', {}),
        (b'{"a":"\\u0041","e":"trade",', {}),
        (b'{"a":-,"b":1,', {}),  # looks like a number and is none
        (b'{"a":"\xff",', {}),
        (b"[1,2", {}),
        (b"", {}),
    ],
)
def test_plain_members_are_read(frame: bytes, wanted: dict[str, str]) -> None:
    assert leading(frame) == wanted
