"""What a normalizer needs to know, and the version of the bytes that it writes."""

from __future__ import annotations

import hashlib

import msgspec
from msgspec import Struct

from feed.errors import ConfigError
from feed.kafka.append import Compression
from feed.venues.symbol import Rules
from feed.venues.venue import CODE_VERSION


class NormalizerSettings(Struct, frozen=True, kw_only=True):
    """What a normalizer needs to know. Only `rules` changes bytes."""

    ticks_topic: str
    feed_topic: str
    dead_topic: str
    rules: Rules = Rules()
    ticks_a_step_max: int = 2000
    keyframe_ratio: float = 1.0
    round_ms: int = 3_600_000
    round_least_ms: int = 1000
    alive_ms: int = 1000
    compression: Compression = "none"


def version_of(rules: Rules) -> str:
    """The version of the state machine: its code, and a hash of all settings that change bytes."""
    return f"{CODE_VERSION}.{hashlib.sha256(msgspec.json.encode(rules)).hexdigest()[:8]}"


def refuse_older(found: str, own: str) -> None:
    """Refuses to write where a newer version has written.

    Raises:
        ConfigError: it has.
    """
    code, own_code = int(found.partition(".")[0]), int(own.partition(".")[0])
    if code > own_code:
        raise ConfigError(f"the feed log was written by version {code}, this is version {own_code}: run the newer one")
