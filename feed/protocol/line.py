"""The line of requests of one connection: taken in order, answered in order, at a rate.

Owns what sessions of every kind have in common: the order of answers (one for each id, in the order of the requests),
the rate of requests, the limits by name, and how a connection is told to end. Leaves what a request does to the
session that it is made for.

What a request costs is known, and taken, before any of it is done. Requests over the rate are delayed, in order, until
`wake_at`; those that find the line full are refused, in their place in it; who goes on is closed with 1008. A large one
is done in steps, one each `work`, and nothing behind it before it is answered. While long ones wait the line is
`crowded`: no more are to be read.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from typing import Final, NamedTuple, NoReturn

import msgspec
from msgspec import UNSET, Struct
from msgspec.structs import replace

import schemas
from feed.channels.hub import HubSettings
from feed.channels.steps import STEP_CHANNELS, NotYet, Steps
from feed.errors import BadRequest
from feed.protocol.request import Request, id_of, ignored_in, request_of
from feed.wire.frames import message_frame, objects
from feed.wire.model import Ack, Error, Pong, Result, Welcome

ABUSED: Final = 1008
CHANNELS_A_TOKEN: Final = 500
"""A request costs one token, and one more for so many channels that it touches."""
_READ_CHANNELS: Final = 10
_BYTES_A_CHANNEL: Final = 300
"""What reading and answering a request is counted as, so that many small ones give way, too."""
_CROWD_MESSAGES: Final = 4
"""So many of the longest messages, in bytes, make a crowd."""
_WAITING_BYTES: Final = 256
"""What a request in the line takes, its texts aside."""
_NS_PER_S: Final = 1_000_000_000
_NS_PER_MS: Final = 1_000_000
_PING_NS: Final = 900_000_000
"""One ping so often costs nothing: pages, which cannot send ping frames, ask each second whether somebody is there."""
_RETRY: Final = frozenset(code for code, error in schemas.errors().items() if error.retry)
RETRY_AFTER_MS: Final = {"source_unavailable": 1_000, "internal": 5_000}
"""When to try again where nothing better is known: a broker that is looked for is asked twice a second."""


class SessionSettings(Struct, frozen=True, kw_only=True):
    """What a session tells and allows; the limits are in `welcome` by these names. The defaults of `serve.requests` and
    of what `serve` has by the same name, whose bounds and words stand in `feed.runtime.settings`."""

    server: str = "gw-1"
    heartbeat_ms: int = 5_000
    page_bytes: int = HubSettings().page_bytes
    """What follows an ack at once."""
    message_bytes_max: int = 64 * 1024
    """Enforced by the socket's owner, told here."""
    subscriptions_max: int = 10_000
    patterns_max: int = 64
    symbols_max: int = 2_000
    requests_per_second: int = 20
    requests_burst: int = 100
    requests_delayed_max: int = 100
    requests_refused_max: int = 100
    every_ms: tuple[int, ...] = (50, 100, 250, 1000)
    depth: tuple[int, ...] = (1, 10, 50)


_NO_LIMITS: Final = frozenset({"server", "heartbeat_ms", "page_bytes", "requests_refused_max", "every_ms", "depth"})


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

    @property
    def bytes(self) -> int:
        """What it takes; an id may be as long as a message."""
        return _WAITING_BYTES + len(self.text) + (len(self.id) if isinstance(self.id, str) else 0)


class _Begun(NamedTuple):
    """The first request in the line, read: what it is, or why not, and what it costs."""

    request: Request | None
    refused: BadRequest | None
    tokens: float


Do = Callable[[Request, int, int], msgspec.Struct | Steps[msgspec.Struct]]
"""Does a request and gives its answer, or the steps to it; when it was received, and what time it is. Raises
`BadRequest`, or `NotYet`; steps raise neither."""
Touched = Callable[[Request], int]
"""How many channels a request looks at. Raises `BadRequest` where it may not."""


class Line:
    """Requests of one connection. `wake_at`: when delayed ones go on, None when there are none."""

    def __init__(self, settings: SessionSettings, do: Do, touched: Touched) -> None:
        self.wake_at: int | None = None
        self.under_way = False
        """Whether `work` has left something for another turn, though neither rate nor anything else is waited for."""
        self._settings = settings
        self._do = do
        self._touched = touched
        self._line: deque[_Waiting] = deque()
        self._begun: _Begun | None = None
        self._paid = False
        self._steps: Steps[msgspec.Struct] | None = None
        self._room = STEP_CHANNELS
        self._delayed = 0
        self._bytes = 0
        self._refused = 0
        self._tokens = float(settings.requests_burst)
        self._filled_ns: int | None = None
        self._pinged_ns = 0

    def __bool__(self) -> bool:
        return bool(self._line)

    @property
    def amid(self) -> bool:
        """Whether a request has done a part of its steps, and is not answered yet."""
        return self._steps is not None

    @property
    def crowded(self) -> bool:
        """Whether what waits is so long that nothing more is to be taken before some of it is done."""
        return self._bytes >= _CROWD_MESSAGES * self._settings.message_bytes_max

    def close(self) -> None:
        """Nobody waits for answers any more: what is under way ends where it is, and requests are refused.

        The session holds its line, and was held by it: what is left of both would wait for a collection.
        """
        self._line.clear()
        self._bytes = 0
        self.wake_at, self.under_way = None, False
        self._begun, self._paid = None, False
        if self._steps is not None:
            self._steps.close()
            self._steps = None
        self._do, self._touched = _gone, _gone

    def receive(self, text: bytes, now_ns: int) -> None:
        """Lines up what one text message of the client asks for.

        Raises:
            Close: 1008 after `rate_limited` was told often enough; its frames go out first.
        """
        try:
            for one in objects(text):
                self._line_up(_Waiting(id_of(one), one, now_ns, None), now_ns)
        except BadRequest as refused:
            self._line_up(_Waiting(None, b"", now_ns, refused), now_ns)

    def work(self, now_ns: int) -> bytes:
        """Does what is lined up, as far as the rate and what requests wait for allow: the frames that answer it.

        About `STEP_CHANNELS` at a time; where there is more it is `under_way`.
        """
        if not self._line:
            return b""
        self._fill(now_ns)
        return self._work(now_ns)

    def _line_up(self, waiting: _Waiting, now_ns: int) -> None:
        self._append(waiting)
        self._delayed += 1
        self._limit(now_ns)

    def _append(self, waiting: _Waiting) -> None:
        self._line.append(waiting)
        self._bytes += waiting.bytes

    def _drop_first(self) -> None:
        self._bytes -= self._line.popleft().bytes

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
        self._bytes -= last.bytes
        self._append(_Waiting(last.id, b"", now_ns, refusal))
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
        self.under_way = False
        self._room = STEP_CHANNELS
        while line:
            if self._room <= 0:
                self.wake_at, self.under_way = None, True
                return b"".join(frames)
            waiting = line[0]
            if waiting.refused is not None and waiting.refused.code == "rate_limited":
                self._drop_first()
                frames.append(_refusal(waiting.id, waiting.refused))
                continue
            begun = self._begin(waiting)
            if not self._paid:
                if self._tokens < min(begun.tokens, self._settings.requests_burst):
                    break
                self._tokens -= begun.tokens
                self._paid = True
            try:
                answer = self._answer(begun, waiting, now_ns)
            except NotYet as wait:
                self.wake_at = wait.wake_at
                return b"".join(frames)
            if answer is None:
                continue
            frames.append(answer)
            self._drop_first()
            self._delayed -= 1
            self._begun, self._paid = None, False
        self.wake_at = None
        if line and self._begun is not None:
            short = min(self._begun.tokens, self._settings.requests_burst) - self._tokens
            self.wake_at = now_ns + max(int(short / self._settings.requests_per_second * _NS_PER_S), _NS_PER_MS)
        return b"".join(frames)

    def _begin(self, waiting: _Waiting) -> _Begun:
        """The first request, read once, and what it costs."""
        if self._begun is None:
            try:
                if waiting.refused is not None:
                    raise waiting.refused
                self._room -= _READ_CHANNELS + len(waiting.text) // _BYTES_A_CHANNEL
                request = request_of(waiting.text)
                self._begun = _Begun(request, None, 1 + self._touched(request) / CHANNELS_A_TOKEN)
            except BadRequest as refused:
                self._begun = _Begun(None, refused, 1)
        return self._begun

    def _answer(self, begun: _Begun, waiting: _Waiting, now_ns: int) -> bytes | None:
        """The frame that answers it; None: there is more to do."""
        try:
            if begun.request is None:
                assert begun.refused is not None
                raise begun.refused
            if self._steps is None:
                done = self._do(begun.request, waiting.received_ns, now_ns)
                if not isinstance(done, Generator):
                    return self._told(done, begun.request, waiting, now_ns)
                self._steps = done
            try:
                while self._room > 0:
                    self._room -= next(self._steps)
            except StopIteration as ended:
                self._steps = None
                return self._told(ended.value, begun.request, waiting, now_ns)
            return None
        except BadRequest as refused:
            return _refusal(waiting.id, refused)

    def _told(self, answer: msgspec.Struct, request: Request, waiting: _Waiting, now_ns: int) -> bytes:
        if isinstance(answer, Pong) and abs(now_ns - self._pinged_ns) >= _PING_NS:
            self._pinged_ns = now_ns
            self._tokens += 1
        if isinstance(answer, Ack | Pong) and (ignored := ignored_in(request, waiting.text)):
            answer = replace(answer, ignored=ignored)
        return message_frame(answer)


def _gone(*_: object) -> NoReturn:
    raise BadRequest("bad_message", "the connection is gone")


def welcome(settings: SessionSettings, now_ns: int) -> bytes:
    """A session's first frame."""
    limits = {name: getattr(settings, name) for name in settings.__struct_fields__ if name not in _NO_LIMITS}
    every_ms, depth = list(settings.every_ms), list(settings.depth)
    return message_frame(
        Welcome(1, settings.server, str(now_ns), settings.heartbeat_ms, every_ms, depth, limits, "none")
    )


def ack(id_: str | int, op: str, results: list[Result]) -> Ack:
    """The answer to a request that was done."""
    return Ack(id=id_, op=op, ok=all(result.ok is not False for result in results), results=results)


def error_of(code: str, message: str, *, id_: str | int | None = None, retry_after_ms: int | None = None) -> Error:
    """An `error` that says, as the table does, whether to try again, and when."""
    after_ms = RETRY_AFTER_MS.get(code) if retry_after_ms is None else retry_after_ms
    return Error(
        id=UNSET if id_ is None else id_,
        code=code,
        message=message,
        retry=code in _RETRY,
        retry_after_ms=UNSET if after_ms is None else after_ms,
    )


def _refusal(id_: str | int | None, refused: BadRequest) -> bytes:
    return message_frame(error_of(refused.code, refused.message, id_=id_, retry_after_ms=refused.retry_after_ms))
