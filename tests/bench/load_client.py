"""A process that is many WebSocket clients: raw sockets, one epoll, big reads, and as little Python a byte as possible.

    echo '{"port": 8000, "subscriptions": [["BENCH:SYM000USDT"], …], …}' | python -m tests.bench.load_client

Every `count_every`th client is read and its updates are counted by `"seq":`; of the others the kernel drops the bytes
uncopied (`MSG_TRUNC`) and they are counted by their length. Says `ready` when all clients have their snapshots, waits
for the start, and reports what came between warm-up and end, with the CPU time of the server in exactly that time.
"""

from __future__ import annotations

import base64
import json
import os
import re
import select
import socket
import sys
import time
from array import array
from collections import Counter
from typing import Any, Final

from hdrh.histogram import HdrHistogram

from tests.bench.machine import busy_seconds, cpu_seconds, waited_seconds

_BUFFER_BYTES: Final = 1 << 20
_SNAPSHOT: Final = b'{"type":"snapshot"'
_MARK: Final = b'"seq":'
_TIMES: Final = re.compile(rb'"ts_event":"(\d+)","ts_recv":"(\d+)","data"').findall
_LATENCY_US_MAX: Final = 60_000_000


def frame(payload: bytes) -> bytes:
    """A text frame with an all-zero mask: legal, and the payload stays as it is."""
    length = len(payload)
    if length < 126:
        head = bytes([0x81, 0x80 | length])
    elif length < 65536:
        head = bytes([0x81, 0xFE]) + length.to_bytes(2, "big")
    else:
        head = bytes([0x81, 0xFF]) + length.to_bytes(8, "big")
    return head + bytes(4) + payload


class Client:
    """One connection."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(
            f"GET /v1/stream HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        answer = b""
        while b'"welcome"' not in answer:
            piece = self.socket.recv(65536)
            if not piece:
                raise ConnectionError(f"no welcome: {answer[:200]!r}")
            answer += piece
        self.socket.setblocking(False)
        self.counted = self.joined = False
        self.awaited = 0
        self.tail = b""

    def subscribe(self, channel: str, symbols: list[str]) -> None:
        """Asks for a channel of these symbols."""
        self.awaited = len(symbols)
        request = {"op": "subscribe", "id": 1, "channels": [channel], "symbols": symbols}
        self.socket.setblocking(True)
        self.socket.sendall(frame(json.dumps(request, separators=(",", ":")).encode()))
        self.socket.setblocking(False)


class Load:
    """All clients, and what came to them."""

    def __init__(self, told: dict[str, Any]) -> None:
        self._told = told
        self._buffer = bytearray(_BUFFER_BYTES)
        self._view = memoryview(self._buffer)
        self._poll = select.epoll()
        self._clients: dict[int, Client] = {}
        self._reads = 0
        self.total_bytes = self.counted_bytes = self.counted = self.gaps = self.joined = self.ended = 0
        self.measuring = False
        self.offset_ns = 0
        self.from_due = array("q")
        self.from_append = array("q")

    def connect(self) -> None:
        """Opens and subscribes all clients; reads on meanwhile."""
        for number, symbols in enumerate(self._told["subscriptions"]):
            client = Client(self._told["port"])
            if number % self._told["count_every"] == 0:
                client.counted = True
            self._clients[client.socket.fileno()] = client
            self._poll.register(client.socket, select.EPOLLIN)
            if symbols:
                client.subscribe("trades", symbols)
            self.read(0)
        wanted = sum(1 for symbols in self._told["subscriptions"] if symbols)
        deadline = time.monotonic() + 30
        while self.joined < wanted:
            self.read(0.1)
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.joined} of {wanted} clients have all snapshots")

    def read(self, seconds: float) -> None:
        """Takes what is there, one read a socket."""
        buffer, clients = self._buffer, self._clients
        for number, _ in self._poll.poll(seconds):
            client = clients[number]
            if client.counted or not client.joined:
                size = client.socket.recv_into(buffer)
                (self._count if client.joined else self._join)(client, size)
            else:
                size = client.socket.recv_into(buffer, _BUFFER_BYTES, socket.MSG_TRUNC)
            self.total_bytes += size
            if not size:
                self.ended += 1
                self._poll.unregister(client.socket)

    def _join(self, client: Client, size: int) -> None:
        """Until it has a snapshot of each symbol."""
        client.tail += bytes(self._view[:size])
        if client.tail.count(_SNAPSHOT) >= client.awaited:
            client.joined, client.tail = True, b""
            self.joined += 1

    def _count(self, client: Client, size: int) -> None:
        data = client.tail + bytes(self._view[:size])
        client.tail = data[-(len(_MARK) - 1) :]
        self.counted_bytes += size
        self.counted += data.count(_MARK)
        if b'"type":"gap"' in data:
            self.gaps += 1
        if self.measuring:
            self._reads += 1
            if self._reads % self._told["time_every"] == 0:
                now = time.time_ns() - self.offset_ns
                for due, appended in _TIMES(data):
                    self.from_due.append(now - int(due))
                    self.from_append.append(now - int(appended))

    def run_until(self, moment: float) -> None:
        """Reads until then, on the clock of `time.monotonic`."""
        while (left := moment - time.monotonic()) > 0:
            self.read(min(left, 0.05))

    def mark(self) -> dict[str, float]:
        """What has been so far."""
        return {
            "at": time.monotonic(),
            "cpu": time.process_time(),
            "busy": busy_seconds(),
            "bytes": self.total_bytes,
            "counted_bytes": self.counted_bytes,
            "counted": self.counted,
            **{f"cpu_{name}": cpu_seconds(pid) for name, pid in self._told["pids"].items()},
            **{f"waited_{name}": waited_seconds(pid) for name, pid in self._told["pids"].items()},
        }


def _percentiles(nanoseconds: array[int]) -> dict[str, float] | None:
    if not nanoseconds:
        return None
    histogram = HdrHistogram(1, _LATENCY_US_MAX, 3)
    for value, count in Counter(max(1, value // 1000) for value in nanoseconds).items():
        histogram.record_value(min(value, _LATENCY_US_MAX), count)
    found = {f"p{p:g}_ms": histogram.get_value_at_percentile(p) / 1000 for p in (50, 90, 99, 99.9)}
    return {**found, "max_ms": histogram.get_max_value() / 1000, "samples": len(nanoseconds)}


def main() -> None:
    """Connects, waits for the start, measures, reports."""
    told = json.loads(sys.stdin.readline())
    load = Load(told)
    load.connect()
    print(json.dumps({"ready": len(told["subscriptions"])}), flush=True)
    while not select.select([sys.stdin], [], [], 0)[0]:
        load.read(0.02)
    command = json.loads(sys.stdin.readline())
    load.offset_ns = command["offset_ns"]
    start = time.monotonic() + (command["start_ns"] - time.time_ns()) / 1e9
    load.run_until(start + told["warmup_s"])
    load.measuring = True
    before = load.mark()
    load.run_until(start + told["warmup_s"] + told["measure_s"])
    after = load.mark()
    load.measuring = False
    used = {name: after[name] - before[name] for name in after}
    counted_a_byte = used["counted"] / used["counted_bytes"] if used["counted_bytes"] else 0.0
    print(
        json.dumps(
            {
                "seconds": used["at"],
                "deliveries": used["bytes"] * counted_a_byte,
                "bytes": used["bytes"],
                "cpu": {name: used[f"cpu_{name}"] for name in told["pids"]},
                "waited": {name: used[f"waited_{name}"] / used["at"] for name in told["pids"]},
                "client_cpu": used["cpu"],
                "others_cpu": used["busy"] - used["cpu"] - sum(used[f"cpu_{name}"] for name in told["pids"]),
                "gaps": load.gaps,
                "ended": load.ended,
                "from_due": _percentiles(load.from_due),
                "from_append": _percentiles(load.from_append),
            }
        ),
        flush=True,
    )
    sys.stdin.readline()


if __name__ == "__main__":
    main()
