"""All figures of the main job, on a real Apache Kafka: a table on the terminal, one JSON object in `build/bench.json`.

    make bench [ARGS="--quick --only W1,W2"]

Figures of a shared machine: the best of several short runs, and CPU seconds rather than seconds where that is what a
figure is about. A ratio of 1 or more reaches the target; INVALID is a run in which the load did not come through,
mostly because somebody else used the machine (`waited`: the share of time in which the server was ready to run and was
not let). DISTURBED is a latency that was taken beside others' work: it says little of the service. Nothing here passes
or fails.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

ROOT: Final = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "ops" / "kafka"))

from broker import Broker, NoBroker, kafka_version  # noqa: E402  # a tool that lies beside its own pom
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from tests.bench.captured import COINM, USDM, books, data_folder, trades  # noqa: E402
from tests.bench.delivering import DELIVERED_SHARE_MIN, LATENCY, W1, W2, deliver, idle_memory, latency  # noqa: E402
from tests.bench.machine import QUIET_CORES, BenchFailed, pin_this, wait_for_quiet  # noqa: E402
from tests.bench.normalizing import Filled, best, fill, measure  # noqa: E402


class Figure(NamedTuple):
    """One row. `target` is a lower bound, or an upper one where less is better."""

    name: str
    value: float
    unit: str
    target: float
    less_is_better: bool
    note: str
    valid: bool = True
    """Whether the workload was what it is called; without that the value says nothing about the target."""
    others_cores: float = 0.0
    """What other processes used meanwhile: times on the clock are then the machine's more than the service's."""

    @property
    def ratio(self) -> float:
        """1 or more: reached."""
        return self.target / self.value if self.less_is_better else self.value / self.target

    @property
    def verdict(self) -> str:
        """The ratio in its colour."""
        if not self.valid:
            return "[yellow]INVALID[/]"
        if self.others_cores > QUIET_CORES:
            return f"[yellow]{self.ratio:.2f} DISTURBED[/]"
        return f"[{'green' if self.ratio >= 1 else 'red'}]{self.ratio:.2f}[/]"


class Bench:
    """One run of everything that was asked for."""

    def __init__(self, kafka: str, log: Path, *, quick: bool, runs: int, patience_s: float) -> None:
        self._patience_s = patience_s
        self._kafka, self._log, self._quick, self._runs = kafka, log, quick, runs
        self.figures: list[Figure] = []
        self.details: dict[str, Any] = {}

    def trades(self) -> None:
        """Trades, with and without bars."""
        if (folder := data_folder()) is None:
            return self._no_data("trades")
        filled = fill(
            Filled(self._kafka, "trades", "binance-usdm", "BTCUSDT"),
            trades(folder / USDM, 100_000 if self._quick else 300_000),
        )
        for name, bars, target in (("trades", False, 120_000), ("trades with bars", True, 80_000)):
            found = self._best(name, "ticks_a_cpu_second", self._normalize(filled, bars=bars))
            note = f"{found['ticks']} trades in {found['cpu_s']:.2f} CPU-s"
            self._figure(f"normalize: {name}", found["ticks_a_cpu_second"], "/CPU-s", target, note)
        return None

    def books(self) -> None:
        """Book updates of 11 and of 68 levels."""
        if (folder := data_folder()) is None:
            return self._no_data("books")
        cases = (
            ("books, 11 levels", "binance-coinm", "BTCUSD_PERP", COINM, 700_000),
            ("books, 68 levels", "binance-usdm", "BTCUSDT", USDM, 1_200_000),
        )
        for name, venue, symbol, file, target in cases:
            filled = Filled(self._kafka, f"books{target}", venue, symbol)
            fill(filled, books(folder / file, 400_000 if self._quick else 1_500_000))
            found = self._best(name, "levels_a_cpu_second", self._normalize(filled, bars=True))
            a_tick = found["levels"] / found["ticks"]
            note = f"{found['ticks_a_cpu_second']:,.0f} updates/CPU-s of {a_tick:.1f} levels"
            self._figure(f"normalize: {name}", found["levels_a_cpu_second"], "levels/CPU-s", target, note)
        return None

    def deliveries(self, workload: Any, target: float) -> None:
        """Deliveries per gateway CPU second."""

        def once(run: int) -> dict[str, Any]:
            seconds = (2.0, 4.0) if self._quick else (5.0, 8.0)
            return deliver(self._kafka, workload, run, self._log, warmup_s=seconds[0], measure_s=seconds[1])

        found = self._best(workload.name, "deliveries_a_cpu_second", once, key=_delivering)
        note = (
            f"{found['deliveries_a_second'] / 1e6:.2f}M/s ({found['delivered_share']:.0%} of the load) at "
            f"{found['gateway_cpu_share']:.0%} of a core; p99 {(found['from_append'] or {}).get('p99_ms', 0):.0f} ms; "
            f"waited {found['waited']['gateway']:.0%}; clients {found['client_cpu_share']:.0%}, others "
            f"{found['others_cores']:.1f} cores"
        )
        valid = found["delivered_share"] >= DELIVERED_SHARE_MIN
        self._figure(f"gateway: {workload.name}", found["deliveries_a_cpu_second"], "/CPU-s", target, note, valid=valid)

    def latency(self) -> None:
        """From tick to client."""

        def once(run: int) -> dict[str, Any]:
            seconds = (1.0, 4.0) if self._quick else (3.0, 10.0)
            return latency(self._kafka, LATENCY, run, self._log, warmup_s=seconds[0], measure_s=seconds[1])

        found = self._best("latency", "from_due", once, key=_latency)
        note = (
            f"normalizer {found['normalizer_cpu_share']:.0%}, gateway {found['gateway_cpu_share']:.0%}, clients "
            f"{found['client_cpu_share']:.0%} of a core, others {found['others_cores']:.1f} cores; waited: normalizer "
            f"{found['waited']['normalizer']:.0%}, gateway {found['waited']['gateway']:.0%}"
        )
        valid, others = found["delivered_share"] >= DELIVERED_SHARE_MIN, found["others_cores"]
        times = found["from_due"]
        self._figure(
            "tick to client: p50", times["p50_ms"], "ms", 5, note, less_is_better=True, valid=valid, others=others
        )
        note = (
            f"p99.9 {times['p99.9_ms']:.1f}, max {times['max_ms']:.1f} ms; from the send itself p99 "
            f"{found['from_append']['p99_ms']:.1f}; publisher at most {found['publisher']['late_ms']:.0f} ms late"
        )
        self._figure(
            "tick to client: p99", times["p99_ms"], "ms", 25, note, less_is_better=True, valid=valid, others=others
        )

    def memory(self) -> None:
        """Of an idle connection."""
        found = idle_memory(self._kafka, self._log, connections=500 if self._quick else 1500)
        self.details["memory"] = found
        note = f"{found['subscribed_kib']:.1f} KiB with ten symbols"
        self._figure("memory of a connection", found["idle_kib"], "KiB", 40, note, less_is_better=True)

    def _normalize(self, filled: Filled, *, bars: bool) -> Callable[[int], dict[str, Any]]:
        return lambda run: asyncio.run(measure(filled, run, self._log, bars=bars))

    def _best(
        self, name: str, by: str, once: Callable[[int], dict[str, Any]], key: Callable[[Any], Any] | None = None
    ) -> dict[str, Any]:
        runs = []
        for run in range(self._runs):
            others = wait_for_quiet(self._patience_s)
            began = time.monotonic()
            runs.append({**once(run), "others_cores_before": others})
            shown = runs[-1][by]
            share = f", {runs[-1]['delivered_share']:.0%} of the load" if "delivered_share" in runs[-1] else ""
            took = f"{time.monotonic() - began:.0f} s, others used {others:.1f} cores before"
            say(f"{name} {run + 1}/{self._runs}: {shown}{share} ({took})")
        self.details[name] = runs
        return max(runs, key=key) if key else best(runs, by)

    def _figure(
        self,
        name: str,
        value: float,
        unit: str,
        target: float,
        note: str,
        *,
        less_is_better: bool = False,
        valid: bool = True,
        others: float = 0.0,
    ) -> None:
        self.figures.append(Figure(name, value, unit, target, less_is_better, note, valid, others))

    def _no_data(self, name: str) -> None:
        say(f"NO CAPTURED DATA: {name} not measured; set FEED_TEST_DATA")


def _delivering(run: dict[str, Any]) -> tuple[float, float]:
    """Runs that carried the load first, among them the cheapest; of the others the one that carried most."""
    share = float(run["delivered_share"])
    return (1.0, run["deliveries_a_cpu_second"]) if share >= DELIVERED_SHARE_MIN else (share, 0.0)


def _latency(run: dict[str, Any]) -> tuple[bool, float]:
    return run["delivered_share"] >= DELIVERED_SHARE_MIN, -run["from_due"]["p99_ms"]


def say(text: str) -> None:
    """A line for whoever waits."""
    print(text, file=sys.stderr, flush=True)


def table(figures: list[Figure]) -> Table:
    """The figures with their targets."""
    made = Table(title="bench")
    for name, right in (("figure", False), ("value", True), ("target", True), ("ratio", True), ("", False)):
        made.add_column(name, justify="right" if right else "left")
    for figure in figures:
        sign = "≤" if figure.less_is_better else "≥"
        made.add_row(
            figure.name,
            f"{_number(figure.value)} {figure.unit}",
            f"{sign} {_number(figure.target)}",
            figure.verdict,
            figure.note,
        )
    return made


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.1f}"


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="make bench", description="Figures of the main job on a real Apache Kafka.")
    parser.add_argument("--quick", action="store_true", help="one short run of each, to see that it works")
    parser.add_argument("--runs", type=int, help="runs of each, of which the best counts (default: 3, quick: 1)")
    parser.add_argument("--only", default="", help="some of trades,books,W1,W2,latency,memory")
    parser.add_argument("--patience", type=float, default=20, help="seconds to wait for a quiet machine, each run")
    parser.add_argument("--kafka", help="HOST:PORT of a broker to use; topics are made and left there")
    parser.add_argument("--json", type=Path, default=ROOT / "build" / "bench.json", help="where the figures go")
    arguments = parser.parse_args()
    pin_this()
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        folder = Path(scratch)
        broker = None if arguments.kafka else Broker(folder / "broker")
        try:
            kafka = arguments.kafka or broker.start().address  # type: ignore[union-attr]  # there is one of both
            runs = arguments.runs or (1 if arguments.quick else 3)
            bench = Bench(kafka, folder / "log", quick=arguments.quick, runs=runs, patience_s=arguments.patience)
            _run(bench, set(filter(None, arguments.only.split(","))))
        except NoBroker as error:
            say(f"NO REAL KAFKA: {error}")
            return 1
        finally:
            if broker is not None:
                broker.stop()
    Console(width=None if sys.stdout.isatty() else 160).print(table(bench.figures))
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    figures = [{**figure._asdict(), "ratio": round(figure.ratio, 3)} for figure in bench.figures]
    machine = {
        "cores": os.cpu_count(),
        "load": os.getloadavg(),
        "python": platform.python_version(),
        "kafka": kafka_version(),
    }
    arguments.json.write_text(
        json.dumps({"at": time.time(), "machine": machine, "figures": figures, "runs": bench.details}, indent=1)
    )
    say(f"wrote {arguments.json}")
    return 0


def _run(bench: Bench, only: set[str]) -> None:
    parts: dict[str, Callable[[], None]] = {
        "trades": bench.trades,
        "books": bench.books,
        "W1": lambda: bench.deliveries(W1, 4e6),
        "W2": lambda: bench.deliveries(W2, 1e6),
        "latency": bench.latency,
        "memory": bench.memory,
    }
    for name, part in parts.items():
        if only and name not in only:
            continue
        try:
            part()
        except BenchFailed as error:
            say(f"{name}: NO FIGURE: {error}")


if __name__ == "__main__":
    sys.exit(main())
