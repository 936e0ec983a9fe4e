"""What flows in a replay, and when: its state, its place on the recording's clock, and what is put out of it.

Owns time: what is due at a moment of a steady clock, where the replay stands, when it has ended, and the `replay`
messages that tell of it. What is to be read is told as an `Order`; whoever reads answers with `stands` and `take`.
Leaves requests to `session`, and rows to `pages`.

Position: the recording's clock, to the nanosecond. Everything up to it has been sent, nothing after it. A change of
channels happens between two such moments: what is left of one goes out first (`whole`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Set
from typing import Final, NamedTuple

from feed.recording.filter import ChannelFilter
from feed.recording.state_at import ChannelState
from feed.wire.frames import encode_one, message_frame, text_frame
from feed.wire.model import NO_SEQ, Gap, Joined, Kind, OnLag, Replayed, ReplayState
from replay.ahead import Ahead
from replay.pacing import Speed
from replay.pages import Begin, Pages
from replay.selection import Channel

READ_AHEAD_BYTES: Final = 4 * 1024 * 1024
"""Pages are read until there is so much; a page may be as long again."""
LATE_NS: Final = 1_000_000_000
"""Later than that a replay does not catch up: its clock has waited for its reader."""
TOLD_EVERY_NS: Final = 1_000_000_000
_FRAME_BYTES: Final = 64 * 1024


class Order(NamedTuple):
    """What is to be read: rows of `picked` after one clock, up to another; before that how `standing` stood there."""

    picked: ChannelFilter
    after: int
    until: int
    standing: frozenset[Channel]
    moves: bool
    """The position is a new one: all channels stand there anew."""


class Flow:
    """One replay. `state`: None before it is opened; `begin`, `end`: its range, the end left out.

    `changed` is called when `order`, `hungry` and `wait_ns` should be looked at again.
    """

    def __init__(
        self, *, changed: Callable[[], None], steady_ns: Callable[[], int], on_lag: Callable[[Channel], OnLag]
    ) -> None:
        self.state: ReplayState | None = None
        self.begin = self.end = 0
        self.position = -1
        self.pages = Pages()
        self.order: Order | None = None
        self.out: deque[bytes] = deque()
        """Frames that go before any row."""
        self._changed = changed
        self._steady_ns = steady_ns
        self._on_lag = on_lag
        self._speed: Speed = 1
        self._anchor: tuple[int, int] | None = None
        self._reached = -1
        self._steps: int | None = None
        self._until: int | None = None
        self._told_at = 0
        self._tells = False

    # ---- steering

    def open(self, begin: int, end: int, speed: Speed) -> None:
        """A range, and how fast it goes; a `move` must follow."""
        self.state, self.begin, self.end, self._speed = "ready", begin, end, speed

    def play(self) -> None:
        """Goes on."""
        if self.state != "playing":
            self._tell("playing")

    def pause(self) -> None:
        """Stops where it is."""
        if self.state == "playing":
            self.advance()
            self._halt("paused")

    def pace(self, speed: Speed) -> None:
        """As fast from now on."""
        assert self.state is not None
        self.advance()
        self._speed, self._anchor = speed, None
        self._tell(self.state)

    def step(self, count: int | None, until: int | None) -> None:
        """So many updates, or up to a time, at once."""
        self.play()
        self._steps, self._until = count, until

    def move(self, time: int, picked: ChannelFilter, chosen: Set[Channel]) -> None:
        """Elsewhere, before everything that lies at this time."""
        self.position = time - 1
        self.restart(picked, chosen, chosen, moves=True)

    def stop(self) -> None:
        """It is over."""
        self.pages.restart(frozenset())
        self._halt("ended")
        self.state = None

    def close(self) -> None:
        """Its client is gone: nothing of what was read is kept."""
        self.pages = Pages()
        self.out.clear()
        self.order = self.state = None

    def restart(
        self, picked: ChannelFilter, chosen: Set[Channel], standing: Iterable[Channel], *, moves: bool = False
    ) -> None:
        """Orders what is to be read from here on."""
        self.pages.restart(chosen)
        self.order = Order(picked, self.position, self.end - 1, frozenset(standing), moves)
        self._changed()

    # ---- reading

    @property
    def hungry(self) -> bool:
        """Whether the next page should be read."""
        wants = self.state is not None and self.order is None and not self.pages.exhausted
        return wants and self.pages.size < READ_AHEAD_BYTES

    @property
    def wait_ns(self) -> int | None:
        """How long until something may be due without anything else happening; None: for ever."""
        if self.state != "playing" or self.order is not None:
            return None
        now = self._steady_ns()
        wait = self._told_at + TOLD_EVERY_NS - now
        if self._speed != "max" and self._anchor is not None and self._steps is None:
            clock = self.pages.next_clock
            if clock is None and self.pages.exhausted:
                clock = self._limit
            if clock is not None:
                began, at = self._anchor
                wait = min(wait, at + int((min(clock, self._limit) - began) / self._speed) - now)
        return max(0, wait)

    def stands(self, standing: Mapping[Channel, ChannelState]) -> Order:
        """The order was carried out: how its channels stood; pages come from there."""
        order, self.order = self.order, None
        assert order is not None
        if order.moves:
            self._moved(standing)
        return order

    def take(self, page: Ahead | None) -> None:
        """The next page; None: there is no more."""
        self.pages.add(page)

    # ---- time

    @property
    def due(self) -> bool:
        """Whether there is something to send now."""
        self.advance()
        return bool(self.out) or self._tells or self.rows_due

    @property
    def rows_due(self) -> bool:
        """Whether there is a row, as of the last `advance`."""
        clock = self.pages.next_clock
        return self.state == "playing" and self.order is None and clock is not None and clock <= self._reached

    def advance(self) -> None:
        """Moves what may be sent to what the clock says; where nothing lies in between, the position too."""
        if self.state != "playing" or self.order is not None:
            return
        now = self._steady_ns()
        if now - self._told_at >= TOLD_EVERY_NS:
            self._tells, self._told_at = True, now
        clock = self.pages.next_clock
        self._reached = min(self._reached_at(now, clock), self._limit)
        if clock is None and not self.pages.exhausted:
            return  # what comes next is yet to be read
        if clock is None or clock > self._reached:
            self.position = max(self.position, self._reached)
            if self.position >= self._limit:
                self._halt("ended" if self._until is None or self._until >= self.end else "paused")

    @property
    def _limit(self) -> int:
        """The last clock that belongs to what is being played."""
        return min(self.end, self._until if self._until is not None else self.end) - 1

    def _reached_at(self, now: int, clock: int | None) -> int:
        if self._speed == "max" or self._steps is not None or self._until is not None:
            return self._limit
        if self._anchor is None:
            self._anchor = self.position + 1, now
        began, at = self._anchor
        reached = began + int((now - at) * self._speed)
        if clock is not None and (reached - clock) / self._speed > LATE_NS:
            self._anchor = clock, now
            return clock
        return reached

    def _halt(self, state: ReplayState) -> None:
        self._steps = self._until = self._anchor = None
        self._tell(state)

    def _tell(self, state: ReplayState) -> None:
        """Goes over to a state, and tells it."""
        self.state = state
        self._told_at, self._tells = self._steady_ns(), False
        self.out.append(self._told())

    def _told(self) -> bytes:
        assert self.state is not None
        time = str(self.position + 1)
        return message_frame(Replayed(self.state, time, self._speed, str(self.begin), str(self.end)))

    # ---- what goes out

    def rows(self, room: int) -> bytes:
        """The next frame of rows that are due; there are some."""
        pages = self.pages
        if (begin := pages.beginning()) is not None:
            pages.begun[begin.channel] = begin.source, begin.seq
            return message_frame(self.joined(begin))
        frame, updates = pages.rows(room, self._reached, self._steps)
        self.position = pages.sent
        self._changed()
        if self._steps is not None:
            self._steps -= updates
            if not self._steps:
                self._halt("paused")
        return frame

    def whole(self) -> bool:
        """Whether the position is between two moments; where it is not, what is left of one is put out."""
        pages = self.pages
        while pages.within:
            if (begin := pages.beginning()) is not None:
                pages.begun[begin.channel] = begin.source, begin.seq
                self.out.append(message_frame(self.joined(begin)))
            else:
                assert pages.next_clock is not None
                self.out.append(pages.rows(_FRAME_BYTES, pages.next_clock, None)[0])
                self.position = pages.sent
        return not self.out

    def where(self) -> bytes:
        """Where it stands, if a second has passed since that was told."""
        if not self._tells or self.out:
            return b""
        self._tells = False
        return self._told()

    def joined(self, begin: Begin) -> Joined:
        """What tells where a channel begins."""
        kind: Kind = begin.channel[0]  # type: ignore[assignment]  # a recorded channel is of a kind
        return Joined(kind, begin.channel[1], begin.mode, begin.source, begin.seq, self._on_lag(begin.channel))

    def put(self, messages: list[bytes]) -> None:
        """Puts out messages, in frames of some size."""
        held: list[bytes] = []
        size = 0
        for message in messages:
            held.append(message)
            size += len(message)
            if size >= _FRAME_BYTES:
                self.out.append(text_frame(b"[" + b",".join(held) + b"]"))
                held, size = [], 0
        if held:
            self.out.append(text_frame(b"[" + b",".join(held) + b"]"))

    def _moved(self, standing: Mapping[Channel, ChannelState]) -> None:
        """The channels stand where the replay was moved to."""
        begun = self.pages.begun
        messages: list[bytes] = []
        for channel, found in standing.items():
            if channel in begun:
                messages.append(_seek_gap(channel, found.source, begun[channel][1], found.seq))
            else:
                messages.append(encode_one(self.joined(Begin(channel, "snapshot", found.source, found.seq))))
            messages += found.messages
        for channel in [channel for channel in begun if channel not in standing]:
            source, seq = begun.pop(channel)
            messages.append(_seek_gap(channel, source, seq, NO_SEQ))
        begun |= {channel: (found.source, found.seq) for channel, found in standing.items()}
        self.pages.marks_begin(standing.values())
        self.put(messages)
        state = self.state or "ready"
        self._tell("paused" if state == "ended" else state)
        self._anchor = None


def _seek_gap(channel: Channel, source: str, prev: int, seq: int) -> bytes:
    kind: Kind = channel[0]  # type: ignore[assignment]  # a recorded channel is of a kind
    return encode_one(Gap(kind, channel[1], source, prev, seq, None, "seek", lost=False))
