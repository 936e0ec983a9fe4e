"""A connection's side of any stream: texts in, frames out. What a live session and a replay's do alike.

Owns what every session tells and answers in the same way: welcome, goaway, `ping`, `auth`, which request is which, and
what a request costs. What a `Dialogue` has on a live stream is `session`'s, in a replay `replay.session`'s: what is
subscribed, what is due, and when requests go on. Leaves the order and the rate of requests to `line`, their form to
`request`, and the socket to the gateway.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import msgspec
from msgspec import UNSET, UnsetType

from feed.channels.steps import Steps
from feed.channels.view_spec import ViewSpec
from feed.errors import BadRequest
from feed.protocol.line import Close, Line, SessionSettings, ack, welcome
from feed.protocol.request import Auth, List, Ping, Replay, Request, Subscribe, Unsubscribe
from feed.wire.frames import message_frame
from feed.wire.model import Ack, Goaway, Pong

Answer = msgspec.Struct | Steps[msgspec.Struct]
"""What answers a request, or the steps to it."""


class Dialogue(ABC):
    """A session as its socket sees it.

    Whatever returns frames may raise `Close`: the connection is to be closed, after the frames of the exception.
    """

    def __init__(self, settings: SessionSettings) -> None:
        self._settings = settings
        self._line = Line(settings, self._do, self._touched)

    # ---- what the socket looks at

    @property
    def wake_at(self) -> int | None:
        """When delayed requests go on (call `wake`), None when there are none."""
        return self._line.wake_at

    @property
    def under_way(self) -> bool:
        """Whether requests have left something: call `wake` again when others have had their turn."""
        return self._line.under_way

    @property
    def crowded(self) -> bool:
        """Whether no more is to be received for now: what waits is long."""
        return self._line.crowded

    @property
    @abstractmethod
    def due(self) -> bool:
        """Whether `pull` has something to give, or will decide that it has not."""

    @property
    @abstractmethod
    def beat_due(self) -> bool:
        """Whether all channels of a subscribe are in step, and no heartbeat has told marks of them yet."""

    # ---- what goes out

    def open(self, now_ns: int) -> bytes:
        """The first frame: welcome."""
        return welcome(self._settings, now_ns)

    @abstractmethod
    def heartbeat(self, now_ns: int) -> bytes:
        """A heartbeat, with the marks."""

    def goaway(self, reason: str, after_ms: int, now_ns: int) -> bytes:
        """The last frame before the server closes."""
        return message_frame(Goaway(reason, after_ms, self._marks()))

    @abstractmethod
    def pull(self, bytes_max: int, now_ns: int) -> bytes:
        """The next page of data, about so long; asked for only while the socket takes more. Empty: nothing is due."""

    # ---- what comes in

    def receive(self, text: bytes, now_ns: int) -> bytes:
        """Takes one text message of the client; returns the frames that answer it, and perhaps a first page of data.

        Raises:
            Close: 1008 after `rate_limited` was told often enough, or as `pull`; its frames go out first.
        """
        self._line.receive(text, now_ns)
        return b"" if self._line.under_way else self.wake(now_ns)

    @abstractmethod
    def wake(self, now_ns: int) -> bytes:
        """Goes on with delayed requests, as far as the rate allows.

        Raises:
            Close: as `pull`.
        """

    @abstractmethod
    def close(self) -> None:
        """The connection is gone; not while a flush is under way."""

    # ---- for those who make one

    @abstractmethod
    def _marks(self) -> dict[str, int]:
        """What a resume starts from."""

    @abstractmethod
    def _touches(self, channels: list[str] | None, symbols: list[str] | None) -> int:
        """How many channels a request for these looks at; None: for all that are subscribed."""

    @abstractmethod
    def _subscribe(self, request: Subscribe, received_ns: int, now_ns: int) -> Ack | Steps[Ack]: ...

    @abstractmethod
    def _unsubscribe(self, request: Unsubscribe) -> Ack | Steps[Ack]: ...

    @abstractmethod
    def _list(self, request: List) -> Ack | Steps[Ack]: ...

    @abstractmethod
    def _replay(self, request: Replay) -> Ack: ...

    def _with_page(self, frames: bytes, now_ns: int) -> bytes:
        """These frames and a page of data, in this order, also where the page ends the connection.

        Raises:
            Close: as `pull`.
        """
        try:
            return frames + self.pull(self._settings.page_bytes, now_ns)
        except Close as end:
            end.frames = frames + end.frames
            raise

    def _view(self, request: Subscribe) -> ViewSpec:
        """How a request wants its channels to be seen.

        Raises:
            BadRequest: there is no such view.
        """
        settings = self._settings
        return ViewSpec(
            _offered("every_ms", request.every_ms, settings.every_ms),
            _offered("depth", request.depth, settings.depth),
        )

    def _touched(self, request: Request) -> int:
        """How many channels a request looks at.

        Raises:
            BadRequest: it names more than one may, or half of what it must.
        """
        match request:
            case Subscribe():
                channels, symbols = request.channels, request.symbols
            case Unsubscribe():
                if request.channels is UNSET and request.symbols is UNSET:
                    return self._touches(None, None)
                if request.channels is UNSET or request.symbols is UNSET:
                    raise BadRequest("bad_message", "one of channels and symbols is missing, wanted both or neither")
                channels, symbols = request.channels, request.symbols
            case List():
                return self._touches(None, None)
            case _:
                return 0
        self._check_size(channels, symbols)
        return self._touches(channels, symbols)

    def _check_size(self, channels: list[str], symbols: list[str]) -> None:
        most = self._settings.symbols_max
        if len(symbols) > most or len(channels) * len(symbols) > 6 * most:
            raise BadRequest("subscription_limit", f"found {len(symbols)} symbols in a request, wanted up to {most}")

    def _do(self, request: Request, received_ns: int, now_ns: int) -> Answer:
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
                return self._replay(request)


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
