"""Frames of clients: websockets' parser, closer to the letter of RFC 6455 in two points."""

from __future__ import annotations

import sys
from typing import Final

from websockets.exceptions import PayloadTooBig
from websockets.frames import CloseCode
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol

_LENGTH_HIGH_BIT: Final = 1 << 63


class FrameParser(ServerProtocol):
    """One connection's."""

    def accept(self, request: Request) -> Response:
        """As websockets', and who asks for another version is told which one is spoken (4.2.2)."""
        response = super().accept(request)
        if response.status_code == 400 and request.headers.get_all("Sec-WebSocket-Version") != ["13"]:
            response = self.reject(426, "Sec-WebSocket-Version: 13 is spoken here\n")
            response.headers["Sec-WebSocket-Version"] = "13"
        return response

    def fail(self, code: CloseCode | int, reason: str = "") -> None:
        """As websockets', but a 64-bit length with its high bit set is a broken frame, not a big one (5.2)."""
        # called while the parser's error is handled
        error = sys.exception()
        if isinstance(error, PayloadTooBig):
            if error.size is not None and error.size >= _LENGTH_HIGH_BIT:
                code, reason = CloseCode.PROTOCOL_ERROR, "length with its high bit set"
            else:
                reason = f"message over {self.max_message_size} bytes"
        super().fail(code, reason)

    def release(self) -> None:
        """The connection is gone. A generator that holds its parser, and the traceback of its error, are cycles: what
        they hold would stay until a full collection, which is rare here."""
        self.parser = iter(())  # type: ignore[assignment]  # nothing is fed any more
        self.events, self.writes = [], []
        for error in (self.parser_exc, self.handshake_exc):
            if error is not None:
                error.__traceback__ = error.__context__ = error.__cause__ = None

    @property
    def over(self) -> bool:
        """Whether the client has closed or broke the protocol: nothing after it is looked at."""
        return self.parser_exc is not None or self.close_rcvd is not None
