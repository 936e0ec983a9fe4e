"""HTTP as uvicorn speaks it by h11, with the bounds that it lacks.

Owns, for each TCP connection: its admission (all connections, those of one address), the size of a request's head, an
absolute deadline for the whole request and one for its response (for each piece of one that says so), and which bytes a
header may hold. Leaves routes to `app`, and what follows an upgrade to `ws`.

Why h11: httptools has no limit for headers at all. Why here: uvicorn has no deadline for a request, and ASGI
middleware runs only after parsing.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, cast

import h11
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.utils import get_remote_addr
from uvicorn.server import ServerState

from feed.gateway.origin import is_loopback, known

if TYPE_CHECKING:
    from feed.gateway.gateway import Gateway
    from feed.gateway.ws import StreamProtocol

# Line breaks for somebody's `splitlines`, escapes for somebody's terminal.
_CONTROL: Final = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")
_REASONS: Final = {400: "Bad Request", 408: "Request Timeout", 429: "Too Many Requests", 503: "Service Unavailable"}
_REASONS[421] = "Misdirected Request"
_REASONS[431] = "Request Header Fields Too Large"
_REFUSED_SECONDS: Final = 1.0
_SHOWN_CHARS_MAX: Final = 80
_WHOLE: Final = (h11.DONE, h11.MUST_CLOSE, h11.MIGHT_SWITCH_PROTOCOL)  # type: ignore[attr-defined]  # public, unlisted


class GatewayConfig(Config):
    """uvicorn's configuration that also carries the gateway, for the protocol classes."""

    gateway: Gateway


class Refused(h11.RemoteProtocolError):
    """A request head that h11 would take and we do not."""


class StrictConnection(h11.Connection):
    """h11's connection, without other versions, and without control characters in any reading of a header's bytes.

    `hosts`: where they are given, only these names are taken as a `Host`; `wrong_host` says that one was not.
    """

    hosts: Sequence[str] | None = None
    wrong_host: str | None = None

    def next_event(self) -> Any:
        """As h11's; raises `Refused` (an h11 error, which uvicorn answers with 400)."""
        try:
            event = super().next_event()
        except h11.RemoteProtocolError as error:
            # h11's own is held by a frame of its own traceback, and all frames up to the connection with it
            error.__traceback__ = None
            raise Refused(str(error), error_status_hint=error.error_status_hint) from None
        if isinstance(event, h11.Request):
            if event.http_version not in (b"1.0", b"1.1"):
                raise Refused("HTTP of another version")
            for _, value in event.headers:
                if not clean(value):
                    raise Refused("control character in a header")
            if self.hosts is not None:
                # who sends none is no browser
                for name, value in event.headers:
                    if name == b"host" and not known(host := value.decode("latin-1"), self.hosts):
                        self.wrong_host = host
                        raise Refused("host that is not ours")
        return event


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
        self.conn = self.strict
        self.head_bytes = 0
        self.refusal: tuple[int, str] | None = None
        self.deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """Admits the connection, or keeps it just long enough to say why not."""
        super().connection_made(transport)
        address = transport.get_extra_info("sockname")
        if address and is_loopback(str(address[0])):
            self.strict.hosts = self.gateway.settings.hosts
        self.refusal = self.gateway.doors.enter(transport, get_remote_addr(transport))
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
        if self.scope is not None:
            self.scope["state"].pop("http", None)  # which holds the scope

    def data_received(self, data: bytes) -> None:
        """Takes bytes while the request is within its bounds."""
        if self.transport.is_closing():
            return
        if self.refusal is not None:
            self._refuse(*self.refusal)
            return
        if self.conn.their_state is h11.IDLE:
            if self.deadline is None:
                self._within(self.limits.handshake_seconds, self._request_late)
            room = self.limits.handshake_bytes_max - self.head_bytes
            self.head_bytes += len(data)
            if len(data) > room:
                super().data_received(data[:room])
                if self.conn.their_state is h11.IDLE:
                    self._refuse(431, f"a request's line and headers may have {self.limits.handshake_bytes_max} bytes")
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
        if self.conn.our_state is h11.DONE and self.conn.their_state is h11.SEND_BODY:
            # answered before its body came: what is left of the body has a deadline too
            self._within(self.limits.handshake_seconds, self.transport.abort)
        elif self.transport.get_write_buffer_size() and self.deadline is None:
            # uvicorn is done with it, the network is not
            self._within(self.limits.response_seconds, self._response_late)

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """Hands the connection over, and with it what a hasty client sent behind its request."""
        self._in_time()
        if event.http_version != b"1.1":
            # uvicorn would tell websockets that it was 1.1
            self._refuse(400, "a WebSocket begins with HTTP/1.1")
            return
        early = self.conn.trailing_data[0]
        super().handle_websocket_upgrade(event)
        protocol = cast("StreamProtocol", self.transport.get_protocol())
        if early and not self.transport.is_closing():
            protocol.data_received(early)

    def handle_events(self) -> None:
        """As uvicorn's; a request that is there as a whole starts the clock of its response."""
        super().handle_events()
        if self.transport.is_closing() or self.transport.get_protocol() is not self:
            return
        if self.conn.our_state is h11.SEND_RESPONSE and self.conn.their_state in _WHOLE:
            self.progressed()
            # for answers of any length; the task that runs the application starts only after this
            self.scope["state"]["http"] = self

    def progressed(self) -> None:
        """The client took what was written of a long response: its deadline starts anew."""
        if not self.transport.is_closing():
            self._within(self.limits.response_seconds, self.transport.abort)

    def _request_late(self) -> None:
        self._refuse(408, f"a request has {self.limits.handshake_seconds:g} s")

    def _response_late(self) -> None:
        if self.transport.get_write_buffer_size():
            self.transport.abort()

    def _refuse(self, status: int, text: str) -> None:
        self._in_time()
        self.gateway.metrics.labelled("feed_gateway_refused", "Requests refused before a route saw them", "status").of(
            str(status)
        ).value += 1
        if not self.transport.is_closing():
            self.transport.write(refusal(status, text))
            self.transport.close()
            self._within(_REFUSED_SECONDS, self.transport.abort)  # who does not read it is not waited for

    def send_400_response(self, msg: str) -> None:
        """What h11 could not read, or a name that is not ours; a head over the limit has its own status."""
        if self.strict.wrong_host is not None:
            shown = self.strict.wrong_host[:_SHOWN_CHARS_MAX]
            self._refuse(421, f"host {shown!r} is no name of this server; its names are the setting serve.hosts")
            return
        self._refuse(400, "not a request that can be read")

    def _within(self, seconds: float, act: Any) -> None:
        self._in_time()
        self.deadline = self.loop.call_later(seconds, act)

    def _in_time(self) -> None:
        if self.deadline is not None:
            self.deadline.cancel()
            self.deadline = None


def refusal(status: int, text: str) -> bytes:
    """A whole HTTP response that says why, and closes."""
    body = text.encode() + b"\n"
    return (
        f"HTTP/1.1 {status} {_REASONS[status]}\r\ncontent-type: text/plain; charset=utf-8\r\n"
        f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
    ).encode() + body
