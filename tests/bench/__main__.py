"""The benchmark: a table on the terminal, one JSON object a run, plots.

    make bench [ARGS="--quick --only W1,W2"]

Figures are those of a shared machine: CPU seconds rather than seconds where that is what a figure is about, and the
best of a few short runs. A ratio of 1 or more reaches the target. INVALID is a run in which the load did not come
through, DISTURBED one beside others' work. Nothing here passes or fails. What is measured and how: `README.md`.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any, Final

HERE: Final = Path(__file__).resolve().parent
ROOT: Final = HERE.parents[1]
sys.path.insert(0, str(ROOT / "ops" / "kafka"))

from broker import Broker, NoBroker, kafka_version  # noqa: E402  # a tool that lies beside its own pom
from rich.console import Console  # noqa: E402

from tests.bench import yardstick  # noqa: E402
from tests.bench.figures import Result, table  # noqa: E402
from tests.bench.machine import BenchFailed, pin_this, set_nice  # noqa: E402
from tests.bench.parts import PARTS  # noqa: E402
from tests.bench.plots import write_plots, write_readme  # noqa: E402
from tests.bench.stage import FULL, QUICK, Stage  # noqa: E402


def run(stage: Stage, only: set[str]) -> list[Result]:
    """Measures all parts, or those that are named; one that fails costs only what it had still to tell.

    The yardstick is always among them: without it no figure can be read.
    """
    results: list[Result] = []
    for part in PARTS:
        if only and part.name not in only and part is not yardstick.PART:
            continue
        began = time.monotonic()
        stage.say(f"— {part.name}: {part.about}")
        try:
            for result in part.measure(stage):
                results.append(result)
        except BenchFailed as error:
            stage.say(f"{part.name}: NO FIGURE: {error}")
        except Exception:  # a mistake of one part must not cost the figures of the others
            traceback.print_exc()
            stage.say(f"{part.name}: NO FIGURE")
        stage.say(f"  {part.name} took {time.monotonic() - began:.0f} s")
    return results


def as_json(stage: Stage, results: list[Result]) -> dict[str, Any]:
    """All of a run."""
    figures = [
        {
            **result.figure._asdict(),
            "value": result.value,
            "note": result.note,
            "doubt": result.doubt,
            "others_cores": result.others_cores,
            "ratio": result.ratio,
            "ratio_corrected": result.corrected(stage.slowness),
        }
        for result in results
    ]
    machine = {
        "cores": os.cpu_count(),
        "processor": _processor(),
        "load": os.getloadavg(),
        "nice": os.nice(0),
        "python": platform.python_version(),
        "kernel": platform.release(),
        "kafka": kafka_version(),
        "slowness": stage.slowness,
    }
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return {"at": at, "scale": stage.scale.name, "machine": machine, "figures": figures, "runs": stage.details}


def _processor() -> str:
    found = [line.partition(":")[2] for line in _lines(Path("/proc/cpuinfo")) if line.startswith("model name")]
    return found[0].strip() if found else platform.processor()


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.is_file() else []


def main() -> int:
    """The command."""
    names = ", ".join(part.name for part in PARTS)
    parser = argparse.ArgumentParser(prog="make bench", description="Figures of the service on a real Apache Kafka.")
    parser.add_argument("--quick", action="store_true", help="short runs and few of them, to see that it works")
    parser.add_argument("--only", default="", help=f"some of {names}")
    parser.add_argument("--soak", type=float, default=1, help="minutes of the soak (default: 1, quick: a sixth)")
    parser.add_argument(
        "--patience", type=float, default=120, help="seconds in all to wait for a quiet machine and to repeat"
    )
    parser.add_argument("--nats", default="", help="the nats-server to compare with (default: that of the search path)")
    parser.add_argument("--kafka", help="HOST:PORT of a broker to use instead of one that is started")
    parser.add_argument("--nice", type=int, default=0, help="niceness of all of it; below 0 needs the right to it")
    parser.add_argument("--publish", action="store_true", help="put table and plots into the documentation beside this")
    parser.add_argument("--json", type=Path, default=ROOT / "build" / "bench.json", help="where everything goes")
    arguments = parser.parse_args()
    only = set(filter(None, arguments.only.split(",")))
    if unknown := only - {part.name for part in PARTS}:
        parser.error(f"no part {', '.join(sorted(unknown))}; there are {names}")
    pin_this()
    set_nice(arguments.nice)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # nothing is left behind
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # topics that are new have no leader for a moment
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        folder = Path(scratch)
        broker = None if arguments.kafka else Broker(folder / "broker")
        try:
            kafka = arguments.kafka or broker.start().address  # type: ignore[union-attr]  # there is one of both
            stage = Stage(
                kafka,
                folder,
                QUICK if arguments.quick else FULL,
                patience_s=arguments.patience / (6 if arguments.quick else 1),
                soak_s=arguments.soak * (10 if arguments.quick else 60),
                nats=arguments.nats,
            )
            results = run(stage, only)
        except NoBroker as error:
            print(f"NO REAL KAFKA: {error}", file=sys.stderr)
            return 1
        finally:
            if broker is not None:
                broker.stop()
    Console(width=None if sys.stdout.isatty() else 200).print(table(results, stage.slowness))
    found = as_json(stage, results)
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(found, indent=1))
    write_plots(found, arguments.json.parent / "plots")
    if arguments.publish:
        write_plots(found, HERE / "plots")
        write_readme(found, HERE / "README.md")
    stage.say(f"wrote {arguments.json} and {arguments.json.parent / 'plots'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
