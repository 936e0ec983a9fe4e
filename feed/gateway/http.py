"""HTTP as uvicorn speaks it by h11, with the bounds that it lacks.

Owns, for each TCP connection: its admission (all connections, those of one address), the size of a request's head, an
absolute deadline for the whole request and one for its response (for each piece of one that says so), which bytes a
header may hold, and how often an address may ask. Leaves routes to `app`, and what follows an upgrade to `ws`.

What no route here takes is refused before any of it is worked on: bodies, requests behind one that is not answered yet,
bytes of TLS. (A request with two lengths, which two servers may read differently, has a body.)

Why h11: httptools has no limit for headers at all. Why here: uvicorn has no deadline for a request, and ASGI
middleware runs only after parsing.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from math import ceil
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

import h11
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.utils import get_remote_addr
from uvicorn.server import ServerState

from feed.errors import shown
from feed.gateway.origin import is_loopback, known

if TYPE_CHECKING:
    from fastapi import FastAPI

    from feed.gateway.doors import Visits
    from feed.gateway.gateway import Gateway
    from feed.gateway.ws import StreamProtocol

# Line breaks for somebody's `splitlines`, escapes for somebody's terminal.
_SHOWN_MAX: Final = 80
_CONTROL: Final = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")
_REASONS: Final = {400: "Bad Request", 408: "Request Timeout", 429: "Too Many Requests", 503: "Service Unavailable"}
_REASONS[421] = "Misdirected Request"
_REASONS[431] = "Request Header Fields Too Large"
_REFUSED_SECONDS: Final = 1.0
_TOO_MANY: Final = 429
_PROBES: Final = (b"/livez", b"/readyz")
_BLANK: Final = b"\r\n"
_BYTE_MIN: Final = 0x20
_BYTE_MAX: Final = 0x7E
_WHOLE: Final = (h11.DONE, h11.MUST_CLOSE, h11.MIGHT_SWITCH_PROTOCOL)  # type: ignore[attr-defined]  # public, unlisted
_ANSWERED: Final = (h11.SEND_RESPONSE, h11.SEND_BODY)


class GatewayConfig(Config):
    """uvicorn's configuration of all our servers; it also carries the gateway, for the protocol classes.

    `more`: options that differ between them.
    """

    def __init__(self, app: FastAPI, gateway: Gateway, **more: Any) -> None:
        super().__init__(
            app,
            http=HttpProtocol,
            loop="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=5,
            timeout_graceful_shutdown=1,
            **more,
        )
        self.gateway = gateway


class Refusal(NamedTuple):
    """Why a request is not answered; `retry_s`: when it may be."""

    status: int
    text: str
    retry_s: int = 0


class StrictConnection(h11.Connection):
    """h11's connection, without bodies and other versions, and without control characters in any reading of a header's
    bytes.

    `hosts`: where they are given, only these names are taken as a `Host`. `admits` is asked about each request.
    """

    hosts: Sequence[str] | None = None
    admits: Callable[[bytes, bool], Refusal | None] | None = None
    """Given its target and whether it is the handshake of a WebSocket."""
    refusal: Refusal | None = None
    """Why the request is refused that came last."""

    def next_event(self) -> Any:
        """As h11's, but what is refused is told by `refusal` and is no event: uvicorn would log each as a warning."""
        if self.refusal is not None:
            return h11.NEED_DATA
        try:
            event = super().next_event()
        except h11.RemoteProtocolError as error:
            # h11's own is held by a frame of its own traceback, and all frames up to the connection with it
            error.__traceback__ = None
            self.refusal = _UNREADABLE
        else:
            if isinstance(event, h11.Request):
                self.refusal = self._refused(event)
        return event if self.refusal is None else h11.NEED_DATA

    def _refused(self, request: h11.Request) -> Refusal | None:
        if request.http_version not in (b"1.0", b"1.1"):
            return _UNREADABLE
        upgrade, connection = b"", b""
        for name, value in request.headers:
            if not clean(value):
                return _UNREADABLE
            # who sends no host is no browser
            if name == b"host" and self.hosts is not None and not known(host := value.decode("latin-1"), self.hosts):
                found = f"host {shown(host, _SHOWN_MAX)} is no name of this server"
                return Refusal(421, f"{found}; its names are the setting serve.hosts")
            if name == b"transfer-encoding" or (name == b"content-length" and value.strip(b"0")):
                return Refusal(400, "no request has a body here")
            if name == b"upgrade":
                upgrade = value.lower()
            elif name == b"connection":
                connection = value.lower()
        stream = upgrade == b"websocket" and b"upgrade" in [token.strip() for token in connection.split(b",")]
        return None if self.admits is None else self.admits(request.target, stream)


_UNREADABLE: Final = Refusal(400, "not a request that can be read")


def clean(value: bytes) -> bool:
    """Whether a header value has no control characters, read as UTF-8 or else as Latin-1."""
    try:
        text = value.decode()
    except UnicodeDecodeError:
        text = value.decode("latin-1")
    return _CONTROL.search(text) is None


class HttpProtocol(H11Protocol):
    """One TCP connection, until it is closed or becomes a WebSocket."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.gateway = cast(GatewayConfig, config).gateway
        self.limits = self.gateway.settings.limits
        self.strict = StrictConnection(h11.SERVER, self.limits.handshake_bytes_max)
        self.strict.admits = self._admits
        self.conn = self.strict
        self.head_bytes = 0
        self.refusal: Refusal | None = None
        self.pipelined = False
        self._due_by = self._making_since = 0.0
        self.deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """Admits the connection, or keeps it just long enough to say why not."""
        super().connection_made(transport)
        address = transport.get_extra_info("sockname")
        if address and is_loopback(str(address[0])):
            self.strict.hosts = self.gateway.settings.hosts
        peer = get_remote_addr(transport)
        self.address = peer[0] if peer else ""
        refused = self.gateway.doors.enter(transport, peer)
        self.refusal = None if refused is None else Refusal(*refused)
        if self.refusal is None:
            self._within(self.limits.handshake_seconds, self._request_late)
        elif self.gateway.doors.crowded:
            transport.abort()
        else:
            self._within(_REFUSED_SECONDS, transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        """Gives its place back."""
        self._in_time()
        self.gateway.doors.leave(self.transport)
        super().connection_lost(exc)
        self.strict.admits = None
        if self.scope is not None:
            self.scope["state"].pop("http", None)  # which holds the scope

    def data_received(self, data: bytes) -> None:
        """Takes bytes while the request is within its bounds."""
        if self.transport.is_closing():
            return
        if self.refusal is not None:
            self._refuse(self.refusal)
            return
        if self.conn.their_state in _WHOLE and self.conn.our_state in _ANSWERED:
            self._pipelined()
            return
        if self.conn.their_state is h11.IDLE:
            if not self.head_bytes and not (_BYTE_MIN <= data[0] <= _BYTE_MAX or data[0] in _BLANK):
                # TLS, most likely
                self._refuse(self._owed() or _UNREADABLE)
                return
            if self.deadline is None:
                self._within(self.limits.handshake_seconds, self._request_late)
            room = self.limits.handshake_bytes_max - self.head_bytes
            self.head_bytes += len(data)
            if len(data) > room:
                super().data_received(data[:room])
                if self.conn.their_state is h11.IDLE:
                    words = f"a request's line and headers may have {self.limits.handshake_bytes_max} bytes"
                    self._refuse(Refusal(431, words))
                    return
                data = data[room:]
        protocol = self.transport.get_protocol()
        if protocol is self:
            super().data_received(data)
        else:
            cast("StreamProtocol", protocol).data_received(data)

    def on_response_complete(self) -> None:
        """Stops the clock; the next request has its own."""
        self._in_time()
        self.head_bytes = 0
        super().on_response_complete()
        if self.transport.get_write_buffer_size() and self.deadline is None:
            # uvicorn is done with it, the network is not
            self._within(self.limits.response_seconds, self._response_late)

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """Hands the connection over, and with it what a hasty client sent behind its request."""
        self._in_time()
        if event.http_version != b"1.1":
            # uvicorn would tell websockets that it was 1.1
            self._refuse(Refusal(400, "a WebSocket begins with HTTP/1.1"))
            return
        early = self.conn.trailing_data[0]
        super().handle_websocket_upgrade(event)
        self.strict.admits = None  # it holds this, and nobody ends it any more
        protocol = cast("StreamProtocol", self.transport.get_protocol())
        if early and not self.transport.is_closing():
            protocol.data_received(early)

    def handle_events(self) -> None:
        """As uvicorn's; a request that is there as a whole starts the clock of its response."""
        super().handle_events()
        refused = self.strict.refusal
        if refused is not None:
            self._refuse(refused if refused.status == _TOO_MANY else self._owed() or refused)
        if self.transport.is_closing() or self.transport.get_protocol() is not self:
            return
        if self.conn.our_state is h11.SEND_RESPONSE and self.conn.their_state in _WHOLE:
            self._due_by = self.loop.time() + self.limits.response_seconds
            self.progressed()
            # for answers of any length; the task that runs the application starts only after this
            self.scope["state"]["http"] = self
            if self.conn.trailing_data[0]:
                self._pipelined()

    def _admits(self, target: bytes, stream: bool) -> Refusal | None:
        """Whether its address may ask now; a handshake counts whatever becomes of it."""
        doors = self.gateway.doors
        if stream:
            return self._owed(doors.handshakes, "handshakes")
        return self._owed(doors.probes if target.partition(b"?")[0] in _PROBES else doors.visits)

    def _owed(self, visits: Visits | None = None, what: str = "requests") -> Refusal | None:
        visits = self.gateway.doors.visits if visits is None else visits
        owed = visits.owed_seconds(self.address, self.loop.time())
        words = f"{visits.per_second} {what} a second of one address are allowed, {visits.burst} at once"
        return Refusal(_TOO_MANY, words, ceil(owed)) if owed else None

    def _pipelined(self) -> None:
        """What comes before the last answer is complete is not looked at, and the connection ends with that answer:
        who has sent it has to ask again (RFC 9112, 9.3.2)."""
        if not self.pipelined:
            self.pipelined = True
            self._owed()
            self.cycle.keep_alive = False
            # unread bytes would reset the connection at its close, and the answer could be lost
            self.flow.resume_reading()

    def progressed(self) -> None:
        """The client took what was written of a long response: its deadline starts anew."""
        self._making_since = self.loop.time()
        if not self.transport.is_closing():
            self._within(self.limits.response_seconds, self.transport.abort)

    def sends(self, size: int) -> None:
        """So much more of a long response is made, and waits for the client to take what came before. Over all of it a
        client has to keep up a rate; what making took is not its time."""
        now = self.loop.time()
        self._due_by += now - self._making_since + size / self.limits.history_bytes_per_second_min
        if not self.transport.is_closing():
            self._within(min(self.limits.response_seconds, self._due_by - now), self.transport.abort)

    def _unsupported_upgrade_warning(self) -> None:
        """Not a line in the log for each."""

    def _request_late(self) -> None:
        self._refuse(Refusal(408, f"a request has {self.limits.handshake_seconds:g} s"))

    def _response_late(self) -> None:
        if self.transport.get_write_buffer_size():
            self.transport.abort()

    def _refuse(self, why: Refusal) -> None:
        self._in_time()
        self.gateway.metrics.labelled("feed_gateway_refused", "Requests refused before a route saw them", "status").of(
            str(why.status)
        ).value += 1
        if not self.transport.is_closing():
            self.transport.write(answer_to(why))
            self.transport.close()
            self._within(_REFUSED_SECONDS, self.transport.abort)  # who does not read it is not waited for

    def _within(self, seconds: float, act: Any) -> None:
        self._in_time()
        self.deadline = self.loop.call_later(seconds, act)

    def _in_time(self) -> None:
        if self.deadline is not None:
            self.deadline.cancel()
            self.deadline = None


def answer_to(refused: Refusal) -> bytes:
    """A whole HTTP response that says why, and closes."""
    body = refused.text.encode() + b"\n"
    retry = f"retry-after: {refused.retry_s}\r\n" if refused.retry_s else ""
    return (
        f"HTTP/1.1 {refused.status} {_REASONS[refused.status]}\r\ncontent-type: text/plain; charset=utf-8\r\n{retry}"
        f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
    ).encode() + body
