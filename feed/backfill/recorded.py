"""The recorded part of a request: what recordings hold of its channels, sent before the feed logs take over.

Owns what is sent of it: each channel's state at the begin, then the recorded messages as they are, without those that
the client does not want any more; that each channel of a pattern is told by `joined` first; and where each channel
ends. Leaves reading recordings to the reader (`feed.gateway.backfill_recorded`), and what follows to
`feed.backfill.past`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import NamedTuple, Protocol

import msgspec
from msgspec.structs import replace

from feed.channels.channel import LOST_KINDS
from feed.channels.source import partition_of
from feed.wire.frames import text_frame
from feed.wire.message import END, START, head_of
from feed.wire.model import NO_SEQ, Gap, GapReason, Joined, Kind, Mode, OnLag, Result
from feed.wire.record import PART_BYTES_MAX

Key = tuple[str, str]
"""Kind and symbol."""


class RecordedMessage(NamedTuple):
    """One message: whole JSON."""

    kind: Kind
    symbol: str
    source: str
    message: bytes


class _Update(msgspec.Struct):
    prev: int


class RecordedState(NamedTuple):
    """A channel's state at the begin: whole messages, snapshot first."""

    source: str
    seq: int
    messages: list[bytes]


class Wants(Protocol):
    """What a client wants; that changes on the way, as it unsubscribes."""

    def wants(self, kind: str, symbol: str) -> bool:
        """Whether a channel is subscribed still."""
        ...

    def announces(self, kind: str, symbol: str) -> bool:
        """Whether a channel is told by `joined`."""
        ...

    def on_lag(self, kind: str, symbol: str) -> OnLag:
        """What its subscription says of a lag."""
        ...


class RecordedPart:
    """`marks`: up to which tick each source was recorded. `ends`: source and last `seq` of every recorded channel.

    `states`: the channels at the begin; `client_marks`: what the client has instead, where it asked by marks. `late`:
    why the recording begins later than was asked for, if it does; `unrecorded`: why what was before the first snapshot
    of a channel without a state is not in it.

    First `begin`; then `give` messages, and at last `end`; `pull` what the client is sent.
    """

    def __init__(
        self,
        marks: Mapping[str, int],
        ends: Mapping[Key, tuple[str, int]],
        states: Mapping[Key, RecordedState],
        *,
        client_marks: Mapping[str, int],
        late: GapReason | None,
        unrecorded: GapReason = "recording",
    ) -> None:
        self.marks = marks
        self.ends = ends
        self.told: set[Key] = set()
        """Channels of which something was sent."""
        self._states = states
        self._client_marks = client_marks
        self._late = late
        self._unrecorded = unrecorded
        self._states_left = deque(states)
        self._given: deque[RecordedMessage] = deque()
        self._ended = False
        self._broke_off = False
        self._last: dict[Key, bytes] = {}
        self._client: Wants | None = None

    @property
    def partitions(self) -> set[str]:
        """The partitions of its sources."""
        return {partition_of(source) for source in self.marks}

    @property
    def ended(self) -> bool:
        """Whether all was given that can be."""
        return self._ended

    @property
    def broke_off(self) -> bool:
        """Whether there was more, which could not be read."""
        return self._broke_off

    def result(self, result: Result) -> Result:
        """What the ack says of a channel: `result` is where it goes on after the recorded part."""
        key = result.channel, result.symbol
        if not result.ok or isinstance(result.matched, int) or key not in self.ends:
            return result
        mode, source, seq = self._begins(key, self.ends[key][0])
        return replace(result, mode=mode, source=source, seq=seq)

    def begin(self, client: Wants) -> None:
        """The client is answered: `pull` sends what it wants."""
        self._client = client

    def give(self, messages: list[RecordedMessage]) -> None:
        """The next messages, in order."""
        self._given.extend(messages)

    def end(self, *, broke_off: bool = False) -> None:
        """There are no more messages; `broke_off`: there are, and they cannot be read."""
        self._ended, self._broke_off = True, broke_off

    @property
    def due(self) -> bool:
        """Whether `pull` goes on."""
        return bool(self._states_left or self._given)

    @property
    def done(self) -> bool:
        """Whether everything was sent."""
        return self._ended and not self.due

    def last(self, key: Key) -> int:
        """The `seq` of the last message of a channel that was sent, -1 where there was none."""
        message = self._last.get(key)
        return NO_SEQ if message is None else head_of(message[len(START) : -len(END)]).seq

    def pull(self, bytes_max: int) -> bytes:
        """The next page of frames, about so long."""
        assert self._client is not None
        frames: list[bytes] = []
        messages: list[bytes] = []
        size = total = 0
        while self.due and total < bytes_max:
            for message in self._next(self._client):
                if messages and size + len(message) > PART_BYTES_MAX:
                    frames.append(text_frame(b"[" + b",".join(messages) + b"]"))
                    messages, size = [], 0
                messages.append(message)
                size += len(message)
                total += len(message)
        if messages:
            frames.append(text_frame(b"[" + b",".join(messages) + b"]"))
        return b"".join(frames)

    def _next(self, client: Wants) -> list[bytes]:
        """The next channel's state, or the next recorded message, with what has to be told before it."""
        if self._states_left:
            key = self._states_left.popleft()
            return self._state(key, client) if client.wants(*key) else []
        one = self._given.popleft()
        return self._message(one, client) if client.wants(one.kind, one.symbol) else []

    def _state(self, key: Key, client: Wants) -> list[bytes]:
        state = self._states[key]
        kind: Kind = key[0]  # type: ignore[assignment]  # of a recording's tables
        messages = self._joined(kind, key[1], state.source, client)
        self._last[key] = state.messages[-1]
        if self._late is None:
            return messages + state.messages
        return messages + _after_gap(kind, key[1], state.source, state.seq, self._late, state.messages)

    def _message(self, one: RecordedMessage, client: Wants) -> list[bytes]:
        key = one.kind, one.symbol
        first = key not in self.told
        self._last[key] = one.message
        if not first:
            return [one.message]
        messages = self._joined(one.kind, one.symbol, one.source, client)
        if one.source in self._client_marks:
            return [*messages, one.message]
        if one.message.startswith(b'{"type":"snapshot"'):
            # the recorder has heard of it only then; its client was told that it is live, and waits for no state
            seq = head_of(one.message[len(START) : -len(END)]).seq
            return messages + _after_gap(one.kind, one.symbol, one.source, seq, self._unrecorded, [one.message])
        if (prev := _prev(one.message)) > NO_SEQ:
            # inside a hole: what was before this update is not recorded
            lost = one.kind in LOST_KINDS
            gap = Gap(one.kind, one.symbol, one.source, NO_SEQ, prev, None, self._unrecorded, lost)
            messages.append(msgspec.json.encode(gap))
        return [*messages, one.message]

    def _joined(self, kind: Kind, symbol: str, source: str, client: Wants) -> list[bytes]:
        """What is told of a channel before the first message of it."""
        self.told.add((kind, symbol))
        if not client.announces(kind, symbol):
            return []
        mode, named, seq = self._begins((kind, symbol), source)
        return [msgspec.json.encode(Joined(kind, symbol, mode, named, seq, client.on_lag(kind, symbol)))]

    def _begins(self, key: Key, source: str) -> tuple[Mode, str, int]:
        """How, in which source, and after which tick a channel begins."""
        state = self._states.get(key)
        if state is not None:
            if self._late is not None:
                return "gap", state.source, NO_SEQ
            return "snapshot", state.source, state.seq
        mark = self._client_marks.get(source)
        return ("live", source, NO_SEQ) if mark is None else ("resumed", source, mark)


def _after_gap(kind: Kind, symbol: str, source: str, seq: int, reason: GapReason, snapshot: list[bytes]) -> list[bytes]:
    """A gap, and a snapshot of a channel of which nothing before is known; where that is lost the gap is all."""
    lost = kind in LOST_KINDS and seq > NO_SEQ
    gap = msgspec.json.encode(Gap(kind, symbol, source, NO_SEQ, seq, None, reason, lost=lost))
    return [gap] if lost else [gap, *snapshot]


def _prev(message: bytes) -> int:
    """The position before an update; -1 of other messages."""
    return msgspec.json.decode(message, type=_Update).prev if message.startswith(b'{"type":"update"') else NO_SEQ
