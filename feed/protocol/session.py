"""A connection's side of the live stream: texts in, frames out, no socket and no clock.

Owns what requests do on a live stream and what a session says by itself: welcome, heartbeat, goaway. Leaves the order
and the rate of requests to `line`, their form to `request`, channels to `feed.channels`, and the socket to the gateway.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

import msgspec
from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from feed.backfill.requests import BackfillRequests, Door
from feed.channels.distributor import Distributor
from feed.channels.join import Start
from feed.channels.marks import Doubt
from feed.channels.steps import NotYet, Steps
from feed.channels.subscriber import Subscriber
from feed.channels.subscribers import Subscribers
from feed.channels.subscription import Ask, Limits
from feed.channels.view_spec import RAW, ViewSpec
from feed.errors import BadRequest
from feed.protocol.line import Close, Line, SessionSettings, ack, check_size, welcome
from feed.protocol.request import (
    Auth,
    List,
    Ping,
    Replay,
    Request,
    Subscribe,
    Unsubscribe,
    start_of,
)
from feed.wire.frames import message_frame
from feed.wire.model import Ack, Goaway, Heartbeat, Pong, Result

__all__ = ["Close", "Dialogue", "Session", "SessionSettings"]
TOO_SLOW: Final = 4008
DOUBT_NS: Final = 50_000_000
"""So often it is looked whether marks that lie ahead are of these logs."""
DOUBT_LOOKS_MAX: Final = 40


class Dialogue(Protocol):
    """A session as its socket sees it, of a live stream or of a replay.

    Whatever returns frames may raise `Close`: the connection is to be closed, after the frames of the exception.
    """

    @property
    def wake_at(self) -> int | None:
        """When delayed requests go on: call `wake` then."""
        ...

    @property
    def under_way(self) -> bool:
        """Whether requests have left something: call `wake` again when others have had their turn."""
        ...

    @property
    def due(self) -> bool:
        """Whether `pull` has something to give, or will decide that it has not."""
        ...

    @property
    def crowded(self) -> bool:
        """Whether no more is to be received for now: what waits is long."""
        ...

    @property
    def beat_due(self) -> bool:
        """Whether all channels of a subscribe are in step, and no heartbeat has told marks of them yet."""
        ...

    def open(self, now_ns: int) -> bytes:
        """The first frame."""
        ...

    def receive(self, text: bytes, now_ns: int) -> bytes:
        """Takes one text message of the client; returns the frames that answer it, and perhaps a first page of data."""
        ...

    def wake(self, now_ns: int) -> bytes:
        """Goes on with delayed requests."""
        ...

    def pull(self, bytes_max: int, now_ns: int) -> bytes:
        """The next page of data, about so long; asked for only while the socket has room."""
        ...

    def heartbeat(self, now_ns: int) -> bytes:
        """A heartbeat."""
        ...

    def goaway(self, reason: str, after_ms: int, now_ns: int) -> bytes:
        """The last frame before the server closes."""
        ...

    def close(self) -> None:
        """The connection is gone."""
        ...


class Session:
    """One connection to the live stream."""

    def __init__(
        self, distributor: Distributor, owner: object, settings: SessionSettings, door: Door | None = None
    ) -> None:
        """`door`: what reads what memory does not hold any more."""
        self.subscribers = Subscribers(distributor, owner)
        self.subscriber: Subscriber = self.subscribers.raw
        self._hub = distributor.hub
        self._settings = settings
        self._limits = Limits(subscriptions_max=settings.subscriptions_max, patterns_max=settings.patterns_max)
        self._backfills = BackfillRequests(self._hub, self.subscribers, door, self._limits)
        self._offers_past = door is not None
        self._line = Line(settings, self._do, self._touched)
        self._steps_out = False
        """Whether its subscribers were in step when the requests began that are worked off."""
        self._unmarked = False
        self._doubt: tuple[object, Doubt, int] | None = None
        """Of which request, and how often it was looked at."""

    @property
    def wake_at(self) -> int | None:
        """When delayed requests go on (call `wake`), None when there are none."""
        return self._line.wake_at

    @property
    def under_way(self) -> bool:
        """Whether requests have left something for another turn: call `wake`."""
        return self._line.under_way

    @property
    def crowded(self) -> bool:
        """Whether no more is to be received for now: what waits is long."""
        return self._line.crowded

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

    def open(self, now_ns: int) -> bytes:
        """The first frame: welcome."""
        return welcome(self._settings, now_ns)

    def heartbeat(self, now_ns: int) -> bytes:
        """A heartbeat with the marks. Requests have turns of their own: beats of many clients may be due at once."""
        self.subscribers.doubt_holds()
        self._unmarked = self._unmarked and not self.subscribers.in_step
        marks = self.subscribers.marks()
        return message_frame(Heartbeat(str(now_ns), marks, self._hub.lag(marks)))

    def goaway(self, reason: str, after_ms: int, now_ns: int) -> bytes:
        """The last frame before the server closes."""
        return message_frame(Goaway(reason, after_ms, self.subscribers.marks()))

    def pull(self, bytes_max: int, now_ns: int) -> bytes:
        """The next page of what the subscriber misses; empty when nothing is due.

        Raises:
            Close: 4008, the subscriber lagged on a channel with `on_lag: close`.
        """
        page = b""
        if self._is_amid():
            return self.subscribers.follow(bytes_max)
        if self._backfills.due:
            page = self.wake(now_ns) if self._backfills.answered else b""
            if self._is_amid():
                return page  # what was answered is in steps
            # also where nothing is due any more: one hears by this that the socket has drained
            under_way = len(self._backfills)
            page += self._backfills.pull(bytes_max)
            self._unmarked |= len(self._backfills) < under_way
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

    def receive(self, text: bytes, now_ns: int) -> bytes:
        """Takes one text message of the client; returns the frames that answer it, and a first page of data.

        Raises:
            Close: 1008 after `rate_limited` was told often enough, or as `pull`; its frames go out first.
        """
        self._line.take(text, now_ns)
        return b"" if self._line.under_way else self.wake(now_ns)

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
            try:
                frames += self.pull(self._settings.page_bytes, now_ns)
            except Close as end:
                end.frames = frames + end.frames
                raise
        return frames

    def _touched(self, request: Request) -> int:
        """How many channels a request looks at.

        Raises:
            BadRequest: it names more than one may, or half of what it must.
        """
        match request:
            case Subscribe():
                check_size(request.channels, request.symbols, self._settings)
                return self.subscribers.touched(request.channels, request.symbols)
            case Unsubscribe():
                channels, symbols = request.channels, request.symbols
                if channels is UNSET and symbols is UNSET:
                    return self.subscribers.touched(None, None)
                if channels is UNSET or symbols is UNSET:
                    raise BadRequest("bad_message", "one of channels and symbols is missing, wanted both or neither")
                check_size(channels, symbols, self._settings)
                return self.subscribers.touched(channels, symbols)
            case List():
                return self.subscribers.touched(None, None)
        return 0

    def _do(self, request: Request, received_ns: int, now_ns: int) -> msgspec.Struct | Steps[msgspec.Struct]:
        match request:
            case Subscribe():
                return self._subscribe(request, received_ns, now_ns)
            case Unsubscribe():
                return self._unsubscribe(request)
            case List():
                return self._list(request)
            case Ping():
                return Pong(request.id, str(received_ns), str(now_ns))
            case Auth():
                return ack(request.id, "auth", [])
            case Replay():
                raise BadRequest("bad_replay", "this is a live stream")

    def _list(self, request: List) -> Steps[Ack]:
        results = yield from self.subscribers.subscribed()
        return ack(request.id, "list", (yield from self._backfills.subscribed(results)))

    def _subscribe(self, request: Subscribe, received_ns: int, now_ns: int) -> Ack | Steps[Ack]:
        settings = self._settings
        spec = ViewSpec(
            _offered("every_ms", request.every_ms, settings.every_ms),
            _offered("depth", request.depth, settings.depth),
        )
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
            results = self._backfills.results(ask, time)
            if results is not None:
                return self._backfilling(ask, results)
        return self._subscribing(ask, spec, raw)

    def _backfilling(self, ask: Ask, results: Steps[list[Result]]) -> Steps[Ack]:
        return self._acked(ask, (yield from results))

    def _subscribing(self, ask: Ask, spec: ViewSpec, raw: list[str]) -> Steps[Ack]:
        kept = yield from self._backfills.keep(ask, raw)
        return self._acked(ask, (yield from self.subscribers.subscribe(ask, spec, self._backfills.limits, kept)))

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


def _offered(name: str, found: int | UnsetType, offered: tuple[int, ...]) -> int:
    """What a request asks for, 0 where it does not, or says so.

    Raises:
        BadRequest: it is none of those offered.
    """
    if isinstance(found, UnsetType) or found == 0:
        return 0
    if found not in offered:
        wanted = f"0 or one of {', '.join(map(str, offered))}" if offered else "0: this server offers no such view"
        raise BadRequest("bad_message", f"found {name} {found}, wanted {wanted}")
    return found
