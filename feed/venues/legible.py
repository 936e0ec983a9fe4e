"""What can still be read of a frame that was refused.

Owns how far a text that is cut or spoiled is believed: the plain members with which its object begins, that is names,
words and numbers before the first member that is anything else. What they say of the channel is the venue's business;
where they say nothing, book and trades are in doubt.
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from feed.wire.model import Kind

IN_DOUBT: Final[tuple[Kind, ...]] = ("book", "trades")
"""The channels on which a tick that is missing is missed: of the others the next word replaces the last one."""
_LEADING: Final = re.compile(rb'\s*\{(?:\s*"[^"\\]*"\s*:\s*(?:"[^"\\]*"|[\w.+-]+)\s*,)+').match
_MEMBERS: Final = msgspec.json.Decoder(dict[str, Any]).decode


def leading(frame: bytes) -> dict[str, str]:
    """Texts and numbers before the first comma behind which something else stands, as text; empty where none is."""
    found = _LEADING(frame)
    if found is None:
        return {}
    try:
        members = _MEMBERS(found[0].rstrip()[:-1] + b"}")
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {}
    return {name: str(value) for name, value in members.items() if value is not None}
