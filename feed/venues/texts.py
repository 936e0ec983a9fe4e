"""Texts in a venue's own words: how long they may be, so that no message holds a megabyte of one.

Owns the limits of status and definition; our own tick's trades have theirs in `canonical`. Longer is odd.
"""

from __future__ import annotations

from typing import Final

from feed.errors import BadTick
from feed.wire.model import Instrument

REASON_CHARS_MAX: Final = 1000
NAME_CHARS_MAX: Final = 64
ALIASES_MAX: Final = 16


def reason(text: str | None) -> str | None:
    """The text, why a symbol trades or does not.

    Raises:
        BadTick: it is too long.
    """
    if text is not None:
        _bounded("reason", text, REASON_CHARS_MAX)
    return text


def definition(instrument: Instrument) -> Instrument:
    """The definition.

    Raises:
        BadTick: one of its texts is too long, or there are too many of them.
    """
    for name in ("venue", "venue_symbol", "kind", "base", "quote"):
        _bounded(name, getattr(instrument, name) or "", NAME_CHARS_MAX)
    if len(instrument.aliases) > ALIASES_MAX:
        raise BadTick(f"{len(instrument.aliases)} aliases, wanted at most {ALIASES_MAX}")
    for alias in instrument.aliases:
        _bounded("alias", alias, NAME_CHARS_MAX)
    return instrument


def _bounded(name: str, text: str, chars_max: int) -> None:
    if len(text) > chars_max:
        raise BadTick(f"{name} of {len(text)} characters, wanted at most {chars_max}")
