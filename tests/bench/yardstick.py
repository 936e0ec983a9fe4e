"""How fast this machine is today: fixed pieces of work that have nothing to do with the service.

A reader of a table cannot tell a slow program from a slow machine, and a rented machine is not the same from one day
to the next. So each run does the same small work first and keeps what it took: a loop of pure Python, the encoding of
a typed trade update, a write of 16 KiB to a loopback socket whose other end drops it.

Only the encoding has a number from the machine on which the targets were set: 0.18 to 0.25 us. `slowness` compares
with the slow end of that, so a correction by it says too little rather than too much.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Final

import msgspec
from msgspec import Struct

from tests.bench.figures import Figure, Part, Result
from tests.bench.stage import Stage

REFERENCE_ENCODE_US: Final = 0.25
_USUAL_ADDITIONS_S: Final = 0.35
_ADDITIONS: Final = 10_000_000
_ENCODES: Final = 100_000
_SENDS: Final = 20_000
_SEND_BYTES: Final = 16 * 1024
_TRIES: Final = 3

ADDITIONS: Final = Figure("yardstick: 10 million additions", "s")
ENCODE: Final = Figure("yardstick: encode a trade update", "us")
SEND: Final = Figure("yardstick: write 16 KiB to a socket", "us")


_DRAIN: Final = """
import socket, sys
end = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
buffer = bytearray(1 << 20)
while end.recv_into(buffer, len(buffer), socket.MSG_TRUNC):
    pass
"""


class _Trade(Struct, frozen=True, gc=False):
    price: str
    size: str
    side: str
    trade_id: str
    ts_event: str


class _Update(Struct, frozen=True, gc=False, tag_field="type", tag="update"):
    """As the service's, but its own: the yardstick stays what it is when the service changes."""

    channel: str
    symbol: str
    prev: int
    seq: int
    ts_event: str
    ts_recv: str
    data: list[_Trade]


def slowness(encode_us: float) -> float:
    """How many times slower this machine runs Python than the one on which the targets were set; 1 where faster is
    not known."""
    return encode_us / REFERENCE_ENCODE_US


def additions_s() -> float:
    """CPU seconds of ten million additions in a function."""
    return _best(_add)


def encode_us() -> float:
    """CPU microseconds to encode one typed trade update."""
    trade = _Trade("67187.48", "0.01", "buy", "5266583935", "1795467600112000000")
    times = ("1795467600112000000", "1795467600115417000")
    update = _Update("trades", "BENCH:S000", 104_112, 104_131, *times, [trade])
    encode = msgspec.json.Encoder().encode

    def work() -> None:
        for _ in range(_ENCODES):
            encode(update)

    return _best(work) / _ENCODES * 1e6


def send_us() -> float:
    """CPU microseconds of the sender for a write of 16 KiB to a loopback socket."""
    with socket.create_server(("127.0.0.1", 0)) as door:
        drain = subprocess.Popen([sys.executable, "-c", _DRAIN, str(door.getsockname()[1])])
        peer, _ = door.accept()
    with peer:
        piece = bytes(_SEND_BYTES)

        def work() -> None:
            for _ in range(_SENDS):
                peer.sendall(piece)

        took = _best(work)
    drain.wait()
    return took / _SENDS * 1e6


def _add() -> None:
    total = 0
    for _ in range(_ADDITIONS):
        total += 1  # noqa: SIM113  # the addition is the work


def _best(work: Callable[[], None]) -> float:
    found = []
    for _ in range(_TRIES):
        began = time.process_time()
        work()
        found.append(time.process_time() - began)
    return min(found)


def _measure(stage: Stage) -> Iterator[Result]:
    encoded = encode_us()
    stage.slowness = slowness(encoded)
    yield Result(ADDITIONS, additions_s(), f"{_USUAL_ADDITIONS_S} is a usual value; CPython {sys.version.split()[0]}")
    yield Result(ENCODE, encoded, f"0.18 to {REFERENCE_ENCODE_US} where the targets were set: x{stage.slowness:.2f}")
    sent = send_us()
    yield Result(SEND, sent, f"{_SEND_BYTES / sent / 1000:.2f} GB a CPU second; the reader has another core")


PART: Final = Part("yardstick", "how fast this machine is today", (ADDITIONS, ENCODE, SEND), _measure)
