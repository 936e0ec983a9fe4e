"""What a reader of a view costs beside one of the raw channel.

The same clients on the same quotes, in turn: none, on the raw channels, on a view every so many milliseconds. A
reader's cost is what the gateway's core does more than without readers, for each of them; making the view is in it.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Mapping
from typing import Any, Final

from tests.bench.contenders.servers import gateway
from tests.bench.dialects import told_at_welcome
from tests.bench.figures import Figure, Part, Result
from tests.bench.machine import BenchFailed, cpu_seconds
from tests.bench.stage import Stage
from tests.bench.trial import Crowd, Running, clients, publisher, soon_ns

_CROWD: Final = Crowd(200, 100, 20, same=False)
_RATE: Final = 5_000.0
_RECORD_UPDATES: Final = 25
_EVERY_MS: Final = 250
_SETTLE_S: Final = 0.5

READER: Final = Figure(f"view every {_EVERY_MS} ms: CPU of a reader to a raw one", "x", less_is_better=True)
RAW: Final = Figure("raw: CPU of a reader of 1,000 updates a second", "us/s", less_is_better=True)


def _measure(stage: Stage) -> Iterator[Result]:
    turns, window_s = stage.scale.rounds, stage.scale.measure_s
    crowd = _CROWD._replace(clients=stage.scale.of(_CROWD.clients, 10))
    seconds = (window_s + _SETTLE_S + 3.0) * 3 * turns + 10
    ways: dict[str, Mapping[str, Any] | None] = {"none": None, "raw": {}, "view": {"every_ms": _EVERY_MS}}
    shares: dict[str, list[float]] = {way: [] for way in ways}
    brought: dict[str, float] = {}
    stage.quiet()
    with (
        publisher(stage, crowd.symbols, _RECORD_UPDATES) as publishing,
        gateway(stage, publishing, _RATE, seconds, crowd.symbols) as running,
    ):
        if not told_at_welcome(running.port)["every_ms"]:
            raise BenchFailed("NO VIEWS: this gateway offers no every_ms")
        publishing.play(soon_ns())
        for _ in range(turns):
            for way, asks in ways.items():
                share, brought[way] = _window(stage, running, crowd, asks, window_s)
                shares[way].append(share)
    stage.keep("views", {"shares": shares, "deliveries_a_second": brought})
    used = {way: statistics.median(found) for way, found in shares.items()}
    raw, view = ((used[way] - used["none"]) / crowd.clients * 1e6 for way in ("raw", "view"))
    each = _RATE * crowd.chosen / crowd.symbols
    note = f"{crowd.clients} readers of {each:,.0f} updates/s; without them the core is at {used['none']:.0%}, "
    yield Result(RAW, raw, f"{note}with them at {used['raw']:.0%}", raw > 0)
    note = f"at {used['view']:.0%}; {brought['view']:,.0f} updates/s instead of {brought['raw']:,.0f}"
    yield Result(READER, view / raw, note, raw > 0)


def _window(
    stage: Stage, running: Running, crowd: Crowd, asks: Mapping[str, Any] | None, window_s: float
) -> tuple[float, float]:
    """The gateway's share of its core, and updates a second to all clients."""
    if asks is None:
        time.sleep(_SETTLE_S)
        before, began = cpu_seconds(running.child.pid), time.monotonic()
        time.sleep(window_s)
        return (cpu_seconds(running.child.pid) - before) / (time.monotonic() - began), 0.0
    expected = _RATE * crowd.deliveries_an_update
    with clients(stage, running, crowd.subscriptions(), expected=expected, count_every=10, asks=asks) as watching:
        found = watching.measure(time.time_ns(), _SETTLE_S, window_s)
    return found["cpu"]["server"] / found["seconds"], found["deliveries"] / found["seconds"]


PART: Final = Part("views", "a reader of a view beside one of the raw channel", (RAW, READER), _measure)
