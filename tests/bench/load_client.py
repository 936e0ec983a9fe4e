"""A process that is many clients: raw sockets, one epoll, big reads, and as little Python a byte as possible.

    echo '{"port": 8000, "dialect": "feed", "subscriptions": [["BENCH:S000"]], …}' | python -m tests.bench.load_client

Every `count_every`th client is read and its updates are counted by `"seq":`; of the others the kernel drops the bytes
uncopied (`MSG_TRUNC`) and they are counted by their length. So it costs a seventh of a core at 3.3 million updates a
second, and nothing of it is on the server's core.

Says `ready` when all clients are joined, then answers each window that it is told (`start_ns`, `warmup_s`,
`measure_s`): what came between warm-up and end, with the CPU time of the processes `pids` in exactly that time.
"""

from __future__ import annotations

import json
import re
import select
import sys
import time
from array import array
from typing import Any, Final

from tests.bench.dialects import Connection, dialect
from tests.bench.latency import histogram_of, told
from tests.bench.machine import busy_seconds, cpu_seconds, waited_seconds

_BUFFER_BYTES: Final = 1 << 20
_MARK: Final = b'"seq":'
_GAP: Final = b'"type":"gap"'
_TIMES: Final = re.compile(rb'"ts_event":"(\d+)","ts_recv":"(\d+)","data"').findall
_JOIN_SECONDS: Final = 60.0
_TRUNCATE: Final = 0x20
"""`MSG_TRUNC` of Linux; elsewhere the bytes are copied."""


class Client:
    """One connection, and what is kept of it."""

    def __init__(self, connection: Connection, counted: bool) -> None:
        self.socket = connection.socket
        self.joined = connection.joined
        self.counted = counted
        self.ready = False
        self.tail = b""


class Load:
    """All clients, and what came to them."""

    def __init__(self, told_: dict[str, Any]) -> None:
        self._told = told_
        self._time_every = told_.get("time_every", 1)
        self._buffer = bytearray(_BUFFER_BYTES)
        self._view = memoryview(self._buffer)
        self._poll = select.epoll()
        self._clients: dict[int, Client] = {}
        self._reads = self._ready = 0
        self.total_bytes = self.counted_bytes = self.counted = self.gaps = self.ended = 0
        self.measuring = False
        self.from_due = array("q")
        self.from_append = array("q")

    def connect(self) -> None:
        """Opens and subscribes all clients; reads on meanwhile."""
        speak = dialect(self._told["dialect"])
        for number, symbols in enumerate(self._told["subscriptions"]):
            connection = speak(self._told["port"], symbols, self._told.get("asks") or {})
            client = Client(connection, number % self._told["count_every"] == 0)
            self._clients[client.socket.fileno()] = client
            self._poll.register(client.socket, select.EPOLLIN)
            self._look(client, connection.came)
            self.read(0)
        deadline = time.monotonic() + _JOIN_SECONDS
        while self._ready < len(self._clients):
            self.read(0.1)
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self._ready} of {len(self._clients)} clients are joined")

    def read(self, seconds: float) -> None:
        """Takes what is there, one read a socket."""
        buffer, clients = self._buffer, self._clients
        for number, _ in self._poll.poll(seconds):
            client = clients[number]
            if not client.ready:
                size = client.socket.recv_into(buffer)
                self._look(client, bytes(self._view[:size]))
            elif client.counted:
                size = client.socket.recv_into(buffer)
                self._count(client, size)
            else:
                size = client.socket.recv_into(buffer, _BUFFER_BYTES, _TRUNCATE)
            self.total_bytes += size
            if not size:
                self.ended += 1
                self._poll.unregister(client.socket)

    def _look(self, client: Client, came: bytes) -> None:
        """Until it is joined."""
        client.tail += came
        if client.joined(client.tail):
            client.ready, client.tail = True, b""
            self._ready += 1

    def _count(self, client: Client, size: int) -> None:
        data = client.tail + bytes(self._view[:size])
        client.tail = data[-(len(_MARK) - 1) :]
        self.counted_bytes += size
        self.counted += data.count(_MARK)
        if _GAP in data:
            self.gaps += 1
        if self.measuring:
            self._reads += 1
            if self._reads % self._time_every == 0:
                now = time.time_ns()
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
            "client_cpu": time.process_time(),
            "busy": busy_seconds(),
            "bytes": self.total_bytes,
            "counted_bytes": self.counted_bytes,
            "counted": self.counted,
            "gaps": self.gaps,
            **{f"cpu_{name}": cpu_seconds(pid) for name, pid in self._told["pids"].items()},
            **{f"waited_{name}": waited_seconds(pid) for name, pid in self._told["pids"].items()},
        }

    def window(self, command: dict[str, Any]) -> dict[str, Any]:
        """What comes between warm-up and end."""
        start = time.monotonic() + (command["start_ns"] - time.time_ns()) / 1e9
        self.run_until(start + command["warmup_s"])
        self.measuring = True
        before = self.mark()
        self.run_until(start + command["warmup_s"] + command["measure_s"])
        after = self.mark()
        self.measuring = False
        used = {name: after[name] - before[name] for name in after}
        names = self._told["pids"]
        counted_a_byte = used["counted"] / used["counted_bytes"] if used["counted_bytes"] else 0.0
        due, appended = histogram_of(self.from_due), histogram_of(self.from_append)
        self.from_due, self.from_append = array("q"), array("q")
        return {
            "seconds": used["at"],
            "deliveries": used["bytes"] * counted_a_byte,
            "bytes": used["bytes"],
            "cpu": {name: used[f"cpu_{name}"] for name in names},
            "waited": {name: used[f"waited_{name}"] / used["at"] for name in names},
            "client_cpu": used["client_cpu"],
            # counted in steps of 10 ms: small numbers may come out below zero
            "others_cpu": max(0.0, used["busy"] - used["client_cpu"] - sum(used[f"cpu_{name}"] for name in names)),
            "gaps": used["gaps"],
            "ended": self.ended,
            "from_due": told(due),
            "from_append": told(appended),
        }


def main() -> None:
    """Connects, then measures windows until its input ends."""
    load = Load(json.loads(sys.stdin.readline()))
    load.connect()
    _say({"ready": True})
    while True:
        while not select.select([sys.stdin], [], [], 0)[0]:
            load.read(0.02)
        line = sys.stdin.readline()
        if not line:
            return
        _say(load.window(json.loads(line)))


def _say(what: dict[str, Any]) -> None:
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    main()
