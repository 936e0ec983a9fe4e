"""A WebSocket client of raw bytes: says exactly what a test wants said, and reads exactly what comes.

Owns frames as RFC 6455 has them, right and wrong ones, and nothing of the protocol that they carry.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import time
import zlib
from typing import Final, NamedTuple

CONT: Final = 0x0
TEXT: Final = 0x1
BINARY: Final = 0x2
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA
KEY: Final = "dGhlIHNhbXBsZSBub25jZQ=="


class Frame(NamedTuple):
    """A frame from the server."""

    opcode: int
    payload: bytes
    fin: bool

    @property
    def code(self) -> int | None:
        """The code of a close frame."""
        return struct.unpack("!H", self.payload[:2])[0] if self.opcode == CLOSE and len(self.payload) >= 2 else None


class Answer(NamedTuple):
    """The response to a handshake or request."""

    status: int
    headers: dict[str, str]
    body: bytes


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    rsv: int = 0,
    mask: bool = True,
    length: int | None = None,
    form: int | None = None,
) -> bytes:
    """A client's frame. `length` lies about the length, `form` (7, 16, 64) forces its encoding."""
    size = len(payload) if length is None else length
    form = form or (7 if size < 126 else 16 if size < 1 << 16 else 64)
    masked = 0x80 if mask else 0
    head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode])
    if form == 7:
        head += bytes([masked | size])
    elif form == 16:
        head += bytes([masked | 126]) + struct.pack("!H", size)
    else:
        head += bytes([masked | 127]) + struct.pack("!Q", size)
    if not mask:
        return head + payload
    key = os.urandom(4)
    if not payload:
        return head + key
    repeated = (key * (len(payload) // 4 + 1))[: len(payload)]
    masked_payload = (int.from_bytes(payload) ^ int.from_bytes(repeated)).to_bytes(len(payload))
    return head + key + masked_payload


def text(payload: str | bytes) -> bytes:
    """A whole text frame."""
    return frame(TEXT, payload.encode() if isinstance(payload, str) else payload)


def close(code: int | None = None, reason: bytes = b"") -> bytes:
    """A close frame."""
    return frame(CLOSE, b"" if code is None else struct.pack("!H", code) + reason)


def handshake(
    port: int, *, path: str = "/v1/stream", method: str = "GET", version: str = "1.1", **headers: str | None
) -> bytes:
    """The bytes of a handshake; `headers` replace the usual ones (underscores are hyphens), None leaves one out."""
    usual: dict[str, str | None] = {
        "Host": f"127.0.0.1:{port}",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": KEY,
        "Sec-WebSocket-Version": "13",
    }
    usual.update({name.replace("_", "-"): value for name, value in headers.items()})
    lines = [
        f"{method} {path} HTTP/{version}",
        *(f"{name}: {value}" for name, value in usual.items() if value is not None),
    ]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


class RawClient:
    """A TCP connection to the gateway."""

    def __init__(
        self, port: int, *, host: str = "127.0.0.1", receive_buffer: int | None = None, timeout: float = 5.0
    ) -> None:
        self.port = port
        self.socket = socket.socket()
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(timeout)
        self.socket.connect((host, port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        self.inflates = False
        """Whether permessage-deflate was agreed."""
        self.compressed: list[bytes] = []
        """Payloads that came compressed, as they came."""

    def __enter__(self) -> RawClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Sends all of it; a server that has closed meanwhile is no error."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.socket.sendall(data)

    def open(self, **headers: str | None) -> RawClient:
        """Makes the handshake and takes the first frame, `welcome`."""
        self.send(handshake(self.port, **headers))
        answer = self.answer()
        assert answer.status == 101, answer
        self.inflates = "sec-websocket-extensions" in answer.headers
        first = self.frame()
        assert first is not None
        assert b'"welcome"' in first.payload, first
        return self

    def answer(self) -> Answer:
        """The response to what was sent; its body only where it has a length."""
        while b"\r\n\r\n" not in self.buffer:
            if not self._more():
                raise ConnectionError(f"closed without a response, after {self.buffer!r}")
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        status_line, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = int(headers.get("content-length", "0"))
        while len(self.buffer) < length and self._more():
            pass
        body, self.buffer = self.buffer[:length], self.buffer[length:]
        return Answer(int(status_line.split()[1]), headers, body)

    def frame(self) -> Frame | None:
        """The next frame, None at the end of the connection."""
        while (found := self._parse()) is None:
            if not self._more():
                assert not self.buffer, f"connection ended inside a frame: {self.buffer[:40]!r}"
                return None
        return found

    def frames(self) -> list[Frame]:
        """All frames to the end of the connection."""
        found = []
        while (one := self.frame()) is not None:
            found.append(one)
        return found

    def closed_with(self) -> int | None:
        """The code of the server's close frame; asserts that nothing follows it and that TCP ends too."""
        frames = self.frames()
        assert all(one.opcode != CLOSE for one in frames[:-1]), frames
        return frames[-1].code if frames else None

    def ends_within(self, seconds: float) -> bool:
        """Whether the connection ends in this time, whatever comes before."""
        deadline = time.monotonic() + seconds
        self.socket.settimeout(0.05)
        while time.monotonic() < deadline:
            try:
                if not self.socket.recv(1 << 16):
                    return True
            except TimeoutError:
                continue
            except ConnectionResetError:
                return True
        return False

    def _more(self) -> bool:
        try:
            data = self.socket.recv(1 << 16)
        except ConnectionResetError:
            return False
        self.buffer += data
        return bool(data)

    def _parse(self) -> Frame | None:
        data = self.buffer
        if len(data) < 2:
            return None
        size, at = data[1] & 0x7F, 2
        assert not data[1] & 0x80, "server frames are unmasked"
        assert not data[0] & (0x30 if self.inflates else 0x70), "no extension was agreed"
        if size == 126:
            if len(data) < 4:
                return None
            size, at = struct.unpack("!H", data[2:4])[0], 4
        elif size == 127:
            if len(data) < 10:
                return None
            size, at = struct.unpack("!Q", data[2:10])[0], 10
        if len(data) < at + size:
            return None
        self.buffer = data[at + size :]
        payload = data[at : at + size]
        if data[0] & 0x40:
            self.compressed.append(payload)
            payload = inflated(payload)
        return Frame(data[0] & 0x0F, payload, bool(data[0] & 0x80))


def inflated(payload: bytes) -> bytes:
    """A compressed message that rests on none before it (RFC 7692, 7.2.2)."""
    inflating = zlib.decompressobj(-15)
    found = inflating.decompress(payload + b"\x00\x00\xff\xff")
    assert not inflating.unused_data
    return found


def deflated(payload: bytes, *, level: int = 6, window_bits: int = 15) -> bytes:
    """The other way (7.2.1)."""
    deflating = zlib.compressobj(level, zlib.DEFLATED, -window_bits)
    return (deflating.compress(payload) + deflating.flush(zlib.Z_SYNC_FLUSH))[:-4]
