"""What a typical FastAPI program does: for each update, `await ws.send_text(…)` to each client, one after the other.

    python -m tests.bench.contenders.fastapi_loop '{"kafka": "127.0.0.1:9092", "topic": "…", "port": 8000}'

Everything but that loop is made as cheap as it can be: updates are taken from the records without reading them whole
(`records.py`), clients are looked up by symbol, and uvicorn runs on uvloop with its fastest parsers.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections import defaultdict
from collections.abc import AsyncIterator

import uvicorn
from aiokafka import AIOKafkaConsumer
from fastapi import FastAPI, WebSocket, WebSocketDisconnect

from tests.bench.contenders.records import updates_of

TOLD = json.loads(sys.argv[1]) if len(sys.argv) > 1 else {}
clients: defaultdict[str, set[WebSocket]] = defaultdict(set)


async def pump(consumer: AIOKafkaConsumer) -> None:
    """Sends each update to each of its clients."""
    async for record in consumer:
        for symbol, text in updates_of(record):
            for ws in list(clients[symbol]):
                with contextlib.suppress(WebSocketDisconnect, RuntimeError):
                    await ws.send_text(text)


@contextlib.asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Consumes while the program runs."""
    consumer = AIOKafkaConsumer(TOLD["topic"], bootstrap_servers=TOLD["kafka"], auto_offset_reset="latest")
    await consumer.start()
    pumping = asyncio.create_task(pump(consumer))
    yield
    pumping.cancel()
    await consumer.stop()


app = FastAPI(lifespan=lifespan)


@app.websocket("/stream")
async def stream(ws: WebSocket, symbols: str) -> None:
    """A client that names its symbols."""
    await ws.accept()
    chosen = symbols.split(",")
    for symbol in chosen:
        clients[symbol].add(ws)
    await ws.send_text("ready")
    try:
        while True:
            await ws.receive_text()
    except WebSocketDisconnect:
        for symbol in chosen:
            clients[symbol].discard(ws)


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=TOLD["port"], log_level="warning")
