"""How a channel is seen: how often, and of a book how deep.

Owns the two numbers and what they mean for a kind. Leaves what a view makes of them to `views`.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class ViewSpec(NamedTuple):
    """How a channel is seen; 0: every update, all levels."""

    every_ms: int = 0
    depth: int = 0

    def of(self, kind: str) -> ViewSpec:
        """The same for a kind: only books have a depth."""
        return self if kind == "book" or not self.depth else ViewSpec(self.every_ms)


RAW: Final = ViewSpec()
