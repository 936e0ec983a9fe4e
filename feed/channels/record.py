"""The record of the feed log: what it covers, in headers, and the messages that it holds, as bytes.

Owns the header names and their encoding. Leaves the rules of reading (what is new, what is a copy, which source is
valid) to `feed.channels.reader`, and Kafka to `feed.kafka`.

A record's value is a JSON array of messages, each of them at most `PART_BYTES_MAX` or so long: a text frame of the
protocol. Its headers, all ASCII:

| header | meaning |
|---|---|
| `source` | the source that wrote it, `coinbase/0@k7qd` |
| `kind` | `data`, `keyframe` (a symbol), `checkpoint` (a normalizer's own), `source` (opens an incarnation) |
| `after`, `first`, `last` | last tick covered before it, first and last covered by it; all equal where it covers none |
| `crc` | CRC-32C of the value of tick `last`, -1 where unknown |
| `partitions` | partitions of the tick topic |
| `version` | version of the state machine, `code.settings-hash` |
| `floor` | smallest offset of the feed log that a reader who starts now needs |
| `since` | a normalizer that starts now must run the ticks after this one again |
| `end` | end of the tick partition, as last seen |
| `symbol`, `at` | of keyframes and checkpoints: whose they are, and the tick after which they hold |
| `ends`, `carries` | of source records: the source that it replaces (empty: none), `1` when its state goes on |
"""

from __future__ import annotations

from typing import Final, Literal, get_args

from msgspec import Struct

from feed.errors import CorruptLog
from feed.model import NO_SEQ

RecordKind = Literal["data", "keyframe", "checkpoint", "source"]
PART_BYTES_MAX: Final = 256 * 1024
EMPTY: Final = b"[]"
_KINDS: Final = {kind.encode(): kind for kind in get_args(RecordKind)}


class Record(Struct, frozen=True, kw_only=True):
    """One record of the feed log. `offset` is -1 until it lies there."""

    source: str
    kind: RecordKind = "data"
    after: int
    first: int
    last: int
    crc: int = -1
    partitions: int
    version: str
    floor: int
    since: int
    end: int
    symbol: str = ""
    at: int = NO_SEQ
    ends: str = ""
    carries: bool = False
    value: bytes = EMPTY
    offset: int = -1

    @property
    def covers(self) -> bool:
        """Whether the record covers any tick."""
        return self.last > self.after


def headers_of(record: Record) -> list[tuple[str, bytes]]:
    """The Kafka headers of a record; `record_of` reads them back."""
    headers = [
        ("source", record.source.encode()),
        ("kind", record.kind.encode()),
        ("after", b"%d" % record.after),
        ("first", b"%d" % record.first),
        ("last", b"%d" % record.last),
        ("crc", b"%d" % record.crc),
        ("partitions", b"%d" % record.partitions),
        ("version", record.version.encode()),
        ("floor", b"%d" % record.floor),
        ("since", b"%d" % record.since),
        ("end", b"%d" % record.end),
    ]
    if record.kind in ("keyframe", "checkpoint"):
        headers += [("symbol", record.symbol.encode()), ("at", b"%d" % record.at)]
    if record.kind == "source":
        headers += [("ends", record.ends.encode()), ("carries", b"1" if record.carries else b"0")]
    return headers


def record_of(headers: list[tuple[str, bytes]] | tuple[tuple[str, bytes], ...], value: bytes, offset: int) -> Record:
    """The record that lies at `offset` with these headers.

    Raises:
        CorruptLog: a header is missing or is not what it must be.
    """
    found = dict(headers)
    try:
        return Record(
            source=found["source"].decode(),
            kind=_KINDS[found["kind"]],
            after=int(found["after"]),
            first=int(found["first"]),
            last=int(found["last"]),
            crc=int(found["crc"]),
            partitions=int(found["partitions"]),
            version=found["version"].decode(),
            floor=int(found["floor"]),
            since=int(found["since"]),
            end=int(found["end"]),
            symbol=found.get("symbol", b"").decode(),
            at=int(found.get("at", b"-1")),
            ends=found.get("ends", b"").decode(),
            carries=found.get("carries") == b"1",
            value=value,
            offset=offset,
        )
    except (KeyError, ValueError) as error:
        raise CorruptLog(f"record at offset {offset} of the feed log has no usable header {error}") from error
