"""What goes into a state machine: a record of a tick topic, and the settings that change what comes out."""

from __future__ import annotations

from typing import Final, Literal

from msgspec import UNSET, Struct, UnsetType

from feed.venues.bars import BarRules
from feed.wire.model import TRADES_KEPT

NO_TIME: Final = -2
"""The receive time of a tick of which nobody says when it came."""
NEVER_WRITTEN: Final = -(2**63)
"""Kafka's time of a record that has none: nothing is received before it, so such a tick is looked at more closely."""


class Tick(Struct, frozen=True, gc=False):
    """One record of a tick topic: `seq` is its offset, `request` is there where it answers a request.

    `symbols` is its header of that name: which of the symbols of a frame without a key are meant, as a JSON list.
    Times are nanoseconds: `ts_recv` is the collector's, `ts_kafka` that of the record, or
    `NEVER_WRITTEN`. A tick with `NO_TIME` counts at its source's clock.
    """

    seq: int
    key: str
    value: bytes
    ts_recv: int
    ts_kafka: int
    request: str | None = None
    symbols: bytes | None = None


class Rules(Struct, frozen=True):
    """Every setting that changes bytes; its hash is part of the state version.

    The defaults of `normalize`, whose bounds and words stand in `feed.runtime.settings`.
    """

    trades_kept: int = TRADES_KEPT
    trade_id_runs_max: int = 256
    quotes_from: Literal["stream", "book"] = "stream"
    symbols_max: int = 20_000
    ts_recv_ahead_max_ns: int = 60_000_000_000
    bars: BarRules = BarRules()
    mapping: str | UnsetType = UNSET
    """The hash of the mapping by which a venue's records are read, where there is one."""
