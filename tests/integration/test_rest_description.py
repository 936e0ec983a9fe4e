"""The HTTP routes keep to their own OpenAPI description, whatever they are asked."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from feed.gateway.limits import GatewaySettings
from tests.gateways import Running
from tests.market import Market

ST = Path(sys.executable).with_name("st")


@pytest.mark.slow
@pytest.mark.skipif(not ST.exists() and shutil.which("st") is None, reason="NO SCHEMATHESIS: install the extra `dev`")
def test_schemathesis_finds_nothing(tmp_path: Path) -> None:
    with Running(GatewaySettings(port=0, kafka_silence_ms_max=600_000)) as running:
        Market(running).open()
        command = [
            str(ST) if ST.exists() else "st",
            "run",
            f"http://127.0.0.1:{running.port}/openapi.json",
            "--checks=all",
            "--max-examples=30",
            "--no-color",
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stdout
