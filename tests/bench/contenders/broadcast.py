"""The best that the `websockets` library offers: for each update, one `broadcast` to the clients of its symbol.

python -m tests.bench.contenders.broadcast '{"kafka": "127.0.0.1:9092", "topic": "…", "port": 8000}'
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import defaultdict
from urllib.parse import parse_qs, urlsplit

import uvloop
from aiokafka import AIOKafkaConsumer
from websockets.asyncio.server import ServerConnection, broadcast, serve

from tests.bench.contenders.records import updates_of

clients: defaultdict[str, set[ServerConnection]] = defaultdict(set)


async def stream(connection: ServerConnection) -> None:
    """A client that names its symbols."""
    assert connection.request is not None
    chosen = parse_qs(urlsplit(connection.request.path).query)["symbols"][0].split(",")
    for symbol in chosen:
        clients[symbol].add(connection)
    await connection.send("ready")
    await connection.wait_closed()
    for symbol in chosen:
        clients[symbol].discard(connection)


async def main(told: dict[str, str]) -> None:
    """Serves, and broadcasts each update."""
    consumer = AIOKafkaConsumer(told["topic"], bootstrap_servers=told["kafka"], auto_offset_reset="latest")
    await consumer.start()
    try:
        async with serve(stream, "127.0.0.1", int(told["port"]), compression=None):
            async for record in consumer:
                for symbol, text in updates_of(record):
                    broadcast(clients[symbol], text)
                await asyncio.sleep(0)  # else nobody could join while there is more to read
    finally:
        await consumer.stop()


if __name__ == "__main__":
    uvloop.run(main(json.loads(sys.argv[1])))
