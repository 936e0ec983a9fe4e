"""The HTTP routes keep to their own OpenAPI description, whatever they are asked."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from feed.runtime.settings import ServeSettings
from tests.feed.recorder.made_up import MadeUp
from tests.feed.recorder.tape import Tape
from tests.gateways import Running
from tests.market import Market

ST = Path(sys.executable).with_name("st")

# what no schema can say: an end before its start, the 31st of February; which venues are followed
CONFIG = """
[[operations]]
include-name = "GET /v1/history"
checks.positive_data_acceptance.expected-statuses = [200, 400, 404]

[[operations]]
include-name = "GET /v1/health"
checks.positive_data_acceptance.expected-statuses = [200, 400, 503]
"""


@pytest.mark.slow
@pytest.mark.skipif(not ST.exists() and shutil.which("st") is None, reason="NO SCHEMATHESIS: install the extra `dev`")
def test_schemathesis_finds_nothing(tmp_path: Path) -> None:
    log = MadeUp("toy/0", ["TOY:A", "TOY:B"], random.Random(1))
    log.grow(100)
    log.record()
    tape = Tape(tmp_path / "recordings", [log.log])
    tape.play()
    tape.end()
    settings = ServeSettings(port=0, kafka_silence_ms_max=600_000)
    with Running(settings, recordings=tmp_path / "recordings") as running:
        Market(running).open()
        (tmp_path / "schemathesis.toml").write_text(CONFIG)
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
