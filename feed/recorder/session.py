"""One life of a recorder between two failures: records in, commits out, joined to what the files hold already.

Owns the join: from its log's floor on a partition is read without being recorded, until it reaches the offset at which
the files end. There each channel is compared with what was recorded of it: mostly it stands where it was left; where
it does not, the difference is named by a `gap` with reason `recording`, and a snapshot goes on from it.

No task, no clock, no thread: `role` calls it, tests feed it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from feed.channels.hub import Hub, HubSettings
from feed.follow.floors import EARLIEST
from feed.recorder.rows import RowBuilder, missing
from feed.recording.columns import Dictionaries
from feed.recording.notes import Span
from feed.recording.tables import GAPS, STATES
from feed.wire.model import KINDS, NO_SEQ, Kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import pyarrow as pa

    from feed.backfill.past import LogCut
    from feed.channels.channel import Channel
    from feed.channels.state import Folded, FoldRules
    from feed.follow.floors import Wanted
    from feed.recorder.recovery import TakenUp
    from feed.recorder.rows import Taken
    from feed.recording.filter import Filter
    from feed.wire.model import StateReason

_ROUND_TEXT_BYTES: Final = 4 << 20
_RECEIVED: Final = re.compile(rb'"ts_recv":"(\d+)"').search


class RecorderSession:
    """A sink of the follower. `fresh`: sources whose keyframes are to be written into the files that are open."""

    def __init__(
        self, taken_up: TakenUp, chosen: Filter, rules: FoldRules, *, begins: LogCut | None = EARLIEST
    ) -> None:
        """`begins`: where a new recording does; None: at the end of the logs."""
        self.fresh: set[str] = set()
        self.updates = 0
        self.received_ns = 0
        """When the newest tick was received that was read, recorded or not; 0 before any."""
        self._chosen = chosen
        self.hub = Hub(HubSettings(resume_window_bytes_max=0, resume_window_ms=0, rules=rules))
        self._rows = RowBuilder(self._wants, Dictionaries(), self.hub.rules)
        self._rows.clocks = {source: span.clock for source, span in taken_up.positions.items()}
        self._rows.ticks = {source: span.tick for source, span in taken_up.positions.items()}
        self._behind = _newest(taken_up.positions)
        self._begins = begins
        self._goes_on = bool(taken_up.positions)
        self._recorded = dict(taken_up.channels)
        for (kind, symbol), (source, _) in taken_up.channels.items():
            self._rows.know(kind, symbol, source)
        self._ended: dict[str, int] = {}
        self._spans: dict[str, Span] = {}

    # ---- what the follower calls

    def starts(self, partition: str, begin: int, end: int) -> Wanted:
        """Where the state of a partition (`kraken/0`) must be known: where what is recorded of it ends.

        What is new in a recording that goes on is read from its begin. Of a log that does not hold that place any more
        all is read that it holds, and every channel says what it missed.
        """
        found = self._behind.get(partition)
        if found is None:
            known = _newest(self._spans).get(partition)
            if known is None:
                return EARLIEST if self._goes_on else self._begins
            return known[1].offset if begin <= known[1].offset <= end else EARLIEST
        if not begin <= found[1].offset <= end:
            self._behind[partition] = found[0], Span(found[1].tick, begin, found[1].clock)
            return EARLIEST
        return found[1].offset

    def passed(self, source: str, offset: int) -> None:
        """A record is about to come in."""
        if self._behind:
            partition = partition_of(source)
            found = self._behind.get(partition)
            if found is not None and offset >= found[1].offset:
                self._reach(partition)

    def opened(self, source: str, ends: str, carries: bool, missing: bool) -> None:
        """A source begins, in place of `ends`."""
        self._replaces(source, ends)
        self.hub.opened(source, ends, carries, missing)

    def found(self, source: str, before: str) -> None:
        """Reading goes on in the middle of a source, where it stood in another one before."""
        self._replaces(source, before)
        self.hub.found(source, before)

    def _replaces(self, source: str, ends: str) -> None:
        if ends and ends != source and ends in self.hub.sources:
            self._ended[ends] = self.hub.sources[ends].pos
        if partition_of(source) not in self._behind:
            self.fresh.add(source)

    def keyframe(self, source: str, symbol: str, value: bytes) -> None:
        """A symbol's snapshots."""
        if not self.received_ns and (found := _RECEIVED(value)):
            self.received_ns = int(found[1])
        self.hub.keyframe(source, symbol, value)

    def data(self, source: str, pos: int, last: int, value: bytes, end: int) -> None:
        """Messages, of which those after `pos` are new."""
        self.hub.data(source, pos, last, value, end)

    def stands(self, source: str, end: int, position: int, waits_ms: int) -> None:
        """How far ticks were taken is not recorded."""

    def confirmed(self, source: str) -> None:
        """That all was read is not recorded."""

    def source_state(self, source: str, state: str, reason: StateReason | None, since_ns: int) -> None:
        """What is live only is not recorded."""

    # ---- what the role calls

    @property
    def weight(self) -> int:
        """Bytes that came in since the last flush."""
        return self.hub.waiting_bytes

    def flush(self) -> None:
        """Takes what came in as rows."""
        hub = self.hub
        self.received_ns = max(self.received_ns, hub.received_ns())
        if hub.flush(0):
            self._rows.gather(hub.current, hub.listings, self._recorded, but=self._behind_sources())
            for _ in hub.fan_out():
                raise AssertionError("a recorder's hub has no readers")

    def take(self, positions: Mapping[str, tuple[int, int]]) -> tuple[dict[str, Taken], dict[str, Span]]:
        """The rows since the last commit, and where each source stands after them.

        `positions`: each source's tick and log offset, as of the last flush.
        """
        before = self.hub.updates
        self.flush()
        self.updates += self.hub.updates - before
        taken = self._rows.take()
        clocks = self._rows.clocks
        spans = dict(self._behind.values())
        for source, (tick, offset) in positions.items():
            if partition_of(source) not in self._behind:
                spans[source] = Span(tick, offset, clocks.setdefault(source, 0))
        for rows in taken.values():
            for source in rows.spans:
                if source not in spans:
                    spans[source] = Span(
                        self._ended.get(source, self._rows.ticks.get(source, NO_SEQ)), -1, clocks[source]
                    )
        self._spans = spans
        self._rows.ticks |= {source: span.tick for source, span in spans.items()}
        return taken, spans

    def keyframes(self, table: str, sources: Iterable[str] | None = None) -> tuple[list[pa.RecordBatch], list[str]]:
        """The keyframes of a table as of the last take, in batches of bounded size, and whose they are."""
        wanted = {name for name in self._spans if partition_of(name) not in self._behind}
        if sources is not None:
            wanted &= set(sources)
        batches: list[pa.RecordBatch] = []
        if table == GAPS:
            return batches, sorted(wanted)
        for kind in KINDS if table == STATES else (table,):
            channels: list[Channel] = []
            texts: list[list[bytes]] = []
            size = 0
            for channel, folded in self._standing(kind, wanted, states=table == STATES):  # type: ignore[arg-type]
                state = [] if folded.state is None else [folded.state]
                messages = state if table == STATES else folded.messages
                channels.append(channel)
                texts.append(messages)
                size += sum(map(len, messages))
                if size >= _ROUND_TEXT_BYTES:
                    batches += self._round(kind, table, channels, texts)
                    channels, texts, size = [], [], 0
            batches += self._round(kind, table, channels, texts)
        return batches, sorted(wanted)

    # ---- joining

    def _reach(self, partition: str) -> None:
        """The log is read up to where the files end: compares, and records from here on."""
        self.flush()
        _, span = self._behind.pop(partition)
        self.fresh |= {name for name in self.hub.sources if partition_of(name) == partition}
        for listing in self.hub.listings.values():
            for channel in listing.channels:
                if channel is None or partition_of(channel.source.name) != partition or channel.waits:
                    continue
                if self._wants(channel.kind, listing.name):
                    self._compare(channel, span.tick)

    def _compare(self, channel: Channel, tick: int) -> None:
        key = channel.kind, channel.listing.name
        recorded = self._recorded.pop(key, None)
        here = channel.source.name, channel.position
        if recorded == here:
            return
        folded = channel.folded(self.hub.rules)
        assert folded is not None
        state = [] if folded.state is None else [folded.state]
        messages = [*folded.messages, *state] if recorded is None else missing(channel, recorded, folded)
        if messages:
            self._rows.rebase(channel, messages, tick)

    def _behind_sources(self) -> set[str]:
        return {name for name in self.hub.sources if partition_of(name) in self._behind} if self._behind else set()

    def _wants(self, kind: Kind, symbol: str) -> bool:
        return kind in self._chosen.kinds and self._chosen.symbol(symbol)

    # ---- keyframes

    def _standing(self, kind: Kind, sources: set[str], *, states: bool) -> Iterable[tuple[Channel, Folded]]:
        for listing in self.hub.listings.values():
            channel = listing.channels[KINDS.index(kind)]
            if channel is None or channel.source.name not in sources or not self._wants(kind, listing.name):
                continue
            folded = channel.folded(self.hub.rules)
            if folded is not None and (folded.state if states else folded.messages):
                yield channel, folded

    def _round(self, kind: str, table: str, channels: list[Channel], texts: list[list[bytes]]) -> list[pa.RecordBatch]:
        rows, states = self._rows.keyframes(kind, channels, texts)  # type: ignore[arg-type]  # one of KINDS
        batch = states if table == STATES else rows
        return [] if batch is None else [batch]


def partition_of(source: str) -> str:
    """`kraken/0` of `kraken/0@k7qd`."""
    return source.partition("@")[0]


def _newest(positions: Mapping[str, Span]) -> dict[str, tuple[str, Span]]:
    """Of each partition the source that was read last, and how far."""
    found: dict[str, tuple[str, Span]] = {}
    for source, span in positions.items():
        partition = partition_of(source)
        if span.offset >= 0 and (partition not in found or found[partition][1].offset < span.offset):
            found[partition] = source, span
    return found
