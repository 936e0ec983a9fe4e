"""How a client joins each kind of server that is measured: raw sockets, blocking until it has asked for its symbols.

Owns the few bytes of each handshake. Leaves reading to whoever asked: `joined` says whether what came so far means that
the client has all that it waits for.
"""

from __future__ import annotations

import base64
import json
import os
import socket
from collections.abc import Callable
from typing import Any, Final, NamedTuple

_TIMEOUT_S: Final = 30.0
_SNAPSHOT: Final = b'{"type":"snapshot"'
_TEXT: Final = 0x81
_BINARY: Final = 0x82


class Connection(NamedTuple):
    """A socket that does not block any more, what came on it, and when it is joined."""

    socket: socket.socket
    came: bytes
    joined: Callable[[bytes], bool]


Dialect = Callable[[int, list[str], dict[str, Any]], Connection]


def dialect(name: str) -> Dialect:
    """`feed` (ours), `loop` (a server that says `ready`), `nats`, `bytes` (a bare socket)."""
    return {"feed": _feed, "loop": _loop, "nats": _nats, "bytes": _bytes}[name]


def frame(payload: bytes, opcode: int = _TEXT) -> bytes:
    """A client's frame with an all-zero mask: legal, and the payload stays as it is."""
    length = len(payload)
    if length < 126:
        head = bytes([opcode, 0x80 | length])
    elif length < 65536:
        head = bytes([opcode, 0xFE]) + length.to_bytes(2, "big")
    else:
        head = bytes([opcode, 0xFF]) + length.to_bytes(8, "big")
    return head + bytes(4) + payload


def handshake(port: int, path: str) -> bytes:
    """The request that opens a WebSocket."""
    key = base64.b64encode(os.urandom(16)).decode()
    return (
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    ).encode()


def subscribe(symbols: list[str], **asks: Any) -> bytes:
    """A frame that asks our service for the quotes of these symbols; `asks` are more fields of the request."""
    request = {"op": "subscribe", "id": 1, "channels": ["quotes"], "symbols": symbols, **asks}
    return frame(json.dumps(request, separators=(",", ":")).encode())


def told_at_welcome(port: int) -> dict[str, Any]:
    """What our service says of itself before anything is asked."""
    with _connected(port) as peer:
        peer.sendall(handshake(port, "/v1/stream"))
        came = _until(peer, b"}]")
    messages: list[dict[str, Any]] = json.loads(came[came.index(b"[{") :])
    return messages[0]


def _feed(port: int, symbols: list[str], asks: dict[str, Any]) -> Connection:
    """Joined with a snapshot of each symbol."""
    peer = _connected(port)
    peer.sendall(handshake(port, "/v1/stream"))
    came = _until(peer, b'"welcome"')
    if symbols:
        peer.sendall(subscribe(symbols, **asks))
    return _opened(peer, b"", lambda data: data.count(_SNAPSHOT) >= len(symbols)) if symbols else _idle(peer, came)


def _loop(port: int, symbols: list[str], asks: dict[str, Any]) -> Connection:
    peer = _connected(port)
    peer.sendall(handshake(port, "/stream?symbols=" + ",".join(symbols)))
    return _opened(peer, _until(peer, b"\r\n\r\n"), lambda data: b"ready" in data)


def _nats(port: int, symbols: list[str], asks: dict[str, Any]) -> Connection:
    peer = _connected(port)
    peer.sendall(handshake(port, "/"))
    came = _until(peer, b"INFO ")
    asked = "".join(f"SUB {symbol} {number}\r\n" for number, symbol in enumerate(symbols, 1))
    peer.sendall(frame(f'CONNECT {{"verbose":false,"pedantic":false}}\r\n{asked}PING\r\n'.encode(), _BINARY))
    return _opened(peer, came, lambda data: b"PONG" in data)


def _bytes(port: int, symbols: list[str], asks: dict[str, Any]) -> Connection:
    return _idle(_connected(port), b"")


def _connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=_TIMEOUT_S)


def _idle(peer: socket.socket, came: bytes) -> Connection:
    return _opened(peer, came, lambda data: True)


def _opened(peer: socket.socket, came: bytes, joined: Callable[[bytes], bool]) -> Connection:
    peer.setblocking(False)
    return Connection(peer, came, joined)


def _until(peer: socket.socket, mark: bytes) -> bytes:
    came = b""
    while mark not in came:
        piece = peer.recv(65536)
        if not piece:
            raise ConnectionError(f"no {mark!r}: {came[:200]!r}")
        came += piece
    return came
