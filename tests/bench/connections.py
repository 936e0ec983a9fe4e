"""Many connections: what one costs in memory, how long thousands take to join, and a storm in which all come back.

Memory is the resident memory of the process that connections add, without the kernel's; the first hundred are not
counted, as they also load what all share. Joined means that a client has a snapshot of each of its ten symbols. In the
storm all connections are dropped at once and come back within a second, resuming by the marks of their last heartbeat;
settled means that all are caught up.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Final

from tests.bench.contenders.servers import gateway
from tests.bench.figures import Figure, Part, Result
from tests.bench.machine import BenchFailed, Child, memory_bytes, tool
from tests.bench.stage import Stage
from tests.bench.trial import Crowd, Running, publisher, soon_ns

_CONNECTIONS: Final = 5000
_FIRST: Final = 100
_SYMBOLS: Final = 500
_RATE: Final = 100.0
_PLAY_S: Final = 60.0
_SPREAD_S: Final = 1.0
_HEAR_S: Final = 180.0
_SETTLE_S: Final = 1.0
_SETTINGS: Final = {"FEED_SERVE__LIMITS__CONNECTIONS_PER_ADDRESS_MAX": "0", "FEED_SERVE__HEARTBEAT_MS": "2000"}

IDLE: Final = Figure("memory of an idle connection", "KiB", 40, True)
SUBSCRIBED: Final = Figure("memory of a connection of 5,000, with ten symbols", "KiB", 24, True)
JOINED: Final = Figure("5,000 connections: joined", "s", 10, True, of_python=True)
STORM: Final = Figure("5,000 connections: storm settled", "s", 10, True, of_python=True)
STORM_GAPS: Final = Figure("5,000 connections: gaps and holes after the storm", "", 0, True)


def _idle(stage: Stage) -> Iterator[Result]:
    count = stage.scale.of(_CONNECTIONS, _FIRST)
    with (
        publisher(stage, _SYMBOLS, 1) as publishing,
        gateway(stage, publishing, _RATE, 0.1, _SYMBOLS, **_SETTINGS) as running,
        _clients(stage, running) as storm,
    ):
        sizes = []
        for more in (_FIRST, count):
            storm.say(do="join", subscriptions=[[]] * more)
            found = storm.hear(_HEAR_S)
            time.sleep(_SETTLE_S)
            sizes.append(memory_bytes(running.child.pid))
    stage.keep("idle", {"connections": count, "memory_bytes": sizes, **found})
    yield Result(IDLE, (sizes[1] - sizes[0]) / count / 1024, f"of {count}", not found["missing"])


def _storm(stage: Stage) -> Iterator[Result]:
    count = stage.scale.of(_CONNECTIONS, _FIRST)
    crowd = Crowd(count + _FIRST, _SYMBOLS, 10, same=False)
    subscriptions = crowd.subscriptions()
    stage.quiet()
    with (
        publisher(stage, crowd.symbols, 1) as publishing,
        gateway(stage, publishing, _RATE, _PLAY_S, crowd.symbols, **_SETTINGS) as running,
        _clients(stage, running) as storm,
    ):
        storm.say(do="join", subscriptions=subscriptions[:_FIRST])
        storm.hear(_HEAR_S)
        time.sleep(_SETTLE_S)
        before = memory_bytes(running.child.pid)
        publishing.play(soon_ns())
        storm.say(do="join", subscriptions=subscriptions[_FIRST:])
        joined = storm.hear(_HEAR_S)
        after = memory_bytes(running.child.pid)
        stage.keep("joined", {**joined, "memory_bytes": [before, after]})
        if joined["missing"]:
            raise BenchFailed(f"{joined['missing']} of {count} connections did not join: {joined}")
        note = f"half of them in {joined['half_s']:.1f} s; {joined['refused']} tries again, {joined['holes']} holes"
        yield Result(SUBSCRIBED, (after - before) / count / 1024, f"of {count}, at {after / 2**20:.0f} MiB")
        yield Result(JOINED, joined["seconds"], note)
        storm.say(do="storm")
        settled = storm.hear(_HEAR_S)
        stage.keep("storm", settled)
    if settled["missing"]:
        raise BenchFailed(f"{settled['missing']} of {count} connections did not settle: {settled}")
    note = f"half of them in {settled['half_s']:.1f} s; {settled['refused']} tries again"
    yield Result(STORM, settled["seconds"], note)
    lost = settled["gaps"] + settled["holes"] + settled["not_resumed"]
    yield Result(STORM_GAPS, lost, f"{settled['snapshots']} snapshots, {settled['not_resumed']} channels not resumed")


@contextlib.contextmanager
def _clients(stage: Stage, running: Running) -> Iterator[Child]:
    with tool("storm_client", {"port": running.port, "spread_s": _SPREAD_S}, log=stage.log) as child:
        child.hear(_HEAR_S)
        yield child


PARTS: Final = (
    Part("idle", "memory of connections that say nothing", (IDLE,), _idle),
    Part("storm", "thousands join, all drop, all resume", (SUBSCRIBED, JOINED, STORM, STORM_GAPS), _storm),
)
