"""permessage-deflate (RFC 7692) as a fan-out needs it: a frame is compressed once for all who get it.

Owns what is agreed in the handshake, compressed frames, and how much of the loop's time they may take. No message rests
on the one before (`no_context_takeover`, both ways), so equal payloads are equal frames, and no connection keeps a
compressor. What clients send is inflated when it is its turn (`Inflating`), and no further than a message may be long.

A frame may always go out as it is (RFC 7692, section 6): small ones do, those that would not shrink, those so large
that the loop would stand still meanwhile, and all while compressing has used up its share. What is said to one client
alone is not remembered, and has of that share only what others leave.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from time import perf_counter, thread_time
from typing import Final

from websockets.exceptions import NegotiationError, ProtocolError
from websockets.extensions import Extension
from websockets.extensions.permessage_deflate import PerMessageDeflate, ServerPerMessageDeflateFactory
from websockets.frames import CTRL_OPCODES, Frame, Opcode
from websockets.typing import ExtensionParameter

from feed.runtime.metrics import Metrics
from feed.wire.frames import Frames, frame_head

WINDOW_BITS: Final = 12
"""Of our compressor, for all clients: a client that asks for less is served without."""
_MEMORY_LEVEL: Final = 5
_RSV1: Final = 0x40
_TEXT_OR_BINARY: Final = (0x81, 0x82)
"""Of whole messages; nothing here is fragmented."""
_TAIL_BYTES: Final = 4
_TAIL: Final = b"\x00\x00\xff\xff"
_FRAME_BYTES_MAX: Final = 320 * 1024
"""Some 5 ms; parts of large states are shorter."""
_OWN_BYTES_MAX: Final = 64 * 1024
_OWN: Final = tuple(
    b'[{"type":"%b"' % kind for kind in (b"ack", b"error", b"heartbeat", b"pong", b"welcome", b"goaway", b"caught_up")
)
"""How frames begin that are said to one client alone."""
_KEPT_BYTES_MAX: Final = 4 * 1024 * 1024
_KEPT_OVERHEAD_BYTES: Final = 200
_BURST_SECONDS: Final = 0.02
_HEAD_BYTES: Final = max(map(len, _OWN))


class TooLong(Exception):
    """What inflates is longer than a message may be."""


class Compressed(Frame):
    """A frame of a compressed message, as it came."""


class Deferred(PerMessageDeflate):
    """Passes frames of compressed messages on as they came.

    websockets inflates all frames of what was read at once: 4 KB of them became 2.4 MB before anybody could count.
    """

    def decode(self, frame: Frame, *, max_size: int | None = None) -> Frame:
        """As websockets', without the inflating.

        Raises:
            ProtocolError: a frame says that it is compressed where it may not.
        """
        if frame.opcode in CTRL_OPCODES:
            return frame
        if frame.opcode is Opcode.CONT:
            if not self.decode_cont_data:
                return frame
            if frame.rsv1:
                raise ProtocolError("RSV1 bit set in continuation frame")
            self.decode_cont_data = not frame.fin
        elif not frame.rsv1:
            return frame
        else:
            self.decode_cont_data = not frame.fin
        return Compressed(frame.opcode, frame.data, frame.fin, False, frame.rsv2, frame.rsv3)


class Inflating:
    """The message of a client that is being inflated."""

    def __init__(self) -> None:
        self._inflater = zlib.decompressobj(-zlib.MAX_WBITS)

    def take(self, frame: Frame, room: int) -> bytes:
        """The next of its frames.

        Raises:
            TooLong: it is longer than `room`.
            zlib.error: it is not deflated.
        """
        data = bytes(frame.data) + _TAIL if frame.fin else frame.data
        found = self._inflater.decompress(data, room + 1)
        if len(found) > room:
            raise TooLong
        return found


class DeflateFactory(ServerPerMessageDeflateFactory):
    """What is agreed with a client: no context takeover either way, and our window."""

    def __init__(self) -> None:
        super().__init__(server_no_context_takeover=True, client_no_context_takeover=True)

    def process_request_params(
        self, params: Sequence[ExtensionParameter], accepted_extensions: Sequence[Extension]
    ) -> tuple[list[ExtensionParameter], Deferred]:
        """As websockets'; an offer with a smaller window than ours is declined (7.1.2.1), the next one may do."""
        answer, extension = super().process_request_params(params, accepted_extensions)
        if extension.local_max_window_bits < WINDOW_BITS:
            raise NegotiationError(f"server_max_window_bits {extension.local_max_window_bits} below {WINDOW_BITS}")
        return answer, Deferred(
            extension.remote_no_context_takeover,
            extension.local_no_context_takeover,
            extension.remote_max_window_bits,
            extension.local_max_window_bits,
            extension.compress_settings,
        )


class Deflater:
    """Compresses frames, each payload once as long as it is remembered."""

    def __init__(
        self,
        metrics: Metrics,
        *,
        level: int,
        bytes_min: int,
        share: float,
        clock: Callable[[], float] = perf_counter,
        cpu: Callable[[], float] = thread_time,
    ) -> None:
        """`share`: of the time that passes on `clock`, how much compressing may use of `cpu`."""
        self._level = level
        self._bytes_min = bytes_min
        self._share = share
        self._clock = clock
        self._cpu = cpu
        self._credit_seconds = _BURST_SECONDS
        self._credited_at = clock()
        self._kept: dict[bytes, bytes] = {}
        self._kept_bytes = 0
        self._frames = metrics.counter("feed_gateway_deflated", "Frames compressed, each for all who get it")
        self._before = metrics.counter("feed_gateway_deflated_bytes", "Their bytes before")
        self._after = metrics.counter("feed_gateway_deflated_to_bytes", "Their bytes after")
        self._passed = metrics.counter("feed_gateway_deflate_passed", "Frames sent as they are to save time")

    def packed(self, frames: Frames) -> Frames:
        """The same frames, those compressed that are worth it."""
        if len(frames) < self._bytes_min:
            return frames
        out: list[bytes] = []
        view = memoryview(frames)
        at = plain_from = 0
        while at < len(frames):
            begin, end = _payload(frames, at)
            if end - begin >= self._bytes_min and frames[at] in _TEXT_OR_BINARY:
                frame = self._found(frames[at], view[begin:end])
                if frame:
                    out += (bytes(view[plain_from:at]), frame)
                    plain_from = end
            at = end
        if not out:
            return frames
        out.append(bytes(view[plain_from:]))
        return b"".join(out)

    def _found(self, first: int, part: memoryview) -> bytes:
        """A frame of its own; empty where it is to go out as it is."""
        own = bytes(part[:_HEAD_BYTES]).startswith(_OWN)
        if len(part) > (_OWN_BYTES_MAX if own else _FRAME_BYTES_MAX):
            self._passed.value += 1
            return b""
        payload = bytes(part)
        frame = None if own else self._kept.get(payload)
        if frame is None:
            if not self._may(_BURST_SECONDS / 2 if own else 0.0):
                self._passed.value += 1
                return b""
            frame = self._compressed(first, payload)
            if not own:
                self._keep(payload, frame)
        return frame

    def _compressed(self, first: int, payload: bytes) -> bytes:
        began = self._cpu()
        compressor = zlib.compressobj(self._level, zlib.DEFLATED, -WINDOW_BITS, _MEMORY_LEVEL)
        data = compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH)
        size = len(data) - _TAIL_BYTES
        frame = b""
        if size < len(payload):
            head = frame_head(size)
            frame = b"".join((bytes((first | _RSV1,)), head[1:], memoryview(data)[:size]))
        self._credit_seconds -= self._cpu() - began
        self._frames.value += 1
        self._before.value += len(payload)
        self._after.value += min(size, len(payload))
        return frame

    def _may(self, left: float) -> bool:
        """Whether so much of the share is left."""
        now = self._clock()
        earned = (now - self._credited_at) * self._share
        self._credit_seconds = min(self._credit_seconds + earned, _BURST_SECONDS)
        self._credited_at = now
        return self._credit_seconds > left

    def _keep(self, payload: bytes, frame: bytes) -> None:
        self._kept[payload] = frame
        self._kept_bytes += len(payload) + len(frame) + _KEPT_OVERHEAD_BYTES
        while self._kept_bytes > _KEPT_BYTES_MAX:
            oldest = next(iter(self._kept))
            self._kept_bytes -= len(oldest) + len(self._kept.pop(oldest)) + _KEPT_OVERHEAD_BYTES


def _payload(frames: Frames, at: int) -> tuple[int, int]:
    """Where the payload of the unmasked frame at this place begins and ends."""
    size = frames[at + 1]
    if size == 126:
        return at + 4, at + 4 + int.from_bytes(frames[at + 2 : at + 4])
    if size == 127:
        return at + 10, at + 10 + int.from_bytes(frames[at + 2 : at + 10])
    return at + 2, at + 2 + size
