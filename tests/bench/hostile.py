"""Hostile clients: what those who ask for as much as they may, and more, cost the others.

3,001 symbols with four kinds each, 300 ticks a second, 20 clients that are watched. Each attack runs with 20 clients
for some seconds; the p99 of those who are watched stands beside that without. Meanwhile `/livez` is asked every few
milliseconds, and the gateway's own histogram tells how late its loop was for a timer. Then waves of 200 clients that
join everything at once. Memory is told after each.
"""

from __future__ import annotations

import statistics
import threading
import time
import urllib.request
from collections.abc import Iterator
from typing import Any, Final

from tests.bench.contenders.servers import gateway
from tests.bench.figures import Figure, Part, Result
from tests.bench.hostile_clients import ATTACKS
from tests.bench.machine import memory_bytes, tool
from tests.bench.stage import Stage
from tests.bench.trial import READY_S, Crowd, Running, clients, publisher, soon_ns

_SYMBOLS: Final = 3_001
_TICKS: Final = 300.0
_ATTACKERS: Final = 20
_WAVE: Final = 200
_SETTLE_S: Final = 1.0
_PROBE_EVERY_S: Final = 0.01
_LAG: Final = "feed_gateway_loop_lag_seconds_bucket"
# clients of the load answer no pings
_SETTINGS: Final = {"FEED_SERVE__PING_INTERVAL_MS": "600000"}

OTHERS: Final = {
    name: Figure(f"hostile, {name}: p99 of 20 others, to without", "x", 1.25, less_is_better=True) for name in ATTACKS
}
LIVE: Final = Figure("hostile: slowest /livez of all attacks", "ms", 250, less_is_better=True)
HOLD: Final = Figure("hostile: the loop is late for a timer by at most", "ms", 25, less_is_better=True)
ACKED: Final = Figure("hostile: 200 join everything at once, last ack", "s", 5, less_is_better=True)
WAVE_HOLD: Final = Figure("hostile: meanwhile the loop is late by at most", "ms", 100, less_is_better=True)
WAVE_P99: Final = Figure("hostile: meanwhile p99 of 20 others", "ms", 150, less_is_better=True)
MEMORY: Final = Figure("hostile: memory after a second equal wave, to after the first", "x", 1.05, less_is_better=True)


class _Probe:
    """Asks `/livez` all the time."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/livez"
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.worst_s = 0.0

    def __enter__(self) -> _Probe:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(_PROBE_EVERY_S):
            began = time.monotonic()
            with urllib.request.urlopen(self._url, timeout=30) as answer:
                answer.read()
            self.worst_s = max(self.worst_s, time.monotonic() - began)


def _measure(stage: Stage) -> Iterator[Result]:
    symbols, attackers = stage.scale.of(_SYMBOLS, 10), stage.scale.of(_ATTACKERS, 2)
    wave, window_s = stage.scale.of(_WAVE, 3), stage.scale.measure_s
    crowd = Crowd(stage.scale.of(20, 2), symbols, symbols, same=True)
    seconds = (window_s + _SETTLE_S + 4) * 2 * len(ATTACKS) + 120
    stage.quiet()
    watched = [["*"]] * crowd.clients
    expected = _TICKS * crowd.clients
    with (
        publisher(stage, symbols, 1, every_kind=True) as publishing,
        gateway(stage, publishing, _TICKS, seconds, symbols, **_SETTINGS) as running,
        clients(stage, running, watched, expected=expected) as watching,
        tool("hostile_clients", {"port": running.port, "clients": attackers}, log=stage.log) as hostile,
        _Probe(running.port) as probe,
    ):
        hostile.hear(READY_S)
        publishing.play(soon_ns())
        time.sleep(stage.scale.warmup_s)
        alone: list[float] = []
        holds: dict[str, float] = {}
        for name in ATTACKS:
            before = watching.measure(time.time_ns(), 0, window_s)
            alone.append(_p99(before))
            late = _lateness(running)
            hostile.say(attack=name)
            hostile.hear(READY_S)
            during = watching.measure(time.time_ns(), _SETTLE_S, window_s)
            holds[name] = _late_since(late, _lateness(running))
            hostile.say(attack=None)
            did = hostile.hear(READY_S)
            mib = memory_bytes(running.child.pid) / 2**20
            stage.keep("hostile", {"attack": name, "with": during, "without": before, "did": did, "memory_mib": mib})
            note = f"{_p99(before):.1f} to {_p99(during):.1f} ms, late {holds[name]:.0f} ms, {did}, {mib:.0f} MiB"
            stage.say(f"hostile {name}: {note}")
            yield Result(OTHERS[name], _p99(during) / max(_p99(before), 1e-3), note)
            time.sleep(_SETTLE_S)
        yield Result(LIVE, probe.worst_s * 1000, f"asked every {_PROBE_EVERY_S * 1000:.0f} ms")
        yield Result(HOLD, max(holds.values()), f"p99 alone {statistics.median(alone):.1f} ms")
        yield from _waves(stage, running, watching, hostile, wave)


def _waves(stage: Stage, running: Running, watching: Any, hostile: Any, wave: int) -> Iterator[Result]:
    found: list[dict[str, Any]] = []
    for _ in range(2):
        late = _lateness(running)
        hostile.say(wave=wave)
        watching.ask(time.time_ns(), 0.0, stage.scale.measure_s)
        told = hostile.hear(2 * READY_S)
        seen = watching.child.hear(READY_S)
        time.sleep(2.0)
        memory = memory_bytes(running.child.pid)
        found.append({**told, "p99_ms": _p99(seen), "late_ms": _late_since(late, _lateness(running)), "memory": memory})
        stage.keep("hostile wave", found[-1])
        stage.say(f"hostile wave: {found[-1]}")
    first, second = found
    note = f"{wave} clients, all of it sent after {first['whole_s']:.1f} s, {first['read'] / 2**20:,.0f} MiB"
    yield Result(ACKED, max(one["last_ack_s"] for one in found), note)
    yield Result(WAVE_HOLD, max(one["late_ms"] for one in found))
    yield Result(WAVE_P99, max(one["p99_ms"] for one in found))
    yield Result(MEMORY, second["memory"] / first["memory"], f"{second['memory'] / 2**20:.0f} MiB")


def _p99(window: dict[str, Any]) -> float:
    times = window["from_due"]
    return float(times["p99_ms"]) if times else float("inf")


def _lateness(running: Running) -> dict[float, float]:
    """How often the loop was late for a timer by at most so many seconds, so far."""
    with urllib.request.urlopen(f"http://127.0.0.1:{running.port}/metrics", timeout=30) as answer:
        lines = answer.read().decode().splitlines()
    told = [line.partition('le="')[2].partition('"} ') for line in lines if line.startswith(_LAG)]
    return {float(bound): float(count) for bound, _, count in told}


def _late_since(before: dict[float, float], after: dict[float, float]) -> float:
    """Below how many milliseconds all of it was since then, by the histogram's steps."""
    since = {bound: after[bound] - before.get(bound, 0.0) for bound in sorted(after)}
    every = since[float("inf")]
    return next(bound * 1000 for bound, count in since.items() if count >= every)


PART: Final = Part(
    "hostile",
    "the others beside clients that ask for as much as they may, and more",
    (*OTHERS.values(), LIVE, HOLD, ACKED, WAVE_HOLD, WAVE_P99, MEMORY),
    _measure,
)
