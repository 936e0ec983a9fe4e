"""One run of a load through a server: topics, the server, its clients, the publisher, and what came of it.

Owns the order in which they start and end. Leaves which server that is to `contenders`, and which load to the parts.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
import urllib.request
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from aiokafka.admin import AIOKafkaAdminClient

from feed.kafka.cluster import Cluster
from tests.bench.machine import Child, broker_pids, memory_bytes, tool
from tests.bench.market import PARTITIONS, PREFIX, VENUE, symbol_names
from tests.bench.stage import Stage

READY_S: Final = 60.0
_BUILD_S: Final = 300.0
_START_IN_S: Final = 0.3
_SPARE_S: Final = 0.5
_SAMPLES_A_SECOND: Final = 10_000


class Crowd(NamedTuple):
    """So many clients on so many of so many symbols; all on the same ones, or each on random ones."""

    clients: int
    symbols: int
    chosen: int
    same: bool

    def subscriptions(self) -> list[list[str]]:
        """The symbols of each client."""
        chooser = random.Random(3)
        names = [f"{PREFIX}:{name}" for name in symbol_names(self.symbols)]
        return [names[: self.chosen] if self.same else chooser.sample(names, self.chosen) for _ in range(self.clients)]

    @property
    def deliveries_an_update(self) -> float:
        """To how many clients an update goes, on average."""
        return self.clients * self.chosen / self.symbols


class Running(NamedTuple):
    """A server that is ready: where, what it is, how clients speak to it and to whom a publisher publishes."""

    port: int
    child: Child
    dialect: str
    publish_to: Mapping[str, Any]


class Publisher:
    """A process that plays logs of one corpus (`publish_log`)."""

    def __init__(self, child: Child) -> None:
        self.child = child

    def open(self, to: Mapping[str, Any], rate: float, seconds: float) -> None:
        """Makes what is to be played, and opens the log."""
        self.child.say(**to, rate=rate, seconds=seconds)
        self.child.hear(_BUILD_S)

    def play(self, start_ns: int) -> None:
        """Plays it from then on."""
        self.child.say(start_ns=start_ns)

    def done(self, seconds: float) -> dict[str, Any]:
        """What it says at the end."""
        return self.child.hear(seconds)


@contextlib.contextmanager
def publisher(stage: Stage, symbols: int, record_updates: int, *, every_kind: bool = False) -> Iterator[Publisher]:
    """A publisher of updates of so many symbols, so many in a record; `every_kind`: they have four kinds each."""
    told = {"symbols": symbols, "record_updates": record_updates, "every_kind": every_kind}
    with tool("publish_log", told, log=stage.log) as child:
        yield Publisher(child)


class Clients:
    """A process that is many clients (`load_client`)."""

    def __init__(self, child: Child) -> None:
        self.child = child

    def measure(self, start_ns: int, warmup_s: float, measure_s: float) -> dict[str, Any]:
        """What comes to them in a window after the start."""
        self.ask(start_ns, warmup_s, measure_s)
        return self.child.hear(warmup_s + measure_s + READY_S)

    def ask(self, start_ns: int, warmup_s: float, measure_s: float) -> None:
        """Begins a window; `child.hear` gets what came."""
        self.child.say(start_ns=start_ns, warmup_s=warmup_s, measure_s=measure_s)


@contextlib.contextmanager
def clients(
    stage: Stage,
    running: Running,
    subscriptions: list[list[str]],
    *,
    expected: float,
    count_every: int = 1,
    asks: Mapping[str, Any] | None = None,
    pids: Mapping[str, int] | None = None,
) -> Iterator[Clients]:
    """Clients that are joined. `expected` deliveries a second say how many of them are timed, `asks` are more fields of
    their requests, `pids` more processes whose CPU time is told."""
    told = {
        "port": running.port,
        "dialect": running.dialect,
        "subscriptions": subscriptions,
        "count_every": count_every,
        "time_every": max(1, round(expected / count_every / _SAMPLES_A_SECOND)),
        "asks": dict(asks or {}),
        "pids": {"server": running.child.pid, **broker_pids(), **(pids or {})},
    }
    with tool("load_client", told, log=stage.log) as child:
        child.hear(READY_S + _BUILD_S)
        yield Clients(child)


@contextlib.contextmanager
def topics(stage: Stage, stem: str) -> Iterator[str]:
    """A prefix whose topics exist: `<own>.ticks.bench`, `<own>.feed.bench`, `<own>.dead`; they go again."""
    own = stage.fresh(stem)
    names = {f"{own}.ticks.{VENUE}": PARTITIONS, f"{own}.feed.{VENUE}": PARTITIONS, f"{own}.dead": 1}
    asyncio.run(_make(stage.kafka, names))
    try:
        yield own
    finally:
        asyncio.run(_delete(stage.kafka, list(names)))


def environment(own: str, **more: str) -> dict[str, str]:
    """The settings of a role on those topics; `more` are more of them."""
    return {
        "FEED_KAFKA__TICKS_PREFIX": f"{own}.ticks.",
        "FEED_KAFKA__FEED_PREFIX": f"{own}.feed.",
        "FEED_KAFKA__DEAD_TOPIC": f"{own}.dead",
        "FEED_KAFKA__GROUP": own,
        **more,
    }


def soon_ns() -> int:
    """A start that everybody has heard of before it comes."""
    return time.time_ns() + int(_START_IN_S * 1e9)


def played(
    stage: Stage, running: Running, publishing: Publisher, crowd: Crowd, rate: float, *, count_every: int = 1
) -> dict[str, Any]:
    """One window of a load that the publisher has opened, with the figures that everybody wants of it."""
    scale = stage.scale
    expected = rate * crowd.deliveries_an_update
    pids = {"publisher": publishing.child.pid}
    with clients(
        stage, running, crowd.subscriptions(), expected=expected, count_every=count_every, pids=pids
    ) as watching:
        before = batching(running)
        start_ns = soon_ns()
        publishing.play(start_ns)
        found = watching.measure(start_ns, scale.warmup_s, scale.measure_s)
        published = publishing.done(READY_S)
        after = batching(running)
        memory_mib = memory_bytes(running.child.pid) / 2**20
    seconds, cpu = found["seconds"], found["cpu"]["server"]
    return {
        **found,
        "rate": rate,
        "memory_mib": memory_mib,
        "deliveries_a_second": found["deliveries"] / seconds,
        "deliveries_a_cpu_second": found["deliveries"] / cpu,
        "bytes_a_delivery": found["bytes"] / max(found["deliveries"], 1),
        "delivered_share": found["deliveries"] / seconds / expected,
        "share": cpu / seconds,
        "other_core": (found["client_cpu"] + sum(found["cpu"].values()) - cpu) / seconds,
        "others_cores": found["others_cpu"] / seconds,
        "publisher": published,
        "batching": {name: after[name] - before[name] for name in after},
    }


def seconds_of(stage: Stage) -> float:
    """How long a publisher plays for one window."""
    return stage.scale.warmup_s + stage.scale.measure_s + _SPARE_S


def batching(running: Running) -> dict[str, float]:
    """How our gateway has sent so far: flushes, writes and bytes. Nothing of other servers."""
    if running.dialect != "feed":
        return {}
    with urllib.request.urlopen(f"http://127.0.0.1:{running.port}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    numbers = dict(line.rsplit(" ", 1) for line in lines if line and line[0] != "#")
    names = {"flushes": "flushes", "writes": "writes", "bytes": "sent_bytes"}
    return {name: float(numbers.get(f"feed_gateway_{metric}_total", 0)) for name, metric in names.items()}


async def _make(kafka: str, names: Mapping[str, int]) -> None:
    async with Cluster(kafka) as cluster:
        settings = {"max.message.bytes": str(16 << 20), "file.delete.delay.ms": "1000"}
        await cluster.make_topics(names, settings)


async def _delete(kafka: str, names: list[str]) -> None:
    """A run leaves up to a gigabyte."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        await admin.delete_topics(names)
    finally:
        await admin.close()
