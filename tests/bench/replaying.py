"""Replays to one WebSocket client: how much a CPU second, how soon after a seek, how true to the clock.

The server is `replay serve` in a process of its own, over recordings made of columns (`recorded`); the client is a raw
socket in this one that looks only for the end. At full speed the server is what is measured: its CPU, kernel time
included. Memory is what is anonymous: files that are mapped are the kernel's to take back.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from broker import free_port

from tests.bench.figures import Figure, Part, Result
from tests.bench.machine import BenchFailed, cpu_seconds, server, wait_for_port
from tests.bench.recorded import LEVELS, START_NS, record
from tests.bench.stage import Stage, best
from tests.raw_client import RawClient, text

_REPLAY: Final = str(Path(sys.executable).parent / "replay")
_UPDATES: Final = 10_000_000
_FEW: Final = 1_000_000
_BOOKS: Final = 200_000
_PACED: Final = 5_000
_PACED_NS: Final = 1_000_000
_SEEKS: Final = 20
_SESSIONS_FEW: Final = 10
_SESSIONS_MANY: Final = 1_000
_DEADLINE_S: Final = 300.0
_CHUNK: Final = 1 << 20
_ANONYMOUS: Final = re.compile(r"RssAnon:\s+(\d+) kB").search

UPDATES: Final = Figure("replay as JSON: trades and quotes", "a CPU second", 600_000, of_python=True)
BOOK_LEVELS: Final = Figure("replay as JSON: levels of books", "a CPU second", 1_500_000, of_python=True)
ROWS: Final = Figure("replay as Arrow: trades and quotes", "rows a CPU second", 3_000_000, of_python=True)
SEEK: Final = Figure("replay: a seek among 10 million updates", "ms", 200, less_is_better=True)
PACE: Final = Figure("replay at speed 1: lateness, p99", "ms", 5, less_is_better=True)
MEMORY: Final = Figure("replay: memory, of 10 million updates to 1 million", "times", 1.5, less_is_better=True)

LEFT: Final = Figure("replay: memory left by 10 sessions that sought 10 times", "MiB", 120, less_is_better=True)
GROWN: Final = Figure("replay: memory that 1,000 more sessions add", "MiB", 20, less_is_better=True)


class _Client:
    """One client of a replay; it reads nothing but the type of what ends a wait."""

    def __init__(self, port: int, kinds: list[str], subprotocol: str | None = None) -> None:
        self._raw = RawClient(port, timeout=_DEADLINE_S).open(path="/v1/replay", Sec_WebSocket_Protocol=subprotocol)
        self._held = b""
        self.bytes = 0
        self.say(op="subscribe", channels=kinds, symbols=["*"])

    def say(self, **request: Any) -> None:
        """A request; its answer is not looked at."""
        self._raw.send(text(json.dumps({"id": 1, **request})))

    def until(self, state: str) -> None:
        """Takes what comes until the replay says that."""
        wanted = b'"type":"replay","state":"%s"' % state.encode()
        while wanted not in self._held:
            self.take()

    def take(self) -> bytes:
        """What the socket has now; pings are left unanswered, the server drops nobody who reads."""
        found = self._raw.socket.recv(_CHUNK)
        if not found:
            raise BenchFailed("the replay has closed")
        self.bytes += len(found)
        self._held = self._held[-200:] + found
        return found

    def replay(self, do: str, state: str, **more: Any) -> None:
        """A request to steer, and what it leads to."""
        self._held = b""
        self.say(op="replay", do=do, **more)
        self.until(state)

    def close(self) -> None:
        """Goes."""
        self._raw.socket.close()


def _measure(stage: Stage) -> Iterator[Result]:
    many, few = stage.scale.of(_UPDATES), stage.scale.of(_FEW)
    books, paced = stage.scale.of(_BOOKS), stage.scale.of(_PACED, 500)
    root = stage.folder / "replaying"
    record(root / "many", many)
    record(root / "few", few)
    record(root / "books", books, ("book",))
    record(root / "paced", paced, ("quotes",), _PACED_NS)
    stage.quiet()
    json_run, few_memory = _played(stage, root / "many"), _played(stage, root / "few")["memory"]
    yield Result(UPDATES, many / json_run["cpu_s"], f"{json_run['bytes'] / many:.0f} bytes each", many == _UPDATES)
    book_run = _played(stage, root / "books", ["book"])
    yield Result(BOOK_LEVELS, 2 * LEVELS * books / book_run["cpu_s"], f"{2 * LEVELS} an update", books == _BOOKS)
    arrow_run = _played(stage, root / "many", subprotocol="feed.v1.arrow")
    yield Result(ROWS, many / arrow_run["cpu_s"], f"{arrow_run['bytes'] / many:.0f} bytes each", many == _UPDATES)
    seeks = sorted(_seeks(stage, root / "many", many))
    note = f"median; worst {seeks[-1]:.0f} ms of {len(seeks)}, all 40 channels"
    yield Result(SEEK, seeks[len(seeks) // 2], note, many == _UPDATES)
    late = sorted(_lateness(root / "paced", stage))
    note = f"median {late[len(late) // 2]:.1f}, worst {late[-1]:.1f}, {len(late):,} updates, 1,000 a second"
    yield Result(PACE, late[int(len(late) * 0.99)], note, paced == _PACED)
    note = f"{json_run['memory'] / 2**20:.0f} and {few_memory / 2**20:.0f} MiB"
    yield Result(MEMORY, json_run["memory"] / few_memory, note, many == _UPDATES)
    yield from _left(stage, root / "few", few)
    shutil.rmtree(root)


@contextmanager
def _serving(stage: Stage, folder: Path) -> Iterator[tuple[int, int]]:
    """The port and the pid of a server over a recording."""
    port = free_port()
    with server([_REPLAY, "serve", str(folder), "--port", str(port)], log=stage.log) as child:
        wait_for_port(port, 30)
        yield port, child.pid


def _played(
    stage: Stage, folder: Path, kinds: list[str] | None = None, subprotocol: str | None = None
) -> dict[str, Any]:
    """A recording at full speed, the best of some times: CPU seconds, bytes, memory."""
    runs = []
    for _ in range(stage.scale.rounds):
        with _serving(stage, folder) as (port, pid):
            client = _Client(port, kinds or ["trades", "quotes"], subprotocol)
            began = cpu_seconds(pid)
            client.replay("open", "ready", speed="max")
            client.replay("play", "ended")
            runs.append({"cpu_s": cpu_seconds(pid) - began, "bytes": client.bytes, "memory": _memory(pid)})
            client.close()
    stage.keep("replaying", {"folder": folder.name, "subprotocol": subprotocol, "runs": runs})
    return best(runs, lambda run: -run["cpu_s"])


def _seeks(stage: Stage, folder: Path, updates: int) -> Iterator[float]:
    """How many milliseconds after a request all channels have their states, at places all over."""
    with _serving(stage, folder) as (port, _):
        client = _Client(port, ["trades", "quotes"])
        client.replay("open", "ready", speed="max")
        client.replay("step", "paused", n=1)
        for number in range(_SEEKS):
            at = START_NS + updates * (number * 7 % _SEEKS) // _SEEKS * 20_000
            time.sleep(0.1)
            began = time.perf_counter()
            client.replay("seek", "paused", time=str(at))
            yield (time.perf_counter() - began) * 1000
        client.close()


def _left(stage: Stage, folder: Path, updates: int) -> Iterator[Result]:
    """What sessions that are over leave in memory: of ten that seek ten times, then of a thousand that seek once."""
    many = stage.scale.of(_SESSIONS_MANY, _SESSIONS_FEW)
    seen: dict[int, int] = {}
    with _serving(stage, folder) as (port, pid):
        seen[0] = _memory(pid)
        for number in range(1, _SESSIONS_FEW + many + 1):
            client = _Client(port, ["trades", "quotes"])
            client.replay("open", "ready", speed="max")
            for seek in range(10 if number <= _SESSIONS_FEW else 1):
                at = START_NS + updates * ((number + seek) * 7 % 20) // 20 * 20_000
                client.replay("seek", "ready", time=str(at))
            client.close()
            if number == _SESSIONS_FEW or number % 100 == 0:
                seen[number] = _memory(pid)
        seen[number] = _memory(pid)
    stage.keep("replaying", {"sessions": seen})
    begin, few, last = (seen[count] / 2**20 for count in (0, _SESSIONS_FEW, number))
    yield Result(LEFT, few - begin, f"{begin:.0f} MiB before, {few:.0f} after", updates == _FEW)
    yield Result(GROWN, last - few, f"{last:.0f} MiB, one seek each", many == _SESSIONS_MANY)


def _lateness(folder: Path, stage: Stage) -> Iterator[float]:
    """How many milliseconds after it was due each update came; that of the most punctual one is the path's."""
    seen: list[tuple[float, bytes]] = []
    with _serving(stage, folder) as (port, _):
        client = _Client(port, ["quotes"])
        client.replay("open", "ready", speed=1)
        client.say(op="replay", do="play")
        while b'"ended"' not in (found := client.take())[-400:]:
            seen.append((time.perf_counter(), found))
        seen.append((time.perf_counter(), found))
        client.close()
    recorded, arrived, rest = [], [], b""
    for when, found in seen:
        whole, _, rest = (rest + found).rpartition(b'"data"')
        for received in re.findall(rb'"type":"update".*?"ts_recv":"(\d+)"', whole):
            recorded.append(int(received) / 1e6)
            arrived.append(when * 1000)
    least = min(there - due for there, due in zip(arrived, recorded, strict=True))
    yield from (there - due - least for there, due in zip(arrived, recorded, strict=True))


def _memory(pid: int) -> int:
    found = _ANONYMOUS(Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


PART: Final = Part(
    "replaying",
    "replays to one client: updates a CPU second, seeks, pace, memory, and what is left of it",
    (UPDATES, BOOK_LEVELS, ROWS, SEEK, PACE, MEMORY, LEFT, GROWN),
    _measure,
)
