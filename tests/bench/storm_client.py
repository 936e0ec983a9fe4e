"""A process that is thousands of clients that come at once, go at once and come back, and keep the client's rule.

    echo '{"port": 8000, "spread_s": 1.0}' | python -m tests.bench.storm_client

`{"do": "join", "subscriptions": [[…], …]}`: that many more clients connect within `spread_s`; answered when each has
its snapshots (or its welcome, where it wants no symbols). `{"do": "storm"}`: when all have marks, all connections are
dropped, and within `spread_s` they come back and resume by their marks; answered when all are caught up. A connection
that is refused or broken is tried again after a while.
"""

from __future__ import annotations

import heapq
import json
import random
import select
import socket
import sys
import time
from typing import Any, Final

import msgspec

from tests.bench.dialects import handshake, subscribe

_WAIT_S: Final = 120.0
_AGAIN_S: Final = (0.1, 0.4)
_READ_BYTES: Final = 1 << 16
_PONG: Final = b"\x8a\x80\0\0\0\0"
"""Masked, as a client's frames are; pings of the gateway have no payload."""
_decode: Final = msgspec.json.Decoder().decode


class Client:
    """One client over all its connections."""

    def __init__(self, symbols: list[str]) -> None:
        self.symbols = symbols
        self.positions: dict[str, int] = {}
        self.marks: dict[str, int] = {}
        self.waiting: set[str] = set()
        self.resuming = False
        self.done_at = 0.0
        self.socket: socket.socket | None = None
        self.came = b""
        self.open = False


class Storm:
    """All clients. What is counted: `refused` connections, `gaps`, `snapshots` and `holes` since the last command."""

    def __init__(self, told: dict[str, Any]) -> None:
        self._port = told["port"]
        self._spread_s = told["spread_s"]
        self._poll = select.epoll()
        self._clients: list[Client] = []
        self._of: dict[int, Client] = {}
        self._due: list[tuple[float, int]] = []
        self._chooser = random.Random(17)
        self._left = 0
        self.counts = dict.fromkeys(("refused", "gaps", "snapshots", "holes", "not_resumed"), 0)

    def join(self, subscriptions: list[list[str]]) -> dict[str, Any]:
        """So many more clients."""
        new = [Client(symbols) for symbols in subscriptions]
        first = len(self._clients)
        self._clients += new
        for client in new:
            client.waiting = set(client.symbols)
        return self._come(range(first, len(self._clients)))

    def storm(self) -> dict[str, Any]:
        """All go and come back."""
        until = time.monotonic() + _WAIT_S
        while not all(client.marks for client in self._clients) and time.monotonic() < until:
            self.read(0.1)
        for client in self._clients:
            self._drop(client)
            client.resuming = True
        return self._come(range(len(self._clients)))

    def read(self, seconds: float) -> None:
        """Takes what is there, and connects who is due."""
        now = time.monotonic()
        while self._due and self._due[0][0] <= now:
            self._connect(heapq.heappop(self._due)[1])
        if self._due:
            seconds = max(0.0, min(seconds, self._due[0][0] - now))
        for number, _ in self._poll.poll(seconds):
            client = self._of[number]
            try:
                assert client.socket is not None
                if not client.open:
                    self._opened(client)
                came = client.socket.recv(_READ_BYTES)
                if not came:
                    raise ConnectionError("ended")
                client.came += came
                self._frames(client)
            except BlockingIOError:
                pass
            except OSError:
                self.counts["refused"] += 1
                self._drop(client)
                self._later(self._clients.index(client), self._chooser.uniform(*_AGAIN_S))

    def _come(self, numbers: range) -> dict[str, Any]:
        self.counts = dict.fromkeys(self.counts, 0)
        self._left = len(numbers)
        began = time.monotonic()
        for at, number in enumerate(numbers):
            self._clients[number].done_at = 0.0
            self._later(number, self._spread_s * at / len(numbers))
        while self._left and time.monotonic() < began + _WAIT_S:
            self.read(0.1)
        took = sorted(self._clients[number].done_at - began for number in numbers)
        return {
            "seconds": took[-1] if not self._left else None,
            "half_s": took[len(took) // 2],
            "missing": self._left,
            **self.counts,
        }

    def _later(self, number: int, seconds: float) -> None:
        heapq.heappush(self._due, (time.monotonic() + seconds, number))

    def _connect(self, number: int) -> None:
        client = self._clients[number]
        client.socket = socket.socket()
        client.socket.setblocking(False)
        client.open, client.came = False, b""
        client.socket.connect_ex(("127.0.0.1", self._port))
        self._of[client.socket.fileno()] = client
        self._poll.register(client.socket, select.EPOLLOUT | select.EPOLLIN)

    def _opened(self, client: Client) -> None:
        assert client.socket is not None
        client.socket.send(handshake(self._port, "/v1/stream"))
        client.open = True
        self._poll.modify(client.socket, select.EPOLLIN)

    def _drop(self, client: Client) -> None:
        if client.socket is not None:
            self._of.pop(client.socket.fileno(), None)
            client.socket.close()
            client.socket = None

    def _frames(self, client: Client) -> None:
        data = client.came
        at = 0
        if data.startswith(b"HTTP/1.1"):
            end = data.find(b"\r\n\r\n")
            if end < 0:
                return
            if not data.startswith(b"HTTP/1.1 101"):
                raise ConnectionError(data[:40].decode("latin-1"))
            at = end + 4
        while len(data) >= at + 2:
            length, begin = data[at + 1] & 0x7F, at + 2
            extra = {126: 2, 127: 8}.get(length, 0)
            if len(data) < begin + extra:
                break
            if extra:
                length, begin = int.from_bytes(data[begin : begin + extra], "big"), begin + extra
            if len(data) < begin + length:
                break
            if data[at] == 0x81:
                for message in _decode(data[begin : begin + length]):
                    self._take(client, message)
            elif data[at] & 0x0F == 8:
                raise ConnectionError("closed")
            elif data[at] & 0x0F == 9 and client.socket is not None:
                client.socket.send(_PONG)
            at = begin + length
        client.came = data[at:]

    def _take(self, client: Client, message: dict[str, Any]) -> None:
        kind = message["type"]
        if kind == "update":
            self._update(client, message)
        elif kind == "snapshot":
            self.counts["snapshots"] += 1
            client.positions[message["symbol"]] = message["seq"]
            client.waiting.discard(message["symbol"])
            if not client.resuming and not client.waiting:
                self._done(client)
        elif kind == "heartbeat":
            client.marks = message["marks"] or client.marks
        elif kind == "welcome":
            assert client.socket is not None
            if client.symbols:
                start = {"from": {"marks": client.marks}} if client.resuming else {}
                client.socket.send(subscribe(client.symbols, **start))
            else:
                self._done(client)
        elif kind == "ack":
            self.counts["not_resumed"] += client.resuming and sum(r["mode"] != "resumed" for r in message["results"])
        elif kind == "caught_up":
            self._done(client)
        elif kind == "gap":
            self.counts["gaps"] += 1

    def _update(self, client: Client, message: dict[str, Any]) -> None:
        symbol, at = message["symbol"], client.positions.get(message["symbol"], -1)
        if symbol in client.waiting or message["seq"] <= at:
            return
        self.counts["holes"] += message["prev"] > at
        client.positions[symbol] = message["seq"]

    def _done(self, client: Client) -> None:
        if not client.done_at:
            client.done_at = time.monotonic()
            self._left -= 1


def main() -> None:
    """Does what it is told until its input ends."""
    storm = Storm(json.loads(sys.stdin.readline()))
    # told before anything is asked: two lines at once would be read as one, and the second not be waited for
    print(json.dumps({"ready": True}), flush=True)
    while True:
        while not select.select([sys.stdin], [], [], 0)[0]:
            storm.read(0.02)
        line = sys.stdin.readline()
        if not line:
            return
        told = json.loads(line)
        found = storm.join(told["subscriptions"]) if told["do"] == "join" else storm.storm()
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
