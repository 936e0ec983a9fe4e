"""Ticks normalized per CPU second of a normalizer: frames of captures from Kafka to the feed log.

The tick topic is filled first; then `feed normalize` starts, and its CPU time is taken when its first record is seen in
the feed log and when the last tick is covered: reading, state machines, keyframes, appending, all of it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from aiokafka.structs import TopicPartition

from feed.kafka.append import Appender
from feed.kafka.cluster import Cluster
from feed.kafka.fetch import Fetcher
from feed.wire.record import record_of
from tests.bench.captured import COINM, USDM, CapturedTick, books, data_folder, trades
from tests.bench.figures import Figure, Part, Result
from tests.bench.machine import FEED, BenchFailed, cpu_seconds, server
from tests.bench.stage import Stage, best

TRADES: Final = Figure("normalize: trades", "/CPU-s", 120_000, of_python=True)
TRADES_WITH_BARS: Final = Figure("normalize: trades with bars", "/CPU-s", 80_000, of_python=True)
BOOKS_11: Final = Figure("normalize: books, 11 levels an update", "levels/CPU-s", 700_000, of_python=True)
BOOKS_68: Final = Figure("normalize: books, 68 levels an update", "levels/CPU-s", 1_200_000, of_python=True)
_TICKS_A_BATCH: Final = 2000
_SECONDS_MAX: Final = 60.0


class Filled:
    """A tick topic of one partition with all its ticks, and the levels up to each of them."""

    def __init__(self, kafka: str, name: str, venue: str, key: str) -> None:
        self.kafka, self.name, self.venue = kafka, name, venue
        self._key = key.encode()
        self.levels: list[int] = []
        self.updates = 0

    async def fill(self, ticks: Iterable[CapturedTick]) -> None:
        """Makes the topic and appends the ticks."""
        topic = TopicPartition(f"{self.name}.ticks.{self.venue}", 0)
        async with Cluster(self.kafka) as cluster:
            await cluster.make_topics({topic.topic: 1}, {"max.message.bytes": str(16 << 20)})
        appender = Appender(self.kafka)
        await appender.start()
        batch = []
        total = 0
        try:
            for tick in ticks:
                headers = [("ts_recv", b"%d" % tick.ts_recv)]
                if tick.request is not None:
                    headers.append(("request", tick.request.encode()))
                batch.append((self._key, tick.value, headers))
                total += tick.levels
                self.updates += tick.levels > 0
                self.levels.append(total)
                if len(batch) == _TICKS_A_BATCH:
                    await appender.append(topic, batch)
                    batch = []
            await appender.append(topic, batch)
        finally:
            await appender.stop()


async def measure(filled: Filled, run: int, log: Path, *, bars: bool = True, program: str = FEED) -> dict[str, Any]:
    """One run over the whole topic, from an empty feed log; `program`: another checkout's `feed`."""
    own = f"{filled.name}.{run}{'' if bars else '.nobars'}"
    environment = {
        "FEED_KAFKA__TICKS_PREFIX": f"{filled.name}.ticks.",
        "FEED_KAFKA__FEED_PREFIX": f"{own}.feed.",
        "FEED_KAFKA__DEAD_TOPIC": f"{own}.dead",
        "FEED_KAFKA__GROUP": own,
        "FEED_KAFKA__PARTITIONS": "1",
        **({} if bars else {"FEED_NORMALIZE__BAR_INTERVALS": ""}),
    }
    target = TopicPartition(f"{own}.feed.{filled.venue}", 0)
    async with Cluster(filled.kafka) as cluster:
        await cluster.make_topics({target.topic: 1, f"{own}.dead": 1}, {"max.message.bytes": str(16 << 20)})
        fetcher = Fetcher(cluster, wait_ms=500)
        stream = fetcher.follow(target, 0)
        arguments = [program, "normalize", "--kafka", filled.kafka, "--venues", filled.venue]
        try:
            with server(arguments, log=log, environment=environment) as normalizer:
                samples: list[tuple[float, int]] = []
                log_bytes = 0
                deadline = time.monotonic() + _SECONDS_MAX
                while not samples or samples[-1][1] < len(filled.levels) - 1:
                    if time.monotonic() > deadline:
                        raise BenchFailed(f"{len(filled.levels)} ticks not covered in time: {log.read_text()[-2000:]}")
                    if await stream.wait(0.1):
                        cpu = cpu_seconds(normalizer.pid)
                        for raw in stream.take():
                            value = raw.value or b""
                            record = record_of(raw.headers, value, raw.offset)
                            log_bytes += len(value)
                            if record.covers:
                                samples.append((cpu, record.last))
                _, dead = await cluster.offsets(TopicPartition(f"{own}.dead", 0))
        finally:
            await fetcher.stop()
    (cpu_before, first), (cpu_after, last) = samples[0], samples[-1]
    # of what was seen at once with the first record, the last counts
    first = max(covered for cpu, covered in samples if cpu == cpu_before)
    cpu = cpu_after - cpu_before
    return {
        "ticks": last - first,
        "levels": filled.levels[last] - filled.levels[first],
        "cpu_s": cpu,
        "ticks_a_cpu_second": (last - first) / cpu,
        "levels_a_cpu_second": (filled.levels[last] - filled.levels[first]) / cpu,
        "log_bytes_a_tick": log_bytes / len(filled.levels),
        "dead": dead,
    }


def _filled(stage: Stage, venue: str, key: str, ticks: Iterable[CapturedTick]) -> Filled:
    filled = Filled(stage.kafka, stage.fresh("captured"), venue, key)
    asyncio.run(filled.fill(ticks))
    return filled


def _best(stage: Stage, figure: Figure, filled: Filled, by: str, *, bars: bool) -> dict[str, Any]:
    runs = []
    for run in range(stage.scale.rounds):
        stage.quiet()
        runs.append(asyncio.run(measure(filled, run, stage.log, bars=bars)))
        stage.keep(figure.name, runs[-1])
        stage.say(f"{figure.name}: {runs[-1][by]:,.0f}{figure.unit}")
    return best(runs, lambda found: found[by])


def _folder() -> Path:
    folder = data_folder()
    if folder is None:
        raise BenchFailed("NO CAPTURED DATA: set FEED_TEST_DATA")
    return folder


def _trades(stage: Stage) -> Iterator[Result]:
    count = stage.scale.of(60_000 if stage.scale.rounds == 1 else 200_000, 20_000)
    filled = _filled(stage, "binance-usdm", "BTCUSDT", trades(_folder() / USDM, count))
    for figure, bars in ((TRADES, False), (TRADES_WITH_BARS, True)):
        found = _best(stage, figure, filled, "ticks_a_cpu_second", bars=bars)
        note = f"{found['ticks']} trades in {found['cpu_s']:.2f} CPU-s"
        yield Result(figure, found["ticks_a_cpu_second"], note)


def _books(stage: Stage) -> Iterator[Result]:
    levels = stage.scale.of(300_000 if stage.scale.rounds == 1 else 1_000_000, 100_000)
    for figure, venue, symbol, file in (
        (BOOKS_11, "binance-coinm", "BTCUSD_PERP", COINM),
        (BOOKS_68, "binance-usdm", "BTCUSDT", USDM),
    ):
        filled = _filled(stage, venue, symbol, books(_folder() / file, levels))
        found = _best(stage, figure, filled, "levels_a_cpu_second", bars=True)
        a_tick = found["levels"] / found["ticks"]
        note = f"{found['ticks_a_cpu_second']:,.0f} updates/CPU-s of {a_tick:.1f} levels"
        yield Result(figure, found["levels_a_cpu_second"], note)


PARTS: Final = (
    Part("trades", "trades of a capture through the normalizer", (TRADES, TRADES_WITH_BARS), _trades),
    Part("books", "book updates of captures through the normalizer", (BOOKS_11, BOOKS_68), _books),
)
