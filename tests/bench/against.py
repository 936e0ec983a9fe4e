"""Two checkouts in the same seconds, on the same core and the same log: what a change costs.

    python -m tests.bench.against FOLDER            # this checkout against the one in FOLDER, which is set up, too

On a shared machine a figure moves by half from one minute to the next, and by a tenth with each start of a process; the
ratio of two that run side by side moves by a few percent. So each part starts both several times, in turn the one and
the other first, and tells the median of all windows. A ratio above 1 is more CPU, or later, than in FOLDER.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from feed.kafka.cluster import Cluster
from tests.bench.captured import USDM, data_folder, trades
from tests.bench.machine import FEED, ROOT, Child, pin_this, server, tool, wait_for_symbols
from tests.bench.market import PARTITIONS, VENUE
from tests.bench.normalizing import Filled, measure
from tests.bench.stage import Scale, Stage
from tests.bench.trial import READY_S, Clients, Running, clients, environment, publisher, soon_ns, topics

sys.path.insert(0, str(ROOT / "ops" / "kafka"))

from broker import Broker, NoBroker, free_port  # a tool that lies beside its own pom

from tests.bench.latencies import TICKS_CROWD, TICKS_STEP_MS
from tests.bench.side_by_side import W1, W2, Workload

_SHARE: Final = 0.3
"""Of a workload's rate: two gateways share a core, and their clients the other."""
_TICKS: Final = 3_000.0
_TRADES: Final = 60_000
_WINDOW_S: Final = 4.0
_SETTLE_S: Final = 0.3
_WARMUP_S: Final = 3.0
_APART_S: Final = 1.5
# clients of the load answer no pings
_UNPINGED: Final = {"FEED_SERVE__PING_INTERVAL_MS": "600000"}
Ratios = Iterator[tuple[str, float]]


def _windows(sides: Mapping[str, Clients], turns: int) -> Iterator[dict[str, dict[str, Any]]]:
    """What came to the clients of each side, in the same windows."""
    for _ in range(turns):
        start_ns = soon_ns()
        for watching in sides.values():
            watching.ask(start_ns, _SETTLE_S, _WINDOW_S)
        yield {name: watching.child.hear(READY_S) for name, watching in sides.items()}


def _seconds(turns: int) -> float:
    return (_WINDOW_S + _APART_S) * turns + _WARMUP_S + 6


def _ratios(found: dict[str, dict[str, Any]], figures: Mapping[str, Callable[[dict[str, Any]], float]]) -> Ratios:
    for name, of in figures.items():
        yield name, of(found["new"]) / max(of(found["base"]), 1e-9)


def _gateways(stage: Stage, programs: Mapping[str, str], turns: int, workload: Workload) -> Ratios:
    """CPU of a delivery."""
    crowd, rate = workload.crowd, workload.rate * _SHARE
    with ExitStack() as stack:
        publishing = stack.enter_context(publisher(stage, crowd.symbols, workload.record_updates))
        own = stack.enter_context(topics(stage, "against"))
        to = {"kafka": stage.kafka, "topic": f"{own}.feed.{VENUE}"}
        publishing.open(to, rate, _seconds(turns))
        running: dict[str, Running] = {}
        for name, program in programs.items():
            port = free_port()
            command = [program, "serve", "--kafka", stage.kafka, "--venues", VENUE, "--port", str(port)]
            child = stack.enter_context(server(command, log=stage.log, environment=environment(own, **_UNPINGED)))
            running[name] = Running(port, child, "feed", to)
        for one in running.values():
            wait_for_symbols(one.port, crowd.symbols, READY_S)
        expected = rate * crowd.deliveries_an_update
        watching = {
            name: stack.enter_context(
                clients(stage, one, crowd.subscriptions(), expected=expected, count_every=workload.count_every)
            )
            for name, one in running.items()
        }
        publishing.play(soon_ns())
        time.sleep(_WARMUP_S)
        for found in _windows(watching, turns):
            yield from _ratios(found, {"CPU of a delivery": lambda one: one["cpu"]["server"] / one["deliveries"]})


def _chains(stage: Stage, programs: Mapping[str, str], turns: int) -> Ratios:
    """Ticks through normalizer and gateway to clients, each side with feed logs of its own."""
    crowd = TICKS_CROWD
    with ExitStack() as stack:
        own = stack.enter_context(topics(stage, "against"))
        told = {
            "kafka": stage.kafka,
            "topic": f"{own}.ticks.{VENUE}",
            "symbols": crowd.symbols,
            "ticks_a_second": _TICKS,
            "seconds": _seconds(turns),
            "step_ms": TICKS_STEP_MS,
        }
        sender = stack.enter_context(tool("publish_ticks", told, log=stage.log))
        common = ["--kafka", stage.kafka, "--venues", VENUE]
        running: dict[str, tuple[Child, Running]] = {}
        for name, program in programs.items():
            logs = f"{own}.{name}"
            asyncio.run(_make(stage.kafka, {f"{logs}.feed.{VENUE}": PARTITIONS, f"{logs}.dead": 1}))
            names = {
                "FEED_KAFKA__FEED_PREFIX": f"{logs}.feed.",
                "FEED_KAFKA__DEAD_TOPIC": f"{logs}.dead",
                "FEED_KAFKA__GROUP": logs,
            }
            roles = environment(own, **names, **_UNPINGED)
            port = free_port()
            normalizer = stack.enter_context(
                server([program, "normalize", *common], log=stage.log, environment=roles, pinned=False)
            )
            serving = [program, "serve", *common, "--port", str(port)]
            gateway = stack.enter_context(server(serving, log=stage.log, environment=roles, pinned=False))
            running[name] = normalizer, Running(port, gateway, "feed", {})
        sender.hear(READY_S)
        for _, one in running.values():
            wait_for_symbols(one.port, crowd.symbols, READY_S)
        expected = _TICKS * crowd.deliveries_an_update
        watching = {
            name: stack.enter_context(
                clients(stage, one, crowd.subscriptions(), expected=expected, pids={"normalizer": normalizer.pid})
            )
            for name, (normalizer, one) in running.items()
        }
        sender.say(start_ns=soon_ns())
        time.sleep(_WARMUP_S)
        figures: dict[str, Callable[[dict[str, Any]], float]] = {
            "p50 from the tick": lambda one: one["from_due"]["p50_ms"],
            "p99 from the tick": lambda one: one["from_due"]["p99_ms"],
            "CPU of the normalizer": lambda one: one["cpu"]["normalizer"],
            "CPU of the gateway": lambda one: one["cpu"]["server"],
        }
        for found in _windows(watching, turns):
            yield from _ratios(found, figures)


def _normalizers(stage: Stage, programs: Mapping[str, str], turns: int, *, bars: bool) -> Ratios:
    """CPU of a trade of a capture, each side with a feed log of its own."""
    folder = data_folder()
    if folder is None:
        stage.say("NO CAPTURED DATA: set FEED_TEST_DATA")
        return
    filled = Filled(stage.kafka, stage.fresh("captured"), "binance-usdm", "BTCUSDT")
    asyncio.run(filled.fill(trades(folder / USDM, _TRADES)))

    async def both(turn: int) -> dict[str, dict[str, Any]]:
        found = await asyncio.gather(
            *(
                measure(filled, 2 * turn + n, stage.log, bars=bars, program=program)
                for n, program in enumerate(programs.values())
            )
        )
        return dict(zip(programs, found, strict=True))

    for turn in range(turns):
        yield from _ratios(asyncio.run(both(turn)), {"CPU of a tick": lambda one: 1 / one["ticks_a_cpu_second"]})


async def _make(kafka: str, names: Mapping[str, int]) -> None:
    async with Cluster(kafka) as cluster:
        await cluster.make_topics(dict(names), {"max.message.bytes": str(16 << 20)})


_PARTS: Final[dict[str, Callable[[Stage, Mapping[str, str], int], Ratios]]] = {
    "trades": lambda stage, programs, turns: _normalizers(stage, programs, turns, bars=False),
    "trades with bars": lambda stage, programs, turns: _normalizers(stage, programs, turns, bars=True),
    "W1": lambda stage, programs, turns: _gateways(stage, programs, turns, W1),
    "W2": lambda stage, programs, turns: _gateways(stage, programs, turns, W2),
    "ticks": _chains,
}


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.against", description="What this checkout costs beside another one."
    )
    parser.add_argument("folder", type=Path, help="the other checkout, with its .venv")
    parser.add_argument("--only", default=",".join(_PARTS), help=f"some of {', '.join(_PARTS)}")
    parser.add_argument("--starts", type=int, default=4, help="how often both are started (default: 4)")
    parser.add_argument("--turns", type=int, default=4, help="windows of each start (default: 4)")
    parser.add_argument("--json", type=Path, default=ROOT / "build" / "against.json", help="where everything goes")
    arguments = parser.parse_args()
    other = arguments.folder.resolve() / ".venv" / "bin" / "feed"
    if not other.is_file():
        parser.error(f"no {other}: set that checkout up")
    only = [name for name in arguments.only.split(",") if name]
    if unknown := set(only) - set(_PARTS):
        parser.error(f"no part {', '.join(sorted(unknown))}; there are {', '.join(_PARTS)}")
    pin_this()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # topics that are new have no leader for a moment
    programs = {"base": str(other), "new": FEED}
    found: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        broker = Broker(Path(scratch) / "broker")
        try:
            scale = Scale("against", _WARMUP_S, _WINDOW_S, 1, 1)
            stage = Stage(broker.start().address, Path(scratch), scale)
            for start in range(arguments.starts):
                for part in only:
                    order = dict(reversed(programs.items())) if start % 2 else programs
                    for name, ratio in _PARTS[part](stage, order, arguments.turns):
                        found[f"{part}: {name}"].append(ratio)
                    stage.say(f"start {start + 1} of {arguments.starts}: {part}")
        except NoBroker as error:
            print(f"NO REAL KAFKA: {error}", file=sys.stderr)
            return 1
        finally:
            broker.stop()
    print(f"{'new to base':40} {'median':>7} {'from':>6} {'to':>6}  windows")
    for name, ratios in found.items():
        print(f"{name:40} {statistics.median(ratios):7.3f} {min(ratios):6.2f} {max(ratios):6.2f}  {len(ratios)}")
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
