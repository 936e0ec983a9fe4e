"""Each module of the core has a test module of its own that covers it: a reader finds there what it does."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.contract.own_coverage import ROOT, modules, own_tests

pytestmark = pytest.mark.slow

PERCENT = 90
"""Of statements and branches, by the module's own tests alone."""


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """By module: its test module, and how much of it that covers."""
    out = tmp_path_factory.mktemp("coverage") / "found.json"
    # a process of its own: it has to see the modules being imported
    command = [sys.executable, str(Path(__file__).with_name("own_coverage.py")), "--json", str(out)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    found: dict[str, Any] = json.loads(out.read_text())
    return found


@pytest.mark.parametrize("module", modules())
def test_a_module_is_covered_by_its_own_tests(module: str, measured: dict[str, Any]) -> None:
    found = measured[module]
    if found["percent"] == 100:
        return  # also one that only declares, and needs no tests
    assert found["tests"] is not None, f"there is no {own_tests(module)}"
    where = f"lines {found['lines']}, branches {found['branches']}"
    assert found["percent"] >= PERCENT, f"{own_tests(module)} does not reach {where}"
