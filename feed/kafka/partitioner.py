"""Which partition a key belongs to, as Kafka's own clients choose it.

Owns that one rule, for those who write ticks and for those who must know where a symbol's ticks lie.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from aiokafka.partitioner import murmur2

_POSITIVE: Final = 0x7FFFFFFF
_REMEMBERED_MAX: Final = 65_536


@lru_cache(_REMEMBERED_MAX)
def partition_of(key: bytes, partitions: int) -> int:
    """The partition that Kafka's own clients choose for a key."""
    return int(murmur2(key) & _POSITIVE) % partitions
