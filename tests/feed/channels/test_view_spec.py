"""How a channel is seen, by its kind."""

from __future__ import annotations

import pytest

from feed.channels.view_spec import RAW, ViewSpec


@pytest.mark.parametrize(
    ("spec", "kind", "seen"),
    [
        (ViewSpec(100, 5), "book", ViewSpec(100, 5)),
        (ViewSpec(100, 5), "trades", ViewSpec(100)),
        (ViewSpec(0, 5), "quotes", RAW),
        (ViewSpec(100), "quotes", ViewSpec(100)),
        (RAW, "book", RAW),
    ],
)
def test_only_books_have_a_depth(spec: ViewSpec, kind: str, seen: ViewSpec) -> None:
    assert spec.of(kind) == seen
