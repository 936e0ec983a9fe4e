"""The alerts as Prometheus' own tool sees them: the rules can be read, and fire where they must and only there."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest
import yaml

from tests.contract.test_alerts import of_dashboard

FOLDER: Final = Path(__file__).resolve().parents[2] / "ops" / "prometheus"
PROMTOOL: Final = shutil.which("promtool")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(PROMTOOL is None, reason="NO PROMTOOL: nobody tried the alerts; install Debian's prometheus"),
]


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    assert PROMTOOL is not None
    command = [PROMTOOL, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize(("kind", "file"), [("rules", "alerts.yaml"), ("config", "prometheus.yaml")])
def test_they_can_be_read(kind: str, file: str) -> None:
    done = promtool("check", kind, FOLDER / file)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SUCCESS" in done.stdout


def test_each_alert_fires_where_it_must_and_not_where_it_must_not() -> None:
    done = promtool("test", "rules", FOLDER / "alerts_test.yaml")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("right", "wrong", "told"),
    [
        ('state="stalled"}) == 1\n        for: 30s', 'state="ok"}) == 1\n        for: 30s', "FeedSourceStalled"),
        ("unless feed_dead_letters_total offset 10m", "unless feed_dead_letters_total", "FeedDeadLetters"),
        ("min by (job, instance) (feed_record_ok) == 0", "feed_record_ok < 2", "FeedRecorderPaused"),
        ("max(feed_ready) == 0", "min(feed_ready) == 0", "FeedKafkaUnreachable"),
    ],
)
def test_the_cases_see_a_rule_that_is_wrong(right: str, wrong: str, told: str, tmp_path: Path) -> None:
    text = (FOLDER / "alerts.yaml").read_text("utf-8")
    assert right in text
    (tmp_path / "alerts.yaml").write_text(text.replace(right, wrong, 1))
    shutil.copy(FOLDER / "alerts_test.yaml", tmp_path)
    done = promtool("test", "rules", tmp_path / "alerts_test.yaml")
    assert done.returncode != 0
    assert told in done.stdout + done.stderr


def test_what_the_dashboard_asks_can_be_asked(tmp_path: Path) -> None:
    asked = [re.sub(r"\$__rate_interval", "5m", one) for one in of_dashboard().values()]
    rules = [{"record": f"panel:{number}", "expr": one} for number, one in enumerate(asked)]
    (tmp_path / "rules.yaml").write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))
    done = promtool("check", "rules", tmp_path / "rules.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(asked)} rules found" in done.stdout


def test_the_operators_object_has_the_same_rules(tmp_path: Path) -> None:
    text = (FOLDER.parent / "README.md").read_text("utf-8")
    [block] = [one for one in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) if "PrometheusRule" in one]
    (tmp_path / "kubectl").write_text("#!/bin/sh\nexec cat\n")
    (tmp_path / "kubectl").chmod(0o755)
    env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["sh", "-c", block], cwd=FOLDER.parents[1], env=env, capture_output=True, text=True, check=True
    )
    made = yaml.safe_load(done.stdout)
    assert made["kind"] == "PrometheusRule"
    assert made["spec"] == yaml.safe_load((FOLDER / "alerts.yaml").read_text("utf-8"))
