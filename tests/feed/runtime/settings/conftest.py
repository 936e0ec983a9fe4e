"""What tests of the settings have in common: a folder without a settings file, and no variables of ours."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in os.environ:
        if name.startswith("FEED_") and "__" in name:
            monkeypatch.delenv(name)
