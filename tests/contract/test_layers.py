"""Imports go down only: the map of ARCHITECTURE.md, held by import-linter as pyproject.toml says it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINT = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(cache_dir=None))"


@pytest.mark.slow
def test_imports_keep_to_the_layers() -> None:
    # a process of its own: import-linter configures logging, and that silences every logger there is
    linted = subprocess.run([sys.executable, "-c", LINT], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert linted.returncode == 0, linted.stdout + linted.stderr
