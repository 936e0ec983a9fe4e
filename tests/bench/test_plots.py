"""Plots are well-formed SVG with what a run has, and nothing where it has nothing; the table goes between its marks."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from tests.bench.latency import histogram_of, told
from tests.bench.plots import plots, write_readme
from tests.bench.svg import Axis, Bar, Line, bars, lines

SVG = "{http://www.w3.org/2000/svg}"


def run(runs: dict[str, Any]) -> dict[str, Any]:
    machine = {"cores": 2, "processor": "p", "kernel": "k", "python": "3.11", "kafka": "4", "slowness": 2.0}
    figure = {
        "name": "memory", "unit": "KiB", "target": 24, "less_is_better": True, "value": 12.0,
        "ratio": 2.0, "ratio_corrected": None, "doubt": "",
    }  # fmt: skip
    return {"at": "2026-11-26T00:00:00Z", "scale": "full", "machine": machine, "figures": [figure], "runs": runs}


def tried(rate: float, ms: float) -> dict[str, Any]:
    times = told(histogram_of([int(ms * 1e6)] * 10))
    return {"rate": rate, "deliveries_a_second": 40 * rate, "delivered_share": 1.0, "from_due": times}


def test_a_run_is_drawn_as_far_as_it_measured() -> None:
    assert list(plots(run({}))) == []
    seen = {
        "W1 gateway": [tried(100, 5), tried(200, 50), tried(200, 20)],
        "W1 half": [tried(100, 5)],
        "W1 tops": [{"gateway": 4e6, "C program": 9e6}],
        "soak": [{"memory_bytes": [1 << 26] * 60, "every_s": 1.0, "clients": 20}],
    }
    made = dict(plots(run(seen)))
    assert set(made) == {"deliveries.svg", "rates_W1.svg", "latency.svg", "soak.svg"}
    for text in made.values():
        assert ET.fromstring(text).tag == f"{SVG}svg"


def test_of_several_runs_at_one_rate_the_best_is_drawn() -> None:
    drawn = dict(plots(run({"W1 gateway": [tried(200, 50), tried(200, 20)]})))["rates_W1.svg"]
    assert len(ET.fromstring(drawn).findall(f"{SVG}circle")) == 1


def test_bars_are_as_long_as_their_values() -> None:
    drawn = ET.fromstring(bars("t", [("W1", [Bar("a", 4, "4"), Bar("b", 1, "1 < 2")])]))
    long, short = (float(rect.attrib["width"]) for rect in drawn.findall(f"{SVG}rect")[1:])
    assert long == 4 * short


def test_higher_values_are_drawn_higher_on_both_kinds_of_axes() -> None:
    for log in (False, True):
        points = [(1.0, 10.0), (2.0, 100.0), (3.0, 1000.0)]
        drawn = ET.fromstring(lines("t", Axis("x"), Axis("y", log=log), [Line("a", points)]))
        heights = [float(circle.attrib["cy"]) for circle in drawn.findall(f"{SVG}circle")]
        assert heights == sorted(heights, reverse=True)


def test_the_table_of_a_run_replaces_the_one_before(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- run -->\nold\n<!-- /run -->\nafter\n")
    write_readme(run({}), readme)
    text = readme.read_text()
    assert text.startswith("before\n<!-- run -->\n2026-11-26, scale `full`: 2 cores of p")
    assert "| memory | 12.0 KiB | ≤ 24.0 | 2.00 |  |  |\n<!-- /run -->\nafter\n" in text
    assert "old" not in text
    write_readme(run({"W1 tops": [{"gateway": 4e6}]}), readme)
    assert " |  |  |\n\n![deliveries](plots/deliveries.svg)\n<!-- /run -->\nafter\n" in readme.read_text()
