"""A process that is clients as nobody wants them: stalled (never reads), slow (reads so many bytes a second), flooding
(asks without a pause).

    echo '{"port": 8000, "stalled": [[…]], "slow": [], "flooding": [], …}' | python -m tests.bench.odd_clients

Each list holds the symbols of each such client. They come at `{"do": "on"}` and go at `{"do": "off"}`; both are
answered with what was read and sent so far, and how often a flooding client was thrown out.
"""

from __future__ import annotations

import json
import select
import socket
import sys
import time
from typing import Any, Final

from tests.bench.dialects import dialect, frame

_TURN_S: Final = 0.05
_RECEIVE_BUFFER_BYTES: Final = 64 * 1024
_FLOOD: Final = b"".join(frame(b'{"op":"list","id":%d}' % number) for number in range(1000))


class Odd:
    """All of them. `sent`, `read` and `thrown_out` are what came of it."""

    def __init__(self, told: dict[str, Any]) -> None:
        self._told = told
        self._rate = told.get("slow_bytes_a_second", 0)
        self._stalled: list[socket.socket] = []
        self._slow: list[socket.socket] = []
        self._flooding: list[socket.socket] = []
        self._read_at = time.monotonic()
        self.sent = self.read = self.thrown_out = 0

    def on(self) -> None:
        """They come."""
        self._stalled = self._joined("stalled")
        self._slow = self._joined("slow")
        self._flooding = self._joined("flooding")
        self._read_at = time.monotonic()

    def off(self) -> None:
        """They go."""
        for peer in (*self._stalled, *self._slow, *self._flooding):
            peer.close()
        self._stalled, self._slow, self._flooding = [], [], []

    def turn(self) -> None:
        """A while of what they do."""
        now = time.monotonic()
        allowed, self._read_at = int(self._rate * (now - self._read_at)), now
        for peer in self._slow:
            self.read += len(_taken(peer, allowed))
        for number, peer in enumerate(self._flooding):
            try:
                _taken(peer, 1 << 20)
                self.sent += peer.send(_FLOOD)
            except BlockingIOError:
                pass
            except OSError:
                self.thrown_out += 1
                peer.close()
                self._flooding[number] = self._join(self._told["flooding"][number])

    def _joined(self, which: str) -> list[socket.socket]:
        return [self._join(symbols) for symbols in self._told.get(which) or []]

    def _join(self, symbols: list[str]) -> socket.socket:
        peer = dialect("feed")(self._told["port"], symbols, {}).socket
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)
        return peer


def _taken(peer: socket.socket, size: int) -> bytes:
    try:
        return peer.recv(size) if size else b""
    except BlockingIOError:
        return b""


def main() -> None:
    """Does what it is told until its input ends."""
    odd = Odd(json.loads(sys.stdin.readline()))
    # told before anything is asked: two lines at once would be read as one, and the second not be waited for
    print(json.dumps({"ready": True}), flush=True)
    while True:
        while not select.select([sys.stdin], [], [], _TURN_S)[0]:
            odd.turn()
        line = sys.stdin.readline()
        if not line:
            return
        (odd.on if json.loads(line)["do"] == "on" else odd.off)()
        print(json.dumps({"read": odd.read, "sent": odd.sent, "thrown_out": odd.thrown_out}), flush=True)


if __name__ == "__main__":
    main()
