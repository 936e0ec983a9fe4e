"""What was recorded of a walk's channels, on its way to the client before the feed log takes over.

Owns what goes out of it: each channel's state as it stood, then the recorded messages as they are, without those that
nobody wants any more; that each channel of a pattern is told by `joined` first; and where each channel ends. Leaves
reading recordings to the door, and what follows to the `past`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from feed.channels.channel import LOST_KINDS
from feed.wire.frames import text_frame
from feed.wire.message import END, START, head_of
from feed.wire.model import NO_SEQ, Gap, GapReason, Joined, Kind, Mode, OnLag, Result
from feed.wire.record import PART_BYTES_MAX

Key = tuple[str, str]
"""Kind and symbol."""


class Said(NamedTuple):
    """A recorded message: whole JSON."""

    kind: Kind
    symbol: str
    source: str
    message: bytes


class _Update(msgspec.Struct):
    prev: int


class Stood(NamedTuple):
    """How a channel stood: whole messages, snapshot first."""

    source: str
    seq: int
    messages: list[bytes]


class RecordedPart:
    """`marks`: up to which tick each source was recorded. `ends`: source and last `seq` of every recorded channel.

    `stood`: the channels at the begin; `resumes`: the marks that the client has instead. `reason`: why the tape begins
    later than was asked for, if it does; `unheard`: why what was before a channel's first snapshot is not on it.
    `over`: all of it was given, or (`broke_off`) as much as could be read.
    """

    def __init__(
        self,
        marks: Mapping[str, int],
        ends: Mapping[Key, tuple[str, int]],
        stood: Mapping[Key, Stood],
        *,
        resumes: Mapping[str, int],
        reason: GapReason | None,
        unheard: GapReason = "recording",
    ) -> None:
        self.marks = marks
        self.ends = ends
        self.over = False
        self.broke_off = False
        self.told: set[Key] = set()
        self._stood = stood
        self._resumes = resumes
        self._reason = reason
        self._unheard = unheard
        self._ahead = deque(stood)
        self._given: deque[Said] = deque()
        self._last: dict[Key, bytes] = {}
        self._wants: Callable[[str, str], bool] = _nobody
        self._announces: Callable[[str, str], bool] = _nobody
        self._on_lag: Callable[[str, str], OnLag] = _skips

    @property
    def partitions(self) -> set[str]:
        """The partitions of its sources."""
        return {source.partition("@")[0] for source in self.marks}

    def result(self, result: Result) -> Result:
        """What the ack says of a channel: `result` is where it goes on after the tape."""
        key = result.channel, result.symbol
        if not result.ok or isinstance(result.matched, int) or key not in self.ends:
            return result
        mode, source, seq = self._begins(key, self.ends[key][0])
        return replace(result, mode=mode, source=source, seq=seq)

    def begin(
        self,
        wants: Callable[[str, str], bool],
        announces: Callable[[str, str], bool],
        on_lag: Callable[[str, str], OnLag],
    ) -> None:
        """Who reads: which kinds and symbols are interest, which of them are told by `joined`, and what of a lag."""
        self._wants, self._announces, self._on_lag = wants, announces, on_lag

    def give(self, said: list[Said]) -> None:
        """More of it, in order."""
        self._given.extend(said)

    @property
    def due(self) -> bool:
        """Whether `pull` goes on."""
        return bool(self._ahead or self._given)

    @property
    def done(self) -> bool:
        """Whether everything was sent."""
        return self.over and not self.due

    def last(self, key: Key) -> int:
        """The `seq` of the last message of a channel that was sent, -1 where there was none."""
        message = self._last.get(key)
        return NO_SEQ if message is None else head_of(message[len(START) : -len(END)]).seq

    def pull(self, bytes_max: int) -> bytes:
        """The next page of frames, about so long."""
        frames: list[bytes] = []
        messages: list[bytes] = []
        size = total = 0
        while (self._ahead or self._given) and total < bytes_max:
            for message in self._stand(self._ahead.popleft()) if self._ahead else self._next(self._given.popleft()):
                if messages and size + len(message) > PART_BYTES_MAX:
                    frames.append(text_frame(b"[" + b",".join(messages) + b"]"))
                    messages, size = [], 0
                messages.append(message)
                size += len(message)
                total += len(message)
        if messages:
            frames.append(text_frame(b"[" + b",".join(messages) + b"]"))
        return b"".join(frames)

    def _stand(self, key: Key) -> list[bytes]:
        if not self._wants(*key):
            return []
        stood = self._stood[key]
        kind: Kind = key[0]  # type: ignore[assignment]  # of a recording's tables
        messages = self._tell(kind, key[1], stood.source)
        self._last[key] = stood.messages[-1]
        if self._reason is None:
            return messages + stood.messages
        return messages + _broken(kind, key[1], stood.source, stood.seq, self._reason, stood.messages)

    def _next(self, said: Said) -> list[bytes]:
        key = said.kind, said.symbol
        if not self._wants(*key):
            return []
        if key not in self.told:
            messages = self._tell(said.kind, said.symbol, said.source)
            if said.message.startswith(b'{"type":"snapshot"') and said.source not in self._resumes:
                # the recorder has heard of it only then: the client, who was told live, does not wait for a state
                seq = head_of(said.message[len(START) : -len(END)]).seq
                messages += _broken(said.kind, said.symbol, said.source, seq, self._unheard, [said.message])
            elif (prev := _prev(said.message)) > NO_SEQ and said.source not in self._resumes:
                # inside a hole: what was before this update is not on the tape
                lost = said.kind in LOST_KINDS
                gap = Gap(said.kind, said.symbol, said.source, NO_SEQ, prev, None, self._unheard, lost)
                messages += [msgspec.json.encode(gap), said.message]
            else:
                messages.append(said.message)
        else:
            messages = [said.message]
        self._last[key] = said.message
        return messages

    def _tell(self, kind: Kind, symbol: str, source: str) -> list[bytes]:
        self.told.add((kind, symbol))
        if not self._announces(kind, symbol):
            return []
        mode, named, seq = self._begins((kind, symbol), source)
        return [msgspec.json.encode(Joined(kind, symbol, mode, named, seq, self._on_lag(kind, symbol)))]

    def _begins(self, key: Key, source: str) -> tuple[Mode, str, int]:
        stood = self._stood.get(key)
        if stood is not None:
            if self._reason is not None:
                return "gap", stood.source, NO_SEQ
            return "snapshot", stood.source, stood.seq
        mark = self._resumes.get(source)
        return ("live", source, NO_SEQ) if mark is None else ("resumed", source, mark)


def _broken(kind: Kind, symbol: str, source: str, seq: int, reason: GapReason, snapshot: list[bytes]) -> list[bytes]:
    """What tells that nothing is known of a channel before a snapshot."""
    lost = kind in LOST_KINDS and seq > NO_SEQ
    gap = msgspec.json.encode(Gap(kind, symbol, source, NO_SEQ, seq, None, reason, lost=lost))
    return [gap] if lost else [gap, *snapshot]


def _prev(message: bytes) -> int:
    """The position before an update; -1 of other messages."""
    return msgspec.json.decode(message, type=_Update).prev if message.startswith(b'{"type":"update"') else NO_SEQ


def _nobody(kind: str, symbol: str) -> bool:
    return False


def _skips(kind: str, symbol: str) -> OnLag:
    return "skip"
