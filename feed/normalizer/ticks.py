"""A Kafka record as a tick."""

from __future__ import annotations

from typing import Final

from feed.kafka.batches import Raw
from feed.venues.tick import NEVER_WRITTEN, NO_TIME, Tick
from feed.wire.times import NS_MAX

_TIME_CHARS_MAX: Final = 19
_MS_MAX: Final = NS_MAX // 1_000_000
_LOG_APPEND_TIME: Final = 1
_STAMPED_AHEAD_NS: Final = 10 * 366 * 86_400 * 1_000_000_000
"""A producer's stamp may be the time of the event, and that long before it was received."""


def tick_of(raw: Raw, key_header: str = "") -> Tick:
    """The tick that a Kafka record holds. What cannot be read in its key or headers makes it a bad tick later.

    `key_header`: the header that holds the key, of a venue whose records say the symbol there.
    """
    stamp = raw.timestamp
    if 0 <= stamp <= _MS_MAX:
        ts_recv = stamp * 1_000_000
        ts_kafka = ts_recv if raw.timestamp_type == _LOG_APPEND_TIME else ts_recv + _STAMPED_AHEAD_NS
    else:  # written without a time, or with none that there is: a collector's is compared with its source's clock
        ts_recv, ts_kafka = NO_TIME, NEVER_WRITTEN
    request = symbols = None
    named = b"" if key_header else raw.key
    for name, value in raw.headers:
        if name == "ts_recv":
            ts_recv = int(value) if value and value.isdigit() and len(value) <= _TIME_CHARS_MAX else -1
        elif name == "request":
            request = (value or b"").decode(errors="replace")
        elif name == "symbols":
            symbols = value or b""
        elif key_header and name == key_header:
            named = value
    try:
        key = named.decode() if named else ""
    except UnicodeDecodeError:
        key = "\0"  # not printable: refused as a symbol
    return Tick(raw.offset, key, raw.value or b"", ts_recv, ts_kafka, request, symbols)
