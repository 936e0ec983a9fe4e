"""What a normalizer needs to know, and the version of the bytes that it writes."""

from __future__ import annotations

import hashlib
from typing import Final

import msgspec
from msgspec import Struct

from feed.kafka.append import Compression
from feed.runtime.settings import NormalizeSettings
from feed.venues.symbol import Rules
from feed.venues.venue import CODE_VERSION
from feed.wire.frames import UNREADABLE

_SETTINGS: Final = {
    "trades_kept": "normalize.trades_in_snapshot",
    "trade_id_runs_max": "normalize.trade_id_runs_max",
    "quotes_from": "venues.<name>.quotes_from",
    "symbols_max": "normalize.symbols_max",
    "ts_recv_ahead_max_ns": "normalize.ts_recv_ahead_max_s (in ns)",
    "bars.intervals": "normalize.bar_intervals",
    "bars.grace_ns": "normalize.bar_grace_ms (in ns)",
    "bars.every_ns": "normalize.bar_interval_min_ms (in ns)",
    "bars.closed_kept": "normalize.bars_closed_kept",
    "mapping": "venues.<name>.mapping (the hash of what it says)",
}
"""What people call the rules."""


class NormalizerSettings(Struct, frozen=True, kw_only=True):
    """What the normalizer of one venue needs to know. Only `rules` changes bytes."""

    ticks_topic: str
    feed_topic: str
    dead_topic: str
    rules: Rules = Rules()
    normalize: NormalizeSettings = NormalizeSettings()
    """How often it writes, and how much at a time."""
    owner: str = ""
    """How this normalizer is named to others: host and process."""
    compression: Compression = "none"
    schema_registry: str = ""
    """Where schemas are fetched, for a venue that has some from there."""


def version_of(rules: Rules) -> str:
    """The version of the state machine: its code, and a hash of all settings that change bytes."""
    return f"{CODE_VERSION}.{hashlib.sha256(msgspec.json.encode(rules)).hexdigest()[:8]}"


def code_of(version: str) -> int:
    """The code's part of a version."""
    code = version.partition(".")[0]
    return int(code) if code.isdecimal() else 0


def settings_text(rules: Rules) -> str:
    """The settings that change bytes, for others to compare with theirs."""
    return msgspec.json.encode(rules).decode("ascii", "backslashreplace")


def differences(own: Rules, theirs: str) -> str:
    """In what somebody's settings, as told by `settings_text`, differ from these; empty where that cannot be told."""
    try:
        found = _flat(msgspec.json.decode(theirs))
    except UNREADABLE:
        return ""
    wanted = _flat(msgspec.to_builtins(own))
    names = [name for name in sorted(found.keys() | wanted.keys()) if found.get(name) != wanted.get(name)]
    return ", ".join(
        f"{_SETTINGS.get(name, name)} {found.get(name)!r} there and {wanted.get(name)!r} here" for name in names
    )


def _flat(tree: object, prefix: str = "") -> dict[str, object]:
    if not isinstance(tree, dict):
        return {prefix: tuple(tree) if isinstance(tree, list) else tree}
    found: dict[str, object] = {}
    for name, value in tree.items():
        found |= _flat(value, f"{prefix}.{name}" if prefix else str(name))
    return found
