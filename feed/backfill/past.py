"""The past of some channels: feed logs that are read again from an earlier place, into a hub of their own.

Owns where a log is cut (a time, a tick, or its end), and that a client is sent what it would have been sent had it come
then: the same kind of hub and subscriber, at an earlier moment. So snapshots, chains, gaps and new sources are those of
the live stream, byte for byte. Only the symbols asked for are kept, and only their states: memory does not grow with
the time that lies between. Leaves finding the place and reading records to whoever has Kafka, and the join to the live
hub to `feed.backfill.cutover`.

(Over 400 lines: where a log is cut, how it is read and what its hub tells only together say what a client is sent.)
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Final

from msgspec import Struct
from msgspec.structs import replace

from feed.channels.hub import Hub, HubSettings
from feed.channels.join import Broken, Start
from feed.channels.selection import closes, matched
from feed.channels.source import partition_of
from feed.channels.subscription import Ask, Limits, Subscribing
from feed.errors import CorruptLog
from feed.wire.log_reader import HoleInLog, LogReader
from feed.wire.message import END, JOINT, KIND_BIT, PREV, START, head_of, split
from feed.wire.record import EMPTY, Record
from feed.wire.symbols import is_pattern, prefix_of

if TYPE_CHECKING:
    from feed.backfill.recorded import RecordedPart
    from feed.channels.channel import Channel
    from feed.channels.steps import Steps
    from feed.errors import DamagedRecord
    from feed.wire.model import GapReason, OnLag, Result

RECORDS_A_PAGE: Final = 128
"""Records that are read at a time, about two milliseconds of them; so many bytes end a page sooner."""
_PAGE_BYTES: Final = 64 * 1024
_KEYS_MAX: Final = 100_000
_RECEIVED: Final = re.compile(rb'"ts_recv":"(\d+)"')


class LogCut(Struct, frozen=True):
    """Where a log is cut: after the last tick received up to `time`, or after the tick `mark` of `source`.

    Neither: at its end.
    """

    time: int | None = None
    source: str = ""
    mark: int = -1

    @property
    def at_end(self) -> bool:
        """Whether all that is there is before it."""
        return self.time is None and not self.source


class Symbols:
    """Which symbols are kept: by name, and by the prefixes of patterns."""

    def __init__(self, asked: Iterable[str]) -> None:
        asked = list(asked)
        self.names = frozenset(name for name in asked if not is_pattern(name))
        self.prefixes = tuple(prefix_of(name) for name in asked if is_pattern(name))
        self._keys: dict[bytes, bool] = {}

    def has(self, name: str) -> bool:
        """Whether a symbol is kept."""
        return name in self.names or name.startswith(self.prefixes)

    def of(self, value: bytes) -> bytes:
        """A record's value without the messages of other symbols."""
        if "" in self.prefixes or len(value) <= len(EMPTY):
            return value
        messages = split(value)
        kept = [message for message in messages if self._keeps(message)]
        return value if len(kept) == len(messages) else _value(kept)

    def _keeps(self, message: bytes) -> bool:
        key, found, _ = message.partition(PREV)
        if not found or not message.startswith(b"update"):
            return self.has(head_of(message).symbol)
        keeps = self._keys.get(key)
        if keeps is None:
            if len(self._keys) >= _KEYS_MAX:
                self._keys.clear()
            keeps = self._keys[key] = self.has(head_of(message).symbol)
        return keeps


class PastLog:
    """One partition of a feed log as it is read again. `clock`: the newest receive time that was read of it.

    `start`: the offset from which it is read; `next`: that after the last record that was read.
    """

    def __init__(self, hub: Hub, symbols: Symbols, start: int, clock: int = 0) -> None:
        self.reader = LogReader()
        self.clock = clock
        self.start = start
        self.next = start
        self._hub = hub
        self._symbols = symbols
        self._source = ""
        self._open: list[bytes] = []
        self._rest: tuple[int, int, bytes, int] | None = None

    def read(self, record: Record | DamagedRecord, cut: LogCut | None = None) -> bool:
        """Reads a record as far as it lies before the cut: whether the cut was reached; the rest is for `read_rest`.

        What was damaged is missing, and its channels have a gap.

        Raises:
            HoleInLog: records before it were not read.
        """
        reader = self.reader
        if not isinstance(record, Record):
            reader.pass_over(record)
            return False
        try:
            return self._read(record, cut)
        except CorruptLog:
            reader.spoil(record)
            return False

    def _read(self, record: Record, cut: LogCut | None) -> bool:
        reader = self.reader
        if cut is not None and cut.source and record.kind == "source" and record.ends == reader.source == cut.source:
            # all of the source that was asked for is before the cut; this record is read again after it
            return True
        before = reader.take(record)
        self.next = record.offset + 1
        if before is None:
            return False
        hub = self._hub
        if record.kind == "source":
            hub.opened(record.source, record.ends, record.carries, record.missing)
            self._source, self._open = record.source, []
        elif reader.source != self._source:
            hub.found(reader.source, self._source)
            self._source = reader.source
        if record.kind == "keyframe":
            if self._symbols.has(record.symbol):
                hub.keyframe(record.source, record.symbol, record.value)
        elif record.kind == "data":
            return self._data(record, before, cut)
        return False

    def read_rest(self) -> None:
        """Reads what of the last record lies after the cut."""
        if self._rest is not None:
            pos, last, value, end = self._rest
            self._rest = None
            self._hub.data(self._source, pos, last, value, end)

    def _data(self, record: Record, before: int, cut: LogCut | None) -> bool:
        value = record.value
        if self._open or (not record.covers and len(value) > len(EMPTY)):
            # ticks that fill records: they count when the last of them is read
            self._open += split(value)
            if not record.covers:
                return False
            value, self._open = _value(self._open), []
        pos = self.reader.pos
        if times := _RECEIVED.findall(value):
            self.clock = max(self.clock, int(times[-1]))
        if cut is None or cut.at_end:
            self._hub.data(record.source, before, pos, self._symbols.of(value), record.end)
            return False
        messages = split(value)
        first = self._first_after(messages, cut)
        beyond = cut.source == record.source and pos > cut.mark
        if first == len(messages) and not beyond:
            self._hub.data(record.source, before, pos, self._symbols.of(value), record.end)
            return False
        tick = cut.mark if beyond else head_of(messages[first - 1]).seq if first else before
        tick = min(max(tick, before), pos)
        self._hub.data(record.source, before, tick, self._symbols.of(_value(messages[:first])), record.end)
        self._rest = tick, pos, self._symbols.of(_value(messages[first:])), record.end
        return True

    def _first_after(self, messages: list[bytes], cut: LogCut) -> int:
        """The first message after the cut; a gap belongs to the update that it stands before."""
        for index, message in enumerate(messages):
            if message.startswith(b"gap"):
                continue
            if cut.time is not None:
                received = _RECEIVED.search(message)
                after = received is not None and int(received[1]) > cut.time
            else:
                head = head_of(message)
                after = head.seq > cut.mark and self.reader.source == cut.source
            if after:
                while index and messages[index - 1].startswith(b"gap"):
                    index -= 1
                return index
        return len(messages)


class Past:
    """The past of what one request asks for: a hub with one subscriber, as they were where the logs are cut.

    First `open_log` each partition, and have it `read` its records up to the cut; then `begin`. From then on `give`
    records in order, and `pull` what the client is sent.
    """

    def __init__(self, asked: Iterable[str], settings: HubSettings) -> None:
        self.hub = Hub(
            HubSettings(
                resume_window_bytes_max=0,
                resume_window_ms=0,
                page_bytes=settings.page_bytes,
                rules=settings.rules,
            )
        )
        self.subscriber = self.hub.subscriber(self)
        self.symbols = Symbols(asked)
        self.logs: list[PastLog] = []
        self._holes: list[tuple[PastLog, HoleInLog]] = []
        self._given: deque[tuple[PastLog, Record | DamagedRecord]] = deque()
        self._unflushed = False
        self._marks: Mapping[str, int] = {}

    def open_log(self, start: int) -> PastLog:
        """One more partition, read from an offset on."""
        self.logs.append(PastLog(self.hub, self.symbols, start))
        return self.logs[-1]

    def reopen_log(self, log: PastLog, start: int) -> PastLog:
        """Reads a partition anew from an offset on: what is missed then is told by gaps."""
        new = PastLog(self.hub, self.symbols, start, log.clock)
        self.logs[self.logs.index(log)] = new
        return new

    def expect(self, symbols: Mapping[str, str]) -> None:
        """Symbols that there are now, whether or not anything was said of them in the past; each with its live source.

        A source of the same partition that was read counts instead.
        """
        sources = {partition_of(log.reader.source): log.reader.source for log in self.logs if log.reader.source}
        for symbol, source in symbols.items():
            self.hub.expect(symbol, sources.get(partition_of(source), source))

    def begin(
        self, ask: Ask, limits: Limits, late: Mapping[str, GapReason], recorded: RecordedPart | None = None
    ) -> Steps[list[Result]]:
        """Subscribes as of the cuts. `late`: sources that begin after what was asked for, and why.

        `recorded`: what the client is sent before; the cuts are then where that ends.
        """
        self._commit()
        broken = self._late(late) if recorded is None else self._broken(late, recorded)
        if ask.start is not None and ask.start.marks:
            self._marks = ask.start.marks
        if recorded is not None:
            ask = replace(ask, start=Start("marks", marks=recorded.marks))
        results = yield from Subscribing(self.hub, self.subscriber, ask, limits, broken).results()
        for join in self.subscriber.joins:
            join.tells = None  # the client has caught up only when it is live
        for log in self.logs:
            log.read_rest()
        self._unflushed = True
        if recorded is None:
            return [self._resumed(result) for result in results]
        recorded.begin(self)
        return [recorded.result(self._resumed(result)) for result in results]

    def go_on_after(self, recorded: RecordedPart) -> None:
        """What was recorded was sent: its channels need no `joined`; where it broke off, they go on with a gap."""
        for join in self.subscriber.joins:
            for listing, bit, key in self._keys(list(join.pending.items())):
                if key not in recorded.told:
                    continue
                join.pending.silence(listing, bit)
                if recorded.broke_off:
                    join.broken[listing, bit] = Broken("recording", recorded.last(key))

    # ---- what the client wants, as `RecordedPart` asks for it

    def wants(self, kind: str, symbol: str) -> bool:
        """Whether a channel is subscribed still, known here or not."""
        interest, listing = self.subscriber.interest, self.hub.names.get(symbol)
        mask = matched(interest.rules, symbol) if listing is None else interest.kinds(listing)
        return bool(mask & KIND_BIT[kind])

    def announces(self, kind: str, symbol: str) -> bool:
        """Whether a channel is told by `joined`: it is there by a pattern alone."""
        listing = self.hub.names.get(symbol)
        return listing is None or not self.subscriber.interest.has_exact(listing, KIND_BIT[kind])

    def on_lag(self, kind: str, symbol: str) -> OnLag:
        """What its subscription says of a lag."""
        interest, bit, listing = self.subscriber.interest, KIND_BIT[kind], self.hub.names.get(symbol)
        closed = closes(interest.rules, symbol, bit) if listing is None else interest.closes(listing, bit)
        return "close" if closed else "skip"

    # ---- where channels begin

    def _commit(self) -> None:
        """Makes visible what was read, before anybody subscribes."""
        if self.hub.flush(0):
            for _ in self.hub.fan_out():
                raise AssertionError("a past has no subscriber before it begins")

    def _late(self, late: Mapping[str, GapReason]) -> dict[tuple[int, int], Broken]:
        return {
            (channel.id, channel.bit): Broken(late[channel.source.name])
            for channel in self._channels()
            if channel.source.name in late and not channel.silent
        }

    def _broken(self, late: Mapping[str, GapReason], recorded: RecordedPart) -> dict[tuple[int, int], Broken]:
        """The channels that do not go on from where the recorded part ends."""
        broken: dict[tuple[int, int], Broken] = {}
        for channel in self._channels():
            name = channel.source.name
            if partition_of(name) not in recorded.partitions:
                if name in late and not channel.silent:
                    broken[channel.id, channel.bit] = Broken(late[name])
                continue
            end = recorded.ends.get((channel.kind, channel.listing.name))
            if end is None and not channel.silent:
                broken[channel.id, channel.bit] = Broken("evicted")
            elif end is not None and end != (name, channel.position):
                broken[channel.id, channel.bit] = Broken("recording", end[1])
        return broken

    def _channels(self) -> Iterator[Channel]:
        for listing in self.hub.names.values():
            for channel in listing.channels:
                if channel is not None and not channel.waits:
                    yield channel

    def _keys(self, masks: list[tuple[int, int]]) -> list[tuple[int, int, tuple[str, str]]]:
        return [
            (id_, bit, (kind, self.hub.listings[id_].name))
            for id_, mask in masks
            for kind, bit in KIND_BIT.items()
            if mask & bit
        ]

    # ---- what the client is sent

    def give(self, log: PastLog, records: Iterable[Record | DamagedRecord]) -> None:
        """More records of a partition, in order."""
        self._given.extend((log, record) for record in records)

    def take_holes(self) -> list[tuple[PastLog, HoleInLog]]:
        """Logs of which records are missing that were not given, since the last call. What was given after those is
        dropped: it is to be read and given again."""
        holes, self._holes = self._holes, []
        return holes

    @property
    def due(self) -> bool:
        """Whether `pull` goes on."""
        return bool(self._given) or not self.subscriber.in_step or self._unflushed

    def pull(self, bytes_max: int) -> bytes:
        """The next page: of the snapshots, then of what followed. About so long, or as long as a flush."""
        if not self.subscriber.in_step:
            return self.subscriber.pull(bytes_max)
        size = 0
        for _ in range(RECORDS_A_PAGE):
            if not self._given or size >= min(bytes_max, _PAGE_BYTES):
                break
            log, record = self._given.popleft()
            size += len(record.value) if isinstance(record, Record) else 0
            try:
                log.read(record)
            except HoleInLog as hole:
                self._holes.append((log, hole))
                self._given = deque(given for given in self._given if given[0] is not log)
        return self._flush()

    def _flush(self) -> bytes:
        """What the subscriber is sent of what was read."""
        self._unflushed = False
        if not self.hub.flush(0):
            return b""
        for birth in self.hub.current.births if self._marks else ():
            channel = birth.channel
            mark = self._marks.get(channel.source.name)
            if mark is not None and channel.base is not None and not channel.base.messages:
                birth.resume(mark)
        return b"".join([bytes(frames) for frames, subscribers in self.hub.fan_out() if subscribers])

    @property
    def named(self) -> list[tuple[str, str]]:
        """Kinds and symbols that are subscribed by name."""
        return [key for _, _, key in self._keys(list(self.subscriber.interest.exact()))]

    @property
    def positions(self) -> dict[str, int]:
        """Up to where each source was sent."""
        return {name: self.hub.current.position(source) for name, source in self.hub.sources.items()}

    def _resumed(self, result: Result) -> Result:
        """A channel that begins after the mark is resumed too: the client may have it already, from its begin on."""
        mark = self._marks.get(result.source) if isinstance(result.source, str) else None
        return result if mark is None or result.mode != "live" else replace(result, mode="resumed", seq=mark)


def _value(messages: list[bytes]) -> bytes:
    return b"[" + START + JOINT.join(messages) + END + b"]" if messages else EMPTY
