"""A connection's side of the live stream: texts in, frames out, no socket and no clock.

Owns what requests do on a live stream, and its heartbeats. Leaves what is alike in a replay to `dialogue`, and channels
to `feed.channels`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from msgspec import UNSET
from msgspec.structs import replace

from feed.backfill.request import BackfillReader
from feed.backfill.requests import BackfillRequests
from feed.channels.distributor import Distributor
from feed.channels.join import Start
from feed.channels.marks import Doubt
from feed.channels.steps import NotYet, Steps
from feed.channels.subscriber import Subscriber
from feed.channels.subscribers import Subscribers
from feed.channels.subscription import Ask, Limits
from feed.channels.view_spec import RAW, ViewSpec
from feed.errors import BadRequest
from feed.protocol.dialogue import Dialogue
from feed.protocol.line import Close, SessionSettings, ack
from feed.protocol.request import List, Replay, Subscribe, Unsubscribe, start_of
from feed.wire.frames import message_frame
from feed.wire.model import Ack, Heartbeat, Result

__all__ = ["Close", "Session", "SessionSettings"]
TOO_SLOW: Final = 4008
DOUBT_NS: Final = 50_000_000
"""So often it is looked whether marks that lie ahead are of these logs."""
DOUBT_LOOKS_MAX: Final = 40


class Session(Dialogue):
    """One connection to the live stream."""

    def __init__(
        self, distributor: Distributor, owner: object, settings: SessionSettings, past: BackfillReader | None = None
    ) -> None:
        """`past`: what reads what memory does not hold any more; None where that cannot be asked for."""
        super().__init__(settings)
        self.subscribers = Subscribers(distributor, owner)
        self.subscriber: Subscriber = self.subscribers.raw
        self._hub = distributor.hub
        self._limits = Limits(subscriptions_max=settings.subscriptions_max, patterns_max=settings.patterns_max)
        self._backfills = BackfillRequests(self._hub, self.subscribers, past, self._limits)
        self._offers_past = past is not None
        self._steps_out = False
        """Whether its subscribers were in step when the requests began that are worked off."""
        self._unmarked = False
        self._doubt: tuple[object, Doubt, int] | None = None
        """Of which request, and how often it was looked at."""

    @property
    def due(self) -> bool:
        """Whether the subscriber misses something."""
        if self._line.amid:
            return self.subscribers.follows
        return not self.subscribers.in_step or self._backfills.due

    @property
    def beat_due(self) -> bool:
        """Whether a subscribe is in step of which no heartbeat has told marks yet."""
        return self._unmarked and self.subscribers.in_step and not self._line.amid

    # ---- what the server says by itself

    def heartbeat(self, now_ns: int) -> bytes:
        """A heartbeat with the marks. Requests have turns of their own: beats of many clients may be due at once."""
        self.subscribers.doubt_holds()
        self._unmarked = self._unmarked and not self.subscribers.in_step
        marks = self.subscribers.marks()
        return message_frame(Heartbeat(str(now_ns), marks, self._hub.lag(marks)))

    def pull(self, bytes_max: int, now_ns: int) -> bytes:
        """The next page of what the subscriber misses; empty when nothing is due.

        Raises:
            Close: 4008, the subscriber lagged on a channel with `on_lag: close`.
        """
        page = b""
        if self._is_amid():
            return self.subscribers.follow(bytes_max)
        if self._backfills.due:
            page = self.wake(now_ns) if self._backfills.answerable else b""
            if self._is_amid():
                return page  # what was answered is in steps
            # also where nothing is due any more: by this they hear that the page before was sent
            before = len(self._backfills)
            page += self._backfills.pull(bytes_max)
            self._unmarked |= len(self._backfills) < before
        page += self.subscribers.pull(bytes_max)
        if self.subscribers.too_slow:
            raise Close(TOO_SLOW, "too slow", page + self.goaway("lag", 0, now_ns))
        return page

    def close(self) -> None:
        """The connection is gone; not while a flush is under way."""
        self._line.close()
        self._backfills.close()
        self.subscribers.close()

    # ---- requests

    def _is_amid(self) -> bool:
        """Whether a request has done a part of its steps: nothing of it is sent before it is answered, only what the
        client has already."""
        return self._line.amid

    def wake(self, now_ns: int) -> bytes:
        """Goes on with delayed requests as far as the rate allows.

        Raises:
            Close: as `pull`.
        """
        if not self._line:
            return b""
        if not self._line.amid:
            self._steps_out = self.subscribers.in_step
        frames = self._line.work(now_ns)
        if self._steps_out and not self._line.amid and not self.subscribers.in_step:
            return self._with_page(frames, now_ns)
        return frames

    def _marks(self) -> dict[str, int]:
        return self.subscribers.marks()

    def _touches(self, channels: list[str] | None, symbols: list[str] | None) -> int:
        return self.subscribers.touched(channels, symbols)

    def _replay(self, request: Replay) -> Ack:
        raise BadRequest("bad_replay", "this is a live stream")

    def _list(self, request: List) -> Steps[Ack]:
        results = yield from self.subscribers.subscribed()
        return ack(request.id, "list", (yield from self._backfills.subscribed(results)))

    def _subscribe(self, request: Subscribe, received_ns: int, now_ns: int) -> Ack | Steps[Ack]:
        spec = self._view(request)
        raw = [kind for kind in request.channels if spec.of(kind) == RAW]
        start = start_of(request)
        time = None
        if isinstance(start, int):
            time = start
            if len(raw) < len(request.channels):
                raise BadRequest("bad_position", "history has every update: take a view when it has caught up")
            if not self._offers_past:
                return ack(request.id, "subscribe", _no_past(request))
            start = Start("snapshot")
        ask = Ask(
            id=request.id,
            channels=request.channels,
            symbols=request.symbols,
            start=start,
            on_lag=request.on_lag,
            wait=request.wait,
            since=time,
        )
        if start is not None and start.mode == "marks":
            ask = replace(ask, beyond=self._beyond(start.marks, (request.id, received_ns), now_ns))
        if time is not None and time > now_ns:
            ask = replace(ask, start=Start("last"), since=None)  # all that there is now, and `caught_up`
        elif time is not None or (start is not None and start.mode == "marks" and len(raw) == len(request.channels)):
            steps = self._backfills.subscribe(ask, time)
            if steps is not None:
                return self._backfilling(ask, steps)
        return self._subscribing(ask, spec, raw)

    def _backfilling(self, ask: Ask, steps: Steps[list[Result]]) -> Steps[Ack]:
        return self._acked(ask, (yield from steps))

    def _subscribing(self, ask: Ask, spec: ViewSpec, raw: list[str]) -> Steps[Ack]:
        kept = yield from self._backfills.leave_to_live(ask, raw)
        return self._acked(ask, (yield from self.subscribers.subscribe(ask, spec, self._backfills.live_limits, kept)))

    def _acked(self, ask: Ask, results: list[Result]) -> Ack:
        self._unmarked |= any(result.ok for result in results)
        return ack(ask.id, "subscribe", results)

    def _beyond(self, marks: Mapping[str, int], of: object, now_ns: int) -> frozenset[str]:
        """The sources whose marks are of none of these logs.

        Raises:
            NotYet: a mark lies ahead, and it is not known whether this gateway will come there.
        """
        if self._doubt is None or self._doubt[0] != of:
            self._doubt = of, Doubt(self._hub, marks), 0
        _, doubt, looks = self._doubt
        # where nothing is read it may only lag: what turns out later is told by a gap
        if doubt.open and looks < DOUBT_LOOKS_MAX:
            self._doubt = of, doubt, looks + 1
            raise NotYet(now_ns + DOUBT_NS)
        return doubt.beyond

    def _unsubscribe(self, request: Unsubscribe) -> Steps[Ack]:
        channels, symbols = request.channels, request.symbols
        if channels is UNSET or symbols is UNSET:
            gone = yield from self.subscribers.unsubscribe_all()
            return ack(request.id, "unsubscribe", gone + (yield from self._backfills.unsubscribe_all()))
        results = yield from self.subscribers.unsubscribe(channels, symbols, self._limits)
        return ack(request.id, "unsubscribe", (yield from self._backfills.unsubscribe(channels, symbols, results)))


def _no_past(request: Subscribe) -> list[Result]:
    kinds, symbols = dict.fromkeys(request.channels), dict.fromkeys(request.symbols)
    return [Result(kind, symbol, ok=False, code="no_recording") for kind in kinds for symbol in symbols]
