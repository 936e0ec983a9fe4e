"""A process that is clients who ask for as much as they may, and more.

    echo '{"port": 8000, "clients": 20}' | python -m tests.bench.hostile_clients

Told `{"attack": name}` they come and ask, told `{"attack": null}` they go; `{"wave": 200}` has so many clients join
everything at once, a third each by snapshot, live and from marks, and says when the last of them was answered. Each is
answered with what came of it. They read all that they are sent.
"""

from __future__ import annotations

import json
import select
import socket
import sys
import time
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any, Final

from tests.bench.dialects import dialect, frame, handshake

KINDS: Final = ["trades", "quotes", "book", "bars"]
_TURN_S: Final = 0.02
_READ_BYTES: Final = 1 << 18
_WAVE_SECONDS: Final = 60.0
_ACK: Final = b'"type":"ack"'
_HEARTBEAT: Final = b'"marks":'


def _frame(id_: int, op: str, **fields: Any) -> bytes:
    return frame(json.dumps({"op": op, "id": id_, **fields}, separators=(",", ":")).encode())


def _everything(id_: int, op: str = "subscribe", **fields: Any) -> bytes:
    return _frame(id_, op, channels=KINDS, symbols=["*"], **fields)


def patterns() -> Iterator[bytes]:
    """Everything, and then 2,000 patterns to leave, again and again."""
    yield _everything(0)
    for id_ in count(1):
        yield _frame(id_, "unsubscribe", channels=["trades"], symbols=[f"V{n}:*" for n in range(2_000)])


def joins() -> Iterator[bytes]:
    """Everything, and nothing."""
    for id_ in count(1):
        yield _everything(id_)
        yield _everything(-id_, "unsubscribe")


def views() -> Iterator[bytes]:
    """Everything, always seen in another way."""
    for id_ in count(1):
        yield _everything(id_, every_ms=(50, 100, 250, 1000)[id_ % 4], depth=(1, 10, 50)[id_ % 3])


def lists() -> Iterator[bytes]:
    """2,000 names, to have and to leave; some are not known."""
    names = [f"BENCH:S{number:03}" for number in range(1_500)] + [f"X:{number}" for number in range(500)]
    for id_ in count(1):
        yield _frame(id_, "subscribe", channels=KINDS, symbols=names, wait=True)
        yield _frame(-id_, "unsubscribe", channels=KINDS, symbols=names)


def listing() -> Iterator[bytes]:
    """What it has, 8,000 channels, as often as it may."""
    names = [f"BENCH:S{number:03}" for number in range(2_000)]
    yield _frame(0, "subscribe", channels=KINDS, symbols=names, **{"from": "live"})
    for id_ in count(1):
        yield _frame(id_, "list")


def single() -> Iterator[bytes]:
    """Everything, and then one channel to leave and to have."""
    yield _everything(0)
    for id_ in count(1):
        names = [f"BENCH:S{id_ % 1_000:03}"]
        yield _frame(id_, "unsubscribe", channels=["trades"], symbols=names)
        yield _frame(-id_, "subscribe", channels=["trades"], symbols=names)


ATTACKS: Final[dict[str, Callable[[], Iterator[bytes]]]] = {
    attack.__name__: attack for attack in (patterns, joins, views, lists, listing, single)
}


class _Client:
    """One of them. It asks as fast as it is answered, `ahead` requests before."""

    def __init__(self, port: int, asks: Iterator[bytes], ahead: int = 2) -> None:
        self._port = port
        self._asks = asks
        self._ahead = ahead
        self._unsent = b""
        self._open = 0
        self.answered = self.read = 0
        self.socket = dialect("feed")(port, [], {}).socket
        self.ended = False

    def turn(self) -> None:
        """Reads what came, and asks again."""
        try:
            while came := self.socket.recv(_READ_BYTES):
                self.read += len(came)
                answers = came.count(_ACK) + came.count(b'"type":"error"')
                self.answered += answers
                self._open -= answers
            self.ended = True
        except BlockingIOError:
            pass
        except OSError:
            self.ended = True
        while not self.ended:
            if not self._unsent:
                if self._open >= self._ahead:
                    return
                self._unsent = next(self._asks)
                self._open += 1
            try:
                self._unsent = self._unsent[self.socket.send(self._unsent) :]
            except BlockingIOError:
                return
            except OSError:
                self.ended = True


class Hostile:
    """All of them."""

    def __init__(self, told: dict[str, Any]) -> None:
        self._port: int = told["port"]
        self._count: int = told["clients"]
        self._clients: list[_Client] = []
        self._name = ""
        self.ended = 0

    def attack(self, name: str | None) -> dict[str, Any]:
        """They come, or go."""
        did = {"answered": sum(one.answered for one in self._clients), "read": sum(one.read for one in self._clients)}
        for one in self._clients:
            one.socket.close()
        ended, self.ended = self.ended, 0
        self._name = name or ""
        self._clients = [self._come() for _ in range(self._count if name else 0)]
        return {**did, "thrown_out": ended}

    def turn(self) -> None:
        """A while of what they do."""
        for number, one in enumerate(self._clients):
            one.turn()
            if one.ended:
                self.ended += 1
                one.socket.close()
                self._clients[number] = self._come()

    def _come(self) -> _Client:
        return _Client(self._port, ATTACKS[self._name]())

    def wave(self, clients: int) -> dict[str, Any]:
        """So many that join everything at once, and stay until the end of it."""
        peers = [dialect("feed")(self._port, [], {}).socket for _ in range(clients)]
        marks = self._marks()
        starts: list[Any] = ["snapshot", "live", {"marks": marks}]
        began = time.monotonic()
        for number, peer in enumerate(peers):
            peer.send(_everything(number, **{"from": starts[number % 3]}))
        acked: dict[int, float] = {}
        tails = dict.fromkeys([peer.fileno() for peer in peers], b"")
        poll = select.epoll()
        for peer in peers:
            poll.register(peer, select.EPOLLIN)
        by_number = {peer.fileno(): peer for peer in peers}
        read, last = 0, began
        while time.monotonic() - began < _WAVE_SECONDS and (len(acked) < clients or time.monotonic() - last < 1.0):
            for number, _ in poll.poll(0.1):
                came = by_number[number].recv(_READ_BYTES)
                if not came:
                    poll.unregister(number)
                    continue
                read, last = read + len(came), time.monotonic()
                if number not in acked:
                    tails[number] = tails[number][-20:] + came
                    if _ACK in tails[number]:
                        acked[number] = time.monotonic() - began
                        tails[number] = b""
        whole_s = last - began
        for peer in peers:
            peer.close()
        return {
            "acked": len(acked),
            "last_ack_s": max(acked.values(), default=0.0) if len(acked) == clients else _WAVE_SECONDS,
            "whole_s": whole_s,
            "read": read,
        }

    def _marks(self) -> dict[str, int]:
        """The marks that a client of everything is told."""
        with socket.create_connection(("127.0.0.1", self._port), timeout=30) as peer:
            peer.sendall(handshake(self._port, "/v1/stream"))
            time.sleep(0.2)
            peer.sendall(_everything(0, **{"from": "live"}))
            came = b""
            while _HEARTBEAT not in came or b"}" not in came[came.index(_HEARTBEAT) :]:
                came = came[-4_000:] + peer.recv(_READ_BYTES)
            at = came.index(_HEARTBEAT) + len(_HEARTBEAT)
            found: dict[str, int] = json.loads(came[at : came.index(b"}", at) + 1])
            return found


def main() -> None:
    """Does what it is told until its input ends."""
    hostile = Hostile(json.loads(sys.stdin.readline()))
    print(json.dumps({"ready": True}), flush=True)
    while True:
        while not select.select([sys.stdin], [], [], _TURN_S)[0]:
            hostile.turn()
        line = sys.stdin.readline()
        if not line:
            return
        command = json.loads(line)
        did = hostile.wave(command["wave"]) if "wave" in command else hostile.attack(command["attack"])
        print(json.dumps(did), flush=True)


if __name__ == "__main__":
    main()
