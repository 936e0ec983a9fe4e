"""The record of the feed log: what it covers, in headers, and the messages that it holds, as bytes.

Owns the header names and their encoding. Leaves the rules of reading (what is new, what is a copy, which source is
valid) to `feed.wire.log_reader`, and Kafka to `feed.kafka`.

A record's value is a JSON array of messages, each of them at most `PART_BYTES_MAX` or so long: a text frame of the
protocol. Its headers, all ASCII:

| header | meaning |
|---|---|
| `source` | the source that wrote it, `coinbase/0@k7qd` |
| `kind` | `data`, `keyframe` (a symbol), `checkpoint` (a normalizer's own), `source` (opens an incarnation) |
| `after`, `first`, `last` | last tick covered before it, first and last covered; all equal where it covers none |
| `first_crc`, `crc` | CRC-32C of the values of the ticks `first` and `last`, -1 where unknown |
| `epoch` | leader epoch in which tick `last` was written, -1 where unknown |
| `partitions` | partitions of the tick topic |
| `version` | version of the state machine, `code.settings-hash` |
| `floor` | smallest offset of the feed log that a reader who starts now needs |
| `since` | a normalizer that starts now must run the ticks after this one again |
| `end` | end of the tick partition (its last stable offset), as last seen |
| `checksum` | CRC-32C of the record's own value |
| `position`, `waits_ms` | of data records: all ticks below it are taken; how long the oldest above it has waited |
| `symbol`, `at` | of keyframes and checkpoints: whose they are, and the tick after which they hold |
| `ends`, `carries` | of source records: the source that it replaces (empty: none), `1` when its state goes on |
| `missing` | of source records: `1` when it is not known that nothing is missing between both |
| `owner`, `settings` | whose normalizer it is, and its settings that change bytes: of source and some data records |
| `appointed` | `1` where an operator has had this incarnation opened: a newer version does not replace it |

Who may write into a feed log is trusted; all others are not. A record that is none of ours is *foreign*; one that has
the name of a source and cannot be what that source wrote is *damaged*.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final, Literal, Protocol, get_args

import google_crc32c
from msgspec import Struct

from feed.errors import CorruptLog, DamagedRecord, ForeignRecord
from feed.wire.model import NO_SEQ

RecordKind = Literal["data", "keyframe", "checkpoint", "source"]
PART_BYTES_MAX: Final = 256 * 1024
EMPTY: Final = b"[]"
UNCHECKED: Final = "1."
"""How the versions begin that wrote no `checksum`."""
_KINDS: Final = {kind.encode(): kind for kind in get_args(RecordKind)}
_SOURCE: Final = re.compile(rb"[!-~]{1,249}/[0-9]{1,9}@[!-~]{1,64}").fullmatch
_SHOWN_CHARS_MAX: Final = 80
_checksum_of: Final = google_crc32c.value
_EMPTY_CHECKSUM: Final = _checksum_of(EMPTY)


class Lying(Protocol):
    """A record as it lies in Kafka."""

    @property
    def offset(self) -> int: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Any: ...


class Record(Struct, frozen=True, kw_only=True, gc=False):
    """One record of the feed log. `offset` is -1 until it lies there."""

    source: str
    kind: RecordKind = "data"
    after: int
    first: int
    last: int
    first_crc: int = -1
    crc: int = -1
    epoch: int = -1
    partitions: int
    version: str
    floor: int
    since: int
    end: int
    position: int = -1
    waits_ms: int = 0
    symbol: str = ""
    at: int = NO_SEQ
    ends: str = ""
    carries: bool = False
    missing: bool = False
    owner: str = ""
    settings: str = ""
    appointed: bool = False
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
        ("first_crc", b"%d" % record.first_crc),
        ("crc", b"%d" % record.crc),
        ("epoch", b"%d" % record.epoch),
        ("partitions", b"%d" % record.partitions),
        ("version", record.version.encode()),
        ("floor", b"%d" % record.floor),
        ("since", b"%d" % record.since),
        ("end", b"%d" % record.end),
        ("checksum", b"%d" % _checksum_of(record.value)),
    ]
    if record.kind == "data":
        headers += [("position", b"%d" % record.position), ("waits_ms", b"%d" % record.waits_ms)]
    elif record.kind == "source":
        headers += [
            ("ends", record.ends.encode()),
            ("carries", b"1" if record.carries else b"0"),
            ("missing", b"1" if record.missing else b"0"),
        ]
    else:
        headers += [("symbol", record.symbol.encode()), ("at", b"%d" % record.at)]
    if record.owner or record.kind == "source":
        headers += [("owner", record.owner.encode("ascii", "replace")), ("settings", record.settings.encode())]
    if record.appointed:
        headers.append(("appointed", b"1"))
    return headers


def record_of(headers: Any, value: bytes | None, offset: int) -> Record:
    """The record that lies at `offset` with these headers, names with bytes.

    Raises:
        ForeignRecord: it is none of ours.
        DamagedRecord: it names a source, and cannot be what that wrote.
    """
    text = value or EMPTY
    try:
        found = dict(headers)
        checksum = found.get("checksum")
        version = found["version"].decode()
        if checksum is None:
            sound = version.startswith(UNCHECKED)
        else:
            sound = int(checksum) == (_EMPTY_CHECKSUM if text == EMPTY else _checksum_of(text))
        if not sound:
            raise ValueError("value that does not have its checksum")
        after, last = int(found["after"]), int(found["last"])
        return Record(
            source=found["source"].decode(),
            kind=_KINDS[found["kind"]],
            after=after,
            first=int(found["first"]),
            last=last,
            first_crc=int(found.get("first_crc", b"-1")),
            crc=int(found["crc"]),
            epoch=int(found.get("epoch", b"-1")),
            partitions=int(found["partitions"]),
            version=version,
            floor=int(found["floor"]),
            since=int(found["since"]),
            end=int(found["end"]),
            position=int(found["position"]) if "position" in found else last + 1,
            waits_ms=int(found.get("waits_ms", b"0")),
            symbol=found["symbol"].decode() if "symbol" in found else "",
            at=int(found.get("at", b"-1")),
            ends=found["ends"].decode() if "ends" in found else "",
            carries=found.get("carries") == b"1",
            missing=found.get("missing") == b"1",
            owner=found["owner"].decode() if "owner" in found else "",
            settings=found["settings"].decode() if "settings" in found else "",
            appointed="appointed" in found,
            value=text,
            offset=offset,
        )
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise _strange(headers, text, offset, error) from error


def floor_of(record: Record) -> int:
    """From where a reader starts who begins at this record.

    Raises:
        CorruptLog: that lies beyond the record: it was written at another offset.
    """
    if record.floor > record.offset:
        raise CorruptLog(
            f"floor {record.floor} of the record at offset {record.offset} lies beyond it: these records were written "
            f"at other offsets, as those of a mirror are"
        )
    return record.floor


def records_of(raws: Iterable[Lying]) -> Iterator[Record | DamagedRecord]:
    """The records of a feed log among all that lie there, in order, the damaged ones too; none of a stranger's."""
    for raw in raws:
        try:
            yield record_of(raw.headers, raw.value, raw.offset)
        except ForeignRecord:
            continue
        except DamagedRecord as damaged:
            yield damaged


def known_records(raws: Iterable[Lying]) -> Iterator[Record]:
    """Those that can be read, in order: for whoever looks for a place, and not for what was said."""
    for record in records_of(raws):
        if isinstance(record, Record):
            yield record


def _strange(headers: Any, value: bytes, offset: int, error: Exception) -> ForeignRecord | DamagedRecord:
    """What a record is that cannot be read."""
    why = f"no header {error}" if isinstance(error, KeyError) else str(error)[:_SHOWN_CHARS_MAX]
    try:
        found = dict(headers)
    except (ValueError, TypeError):
        return ForeignRecord(offset, why)
    source = found.get("source")
    if isinstance(source, bytes) and _SOURCE(source) is not None:
        return DamagedRecord(source.decode(), offset, why, told=_may_tell(found, value))
    return ForeignRecord(offset, why)


def _may_tell(headers: dict[str, Any], value: bytes) -> bool:
    """Whether a damaged record may have held messages: one of states holds none, nor does one that covers no tick and
    is as short as an empty one."""
    if headers.get("kind") in (b"keyframe", b"checkpoint"):
        return False
    covers_none = headers.get("after") is not None and headers.get("after") == headers.get("last")
    return headers.get("kind") != b"data" or not covers_none or len(value) > len(EMPTY)
