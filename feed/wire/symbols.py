"""Symbols and patterns: `VENUE:NAME`, and the two ways to ask for many.

Owns the one grammar, wherever one is written: requests, HTTP, commands, settings, recordings, keys of ticks. `*` is
every symbol, `VENUE:*` every symbol of a venue, and there are no other patterns. A name may have a `*` of its own
(exchanges mark called shares with it) and is a name all the same; one that reads as a pattern could not be asked for.
"""

from __future__ import annotations

import re
from typing import Final

NAME_CHARS_MAX: Final = 320
"""Of a symbol, its venue included."""
_VENUE: Final = r"[A-Z0-9._-]+:"
_PATTERN: Final = re.compile(rf"(?:{_VENUE})?\*").fullmatch
_NAMED: Final = re.compile(rf"{_VENUE}.").match


def is_pattern(text: str) -> bool:
    """Whether it asks for many symbols: `*` or `VENUE:*`. No symbol, and no key of a tick, is one."""
    return _PATTERN(text) is not None


def prefix_of(pattern: str) -> str:
    """What the names start with that a pattern matches."""
    return pattern[:-1]


def venue_of(name: str) -> str:
    """What the pattern of a symbol's venue starts with, its colon included; empty where it has none."""
    return name[: name.find(":") + 1]


def is_name(text: str) -> bool:
    """Whether it could be the name of a symbol: a venue and a name, not too long."""
    return len(text) <= NAME_CHARS_MAX and _NAMED(text) is not None and not is_pattern(text)


def is_awaitable(text: str) -> bool:
    """Whether it can be waited for: a name without a star, which nearly always is a pattern that there is not."""
    return is_name(text) and "*" not in text
