"""The error tree's words."""

from __future__ import annotations

from feed.errors import shown


def test_what_was_found_is_quoted_and_cut() -> None:
    assert shown("a'b\n") == '"a\'b\\n"'
    assert shown(b"\xff") == "b'\\xff'"
    assert shown("x" * 51) == repr("x" * 50)
    assert shown("x" * 51, 3) == "'xxx'"
