"""A connection's side of the protocol: texts in, frames out, no socket and no clock.

Owns the order of answers (one for each id, in the order of the requests), the rate of requests and what a session says
by itself: welcome, heartbeat, goaway. Leaves the form of requests to `request`, channels to `feed.channels`, and the
socket to the gateway.

Requests over the rate are delayed, in order, until `wake_at`; those that find the line full are refused, in their place
in it; who goes on is closed with 1008.
"""

from __future__ import annotations

from collections import deque
from typing import Final, NamedTuple

import msgspec
from msgspec import UNSET, Struct

from feed.channels.cursor import Reader
from feed.channels.hub import Hub
from feed.channels.subscription import Ask, Limits, Subscribing, subscribed, unsubscribe, unsubscribe_all
from feed.errors import BadRequest
from feed.model import Ack, Error, Goaway, Heartbeat, Pong, Result, Welcome
from feed.protocol.codec import message_frame, objects
from feed.protocol.request import (
    Auth,
    List,
    Ping,
    Replay,
    Subscribe,
    Unsubscribe,
    id_of,
    request_of,
    start_of,
)

TOO_SLOW: Final = 4008
ABUSED: Final = 1008
_NS_PER_S: Final = 1_000_000_000
_NS_PER_MS: Final = 1_000_000
_CHANNELS_A_TOKEN: Final = 500
_RETRY: Final = frozenset({"unknown_symbol", "auth_required", "rate_limited", "source_unavailable", "internal"})


class SessionSettings(Struct, frozen=True, kw_only=True):
    """What a session tells and allows; the limits are in `welcome` by these names."""

    server: str = "gw-1"
    heartbeat_ms: int = 5_000
    page_bytes: int = 256 * 1024
    """What follows an ack at once."""
    message_bytes_max: int = 64 * 1024
    """Enforced by the socket's owner, told here."""
    subscriptions_max: int = 10_000
    patterns_max: int = 64
    symbols_max: int = 2_000
    """Symbols of one request, times its channels at most five times as many results."""
    requests_per_second: int = 20
    requests_burst: int = 100
    """Requests at once after a pause."""
    requests_delayed_max: int = 100
    """Requests that wait for the rate; one more is refused."""
    requests_refused_max: int = 100
    """Requests refused without a pause between; one more closes."""


class Close(Exception):
    """The connection is to be closed with this code, after these frames."""

    def __init__(self, code: int, reason: str, frames: bytes = b"") -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason
        self.frames = frames


class _Waiting(NamedTuple):
    """A request in the line: its text, or what it is refused with."""

    id: str | int | None
    text: bytes
    received_ns: int
    refused: BadRequest | None


class Session:
    """One connection. `wake_at`: when delayed requests go on (call `wake`), None when there are none."""

    def __init__(self, hub: Hub, owner: object, settings: SessionSettings) -> None:
        self.reader: Reader = hub.reader(owner)
        self.wake_at: int | None = None
        self._hub = hub
        self._settings = settings
        self._limits = Limits(subscriptions_max=settings.subscriptions_max, patterns_max=settings.patterns_max)
        self._line: deque[_Waiting] = deque()
        self._delayed = 0
        self._refused = 0
        self._tokens = float(settings.requests_burst)
        self._filled_ns: int | None = None

    # ---- what the server says by itself

    def open(self, now_ns: int) -> bytes:
        """The first frame: welcome."""
        settings = self._settings
        limits = {
            name: getattr(settings, name)
            for name in settings.__struct_fields__
            if name not in ("server", "heartbeat_ms", "page_bytes", "requests_refused_max")
        }
        return message_frame(Welcome(1, settings.server, str(now_ns), settings.heartbeat_ms, [], [], limits, "none"))

    def heartbeat(self, now_ns: int) -> bytes:
        """A heartbeat with the marks."""
        return self.wake(now_ns) + message_frame(Heartbeat(str(now_ns), self.reader.marks(), self._hub.lag_ms))

    def goaway(self, reason: str, after_ms: int, now_ns: int) -> bytes:
        """The last frame before the server closes."""
        return message_frame(Goaway(reason, after_ms, self.reader.marks()))

    def pull(self, bytes_max: int, now_ns: int) -> bytes:
        """The next page of what the reader misses; empty when nothing is due.

        Raises:
            Close: 4008, the reader lagged on a channel with `on_lag: close`.
        """
        page = self.reader.pull(bytes_max)
        if self.reader.too_slow:
            raise Close(TOO_SLOW, "too slow", page + self.goaway("lag", 0, now_ns))
        return page

    # ---- requests

    def receive(self, text: bytes, now_ns: int) -> bytes:
        """Takes one text message of the client; returns the frames that answer it, and a first page of data.

        Raises:
            Close: 1008 after `rate_limited` was told often enough, or as `pull`; its frames go out first.
        """
        try:
            for one in objects(text):
                self._line_up(one, now_ns)
        except BadRequest as refused:
            self._line.append(_Waiting(None, b"", now_ns, refused))
            self._delayed += 1
            self._limit(now_ns)
        return self.wake(now_ns)

    def wake(self, now_ns: int) -> bytes:
        """Goes on with delayed requests as far as the rate allows.

        Raises:
            Close: as `pull`.
        """
        if not self._line:
            return b""
        self._fill(now_ns)
        was_in_step = self.reader.in_step
        frames = self._work(now_ns)
        if was_in_step and not self.reader.in_step:
            try:
                frames += self.pull(self._settings.page_bytes, now_ns)
            except Close as end:
                end.frames = frames + end.frames
                raise
        return frames

    def _line_up(self, text: bytes, now_ns: int) -> None:
        self._line.append(_Waiting(id_of(text), text, now_ns, None))
        self._delayed += 1
        self._limit(now_ns)

    def _limit(self, now_ns: int) -> None:
        """Refuses the newest request where the line is full."""
        settings = self._settings
        self._fill(now_ns)
        over = self._delayed - settings.requests_delayed_max - int(self._tokens)
        if over <= 0:
            return
        self._refused += 1
        if self._refused > settings.requests_refused_max:
            raise Close(ABUSED, "requests over the rate after rate_limited", self._work(now_ns))
        after_ms = int(1000 * (self._delayed - self._tokens) / settings.requests_per_second) + 1
        refusal = BadRequest(
            "rate_limited",
            f"{self._delayed} requests wait, wanted up to {settings.requests_delayed_max} "
            f"at {settings.requests_per_second} a second",
            retry_after_ms=after_ms,
        )
        last = self._line.pop()
        self._line.append(_Waiting(last.id, b"", now_ns, refusal))
        self._delayed -= 1

    def _fill(self, now_ns: int) -> None:
        settings = self._settings
        if self._filled_ns is not None:
            # a clock that was set back gives nothing, one that was set ahead at most a burst
            passed = max(0, now_ns - self._filled_ns) / _NS_PER_S
            self._tokens = min(self._tokens + passed * settings.requests_per_second, float(settings.requests_burst))
            if self._tokens >= settings.requests_burst:
                self._refused = 0
        self._filled_ns = now_ns

    def _work(self, now_ns: int) -> bytes:
        frames: list[bytes] = []
        line = self._line
        while line:
            waiting = line[0]
            if waiting.refused is not None and waiting.refused.code == "rate_limited":
                line.popleft()
                frames.append(_refusal(waiting.id, waiting.refused))
                continue
            if self._tokens < 1:
                break
            line.popleft()
            self._delayed -= 1
            self._tokens -= 1
            frames.append(self._answer(waiting, now_ns))
        rate = self._settings.requests_per_second
        self.wake_at = now_ns + max(int((1 - self._tokens) / rate * _NS_PER_S), _NS_PER_MS) if line else None
        return b"".join(frames)

    def _answer(self, waiting: _Waiting, now_ns: int) -> bytes:
        try:
            if waiting.refused is not None:
                raise waiting.refused
            return message_frame(self._do(waiting, now_ns))
        except BadRequest as refused:
            return _refusal(waiting.id, refused)

    def _do(self, waiting: _Waiting, now_ns: int) -> msgspec.Struct:
        request = request_of(waiting.text)
        match request:
            case Subscribe():
                return self._subscribe(request)
            case Unsubscribe():
                return self._unsubscribe(request)
            case List():
                return _ack(request.id, "list", subscribed(self._hub, self.reader))
            case Ping():
                return Pong(request.id, str(waiting.received_ns), str(now_ns))
            case Auth():
                return _ack(request.id, "auth", [])
            case Replay():
                raise BadRequest("bad_replay", "this is a live stream")

    def _subscribe(self, request: Subscribe) -> Ack:
        for name, value in (("every_ms", request.every_ms), ("depth", request.depth)):
            if value is not UNSET:
                raise BadRequest("bad_message", f"{name} is not offered by this server")
        self._check_size(request.channels, request.symbols)
        start = start_of(request)
        if start == "time":
            results = [
                Result(channel, symbol, ok=False, code="no_recording")
                for channel in dict.fromkeys(request.channels)
                for symbol in dict.fromkeys(request.symbols)
            ]
            return _ack(request.id, "subscribe", results)
        ask = Ask(id=request.id, channels=request.channels, symbols=request.symbols, start=start, on_lag=request.on_lag)
        subscribing = Subscribing(self._hub, self.reader, ask, self._limits)
        results = subscribing.results()
        self._tokens -= subscribing.touched / _CHANNELS_A_TOKEN
        return _ack(request.id, "subscribe", results)

    def _unsubscribe(self, request: Unsubscribe) -> Ack:
        channels, symbols = request.channels, request.symbols
        if channels is UNSET and symbols is UNSET:
            return _ack(request.id, "unsubscribe", unsubscribe_all(self._hub, self.reader))
        if channels is UNSET or symbols is UNSET:
            raise BadRequest("bad_message", "one of channels and symbols is missing, wanted both or neither")
        self._check_size(channels, symbols)
        results = unsubscribe(self._hub, self.reader, channels, symbols)
        self._tokens -= sum(result.matched or 1 for result in results) / _CHANNELS_A_TOKEN
        return _ack(request.id, "unsubscribe", results)

    def _check_size(self, channels: list[str], symbols: list[str]) -> None:
        most = self._settings.symbols_max
        if len(symbols) > most or len(channels) * len(symbols) > 6 * most:
            raise BadRequest("subscription_limit", f"found {len(symbols)} symbols in a request, wanted up to {most}")


def _ack(id_: str | int, op: str, results: list[Result]) -> Ack:
    return Ack(id_, op, all(result.ok is not False for result in results), results)


def _refusal(id_: str | int | None, refused: BadRequest) -> bytes:
    return message_frame(
        Error(
            id=UNSET if id_ is None else id_,
            code=refused.code,
            message=refused.message,
            retry=refused.code in _RETRY,
            retry_after_ms=UNSET if refused.retry_after_ms is None else refused.retry_after_ms,
        )
    )
