"""A connection's side of a replay: texts in, frames out, no socket, no file, and a steady clock that is given to it.

Owns what requests do in a replay. What flows, and when, is `flow`'s; the order and rate of requests are those of any
session (`feed.protocol.line`).

One order at a time: requests that change what is read wait, in their line, until the one before was carried out. So an
ack of a subscribe can say where each channel begins, as on a live stream.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, Literal, NamedTuple

from msgspec import UNSET
from msgspec.structs import replace

from feed.channels.steps import NotYet
from feed.channels.subscription import Limits
from feed.errors import BadRequest
from feed.protocol.dialogue import Dialogue
from feed.protocol.line import Close, SessionSettings, ack
from feed.protocol.request import List, Replay, Subscribe, Unsubscribe, start_of
from feed.recording.state_at import ChannelState
from feed.wire.frames import encode_one, message_frame
from feed.wire.model import Ack, Heartbeat, Result
from replay.ahead import Ahead
from replay.flow import Flow, Order
from replay.pages import Begin
from replay.requests import open_range, speed_asked, step_asked, time_asked
from replay.selection import Channel, ReplaySelection

_INTERNAL: Final = 1011


class Recorded(NamedTuple):
    """What there is: clocks of the first and the last row, and the channels."""

    begin: int
    end: int
    channels: frozenset[Channel]


class _Plan(NamedTuple):
    """A subscribe that waits for the states of channels."""

    results: list[Result]
    new: frozenset[Channel]
    mode: Literal["snapshot", "live"]


class ReplaySession(Dialogue):
    """One connection. `changed` is called when the player should look at `order`, `hungry` and `wait_ns` again."""

    def __init__(
        self,
        settings: SessionSettings,
        recorded: Recorded | None,
        *,
        changed: Callable[[], None],
        steady_ns: Callable[[], int],
    ) -> None:
        super().__init__(replace(settings, every_ms=(), depth=()))  # a replay has no views
        self.closed = False
        self._recorded = recorded
        self._changed = changed
        limits = Limits(subscriptions_max=settings.subscriptions_max, patterns_max=settings.patterns_max)
        self.selection = ReplaySelection(recorded.channels if recorded else (), limits)
        self.flow = Flow(changed=changed, steady_ns=steady_ns, on_lag=self.selection.on_lag)
        self._held = False
        self._failed = False
        self._plan: _Plan | None = None
        self._found: Mapping[Channel, ChannelState] = {}

    # ---- the socket's side

    @property
    def under_way(self) -> bool:
        """Whether requests have left something for another turn: call `wake`."""
        return self._line.under_way and not self._held

    @property
    def due(self) -> bool:
        """Whether `pull` has something to give now."""
        return self.flow.due or self._failed or self._goes_on

    @property
    def beat_due(self) -> bool:
        """Never: nothing is resumed in a replay, so no marks are waited for."""
        return False

    def heartbeat(self, now_ns: int) -> bytes:
        """A heartbeat with the marks; they begin anew when the replay is moved."""
        return message_frame(Heartbeat(str(now_ns), self._marks(), None))

    def close(self) -> None:
        """The connection is gone, and with it all that was read for it and what it asked for."""
        self.closed = True
        self.flow.close()
        self._plan, self._found = None, {}
        self._line.close()
        self._changed()

    def wake(self, now_ns: int) -> bytes:
        """Goes on with delayed requests as far as the rate allows.

        Raises:
            Close: as `pull`.
        """
        if not self._line or self._held:
            return b""
        frames = self._line.work(now_ns)
        self._changed()
        return self._with_page(frames, now_ns)

    def pull(self, bytes_max: int, now_ns: int) -> bytes:
        """What is due, up to about so many bytes; empty when nothing is.

        Raises:
            Close: 1011, the recording cannot be read.
        """
        if self._failed:
            raise Close(_INTERNAL, "the recording cannot be read")
        frames: list[bytes] = []
        room = bytes_max
        self.flow.advance()
        while room > 0 and (frame := self._next(room, now_ns)):
            frames.append(frame)
            room -= len(frame)
        self.flow.advance()  # the end may have come
        frames.append(self.flow.where())
        return b"".join(frames)

    @property
    def _goes_on(self) -> bool:
        """Whether a request that waited for an order need not wait any longer."""
        return self._held and self.flow.order is None

    def _next(self, room: int, now_ns: int) -> bytes:
        out = self.flow.out
        if out:
            return out.popleft()
        if self._goes_on:
            self._held = False
            frames = self._line.work(now_ns)
            self._changed()
            if frames or out:
                return frames or out.popleft()
        return self.flow.rows(room) if self.flow.rows_due else b""

    # ---- the reader's side

    @property
    def order(self) -> Order | None:
        """What is to be read now, before any page."""
        return self.flow.order

    @property
    def hungry(self) -> bool:
        """Whether the next page should be read."""
        return self.flow.hungry

    @property
    def wait_ns(self) -> int | None:
        """How long until `due` may be true without anything else happening; None: for ever."""
        return self.flow.wait_ns

    def stands(self, standing: Mapping[Channel, ChannelState]) -> None:
        """The order was carried out: how its channels stood; pages come from there."""
        if not self.flow.stands(standing).moves:
            self._found = standing

    def take(self, page: Ahead | None) -> None:
        """The next page; None: there is no more."""
        self.flow.take(page)

    def fail(self) -> None:
        """The recording cannot be read: the connection will be closed."""
        self._failed = True

    # ---- requests

    def _marks(self) -> dict[str, int]:
        return self.flow.pages.marks()

    def _touches(self, channels: list[str] | None, symbols: list[str] | None) -> int:
        if channels is None or symbols is None:
            return self.selection.count
        return self.selection.touched(channels, symbols)

    def _list(self, request: List) -> Ack:
        return ack(request.id, "list", self.selection.subscribed())

    def _replay(self, request: Replay) -> Ack:
        self._free()
        self._steer(request)
        return ack(request.id, "replay", [])

    def _later(self) -> NotYet:
        """To be raised: the request is done again when the order was carried out, and what is put out has gone."""
        self._held = True
        return NotYet()

    def _free(self) -> None:
        """Sees to it that no order is under way.

        Raises:
            NotYet: one is.
        """
        if self.flow.order is not None:
            raise self._later()

    def _between(self) -> None:
        """Sees to it that channels may change: no order is under way, and no moment is cut.

        Raises:
            NotYet: they may, when that has gone out.
        """
        if self.flow.state is not None:
            self._free()
            if not self.flow.whole():
                raise self._later()

    def _subscribe(self, request: Subscribe, received_ns: int, now_ns: int) -> Ack:
        if self._plan is not None:
            plan, self._plan = self._plan, None
            return ack(request.id, "subscribe", self._joining(plan))
        self._view(request)  # refuses all but none
        start = start_of(request)
        mode = "time" if isinstance(start, int) else None if start is None else start.mode
        if mode not in (None, "snapshot", "live"):
            raise BadRequest("bad_position", f"from {mode} in a replay, wanted snapshot or live; elsewhere it seeks")
        self._between()
        before = set(self.selection.chosen)
        results, asked = self.selection.subscribe(request.channels, request.symbols, request.on_lag)
        if self.flow.state is None:
            return ack(request.id, "subscribe", results)
        new = frozenset(channel for channel in asked if channel not in before or mode is not None)
        plan = _Plan(results, new, "live" if mode == "live" else "snapshot")
        if not new:
            return ack(request.id, "subscribe", self._joining(plan))
        self._plan, self._found = plan, {}
        self.flow.restart(self.selection.picked(), self.selection.chosen, new)
        raise self._later()

    def _joining(self, plan: _Plan) -> list[Result]:
        """The results of a subscribe of which it is known how channels stand; what comes with it is put out."""
        pages = self.flow.pages
        standing = {channel: found for channel, found in self._found.items() if channel in plan.new}
        for channel in plan.new:
            pages.begun.pop(channel, None)
        pages.begun |= {channel: (found.source, found.seq) for channel, found in standing.items()}
        results: list[Result] = []
        by_name: set[Channel] = set()
        for result in plan.results:
            channel = result.channel, result.symbol
            if result.ok and channel in pages.begun:
                by_name.add(channel)
                source, seq = pages.position(channel)
                mode = plan.mode if channel in plan.new else "resumed"
                result = replace(result, mode=mode, source=source, seq=seq)
            results.append(result)
        messages: list[bytes] = []
        for channel, found in standing.items():
            if channel not in by_name:
                messages.append(encode_one(self.flow.joined(Begin(channel, plan.mode, found.source, found.seq))))
            if plan.mode == "snapshot":
                messages += found.messages
        self.flow.put(messages)
        return results

    def _unsubscribe(self, request: Unsubscribe) -> Ack:
        channels, symbols = request.channels, request.symbols
        self._between()
        before = set(self.selection.chosen)
        if channels is UNSET or symbols is UNSET:
            results = self.selection.unsubscribe_all()
        else:
            results = self.selection.unsubscribe(channels, symbols)
        gone = before - self.selection.chosen
        if self.flow.state is not None and gone:
            self.flow.restart(self.selection.picked(), self.selection.chosen, ())
        for channel in gone:
            self.flow.pages.begun.pop(channel, None)
        return ack(request.id, "unsubscribe", results)

    # ---- steering

    def _steer(self, request: Replay) -> None:
        flow = self.flow
        if request.do == "open":
            self._open(request)
            return
        if flow.state is None:
            raise BadRequest("bad_replay", f"{request.do} before open")
        match request.do:
            case "play":
                self._refuse_ended()
                flow.play()
            case "pause":
                flow.pause()
            case "seek":
                time = time_asked("time", request.time)
                if not flow.begin <= time <= flow.end:
                    raise BadRequest("bad_replay", f"found time {time}, wanted {flow.begin} to {flow.end}")
                flow.move(time, self.selection.picked(), self.selection.chosen)
            case "speed":
                flow.pace(speed_asked(request.speed))
            case "step":
                self._step(request)
            case "stop":
                flow.stop()

    def _open(self, request: Replay) -> None:
        if self.flow.state is not None:
            raise BadRequest("bad_replay", "a replay is open, wanted stop first")
        if self._recorded is None:
            raise BadRequest("no_recording", "nothing was recorded when this connection began")
        begin, end = open_range(request, self._recorded.begin, self._recorded.end)
        self.flow.open(begin, end, 1 if request.speed is UNSET else speed_asked(request.speed))
        self.flow.move(begin, self.selection.picked(), self.selection.chosen)

    def _step(self, request: Replay) -> None:
        count, until = step_asked(request)
        if self.flow.state == "playing":
            raise BadRequest("bad_replay", "it plays, wanted pause first")
        if until is not None and until <= self.flow.position + 1:
            raise BadRequest("bad_replay", f"found until {until}, it is at {self.flow.position + 1} already")
        self._refuse_ended()
        self.flow.step(count, until)

    def _refuse_ended(self) -> None:
        if self.flow.state == "ended":
            raise BadRequest("bad_replay", "it has ended, wanted a seek first")
