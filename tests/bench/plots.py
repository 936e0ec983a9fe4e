"""A run as plots and as a table for the documentation.

    python -m tests.bench.plots build/bench.json [FOLDER]     # plots of a run that is over (FOLDER: beside it)

Owns what is drawn of a run's JSON, and the part of `README.md` that tells a run. A part that a run did not measure is
not drawn, and of several runs at one rate the best is: the others tell about the neighbours.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from tests.bench.figures import number_text
from tests.bench.latency import CURVE
from tests.bench.svg import Axis, Bar, Line, bars, lines

Run = dict[str, Any]
_WORKLOADS: Final = ("W1", "W2")
_SERVERS: Final = ("gateway", "fastapi loop", "broadcast", "nats-server")
_NINES: Final = ((1.0, "0"), (10.0, "90"), (100.0, "99"), (1000.0, "99.9"), (10_000.0, "99.99"))
_BETWEEN: Final = re.compile(r"(<!-- run -->\n).*(<!-- /run -->)", re.DOTALL)


def plots(run: Run) -> Iterator[tuple[str, str]]:
    """(file name, SVG) of all that can be drawn of a run."""
    if groups := [group for name in _WORKLOADS if (group := _deliveries(run, name))]:
        yield "deliveries.svg", bars("Deliveries for a CPU second, at the top rate", groups)
    for name in _WORKLOADS:
        if series := list(_rates(run, name)):
            x, y = Axis("deliveries a second that were offered", log=True), Axis("p99 from due, ms", log=True)
            yield f"rates_{name}.svg", lines(f"{name}: latency over load, one core for the server", x, y, series)
    if series := list(_curves(run)):
        x, y = Axis("percentile", log=True, ticks=_NINES), Axis("ms", log=True)
        yield "latency.svg", lines("Latency, all updates of a run", x, y, series)
    for soak in run["runs"].get("soak", []):
        points = [(at * soak["every_s"], size / 2**20) for at, size in enumerate(soak["memory_bytes"])]
        title = f"Soak: memory beside {soak['clients']} clients that take a third"
        yield "soak.svg", lines(title, Axis("seconds"), Axis("MiB"), [Line("gateway", points)])


def write_plots(run: Run, folder: Path) -> None:
    """All of them, as files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in plots(run):
        (folder / name).write_text(text)


def write_readme(run: Run, readme: Path) -> None:
    """Puts the table of a run between its marks, and its plots, which lie in `plots` beside the page."""
    text = readme.read_text()
    assert _BETWEEN.search(text)
    shown = "".join(f"\n![{name.partition('.')[0]}](plots/{name})\n" for name, _ in plots(run))
    readme.write_text(_BETWEEN.sub(lambda found: f"{found[1]}{_table(run)}{shown}{found[2]}", text))


def _table(run: Run) -> str:
    machine = run["machine"]
    rows = [
        f"{run['at'][:10]}, scale `{run['scale']}`: {machine['cores']} cores of {machine['processor']}, Linux "
        f"{machine['kernel']}, CPython {machine['python']}, Kafka {machine['kafka']}. Corrected by "
        f"x{machine['slowness']:.2f}.",
        "",
        "| figure | value | target | ratio | corrected | doubt |",
        "|---|---:|---:|---:|---:|---|",
    ]
    for figure in run["figures"]:
        sign = "≤" if figure["less_is_better"] else "≥"
        target = "" if figure["target"] is None else f"{sign} {number_text(figure['target'])}"
        ratios = [_ratio(figure["ratio"]), _ratio(figure["ratio_corrected"])]
        value = f"{number_text(figure['value'])} {figure['unit']}".strip()
        rows.append(" | ".join(("| " + figure["name"], value, target, *ratios, figure["doubt"] + " |")))
    return "\n".join((*rows, ""))


def _ratio(ratio: float | None) -> str:
    return "" if ratio is None else "∞" if math.isinf(ratio) else f"{ratio:.2f}"


def _deliveries(run: Run, workload: str) -> tuple[str, list[Bar]] | None:
    own = []
    tops = run["runs"].get(f"{workload} tops", [])
    for top in tops[-1:]:
        own = [Bar(name, value, f"{value / 1e6:.2f}M") for name, value in top.items()]
    return (workload, own) if own else None


def _rates(run: Run, workload: str) -> Iterator[Line]:
    for server in _SERVERS:
        at_rate: dict[float, tuple[float, float]] = {}
        for found in run["runs"].get(f"{workload} {server}", []):
            if found["from_due"]:
                point = (found["deliveries_a_second"] / found["delivered_share"], found["from_due"]["p99_ms"])
                at_rate[found["rate"]] = min(point, at_rate.get(found["rate"], point), key=lambda one: one[1])
        if at_rate:
            yield Line(server, sorted(at_rate.values()))


def _curves(run: Run) -> Iterator[Line]:
    for name, which, of in (
        ("append, 1,000/s", "latency append", "from_append"),
        ("tick, 5,000/s", "latency tick", "from_due"),
        ("W1, half load", "W1 half", "from_due"),
    ):
        runs = [found[of] for found in run["runs"].get(which, []) if found[of]]
        if runs:
            best = min(runs, key=lambda times: float(times["p99_ms"]))
            points = [(1 / (1 - p / 100), ms) for p, ms in zip(CURVE, best["curve_ms"], strict=True) if p < 100]
            yield Line(name, points)


def main() -> None:
    """The command."""
    source = Path(sys.argv[1])
    write_plots(json.loads(source.read_text()), Path(sys.argv[2]) if len(sys.argv) > 2 else source.parent / "plots")


if __name__ == "__main__":
    main()
