"""Plays captures of a venue into its tick topic, at recorded pace, at a factor, or as fast as it goes.

Owns the loop that reads, waits and sends, and what is told meanwhile. Leaves formats to `captures`, the arithmetic of
time to `pacing`, and keys, partitions and batches to `sinks`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from feed.kafka.access import Entrance
from feed.kafka.append import Appender, Compression
from feed.kafka.cluster import Cluster
from feed.kafka.rights import Right
from feed.venues.venue import Venue
from replay.pacing import Pacing, Speed, seconds
from replay.sinks import Captured, TickTopic

MIN_SLEEP_NS: Final = 1_000_000
TELL_EVERY_S: Final = 0.2
_LOOK_AT_CLOCK_EVERY: Final = 256


class Progress(NamedTuple):
    """How far it is: frames read, ticks and bytes sent, recorded time passed, seconds since the start, seconds late."""

    frames: int
    ticks: int
    bytes: int
    unreadable: int
    recorded_s: float
    elapsed_s: float
    late_s: float


class Target(NamedTuple):
    """Where to: a cluster, a topic, and how the topic is made when it is missing."""

    broker: Entrance | str
    topic: str
    partitions: int
    settings: dict[str, str]
    compression: Compression


async def publish(
    captures: Iterable[Captured],
    venue: Venue,
    target: Target,
    *,
    speed: Speed,
    symbol: str | None,
    tell: Callable[[Progress], None],
) -> Progress:
    """Plays all of it; returns when everything is in the log. `tell` is called now and then.

    Raises:
        Unreachable: no broker answers; NotLetIn where we are not let in, or may not write.
        AppendFailed: it is not known what of the last batches lies in the log.
        BadCapture: a file is not what it was said to be.
    """
    async with Cluster(target.broker) as cluster:
        await cluster.must_have([Right("WRITE", "topic", target.topic)])
        await cluster.make_topics({target.topic: target.partitions}, target.settings)
        partitions = await cluster.partitions(target.topic)
    appender = Appender(target.broker, compression=target.compression, timeout_ms=60_000)
    await appender.start()
    try:
        topic = TickTopic(appender, target.topic, partitions, venue.keys, symbol)
        return await _play(captures, topic, Pacing(speed), tell)
    finally:
        await appender.stop()


async def _play(
    captures: Iterable[Captured], topic: TickTopic, pacing: Pacing, tell: Callable[[Progress], None]
) -> Progress:
    began = told = time.monotonic()
    first: int | None = None
    last = 0
    late = 0

    def progress() -> Progress:
        recorded = seconds(last - first) if first is not None else 0.0
        counts = (topic.frames, topic.ticks, topic.bytes, topic.unreadable)
        return Progress(*counts, recorded, time.monotonic() - began, seconds(late))

    for captured in captures:
        ts = captured.ts_recv
        if ts is not None:
            first = ts if first is None else first
            last = max(last, ts)
            now = time.monotonic_ns()
            wait = pacing.wait_ns(ts, now)
            if wait:
                await topic.send()
                await asyncio.sleep(seconds(max(wait, MIN_SLEEP_NS)))
            late = max(late, pacing.behind_ns(ts, now))
        if topic.add(captured):
            await topic.send()
        if topic.frames % _LOOK_AT_CLOCK_EVERY == 0 or (ts is not None and wait):
            now_s = time.monotonic()
            if now_s - told >= TELL_EVERY_S:
                told = now_s
                tell(progress())
    await topic.flush()
    return progress()
