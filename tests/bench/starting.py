"""A gateway's start on 10,000 symbols with books of ten levels a side: seconds until it is ready, memory a symbol.

From the start of the process (its imports included) to the first `readyz` that says so. Memory a symbol is what such a
process has more than one that serves a hundred.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import urllib.request
from collections.abc import Iterator
from typing import Any, Final

from aiokafka.structs import TopicPartition
from broker import free_port

from feed.kafka.append import Appender
from tests.bench.figures import Figure, Part, Result
from tests.bench.machine import FEED, BenchFailed, cpu_seconds, memory_bytes, server
from tests.bench.market import PARTITIONS, VENUE, Lot, Partition, ladder, stamped_entry, symbol_names
from tests.bench.stage import Stage, best
from tests.bench.trial import READY_S, environment, topics

_SYMBOLS: Final = 10_000
_FEW: Final = 100
_LEVELS: Final = 10
_TICKS_A_LOT: Final = 500
_LOOK_S: Final = 0.01

READY: Final = Figure("start with 10,000 symbols: ready", "s", 5, less_is_better=True, of_python=True)
MEMORY: Final = Figure("memory of a symbol with a book of 10 levels", "KiB")


def _measure(stage: Stage) -> Iterator[Result]:
    many = stage.scale.of(_SYMBOLS, 2 * _FEW)
    few = _start(stage, _FEW)
    runs = _start(stage, many, stage.scale.rounds)
    stage.keep("starting", {"symbols": many, "many": runs, "few": few})
    found = best(runs, lambda run: -run["seconds"])
    note = f"{found['cpu_s']:.1f} CPU-s ({few[0]['cpu_s']:.1f} with {_FEW} symbols), {found['memory'] / 2**20:.0f} MiB"
    yield Result(READY, found["seconds"], note, many == _SYMBOLS)
    yield Result(MEMORY, (found["memory"] - few[0]["memory"]) / (many - _FEW) / 1024, f"{_LEVELS} levels a side")


def _start(stage: Stage, symbols: int, rounds: int = 1) -> list[dict[str, Any]]:
    """Starts of a gateway on so many symbols."""
    runs = []
    with topics(stage, "starting") as own:
        asyncio.run(_fill(stage.kafka, f"{own}.feed.{VENUE}", symbols))
        for _ in range(rounds):
            stage.quiet()
            port = free_port()
            command = [FEED, "serve", "--kafka", stage.kafka, "--venues", VENUE, "--port", str(port)]
            began = time.monotonic()
            with server(command, log=stage.log, environment=environment(own)) as child:
                _wait_until_ready(port)
                seconds = time.monotonic() - began
                runs.append({"seconds": seconds, "cpu_s": cpu_seconds(child.pid), "memory": memory_bytes(child.pid)})
            stage.say(f"start with {symbols:,} symbols: {seconds:.2f} s")
    return runs


def _wait_until_ready(port: int) -> None:
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline:
        ready = f"http://127.0.0.1:{port}/readyz"
        with contextlib.suppress(OSError), urllib.request.urlopen(ready, timeout=2):
            return
        time.sleep(_LOOK_S)
    raise BenchFailed(f"not ready after {READY_S:.0f} s")


async def _fill(kafka: str, topic: str, symbols: int) -> None:
    """A log in which each symbol has its book twice, and the keyframes that a normalizer writes meanwhile."""
    appender = Appender(kafka)
    await appender.start()
    try:
        for number in range(PARTITIONS):
            partition = Partition(number)
            await _append(appender, topic, partition.open())
            names = symbol_names(symbols)[number::PARTITIONS] * 2
            for at in range(0, len(names), _TICKS_A_LOT):
                now_ns = time.time_ns()
                chosen = enumerate(names[at : at + _TICKS_A_LOT], at)
                lot = partition.lot((name, ladder(n, _LEVELS, now_ns)) for n, name in chosen)
                await _append(appender, topic, lot)
    finally:
        await appender.stop()


async def _append(appender: Appender, topic: str, lot: Lot) -> None:
    now_ns = time.time_ns()
    entries = [stamped_entry(entry, now_ns, now_ns) for entry in lot.entries]
    await appender.append(TopicPartition(topic, lot.partition), entries)


PART: Final = Part("starting", "a gateway's start on many books", (READY, MEMORY), _measure)
