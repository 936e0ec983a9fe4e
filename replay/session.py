"""A connection's side of a replay: texts in, frames out, no socket, no file, and a steady clock that is given to it.

Owns what requests do in a replay, what is due when, and what a client is told of where it stands. What is to be read is
told as an `Order`; who reads (`player`) answers with `stands` and `take`. The order and rate of requests are those of
any session (`feed.protocol.line`).

Position: the recording's clock, to the nanosecond. Everything up to it has been sent, nothing after it. A change of
channels happens between two such moments: what is left of one goes out first.

One order at a time: requests that change what is read wait, in their line, until the one before was carried out. So an
ack of a subscribe can say where each channel begins, as on a live stream.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Final, Literal, NamedTuple

import msgspec
from msgspec import UNSET
from msgspec.structs import replace

from feed.channels.subscription import Limits
from feed.errors import BadRequest
from feed.model import NO_SEQ, Ack, Gap, Goaway, Heartbeat, Joined, Kind, Pong, Replayed, ReplayState, Result
from feed.protocol.codec import encode_one, message_frame, text_frame
from feed.protocol.line import Close, Line, NotYet, SessionSettings, ack, check_size, welcome
from feed.protocol.request import Auth, List, Ping, Replay, Request, Subscribe, Unsubscribe, start_of
from feed.recording.chosen import Picked
from feed.recording.standing import Standing
from replay.ahead import Ahead
from replay.pacing import Speed
from replay.pages import Begin, Pages
from replay.requests import open_range, speed_asked, step_asked, time_asked
from replay.selection import Channel, Selection

READ_AHEAD_BYTES: Final = 4 * 1024 * 1024
"""Pages are read until there is so much text; a page may be as long again."""
LATE_NS: Final = 1_000_000_000
"""Later than that a replay does not catch up: its clock has waited for its reader."""
TOLD_EVERY_NS: Final = 1_000_000_000
_FRAME_BYTES: Final = 64 * 1024
_INTERNAL: Final = 1011
_NO_OFFER: Final = "is not offered by this server"


class Recorded(NamedTuple):
    """What there is: clocks of the first and the last row, and the channels."""

    begin: int
    end: int
    channels: frozenset[Channel]


class Order(NamedTuple):
    """What is to be read: rows of `picked` after one clock, up to another; before that how `standing` stood there."""

    picked: Picked
    after: int
    until: int
    standing: frozenset[Channel]
    moves: bool
    """The position is a new one: all channels stand there anew."""


class _Plan(NamedTuple):
    """A subscribe that waits for the states of channels."""

    results: list[Result]
    new: frozenset[Channel]
    mode: Literal["snapshot", "live"]


class ReplaySession:
    """One connection. `changed` is called when the player should look at `order`, `hungry` and `wait_ns` again."""

    def __init__(
        self,
        settings: SessionSettings,
        recorded: Recorded | None,
        *,
        changed: Callable[[], None],
        steady_ns: Callable[[], int],
    ) -> None:
        self.closed = False
        self.order: Order | None = None
        self._settings = settings
        self._recorded = recorded
        self._changed = changed
        self._steady_ns = steady_ns
        limits = Limits(subscriptions_max=settings.subscriptions_max, patterns_max=settings.patterns_max)
        self._selection = Selection(recorded.channels if recorded else (), limits)
        self._line = Line(settings, self._do)
        self._held = False
        self._failed = False
        self._state: ReplayState | None = None
        self._speed: Speed = 1
        self._from = self._to = 0
        self._position = -1
        self._pages = Pages()
        self._out: deque[bytes] = deque()
        self._anchor: tuple[int, int] | None = None
        self._reached = -1
        self._steps: int | None = None
        self._until: int | None = None
        self._told_at = 0
        self._tells = False
        self._plan: _Plan | None = None
        self._found: Mapping[Channel, Standing] = {}

    # ---- the socket's side

    @property
    def wake_at(self) -> int | None:
        """When delayed requests go on (call `wake`), None when there are none."""
        return self._line.wake_at

    @property
    def due(self) -> bool:
        """Whether `pull` has something to give now."""
        self._advance()
        goes_on = self._held and self.order is None
        return bool(self._out) or self._tells or self._failed or goes_on or self._rows_due

    def open(self, now_ns: int) -> bytes:
        """The first frame: welcome."""
        return welcome(self._settings, now_ns)

    def heartbeat(self, now_ns: int) -> bytes:
        """A heartbeat with the marks; they begin anew when the replay is moved."""
        return self.wake(now_ns) + message_frame(Heartbeat(str(now_ns), self._pages.marks(), None))

    def goaway(self, reason: str, after_ms: int, now_ns: int) -> bytes:
        """The last frame before the server closes."""
        return message_frame(Goaway(reason, after_ms, self._pages.marks()))

    def close(self) -> None:
        """The connection is gone."""
        self.closed = True
        self._pages.clear()
        self._changed()

    def receive(self, text: bytes, now_ns: int) -> bytes:
        """Takes one text message of the client; returns the frames that answer it, and a first page of data.

        Raises:
            Close: 1008 after `rate_limited` was told often enough, or as `pull`; its frames go out first.
        """
        self._line.take(text, now_ns)
        return self.wake(now_ns)

    def wake(self, now_ns: int) -> bytes:
        """Goes on with delayed requests as far as the rate allows.

        Raises:
            Close: as `pull`.
        """
        if not self._line or self._held:
            return b""
        frames = self._line.work(now_ns)
        self._changed()
        try:
            return frames + self.pull(self._settings.page_bytes, now_ns)
        except Close as end:
            end.frames = frames + end.frames
            raise

    def pull(self, bytes_max: int, now_ns: int) -> bytes:
        """What is due, up to about so many bytes; empty when nothing is.

        Raises:
            Close: 1011, the recording cannot be read.
        """
        if self._failed:
            raise Close(_INTERNAL, "the recording cannot be read")
        frames: list[bytes] = []
        room = bytes_max
        self._advance()
        while room > 0 and (frame := self._next(room, now_ns)):
            frames.append(frame)
            room -= len(frame)
        self._advance()  # the end may have come
        if self._tells and not self._out:
            self._tells = False
            frames.append(self._told())
        return b"".join(frames)

    def _next(self, room: int, now_ns: int) -> bytes:
        if self._out:
            return self._out.popleft()
        if self._held and self.order is None:
            self._held = False
            frames = self._line.work(now_ns)
            self._changed()
            if frames or self._out:
                return frames or self._out.popleft()
        return self._rows(room) if self._rows_due else b""

    # ---- the reader's side

    @property
    def hungry(self) -> bool:
        """Whether the next page should be read."""
        wants = self._state is not None and self.order is None and not self._pages.exhausted
        return wants and self._pages.size < READ_AHEAD_BYTES

    @property
    def wait_ns(self) -> int | None:
        """How long until `due` may be true without anything else happening; None: for ever."""
        if self._state != "playing" or self.order is not None:
            return None
        now = self._steady_ns()
        wait = self._told_at + TOLD_EVERY_NS - now
        if self._speed != "max" and self._anchor is not None and self._steps is None:
            clock = self._pages.next_clock
            if clock is None and self._pages.exhausted:
                clock = self._limit + 1
            if clock is not None:
                began, at = self._anchor
                wait = min(wait, at + int((min(clock, self._limit) - began) / self._speed) - now)
        return max(0, wait)

    def stands(self, standing: Mapping[Channel, Standing]) -> None:
        """The order was carried out: how its channels stood; pages come from there."""
        order, self.order = self.order, None
        assert order is not None
        if order.moves:
            self._moved(standing)
        else:
            self._found = standing

    def take(self, page: Ahead | None) -> None:
        """The next page; None: there is no more."""
        self._pages.add(page)

    def fail(self) -> None:
        """The recording cannot be read: the connection will be closed."""
        self._failed = True

    # ---- time

    @property
    def _limit(self) -> int:
        """The last clock that belongs to what is being played."""
        return min(self._to, self._until if self._until is not None else self._to) - 1

    @property
    def _rows_due(self) -> bool:
        clock = self._pages.next_clock
        return self._state == "playing" and self.order is None and clock is not None and clock <= self._reached

    def _advance(self) -> None:
        """Moves what may be sent to what the clock says; where nothing lies in between, the position too."""
        if self._state != "playing" or self.order is not None:
            return
        now = self._steady_ns()
        if now - self._told_at >= TOLD_EVERY_NS:
            self._tells, self._told_at = True, now
        clock = self._pages.next_clock
        self._reached = min(self._reached_at(now, clock), self._limit)
        if clock is None and not self._pages.exhausted:
            return  # what comes next is yet to be read
        if clock is None or clock > self._reached:
            self._position = max(self._position, self._reached)
            if self._position >= self._limit:
                self._halt("ended" if self._until is None or self._until >= self._to else "paused")

    def _reached_at(self, now: int, clock: int | None) -> int:
        if self._speed == "max" or self._steps is not None or self._until is not None:
            return self._limit
        if self._anchor is None:
            self._anchor = self._position + 1, now
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
        self._state = state
        self._told_at, self._tells = self._steady_ns(), False
        self._out.append(self._told())

    def _told(self) -> bytes:
        assert self._state is not None
        speed, time = self._speed, str(self._position + 1)
        return message_frame(Replayed(self._state, time, speed, str(self._from), str(self._to)))

    # ---- rows

    def _rows(self, room: int) -> bytes:
        pages = self._pages
        if (begin := pages.beginning()) is not None:
            pages.begun[begin.channel] = begin.source, begin.seq
            return message_frame(_joined(begin))
        frame, updates = pages.rows(room, self._reached, self._steps)
        self._position = pages.sent
        if pages.current is None:
            self._changed()
        if self._steps is not None:
            self._steps -= updates
            if not self._steps:
                self._halt("paused")
        return frame

    def _whole(self) -> None:
        """Sees to it that the position is between two moments; what is left of one goes out first.

        Raises:
            NotYet: it does now.
        """
        pages = self._pages
        while pages.next_clock is not None and pages.next_clock == self._position + 1 and pages.within:
            if (begin := pages.beginning()) is not None:
                pages.begun[begin.channel] = begin.source, begin.seq
                self._out.append(message_frame(_joined(begin)))
            else:
                self._out.append(pages.rows(_FRAME_BYTES, pages.next_clock, None)[0])
                self._position = pages.sent
        if self._out:
            raise self._later()

    def _restart(self, standing: Iterable[Channel], *, moves: bool = False) -> None:
        """Orders what is now to be read."""
        self._pages.restart(self._selection.chosen)
        until = self._to - 1
        self.order = Order(self._selection.picked(), self._position, until, frozenset(standing), moves)
        self._changed()

    def _later(self) -> NotYet:
        """To be raised: the request is done again when the order was carried out, and what is put out has gone."""
        self._held = True
        return NotYet()

    def _free(self) -> None:
        """Sees to it that no order is under way.

        Raises:
            NotYet: one is.
        """
        if self.order is not None:
            raise self._later()

    def _moved(self, standing: Mapping[Channel, Standing]) -> None:
        """The channels stand where the replay was moved to."""
        begun = self._pages.begun
        messages: list[bytes] = []
        for channel, found in standing.items():
            if channel in begun:
                messages.append(_seek_gap(channel, found.source, begun[channel][1], found.seq))
            else:
                messages.append(encode_one(_joined(Begin(channel, "snapshot", found.source, found.seq))))
            messages += found.messages
        for channel in [channel for channel in begun if channel not in standing]:
            source, seq = begun.pop(channel)
            messages.append(_seek_gap(channel, source, seq, NO_SEQ))
        begun |= {channel: (found.source, found.seq) for channel, found in standing.items()}
        self._pages.marks_begin(standing.values())
        self._out.extend(_frames(messages))
        state = self._state or "ready"
        self._tell("paused" if state == "ended" else state)
        self._anchor = None

    # ---- requests

    def _do(self, request: Request, received_ns: int, now_ns: int) -> msgspec.Struct:
        match request:
            case Subscribe():
                return self._subscribe(request)
            case Unsubscribe():
                return self._unsubscribe(request)
            case List():
                return ack(request.id, "list", self._selection.subscribed())
            case Ping():
                return Pong(request.id, str(received_ns), str(now_ns))
            case Auth():
                return ack(request.id, "auth", [])
            case Replay():
                self._free()
                self._steer(request)
        return ack(request.id, "replay", [])

    def _subscribe(self, request: Subscribe) -> Ack:
        if self._plan is not None:
            plan, self._plan = self._plan, None
            return ack(request.id, "subscribe", self._joining(plan))
        for name, value in (("every_ms", request.every_ms), ("depth", request.depth)):
            if value is not UNSET:
                raise BadRequest("bad_message", f"{name} {_NO_OFFER}")
        check_size(request.channels, request.symbols, self._settings)
        start = start_of(request)
        mode = start if isinstance(start, str) or start is None else start.mode
        if mode not in (None, "snapshot", "live"):
            raise BadRequest("bad_position", f"from {mode} in a replay, wanted snapshot or live; elsewhere it seeks")
        if self._state is not None:
            self._free()
            self._whole()
        before = set(self._selection.chosen)
        results, asked = self._selection.subscribe(request.channels, request.symbols, request.on_lag)
        self._line.spend(len(asked))
        if self._state is None:
            return ack(request.id, "subscribe", results)
        new = frozenset(channel for channel in asked if channel not in before or mode is not None)
        plan = _Plan(results, new, "live" if mode == "live" else "snapshot")
        if not new:
            return ack(request.id, "subscribe", self._joining(plan))
        self._plan, self._found = plan, {}
        self._restart(new)
        raise self._later()

    def _joining(self, plan: _Plan) -> list[Result]:
        """The results of a subscribe of which it is known how channels stand; what comes with it is put out."""
        begun, messages = self._pages.begun, []
        standing = {channel: found for channel, found in self._found.items() if channel in plan.new}
        for channel in plan.new:
            begun.pop(channel, None)
        begun |= {channel: (found.source, found.seq) for channel, found in standing.items()}
        results: list[Result] = []
        by_name: set[Channel] = set()
        for result in plan.results:
            channel = result.channel, result.symbol
            if result.ok and channel in begun:
                by_name.add(channel)
                source, seq = self._pages.position(channel)
                mode = plan.mode if channel in plan.new else "resumed"
                result = replace(result, mode=mode, source=source, seq=seq)
            results.append(result)
        for channel, found in standing.items():
            if channel not in by_name:
                messages.append(encode_one(_joined(Begin(channel, plan.mode, found.source, found.seq))))
            if plan.mode == "snapshot":
                messages += found.messages
        self._out.extend(_frames(messages))
        return results

    def _unsubscribe(self, request: Unsubscribe) -> Ack:
        channels, symbols = request.channels, request.symbols
        if (channels is UNSET) != (symbols is UNSET):
            raise BadRequest("bad_message", "one of channels and symbols is missing, wanted both or neither")
        if self._state is not None:
            self._free()
            self._whole()
        before = set(self._selection.chosen)
        if channels is UNSET or symbols is UNSET:
            results = self._selection.unsubscribe_all()
        else:
            check_size(channels, symbols, self._settings)
            results = self._selection.unsubscribe(channels, symbols)
        gone = before - self._selection.chosen
        self._line.spend(len(gone))
        if self._state is not None and gone:
            self._restart(())
        for channel in gone:
            self._pages.begun.pop(channel, None)
        return ack(request.id, "unsubscribe", results)

    # ---- steering

    def _steer(self, request: Replay) -> None:
        if request.do == "open":
            self._open(request)
            return
        if self._state is None:
            raise BadRequest("bad_replay", f"{request.do} before open")
        match request.do:
            case "play":
                self._play()
            case "pause":
                if self._state == "playing":
                    self._advance()
                    self._halt("paused")
            case "seek":
                time = time_asked("time", request.time)
                if not self._from <= time <= self._to:
                    raise BadRequest("bad_replay", f"found time {time}, wanted {self._from} to {self._to}")
                self._move(time)
            case "speed":
                speed = speed_asked(request.speed)
                self._advance()
                self._speed, self._anchor = speed, None
                self._tell(self._state)
            case "step":
                self._step(request)
            case "stop":
                self._pages.restart(self._selection.chosen)
                self._halt("ended")
                self._state = None

    def _open(self, request: Replay) -> None:
        if self._state is not None:
            raise BadRequest("bad_replay", "a replay is open, wanted stop first")
        if self._recorded is None:
            raise BadRequest("no_recording", "nothing was recorded when this connection began")
        begin, end = self._recorded.begin, self._recorded.end
        self._from, self._to = open_range(request, begin, end)
        self._speed = 1 if request.speed is UNSET else speed_asked(request.speed)
        self._state = "ready"
        self._move(self._from)

    def _play(self) -> None:
        if self._state == "ended":
            raise BadRequest("bad_replay", "it has ended, wanted a seek first")
        if self._state != "playing":
            self._tell("playing")

    def _step(self, request: Replay) -> None:
        count, until = step_asked(request)
        if self._state == "playing":
            raise BadRequest("bad_replay", "it plays, wanted pause first")
        if until is not None and until <= self._position + 1:
            raise BadRequest("bad_replay", f"found until {until}, it is at {self._position + 1} already")
        self._play()
        self._steps, self._until = count, until

    def _move(self, time: int) -> None:
        self._position = time - 1
        self._restart(self._selection.chosen, moves=True)


def _joined(begin: Begin) -> Joined:
    kind: Kind = begin.channel[0]  # type: ignore[assignment]  # a recorded channel is of a kind
    return Joined(kind, begin.channel[1], begin.mode, begin.source, begin.seq)


def _seek_gap(channel: Channel, source: str, prev: int, seq: int) -> bytes:
    kind: Kind = channel[0]  # type: ignore[assignment]  # a recorded channel is of a kind
    return encode_one(Gap(kind, channel[1], source, prev, seq, None, "seek", lost=False))


def _frames(messages: list[bytes]) -> list[bytes]:
    """Messages in frames of some size."""
    frames: list[bytes] = []
    held: list[bytes] = []
    size = 0
    for message in messages:
        held.append(message)
        size += len(message)
        if size >= _FRAME_BYTES:
            frames.append(text_frame(b"[" + b",".join(held) + b"]"))
            held, size = [], 0
    if held:
        frames.append(text_frame(b"[" + b",".join(held) + b"]"))
    return frames
