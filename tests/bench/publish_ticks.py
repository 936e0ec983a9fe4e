"""A process that sends ticks at a steady rate, whatever anybody else does (open loop), as a collector would.

    echo '{"kafka": "127.0.0.1:9092", "topic": "ticks.bench", …}' | python -m tests.bench.publish_ticks

`ts_event` of a tick is the time at which it was due, `ts_recv` the time at which it was given to the producer: a client
that takes the first is not fooled by a publisher that was held up (no coordinated omission).
"""

from __future__ import annotations

import asyncio
import gc
import json
import random
import sys
import time
from typing import Any

import uvloop
from aiokafka import AIOKafkaProducer

from tests.bench.market import quote, symbol_names


async def main(told: dict[str, Any]) -> None:
    """Sends one tick of each symbol, waits for the start, then sends at the rate."""
    names = [name.encode() for name in symbol_names(told["symbols"])]
    chooser = random.Random(5)
    topic, rate, step_s = told["topic"], told["ticks_a_second"], told["step_ms"] / 1000
    producer = AIOKafkaProducer(bootstrap_servers=told["kafka"], enable_idempotence=True, acks="all")
    await producer.start()
    try:
        for number, name in enumerate(names):
            now_ns = time.time_ns()
            headers = [("ts_recv", b"%d" % now_ns)]
            await producer.send_and_wait(topic, quote(number, now_ns), key=name, headers=headers)
        print(json.dumps({"ready": True}), flush=True)
        start_ns = json.loads(await asyncio.to_thread(sys.stdin.readline))["start_ns"]
        gc.collect()
        gc.freeze()
        sent, late_ns, cpu = 0, 0, time.process_time()
        total = int(told["seconds"] * rate)
        while sent < total:
            due_ns = start_ns + int((sent // (rate * step_s)) * step_s * 1e9)
            wait = (due_ns - time.time_ns()) / 1e9
            if wait > 0:
                await asyncio.sleep(wait)
            late_ns = max(late_ns, time.time_ns() - due_ns)
            for _ in range(round(rate * step_s)):
                value = quote(len(names) + sent, due_ns)
                headers = [("ts_recv", b"%d" % time.time_ns())]
                await producer.send(topic, value, key=chooser.choice(names), headers=headers)
                sent += 1
        await producer.flush()
    finally:
        await producer.stop()
    told_back = {"late_ms": round(late_ns / 1e6, 1), "ticks": sent, "cpu_s": time.process_time() - cpu}
    print(json.dumps(told_back), flush=True)


if __name__ == "__main__":
    uvloop.run(main(json.loads(sys.stdin.readline())))
