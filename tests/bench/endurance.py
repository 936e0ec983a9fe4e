"""Hours of ordinary use: is memory flat, and does everybody have every update, once?

    python -m tests.bench.endurance --minutes 45

A normalizer, a gateway and a recorder, each a process, on a real Kafka; ticks of 50 symbols; 100 clients that come and
go, four that stay in views, one that is strict; replays that seek, and histories. At the end: by how much the memory of
each process grew a minute in the last two thirds, and whether what was produced, what the strict client got and what
was recorded are the same, byte for byte. Exits 1 where they are not.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import itertools
import json
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

ROOT: Final = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "ops" / "kafka"))

import httpx  # noqa: E402
from aiokafka.structs import TopicPartition  # noqa: E402
from broker import Broker  # noqa: E402  # a tool that lies beside its own pom
from websockets.asyncio.client import ClientConnection, connect  # noqa: E402
from websockets.exceptions import WebSocketException  # noqa: E402

from feed.recording.filter import Filter  # noqa: E402
from feed.recording.recording import RecordingFiles  # noqa: E402
from feed.wire.times import text_of  # noqa: E402
from tests.bench.machine import memory_bytes  # noqa: E402
from tests.integration.commands import Command  # noqa: E402
from tests.integration.stage import Stage, said  # noqa: E402

SYMBOLS: Final = [f"ACME:S{number:02d}" for number in range(50)]
KINDS: Final = ("trades", "quotes", "book")
PARTITIONS: Final = 2
VIEWS: Final = ({"every_ms": 50}, {"every_ms": 250}, {"every_ms": 1000, "depth": 1}, {"every_ms": 100, "depth": 10})
_SAMPLE_S: Final = 10.0
_BATCH_S: Final = 0.1
_STEADY: Final = 2 / 3
_SETTLE_S: Final = 60.0
Key = tuple[str, str]


class Sums:
    """Of each channel how many updates there were, and a hash of all their bytes in order."""

    def __init__(self) -> None:
        self.counts: dict[Key, int] = defaultdict(int)
        self._hashes: dict[Key, Any] = {}

    def add(self, key: Key, message: bytes) -> None:
        """One more."""
        self.counts[key] += 1
        if key not in self._hashes:
            self._hashes[key] = hashlib.blake2b(digest_size=16)
        self._hashes[key].update(message)

    def told(self) -> dict[Key, tuple[int, str]]:
        """What it comes to."""
        return {key: (count, self._hashes[key].hexdigest()) for key, count in self.counts.items()}


class _Update(msgspec.Struct):
    type: str
    channel: str = ""
    symbol: str = ""
    prev: int = -1
    seq: int = -1


_RAWS: Final = msgspec.json.Decoder(list[msgspec.Raw])
_UPDATE: Final = msgspec.json.Decoder(_Update)


class Producer:
    """Writes ticks at a steady rate; `sent`: how many of each channel."""

    def __init__(self, stage: Stage, rate: float) -> None:
        self.sent: dict[Key, int] = defaultdict(int)
        self._stage = stage
        self._rate = rate
        self._chooser = random.Random(7)
        self._numbers = itertools.count(1)

    async def run(self, until: float) -> None:
        """Until then, by the monotonic clock."""
        for symbol in SYMBOLS:
            await self._send({symbol: [self._snapshot()]})
            self.sent["book", symbol] += 1
        due = time.monotonic()
        while due < until:
            due += _BATCH_S
            ticks: dict[str, list[bytes]] = defaultdict(list)
            for _ in range(round(self._rate * _BATCH_S)):
                symbol = self._chooser.choice(SYMBOLS)
                kind = self._chooser.choice(KINDS)
                ticks[symbol].append(self._tick(kind))
                self.sent[kind, symbol] += 1
            await self._send(ticks)
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    def _tick(self, kind: str) -> bytes:
        number = next(self._numbers)
        price, size = f"{100 + number % 97}.{number % 9 + 1}", f"{number % 13 + 1}"
        data: Any
        if kind == "trades":
            data = [{"price": price, "size": size, "side": "buy", "trade_id": str(number), "ts_event": None}]
        elif kind == "quotes":
            data = {"bid_price": price, "bid_size": size, "ask_price": f"300.{number % 89 + 1}", "ask_size": size}
        else:
            data = {"bids": [[price, size]], "asks": [[f"{400 + number % 83}.5", str(number)]]}
        return msgspec.json.encode({"channel": kind, "ts_event": None, "data": data})

    def _snapshot(self) -> bytes:
        data = {"bids": [["99.5", "1"]], "asks": [["500.5", "1"]]}
        return msgspec.json.encode({"channel": "book", "snapshot": True, "ts_event": None, "data": data})

    async def _send(self, ticks: dict[str, list[bytes]]) -> None:
        by_partition: dict[int, list[tuple[str, bytes]]] = defaultdict(list)
        for symbol, values in ticks.items():
            name = symbol.partition(":")[2]
            by_partition[int(name[1:]) % PARTITIONS] += [(name, value) for value in values]
        topic = self._stage.settings.ticks_topic("acme")
        for partition, found in by_partition.items():
            records: list[tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]]
            records = [(name.encode(), value, []) for name, value in found]
            await self._stage.appender.append(TopicPartition(topic, partition), records)


@contextlib.asynccontextmanager
async def _connected(url: str) -> AsyncIterator[ClientConnection]:
    async with connect(url, max_size=None, compression=None, proxy=None, ping_interval=None, close_timeout=1) as socket:
        yield socket


async def _strict(url: str, sums: Sums, faults: list[str]) -> None:
    """Has everything from the begin on; what does not follow on what was before is a fault."""
    positions: dict[Key, int] = {}
    async with _connected(url) as socket:
        await socket.send(json.dumps({"op": "subscribe", "id": 1, "channels": KINDS, "symbols": ["*"]}))
        async for payload in socket:
            for raw in _RAWS.decode(payload):
                message = _UPDATE.decode(raw)
                if message.type == "error" or (message.type == "ack" and b'"ok":false' in bytes(raw)):
                    faults.append(f"refused: {bytes(raw)!r}")
                if message.type == "gap":
                    faults.append(f"a gap: {bytes(raw)!r}")
                if message.type != "update":
                    continue
                key = message.channel, message.symbol
                if message.prev != positions.get(key, -1):
                    faults.append(f"{key} at {message.seq} follows {message.prev}, wanted {positions.get(key, -1)}")
                positions[key] = message.seq
                sums.add(key, bytes(raw))


async def _reading(url: str, request: dict[str, Any], seconds: float) -> None:
    async with _connected(url) as socket:
        await socket.send(json.dumps({"op": "subscribe", "id": 1, **request}))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                async for _ in socket:
                    pass


async def _coming_and_going(url: str, number: int) -> None:
    chooser = random.Random(number)
    while True:
        symbols = chooser.choice([["*"], chooser.sample(SYMBOLS, 10), chooser.sample(SYMBOLS, 3)])
        request: dict[str, Any] = {"channels": chooser.sample(KINDS, chooser.randint(1, 3)), "symbols": symbols}
        if chooser.random() < 0.3:
            request |= chooser.choice(VIEWS)
        if chooser.random() < 0.1:
            request["from"] = {"time": text_of(time.time_ns() - 20 * 10**9)}
            request = {key: value for key, value in request.items() if key not in ("every_ms", "depth")}
        await _reading(url, request, chooser.uniform(5, 60))


async def _replaying(url: str, number: int) -> None:
    """A session that opens, plays, seeks, and goes."""
    chooser = random.Random(number)
    begun = time.time_ns()
    while True:
        await asyncio.sleep(chooser.uniform(10, 30))
        async with _connected(url.replace("/v1/stream", "/v1/replay")) as socket:
            for request in (
                {"op": "subscribe", "id": 1, "channels": KINDS, "symbols": ["*"]},
                {"op": "replay", "id": 2, "do": "open", "speed": 10},
            ):
                await socket.send(json.dumps(request))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(chooser.uniform(5, 15)):
                    for received in itertools.count(1):
                        await socket.recv()
                        if received % 200 == 0:
                            at = chooser.randrange(begun, time.time_ns())
                            await socket.send(json.dumps({"op": "replay", "id": 3, "do": "seek", "time": text_of(at)}))


async def _histories(url: str) -> None:
    address = re.sub(r"^ws(.*)/v1/stream.*", r"http\1", url)
    async with httpx.AsyncClient(timeout=60, trust_env=False) as client:
        for number in itertools.count():
            await asyncio.sleep(15)
            start = text_of(time.time_ns() - 60 * 10**9)
            kind = KINDS[number % len(KINDS)]
            accept = ("application/x-ndjson", "application/vnd.apache.arrow.stream", "text/csv")[number // 3 % 3]
            query = {"channel": kind, "start": start}
            await client.get(f"{address}/v1/history", params=query, headers={"accept": accept})


async def _again(run: Callable[[], Coroutine[Any, Any, None]], broken: dict[str, int]) -> None:
    while True:
        try:
            await run()
        except (OSError, WebSocketException, httpx.HTTPError, EOFError) as error:
            broken[repr(error)[:120]] += 1
            await asyncio.sleep(1)


def growth(samples: list[tuple[float, int]]) -> float:
    """By how many MiB a minute it grew in the last two thirds: the slope of a line through the samples."""
    steady = [one for one in samples if one[0] >= samples[-1][0] * (1 - _STEADY)]
    times = np.array([at for at, _ in steady]) / 60
    sizes = np.array([size for _, size in steady]) / 2**20
    return float(np.polyfit(times, sizes, 1)[0]) if len(steady) > 2 else 0.0


async def endure(minutes: float, rate: float, clients: int, kafka: str, folder: Path) -> dict[str, Any]:
    """All of it; what was found."""
    root = folder / "recordings"
    serve = f'recordings = "{root}"\n[record]\nrotate_s = 120'
    broken: dict[str, int] = defaultdict(int)
    faults: list[str] = []
    sums = Sums()
    samples: dict[str, list[tuple[float, int]]] = defaultdict(list)
    async with Stage(kafka, folder, ["acme"], partitions=PARTITIONS, serve=serve) as stage:
        commands: dict[str, Command] = {}
        try:
            commands["normalizer"] = stage.start("normalize")
            commands["gateway"] = stage.start("serve", "--port", "0")
            commands["recorder"] = stage.start("record", "--json", "--to", str(root))
            url = await said(commands["gateway"], r"ws://\S+")
            producer = Producer(stage, rate)
            strict = asyncio.create_task(_strict(url, sums, faults))
            await asyncio.sleep(1)
            until = time.monotonic() + minutes * 60
            producing = asyncio.create_task(producer.run(until))
            await asyncio.sleep(10)
            runs: list[Callable[[], Coroutine[Any, Any, None]]] = [partial(_histories, url)]
            runs += [partial(_coming_and_going, url, number) for number in range(clients)]
            runs += [partial(_reading, url, {"channels": KINDS, "symbols": ["*"], **view}, 1e9) for view in VIEWS]
            runs += [partial(_replaying, url, number) for number in range(2)]
            tasks = [asyncio.create_task(_again(run, broken)) for run in runs]
            began = time.monotonic()
            while not producing.done():
                await asyncio.sleep(_SAMPLE_S)
                for name, command in commands.items():
                    samples[name].append((time.monotonic() - began, memory_bytes(command.process.pid)))
                if strict.done() or any(command.process.poll() is not None for command in commands.values()):
                    raise AssertionError(f"ended: {[c.err[-5:] for c in commands.values()]}, {strict}")
            await producing
            for task in tasks:
                task.cancel()
            deadline = time.monotonic() + _SETTLE_S
            while sums.counts != producer.sent and time.monotonic() < deadline:
                await asyncio.sleep(0.5)
            strict.cancel()
            await asyncio.gather(*tasks, strict, return_exceptions=True)
        finally:
            for command in commands.values():
                await asyncio.to_thread(command.end, signal.SIGTERM)
    recorded = _recorded(root)
    verified = subprocess.run(
        [sys.executable, "-c", "from replay.cli import main; main()", "verify", str(root)], capture_output=True
    )
    return {
        "updates": sum(sums.counts.values()),
        "produced": sum(producer.sent.values()),
        "strict client has what was produced": dict(sums.counts) == dict(producer.sent),
        "recording has what the client has": recorded.told() == sums.told(),
        "recording verified": verified.returncode == 0,
        "faults": faults[:10],
        "broken connections": dict(broken),
        "growth_mib_a_minute": {name: round(growth(found), 3) for name, found in samples.items()},
        "memory_mib": {
            name: [round(found[at][1] / 2**20, 1) for at in (0, len(found) // 3, 2 * len(found) // 3, -1)]
            for name, found in samples.items()
        },
    }


def _recorded(root: Path) -> Sums:
    sums = Sums()
    recording = RecordingFiles(str(root))
    for page in recording.pages(Filter(list(KINDS))):
        for text in page.messages.to_pylist():
            message = text.encode().rstrip(b"\n")
            found = _UPDATE.decode(message)
            if found.type == "update":
                sums.add((found.channel, found.symbol), message)
    recording.close()
    return sums


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.endurance", description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=45)
    parser.add_argument("--rate", type=float, default=500, help="ticks a second")
    parser.add_argument("--clients", type=int, default=100, help="clients that come and go")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="endurance-") as scratch:
        broker = Broker(Path(scratch) / "broker")
        try:
            kafka = broker.start().address
            (Path(scratch) / "stage").mkdir()
            work = endure(arguments.minutes, arguments.rate, arguments.clients, kafka, Path(scratch) / "stage")
            found = asyncio.run(work)
        finally:
            broker.stop()
    print(json.dumps(found, indent=1))
    whole = all(found[name] for name in found if isinstance(found[name], bool))
    return 0 if whole and not found["faults"] else 1


if __name__ == "__main__":
    sys.exit(main())
