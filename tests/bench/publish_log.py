"""A process that appends a prebuilt feed log at its times, whatever anybody else does (open loop).

    echo '{"kafka": "127.0.0.1:9092", "topic": "feed.bench", …}' | python -m tests.bench.publish_log

Says `built` when everything is made and what opens the logs is appended; waits for `start_ns`; says how late it was.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from collections import deque
from typing import Any

import uvloop
from aiokafka.structs import TopicPartition

from feed.kafka.append import Appender
from tests.bench.market import Due, Entry, built_log


async def _play(appender: Appender, partition: TopicPartition, dues: deque[Due], start: float) -> tuple[float, int]:
    """Appends what is due; what became due meanwhile goes with the next batch. Returns the worst lateness."""
    late_s, updates = 0.0, 0
    while dues:
        wait = start + dues[0].after_s - time.monotonic()
        if wait > 0:
            await asyncio.sleep(wait)
        now = time.monotonic() - start
        late_s = max(late_s, now - dues[0].after_s)
        entries: list[Entry] = []
        while dues and dues[0].after_s <= now:
            due = dues.popleft()
            entries += due.entries
            updates += due.updates
        if entries:
            await appender.append(partition, entries)
    return late_s, updates


async def main(told: dict[str, Any]) -> None:
    """Builds, waits, plays."""
    built_ns = time.time_ns()
    dues = list(
        built_log(
            symbols=told["symbols"],
            updates_a_second=told["updates_a_second"],
            seconds=told["seconds"],
            step_ms=told["step_ms"],
            partitions=told["partitions"],
            start_ns=built_ns,
        )
    )
    gc.collect()
    gc.freeze()
    partitions = [TopicPartition(told["topic"], number) for number in range(told["partitions"])]
    appender = Appender(told["kafka"])
    await appender.start()
    try:
        for due in dues[: len(partitions)]:
            await appender.append(partitions[due.partition], due.entries)
        load = [deque(due for due in dues[len(partitions) :] if due.partition == n) for n in range(len(partitions))]
        del dues
        log_bytes = sum(len(value) for queue in load for due in queue for _, value, _ in due.entries)
        print(json.dumps({"built_ns": built_ns, "log_bytes": log_bytes}), flush=True)
        start_ns = json.loads(await asyncio.to_thread(sys.stdin.readline))["start_ns"]
        start = time.monotonic() + (start_ns - time.time_ns()) / 1e9
        cpu = time.process_time()
        done = await asyncio.gather(*(_play(appender, p, q, start) for p, q in zip(partitions, load, strict=True)))
    finally:
        await appender.stop()
    print(
        json.dumps(
            {
                "late_ms": round(max(late for late, _ in done) * 1000, 1),
                "updates": sum(updates for _, updates in done),
                "cpu_s": time.process_time() - cpu,
            }
        ),
        flush=True,
    )


if __name__ == "__main__":
    uvloop.run(main(json.loads(sys.stdin.readline())))
