"""Paths: what they find, and that absent is not null."""

from __future__ import annotations

import pytest

from feed.errors import ConfigError
from feed.venues.mapped.paths import ABSENT, path

RECORD = {"a": {"b": [{"c": 1}, None]}, "a.b": 2, "n": None, "t": "text", "@x": 0, "with-dash": 3}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a.b[0].c", 1),
        ("$.a.b[0].c", 1),
        ('["a.b"]', 2),
        ('$["a.b"]', 2),
        ("a.b[1]", None),
        ("a.b[1].c", None),
        ("n.more", None),
        ("@x", 0),
        ("with-dash", 3),
        ("$", RECORD),
        ("a.b[2]", ABSENT),
        ("a.x", ABSENT),
        ("a[0]", ABSENT),
        ("t[0]", ABSENT),
        ("t.x", ABSENT),
    ],
)
def test_what_stands_there(text: str, wanted: object) -> None:
    assert path(text).look(RECORD, RECORD) == wanted


def test_a_path_begins_in_the_entry_or_in_the_record() -> None:
    assert path("c").look(RECORD, {"c": 5}) == 5
    assert path("[1]").look(RECORD, [7, 8]) == 8
    assert path("$.t").look(RECORD, {"t": 5}) == "text"
    assert repr(ABSENT) == "nothing"


@pytest.mark.parametrize("text", ["", ".a", "a.", "a..b", "a[", "a[-1]", "a[x]", "a b", "$a", "a[0]b", '[""]', "a.0"])
def test_what_is_no_path_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="wanted names and places"):
        path(text)
