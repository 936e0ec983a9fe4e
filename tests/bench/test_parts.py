"""Every part of the benchmark does what it says, at its smallest: the figures mean nothing then, but all are there."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.bench.contenders.servers import NATS
from tests.bench.figures import Part
from tests.bench.machine import BenchFailed
from tests.bench.parts import PARTS
from tests.bench.stage import SMALLEST, Stage

_SAME = {"W2": "W1", "books": "trades", "stalled": "soak", "idle": "storm"}
"""Parts that are another one's code with other numbers."""


@pytest.mark.slow
@pytest.mark.parametrize("part", [part for part in PARTS if part.name not in _SAME], ids=lambda part: part.name)
def test_a_part_measures_all_of_its_figures(part: Part, kafka: str, data_dir: Path, tmp_path: Path) -> None:
    stage = Stage(kafka, tmp_path, SMALLEST, soak_s=1.0)
    try:
        found = [result.figure for result in part.measure(stage)]
    except BenchFailed as error:
        if part.name != "views" or "NO VIEWS" not in str(error):
            raise
        pytest.skip(str(error))
    absent = set()
    if shutil.which("nats-server") is None:
        absent |= {figure for figure in part.figures if NATS.name in figure.name}
    if shutil.which("cc") is None:
        absent |= {figure for figure in part.figures if "C program" in figure.name}
    assert set(found) == set(part.figures) - absent
    assert len(found) == len(set(found))
