"""A client's WebSocket: uvicorn's sans-IO protocol, past ASGI once it is accepted.

Owns the bytes of one connection: what comes in (size, fragments, rates, UTF-8), the session's answers, what goes out
(the write bound, being left behind, progress) and how it ends. uvicorn and websockets do handshake, frame parsing,
masks and control frames. Leaves the meaning of messages to `feed.protocol.session`, the choice of updates to
`feed.channels`.

A route accepts the connection as any ASGI application does, calls `start`, and returns: from then on there is no task
and no queue for it, a message goes straight from the socket into the session.

What came is worked off in small slices, some messages a turn of the loop, and only while the client's own socket has
room, its rates allow it, no fan-out is under way, its requests in line are not too long together, and it is its turn
(`turns`); meanwhile its socket is not read. So a
client is held back by its own doing, and nothing of it piles up here. (Over 400 lines: one connection is one state, and
taking it apart would only hide that.)
"""

from __future__ import annotations

import asyncio
import logging
import os
import zlib
from collections.abc import Callable
from time import thread_time
from typing import TYPE_CHECKING, Any, Final, cast

from uvicorn.config import Config
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState
from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import OPEN

from feed.gateway.deflate import Compressed, Inflating, TooLong
from feed.gateway.parser import FrameParser
from feed.gateway.rates import Rates, rate_limited
from feed.gateway.sockets import bound_socket, socket_progress
from feed.protocol.dialogue import Dialogue
from feed.protocol.line import Close
from feed.wire.frames import Frames

if TYPE_CHECKING:
    from feed.gateway.gateway import Gateway
    from feed.gateway.http import GatewayConfig

SUBPROTOCOL: Final = "feed.v1.json"
_SLICE: Final = 4096
_TURN_MESSAGES: Final = 16
"""Of one client at a time: a flood of requests is answered between the flushes of others, not before them."""
_WAKE_SECONDS_MAX: Final = 1.0
_EARLY_BEAT_SECONDS: Final = 0.03
"""A subscribe is in step for so long when its heartbeat comes: it speaks for those that come in a row."""
_EARLY_BEATS_APART_SECONDS: Final = 0.1
_logger = logging.getLogger("feed.gateway")


class StreamProtocol(WebSocketsSansIOProtocol):
    """One client."""

    # what each write looks at: in the object itself, where a flush to thousands finds it with the fewest misses
    __slots__ = ("deflates", "ended", "full", "socket_number", "transport")

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.gateway: Gateway = cast("GatewayConfig", config).gateway
        """What all connections share."""
        limits = self.gateway.settings.limits
        self.conn: FrameParser = FrameParser(
            extensions=self.gateway.extensions, max_size=limits.message_bytes_max, logger=self.logger
        )
        """The parser of frames, for the whole of the connection."""
        # set once, when it starts or goes
        self.started = False
        """The handshake is over and `welcome` was sent: from here on it is not uvicorn's any more."""
        self.deflates = False
        """Whether its client takes compressed frames, and it is a live stream; set as it starts."""
        self.session: Dialogue | None = None
        """What its requests do. None before it starts, and after it was given back by the gateway."""
        self.new = True
        """Whether its first request is still to be done: such ones may have more of the loop than their share."""
        self.socket_number = -1
        """The file descriptor, for writes past the transport; set as it starts."""
        self.number = 0
        """Its place among all connections so far; given by the gateway as it starts."""
        self.joined_at = 0.0
        """When that was, by the loop's clock."""
        self.dropped = ""
        """Why it was aborted without a close, `stalled` or `silent`; empty: it was not."""
        # how it ends
        self.ended = False
        """No more messages, in or out: a close was sent or has come, or the socket is gone."""
        self.finished = False
        """Nothing more is read either: the parser has ended, what came was bad, or the socket is gone."""
        self.end_timer: asyncio.TimerHandle | None = None
        """From `ended` on: aborts a client that does not answer the close."""
        self.end_by = 0.0
        """Until when that waits, as long as the client takes what is queued for it."""
        # what has come and is not worked off
        self.held = b""
        """Bytes that the parser has not seen."""
        self.waiting: list[Frame] = []
        """Frames that it has read, the next one last."""
        self.fragments: list[bytes] = []
        """Those of a message whose last frame has not come."""
        self.fragments_bytes = 0
        """How long they are together."""
        self.inflating: Inflating | None = None
        """Of a compressed message whose last frame has not come: how far it is inflated."""
        self.reading = True
        """Whether its socket is read; not while something that came has to wait."""
        self.queued = False
        """Whether `_go_on` is to be called, in the next turn of the loop or after a fan-out."""
        self.crowds = False
        """Whether something waits until its session is not crowded any more."""
        self.rates = Rates(limits, self.loop.time())
        """What it may send, and what it owes."""
        # what goes out
        self.full = False
        """Its socket is over the bound: what is sent now, is sent without it. Set and ended by the transport."""
        # timers, each None while it is not set
        self.hold_timer: asyncio.TimerHandle | None = None
        """Goes on when its rates are paid back."""
        self.wake_timer: asyncio.TimerHandle | None = None
        """Goes on with requests that the session has delayed."""
        self.beat_timer: asyncio.TimerHandle | None = None
        """Sends an early heartbeat: channels of a subscribe are in step."""
        self.beat_at = 0.0
        """When the last heartbeat was sent."""
        # whether it lives, for `check`
        self.heard = True
        """Whether anything came since the last ping."""
        self.taken = 0
        """How many bytes its kernel had taken at the last ping."""

    # ---- handshake

    def handle_connect(self, event: Request) -> None:
        """As uvicorn's; the route finds this connection in the scope's state."""
        super().handle_connect(event)
        if not self.close_sent:
            # the task that runs the application starts only after this
            self.scope["state"]["connection"] = self

    async def run_asgi(self) -> None:
        """As uvicorn's, but a connection that has started outlives the application's call."""
        try:
            await self.app(self.scope, self.receive, self.send)
        except ClientDisconnected:
            pass
        except Exception:
            self.logger.exception("error in the application of a handshake")
            self.send_500_response()
        if not self.started:
            self.transport.close()

    def start(self, session: Dialogue | None = None) -> None:
        """Begins the protocol after the accept: `welcome` goes out, and what came early is worked off.

        `session`: another one than that of the live stream.
        """
        if self.transport.is_closing():
            return
        limits = self.gateway.settings.limits
        self.transport.set_write_buffer_limits(high=limits.write_bytes_max, low=limits.write_bytes_max // 4)
        peer = self.transport.get_extra_info("socket")
        self.socket_number = peer.fileno()
        bound_socket(peer, limits.kernel_unsent_bytes_max)
        # a replay's pages are nobody else's: compressing them would take the share of those that many get
        self.deflates = bool(self.conn.extensions) and session is None
        self.started = True
        self.session = self.gateway.joined(self, session)
        self._answer(self.session.open)
        # the handshake's leftovers, 10 KiB of them
        del self.request, self.response, self.scope, self.queue, self.writable
        self._work()

    # ---- what comes in

    def data_received(self, data: bytes) -> None:
        """Takes bytes from the socket."""
        if self.finished or self.transport.is_closing():
            return
        self.heard = True
        if not self.handshake_initiated:
            self._receive_handshake(data)
            return
        self.held = self.held + data if self.held else data
        if self.started:
            self._work()
        elif len(self.held) > self.gateway.settings.limits.message_bytes_max:
            self._stop_reading()

    def _receive_handshake(self, data: bytes) -> None:
        self.conn.receive_data(data)
        if self.conn.handshake_exc is not None or self.conn.parser_exc is not None:
            # uvicorn would wait here without end: websockets has given up, mostly without an answer
            answer = b"".join(self.conn.data_to_send())
            self.transport.write(answer or self.conn.reject(400, "not a WebSocket handshake\n").serialize())
            self.transport.close()
            return
        self.handle_events()

    def _work(self) -> None:
        """Goes on with what came, as far as is allowed now."""
        left = _TURN_MESSAGES
        while not self.finished:
            while self.waiting:
                if self._blocked() or self._crowded() or self._waits_its_turn():
                    return
                if not left:
                    self._give_way()
                    return
                # what came before it was counted while it was inflated: a slice of these may become megabytes
                if isinstance(self.waiting[-1], Compressed) and self._held_back():
                    return
                left -= 1
                self._take(self.waiting.pop())
            if self._parser_ended() or not self.held:
                break
            if self._blocked() or self._held_back():
                return
            piece, self.held = self.held[:_SLICE], self.held[_SLICE:]
            self.conn.receive_data(piece)
            self.waiting = self.conn.events_received()  # type: ignore[assignment]  # no Request after the handshake
            self.waiting.reverse()
            self.rates.use(len(piece), len(self.waiting))
            if not self.conn.over:
                self._flush_parser()
        if not self.finished:
            self._start_reading()

    def _blocked(self) -> bool:
        """Whether the next frame has to wait: for this client's socket, or for the end of a fan-out."""
        if self.full and not self.ended:
            self._stop_reading()
            return True
        if self.gateway.fanout.busy:
            self._stop_reading()
            if not self.queued:
                self.queued = True
                self.gateway.fanout.when_idle(self._go_on)
            return True
        return False

    def _crowded(self) -> bool:
        """Whether what it asked for before has to be done first, as it is long."""
        session = self.session
        if session is None or self.ended or not session.crowded:
            return False
        self.crowds = True
        self._stop_reading()
        return True

    def _waits_its_turn(self) -> bool:
        """Whether requests of others are before its next one; those behind one that is under way only line up."""
        session, turns = self.session, self.gateway.turns
        if session is None or session.under_way or self.ended or turns.open_to(self):
            return False
        self._stop_reading()
        turns.line_up(self)
        return True

    def take_turn(self) -> None:
        """Goes on with its requests: with what is under way, or due again, then with what came."""
        session = self.session
        if session is None or self.ended or self.full:
            return
        if session.under_way or session.wake_at is not None:
            self._request(session.wake)
        if self.hold_timer is None:
            self._work()

    def _give_way(self) -> None:
        """The next message has to wait for the loop's turn."""
        self._stop_reading()
        if not self.queued:
            self.queued = True
            self.loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        self.queued = False
        if self.hold_timer is None:
            self._work()

    def _take(self, frame: Frame) -> None:
        if self.ended or frame.opcode in (Opcode.PING, Opcode.PONG, Opcode.CLOSE):
            return
        if frame.opcode is Opcode.BINARY:
            self._fail(CloseCode.UNSUPPORTED_DATA, "text frames only")
            return
        data = self._inflated(frame) if isinstance(frame, Compressed) else frame.data
        if data is None:
            return
        if frame.opcode is Opcode.TEXT and frame.fin:
            self._message(data)
            return
        self.fragments.append(bytes(data))
        self.fragments_bytes += len(data)
        if len(self.fragments) > self.gateway.settings.limits.message_frames_max:
            self._fail(CloseCode.MESSAGE_TOO_BIG, "message in too many frames")
        elif frame.fin:
            whole, self.fragments, self.fragments_bytes = b"".join(self.fragments), [], 0
            self._message(whole)

    def _inflated(self, frame: Frame) -> bytes | None:
        """What a frame of a compressed message says; None where that ends the connection."""
        inflating, self.inflating = self.inflating or Inflating(), None
        bytes_max = self.gateway.settings.limits.message_bytes_max
        try:
            found = inflating.take(frame, bytes_max - self.fragments_bytes)
        except TooLong:
            self._fail(CloseCode.MESSAGE_TOO_BIG, f"message over {bytes_max} bytes")
            return None
        except zlib.error:
            self._fail(CloseCode.PROTOCOL_ERROR, "decompression failed")
            return None
        if not frame.fin:
            self.inflating = inflating
        self.rates.use(len(found), 0)
        return found

    def _message(self, text: bytes | bytearray | memoryview) -> None:
        payload = bytes(text)
        try:
            payload.decode()
        except UnicodeDecodeError:
            self._fail(CloseCode.INVALID_DATA, "text is not UTF-8")
            return
        self.gateway.counts.received.value += 1
        session = self.session
        assert session is not None
        self._request(lambda now: session.receive(payload, now))

    def _request(self, ask: Callable[[int], bytes]) -> None:
        """As `_answer`, for what costs others time."""
        began = thread_time()  # where others have the core, it is not these requests that take the time
        self._answer(ask)
        took = thread_time() - began
        self.gateway.turns.spent(took)
        self.gateway.fanout.set_aside(took)
        session = self.session
        self.new = self.new and session is not None and (session.under_way or session.wake_at is not None)

    def _answer(self, ask: Callable[[int], bytes]) -> None:
        """Sends what the session says, all of it; ends the connection when the session says so, or fails."""
        session = self.session
        assert session is not None
        try:
            frames = ask(self.gateway.now_ns())
        except Close as end:
            self._push(end.frames)
            self.close(end.code, end.reason)
            return
        except Exception:
            _logger.exception("session failed")
            self.gateway.counts.failed.value += 1
            self._fail(CloseCode.INTERNAL_ERROR, "internal error")
            return
        self._push(frames)
        if self.ended:
            return
        if session.under_way:
            self.gateway.turns.line_up(self)
        if self.crowds and not session.crowded:
            self.crowds = False
            self._give_way()
        if session.due:
            self.gateway.fanout.catch_up(self)
        if session.beat_due and self.beat_timer is None:
            now = self.loop.time()
            due = max(now + _EARLY_BEAT_SECONDS, self.beat_at + _EARLY_BEATS_APART_SECONDS)
            self.beat_timer = self.loop.call_at(due, self._beat_early)
        if session.wake_at is not None and self.wake_timer is None:
            # wall time may be set meanwhile: never wait for long
            delay = max(0.0, (session.wake_at - self.gateway.now_ns()) / 1e9)
            self.wake_timer = self.loop.call_later(min(delay, _WAKE_SECONDS_MAX), self._wake)

    def _wake(self) -> None:
        """Requests that the session has delayed go on, when the socket has room."""
        self.wake_timer = None
        session = self.session
        if session is not None and (session.wake_at is not None or session.under_way) and not self.full:
            self.gateway.turns.line_up(self)

    # ---- rates

    def _held_back(self) -> bool:
        """Whether the client has used up its rates; then its socket is not read until they are paid back."""
        rates = self.rates
        delay = rates.owed_seconds(self.loop.time())
        if not delay:
            return False
        if rates.overloaded:
            self._fail(CloseCode.POLICY_VIOLATION, "rate of bytes or frames over the limit for too long")
            return True
        if not rates.held_back_seconds:
            self._push(rate_limited(delay))
        rates.held_back_seconds += delay
        self._stop_reading()
        self.hold_timer = self.loop.call_later(delay, self._hold_over)
        return True

    def _hold_over(self) -> None:
        self.hold_timer = None
        self._work()

    def _stop_reading(self) -> None:
        if self.reading:
            self.reading = False
            self.transport.pause_reading()

    def _start_reading(self) -> None:
        if not self.reading:
            self.reading = True
            self.transport.resume_reading()

    # ---- what goes out

    def write(self, frames: Frames) -> bool:
        """Sends whole frames, unless the socket is over its bound or the connection is ending: then False.

        Straight to the socket where nothing waits before it: uvloop's transport would keep the frames until the loop
        turns, and by then they have left the processor's cache.
        """
        transport = self.transport
        if self.full or self.ended or transport.is_closing():
            return False
        sent = 0
        if not transport.get_write_buffer_size():
            try:
                sent = os.write(self.socket_number, frames)
            except OSError:
                sent = 0  # where it is more than a full socket, the transport will find out
        if sent < len(frames):
            transport.write(memoryview(frames)[sent:] if sent else frames)
        return True

    def _push(self, frames: bytes) -> None:
        """Sends an answer whatever the bound: what is asked while the socket is full waits in `_work`."""
        if frames and not self.ended and not self.transport.is_closing():
            self.transport.write(self.gateway.deflater.packed(frames) if self.deflates else frames)

    def pause_writing(self) -> None:
        """The transport holds more than the bound."""
        self.full = True

    def resume_writing(self) -> None:
        """The transport has room again: the reader catches up, and what the client asked meanwhile is answered."""
        self.full = False
        if not self.started:
            super().resume_writing()
        elif not self.ended:
            self.gateway.fanout.catch_up(self)
            self._wake()
            if self.hold_timer is None:
                self._work()

    def page(self, bytes_max: int) -> None:
        """Sends the next page of what the reader misses; comes again while more is due."""
        session = self.session
        if session is not None and not self.ended:
            self._answer(lambda now: session.pull(bytes_max, now))

    def beat(self) -> None:
        """Sends a heartbeat with the marks; a reader that is left behind hears none."""
        if self.session is not None and not self.full and not self.ended:
            self.beat_at = self.loop.time()
            # an early one is due to its requests
            answer = self._request if self.session.beat_due else self._answer
            answer(self.session.heartbeat)

    def _beat_early(self) -> None:
        """Tells the marks of what was subscribed; where the socket is full, the page that follows asks again."""
        self.beat_timer = None
        if self.session is not None and self.session.beat_due:
            self.gateway.pulse.beat_soon(self)

    def check(self) -> None:
        """Drops a client that answered nothing and took nothing since the last ping; pings it again."""
        if self.ended or self.transport.is_closing():
            return
        taken, unsent = socket_progress(self.transport.get_extra_info("socket")) or (0, 0)
        # a slow reader may have more before the ping than it reads in time; it lives while it takes any of that
        moves = taken > self.taken and (self.full or unsent > 0)
        self.taken = taken
        if not moves and (self.full or (self.reading and not self.heard)):
            self.dropped = "stalled" if self.full else "silent"
            self.gateway.counts.dropped.of(self.dropped).value += 1
            self.transport.abort()
            return
        if self.conn.state is OPEN and not self.full:
            self.heard = False
            self.conn.send_ping(b"")
            self._flush_parser()

    def _flush_parser(self) -> None:
        output = b"".join(self.conn.data_to_send())
        if output and not self.transport.is_closing():
            self.transport.write(output)

    # ---- how it ends

    def go_away(self, reason: str, after_ms: int) -> None:
        """Says `goaway` with the marks, and closes with 1012."""
        session = self.session
        if session is not None and not self.ended:
            self._answer(lambda now: session.goaway(reason, after_ms, now))
            # longer than otherwise: what is queued for a slow client goes out first
            self.close(CloseCode.SERVICE_RESTART, reason, within_seconds=self.gateway.settings.drain_ms / 1000)

    def close(self, code: int, reason: str = "", *, within_seconds: float | None = None) -> None:
        """Ends the connection with this code; the client has `close_seconds` to answer."""
        if self.ended or self.transport.is_closing():
            return
        self.gateway.counts.closed.of(str(int(code))).value += 1
        if self.conn.state is OPEN:
            self.conn.send_close(code, reason)
            self._flush_parser()
        self._end(within_seconds)

    def _fail(self, code: int, reason: str) -> None:
        """Ends the connection, and looks at nothing that the client has sent or will send."""
        self.close(code, reason)
        self._finish()

    def shutdown(self) -> None:
        """uvicorn's end of the server, for what is left after the drain."""
        if not self.started:
            super().shutdown()
        else:
            self.close(CloseCode.SERVICE_RESTART, "restart")

    def _parser_ended(self) -> bool:
        """Ends with the parser, when the client has closed or broke the protocol; whether it is over."""
        if self.finished or not self.conn.over:
            return self.finished
        if not self.ended:
            sent = self.conn.close_sent
            self.gateway.counts.closed.of(str(int(sent.code)) if sent else "1006").value += 1
        self._flush_parser()
        self._end()
        self._finish()
        return True

    def _end(self, within_seconds: float | None = None) -> None:
        """No more messages, in or out; the reader is given back."""
        if self.ended:
            return
        self.ended = True
        self.close_sent = True
        self.fragments, self.inflating = [], None
        if self.session is not None:
            self.gateway.turns.leave(self)
            self.gateway.left(self)
        if self.end_timer is None:
            seconds = within_seconds or self.gateway.settings.limits.close_seconds
            self.end_by = self.loop.time() + seconds
            self.end_timer = self.loop.call_later(self.gateway.settings.limits.close_seconds, self._end_late)

    def _end_late(self) -> None:
        """The client has not answered our close: waits on only while it takes what is queued for it."""
        self.end_timer = None
        left = self.end_by - self.loop.time()
        if left > 0 and self.transport.get_write_buffer_size():
            self.end_timer = self.loop.call_later(min(left, self.gateway.settings.limits.close_seconds), self._end_late)
        else:
            self.transport.abort()

    def _finish(self) -> None:
        """Nothing more is to be said or heard."""
        self.finished = True
        self.held, self.waiting = b"", []
        if self.transport.is_closing():
            return
        if self.conn.close_rcvd is None and self.transport.can_write_eof():
            # the client may still be sending: closing at once would reset the connection, and our code could be lost
            self._start_reading()
            self.transport.write_eof()
        else:
            self.transport.close()

    def eof_received(self) -> None:
        """The client says nothing more: it has `close_seconds` to take what is on its way, reading or not.

        The transport closes behind this, and would wait without end for who does not read.
        """
        if self.started and not self.ended:
            self.gateway.counts.closed.of("1006").value += 1
            self._end()

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone."""
        if not self.started:
            super().connection_lost(exc)
            if self.handshake_initiated and hasattr(self, "scope"):
                self.scope["state"].pop("connection", None)  # which holds the scope
        else:
            self.connections.discard(self)
            if not self.ended:
                self.gateway.counts.closed.of("1006").value += 1
            self._end()
        self.finished = self.disconnected = True
        self.held, self.waiting, self.fragments, self.inflating = b"", [], [], None
        for timer in (self.end_timer, self.hold_timer, self.wake_timer, self.beat_timer):
            if timer is not None:
                timer.cancel()
        self.end_timer = self.hold_timer = self.wake_timer = self.beat_timer = None
        self.gateway.doors.leave(self.transport)
        self.conn.release()
