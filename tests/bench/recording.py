"""Recording and reading back: rows a CPU second of `feed record` from Kafka, bytes on disk, history, memory.

The recorder comes first and finds a log that has only begun; then everything is appended, and its CPU time is taken
from there until it says that all rows are written: fetching, folding, columns, files, keyframes, all of it. What it has
sealed is then served by `replay serve`, and asked for as a whole.
"""

from __future__ import annotations

import asyncio
import time
import urllib.request
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Final, NamedTuple

from aiokafka.structs import TopicPartition
from broker import free_port

from feed.kafka.append import Appender
from feed.kafka.cluster import Cluster
from feed.venues.bars import BarRules
from feed.venues.symbol import Rules
from replay import open as open_recording
from tests.bench.captured import USDM, books, data_folder, trades
from tests.bench.figures import Figure, Part, Result
from tests.bench.machine import FEED, BenchFailed, Child, anonymous_bytes, cpu_seconds, server
from tests.bench.market import PREFIX, VENUE, Lot, Partition, quote, symbol_names
from tests.bench.stage import Stage, best

TRADES: Final = Figure("record: trades", "/CPU-s", 300_000, of_python=True)
QUOTES: Final = Figure("record: quotes", "/CPU-s", 300_000, of_python=True)
BOOKS: Final = Figure("record: books, 68 levels an update", "levels/CPU-s", 1_500_000, of_python=True)
TRADE_BYTES: Final = Figure("record: a trade on disk, of its JSON", "%", 12.5, less_is_better=True)
QUOTE_BYTES: Final = Figure("record: a quote on disk, of its JSON", "%", 12.5, less_is_better=True)
BOOK_BYTES: Final = Figure("record: a book update on disk, of its JSON", "%", None, less_is_better=True)
GROWTH: Final = Figure("record: memory from a quarter to the end", "x", 1.25, less_is_better=True)
HISTORY: Final = Figure("history: Arrow, all rows", "rows/CPU-s", 5_000_000)
CHOSEN: Final = Figure("history: Arrow, half of the symbols", "rows/CPU-s", None)
HISTORY_GROWTH: Final = Figure("history: memory from a quarter to all of it", "x", 1.25, less_is_better=True)

_TICKS_A_LOT: Final = 500
_LOTS_A_BATCH: Final = 8
_SYMBOLS: Final = 100
_NS_A_QUOTE: Final = 1_000_000
_BEGIN_NS: Final = 1_795_467_600_000_000_000
_PATIENCE_S: Final = 180.0
_LOOK_S: Final = 0.05
_SETTINGS: Final = {"FEED_RECORD__FREE_BYTES_MIN": "0"}


class Load(NamedTuple):
    """A log of one partition: what is appended, its updates, and what is counted in them (rows, or levels)."""

    venue: str
    kind: str
    lots: list[Lot]
    opening: Lot
    updates: int
    counted: int

    @property
    def json_bytes(self) -> int:
        """The messages of its updates as they are sent."""
        data = (v for lot in self.lots for _, v, headers in lot.entries if b'{"type":"update"' in v[:20])
        return sum(len(value) - 1 for value in data)


def _load(venue: str, kind: str, ticks: Iterable[tuple[str, bytes, int, str | None]], counted: int) -> Load:
    # no bars: one update a tick, of one kind
    partition = Partition(0, venue, Rules(bars=BarRules(intervals=())))
    opening, ticks, lots = partition.open(), iter(ticks), []
    while some := list(islice(ticks, _TICKS_A_LOT)):
        lots.append(partition.made_of(some))
    updates = sum(lot.updates for lot in lots)
    return Load(venue, kind, lots, opening, updates, counted or updates)


def _trades(stage: Stage) -> Load:
    ticks = trades(_folder() / USDM, stage.scale.of(400_000, 4_000))
    return _load("binance-usdm", "trades", (("BTCUSDT", t.value, t.ts_recv, None) for t in ticks), 0)


def _quotes(stage: Stage) -> Load:
    count, names = stage.scale.of(400_000, 4_000), symbol_names(_SYMBOLS)
    numbers = ((number, _BEGIN_NS + number * _NS_A_QUOTE) for number in range(count))
    ticks = ((names[number % _SYMBOLS], quote(number, now), now, None) for number, now in numbers)
    return _load(VENUE, "quotes", ticks, 0)


def _books(stage: Stage) -> Load:
    made = list(books(_folder() / USDM, stage.scale.of(2_000_000, 20_000)))
    ticks = (("BTCUSDT", tick.value, tick.ts_recv, tick.request) for tick in made)
    return _load("binance-usdm", "book", ticks, sum(tick.levels for tick in made))


def _folder() -> Path:
    folder = data_folder()
    if folder is None:
        raise BenchFailed("NO CAPTURED DATA: set FEED_TEST_DATA")
    return folder


# ---- recording


async def recorded(stage: Stage, load: Load, root: Path) -> dict[str, Any]:
    """One recording of a load, from an empty folder."""
    own = stage.fresh("recorded")
    target = TopicPartition(f"{own}.feed.{load.venue}", 0)
    async with Cluster(stage.kafka) as cluster:
        await cluster.make_topics({target.topic: 1}, {"max.message.bytes": str(16 << 20)})
    appender = Appender(stage.kafka)
    await appender.start()
    try:
        await appender.append(target, load.opening.entries)
        arguments = [FEED, "record", "--kafka", stage.kafka, "--venues", load.venue, "--to", str(root), "--json"]
        environment = {**_SETTINGS, "FEED_KAFKA__FEED_PREFIX": f"{own}.feed."}
        with server(arguments, log=stage.log, environment=environment) as recorder:
            _until(recorder, lambda status: status["caught_up"])
            cpu, memory = cpu_seconds(recorder.pid), 0
            filling = asyncio.create_task(_fill(appender, target, load))
            while (status := await asyncio.to_thread(recorder.hear, _PATIENCE_S))["rows"] < load.updates:
                if not memory and status["rows"] >= load.updates / 4:
                    memory = anonymous_bytes(recorder.pid)
            cpu = cpu_seconds(recorder.pid) - cpu
            growth = anonymous_bytes(recorder.pid) / (memory or 1)
            await filling
    finally:
        await appender.stop()
    with open_recording(str(root)) as recording:
        found = recording.table(load.kind, columns=["seq"]).num_rows
    if found != load.updates:
        raise BenchFailed(f"{found} rows of {load.kind} were recorded, wanted {load.updates}")
    disk = sum(file.stat().st_size for file in (root / load.kind).rglob("*.arrow"))
    return {
        "updates": load.updates,
        "cpu_s": cpu,
        "a_cpu_second": load.counted / cpu,
        "disk_bytes": disk / load.updates,
        "json_bytes": load.json_bytes / load.updates,
        "growth": growth,
    }


async def _fill(appender: Appender, target: TopicPartition, load: Load) -> None:
    lots = iter(load.lots)
    while some := list(islice(lots, _LOTS_A_BATCH)):
        entries = [entry for lot in some for entry in lot.entries]
        await appender.append(target, entries)


def _until(recorder: Child, holds: Any) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not holds(status := recorder.hear(_PATIENCE_S)):
        if time.monotonic() > deadline:
            raise BenchFailed(f"the recorder says {status}")


def _record(stage: Stage) -> Iterator[Result]:
    for figure, on_disk, make in (
        (TRADES, TRADE_BYTES, _trades),
        (QUOTES, QUOTE_BYTES, _quotes),
        (BOOKS, BOOK_BYTES, _books),
    ):
        load, runs = make(stage), []
        for number in range(stage.scale.rounds):
            stage.quiet()
            root = stage.folder / f"{load.kind}.{number}"
            runs.append(asyncio.run(recorded(stage, load, root)))
            stage.keep(figure.name, runs[-1])
            stage.say(f"{figure.name}: {runs[-1]['a_cpu_second']:,.0f}{figure.unit}")
        found = best(runs, lambda run: run["a_cpu_second"])
        note = f"{found['updates']:,} updates in {found['cpu_s']:.2f} CPU-s"
        yield Result(figure, found["a_cpu_second"], note)
        size = f"{found['disk_bytes']:.1f} of {found['json_bytes']:.1f} bytes"
        yield Result(on_disk, found["disk_bytes"] / found["json_bytes"] * 100, size)
        if figure is QUOTES:
            growth = min(run["growth"] for run in runs)
            yield Result(GROWTH, growth, "anonymous memory of the recorder", stage.scale.share == 1)


# ---- reading


def _history(stage: Stage) -> Iterator[Result]:
    load = _quotes(stage)
    root = stage.folder / "history"
    asyncio.run(recorded(stage, load, root))
    with open_recording(str(root)) as recording:
        times = recording.table("quotes", columns=["ts_recv"]).column(0).cast("int64").to_pylist()
    port = free_port()
    arguments = [str(Path(FEED).with_name("replay")), "serve", str(root), "--port", str(port)]
    with server(arguments, log=stage.log) as serving:
        _wait(port)
        begin, quarter = times[0], times[len(times) // 4]
        few = _asked(port, serving, f"symbols=*&end={quarter}")
        few_bytes = anonymous_bytes(serving.pid)
        runs = [_asked(port, serving, "symbols=*") for _ in range(2 * stage.scale.rounds)]
        all_bytes = anonymous_bytes(serving.pid)
        half = ",".join(f"{PREFIX}:{name}" for name in symbol_names(_SYMBOLS)[::2])
        chosen = [_asked(port, serving, f"symbols={half}") for _ in range(2 * stage.scale.rounds)]
    stage.keep("history", {"begin": begin, "few": few, "runs": runs, "chosen": chosen})
    rows, least = len(times), min(run["cpu_s"] for run in runs)
    yield Result(HISTORY, rows / least, f"{rows:,} quotes, {runs[0]['bytes']:,} bytes")
    least = min(run["cpu_s"] for run in chosen)
    yield Result(CHOSEN, rows / 2 / least, f"{chosen[0]['bytes']:,} bytes")
    note = f"{all_bytes / 2**20:.0f} MiB"
    yield Result(HISTORY_GROWTH, all_bytes / few_bytes, note, stage.scale.share == 1)


def _asked(port: int, serving: Child, query: str) -> dict[str, Any]:
    url = f"http://127.0.0.1:{port}/v1/history?channel=quotes&{query}"
    request = urllib.request.Request(url, headers={"accept": "application/vnd.apache.arrow.stream"})
    cpu, size = cpu_seconds(serving.pid), 0
    with urllib.request.urlopen(request, timeout=_PATIENCE_S) as answer:
        while piece := answer.read(1 << 20):
            size += len(piece)
    return {"cpu_s": cpu_seconds(serving.pid) - cpu, "bytes": size}


def _wait(port: int) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2):
                return
        except OSError:
            time.sleep(_LOOK_S)
    raise BenchFailed(f"no recording is served after {_PATIENCE_S:.0f} s")


_FIGURES: Final = (TRADES, TRADE_BYTES, QUOTES, QUOTE_BYTES, GROWTH, BOOKS, BOOK_BYTES)
PARTS: Final = (
    Part("record", "feed logs into a recording", _FIGURES, _record),
    Part("history", "a recording read over HTTP", (HISTORY, CHOSEN, HISTORY_GROWTH), _history),
)
