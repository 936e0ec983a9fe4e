"""The command line as a person meets it: help, exit codes, where words and data go."""

from __future__ import annotations

import importlib.metadata
import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

FEED = [sys.executable, "-c", "from feed.cli import main; main()"]
REPLAY = [sys.executable, "-c", "from replay.cli import main; main()"]


def _run(*command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.slow
@pytest.mark.parametrize("command", [FEED, REPLAY])
def test_the_version_is_that_of_the_package(command: list[str], tmp_path: Path) -> None:
    shown = _run(*command, "--version", cwd=tmp_path)
    assert (shown.returncode, shown.stdout) == (0, f"{importlib.metadata.version('market-feed')}\n")


@pytest.mark.slow
@pytest.mark.parametrize("command", [FEED, REPLAY])
def test_help_names_the_commands_and_brings_no_server(command: list[str], tmp_path: Path) -> None:
    shown = _run(*command, "--help", cwd=tmp_path)
    assert shown.returncode == 0
    assert "Commands" in shown.stdout
    probe = (
        "import sys; from feed.cli import app; import replay.cli;"
        "heavy = {'fastapi', 'uvicorn', 'pydantic', 'aiokafka', 'pyarrow', 'confluent_kafka', 'websockets'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    assert _run(sys.executable, "-c", probe, cwd=tmp_path).stdout == "[]\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        ([*FEED, "tail"], 2, "CHANNEL"),
        ([*FEED, "demo", "--seconds", "0"], 2, "found 0 seconds, wanted more than 0"),
        ([*FEED, "no-such-command"], 2, "no-such-command"),
        ([*FEED, "tail", "prices", "*"], 2, "channel 'prices' is none of"),
        ([*FEED, "tail", "trades", "*", "--url", "nonsense"], 2, "no address of a stream"),
        ([*FEED, "tail", "trades", "*", "--from", "1795973660"], 2, "looks like seconds"),
        ([*FEED, "serve", "--kafka", "nowhere"], 2, "kafka.bootstrap (flag)"),
        ([*REPLAY, "publish", "none.gz", "--venue", "kraken"], 2, "no such file none.gz"),
        ([*REPLAY, "publish", "none.gz", "--venue", "kra/ken"], 2, "'kra/ken' cannot be a venue"),
        ([*REPLAY, "publish", "none.gz", "--venue", "kraken", "--speed", "fast"], 2, "speed 'fast'"),
    ],
)
def test_wrong_usage_ends_with_2_and_says_why(command: list[str], code: int, said: str, tmp_path: Path) -> None:
    ended = _run(*command, cwd=tmp_path)
    assert (ended.returncode, ended.stdout) == (code, "")
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.fixture
def nobody() -> str:
    """An address where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


@pytest.mark.slow
@pytest.mark.parametrize("command", ["tail", "up", "normalize", "serve"])
def test_nobody_there_ends_with_3(command: str, nobody: str, tmp_path: Path) -> None:
    more = ["trades", "*", "--url", f"ws://{nobody}/v1/stream"] if command == "tail" else ["--kafka", nobody]
    ended = _run(*FEED, command, *more, cwd=tmp_path)
    assert (ended.returncode, ended.stdout) == (3, "")
    assert nobody in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.slow
def test_config_shows_values_with_their_origin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEED_SERVE__PORT", "9000")
    (tmp_path / "feed.toml").write_text("[kafka]\npartitions = 2\n")
    shown = json.loads(_run(*FEED, "config", "show", "--json", cwd=tmp_path).stdout)
    assert shown["serve.port"] == {"value": 9000, "origin": "environment FEED_SERVE__PORT"}
    assert shown["kafka.partitions"] == {"value": 2, "origin": "feed.toml"}
    assert shown["kafka.group"]["origin"] == "default"
    assert "serve.port" in _run(*FEED, "config", "show", cwd=tmp_path).stdout


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_behind_the_output_is_one_line(tmp_path: Path) -> None:
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        command = [*FEED, "config", "show"]
        ended = subprocess.run(
            command, cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False
        )
    assert (ended.returncode, ended.stderr) == (1, "error: No space left on device\n")


def test_config_writes_a_file_that_it_then_finds_good(tmp_path: Path) -> None:
    assert _run(*FEED, "config", "init", cwd=tmp_path).returncode == 0
    assert _run(*FEED, "config", "check", cwd=tmp_path).returncode == 0
    written = (tmp_path / "feed.toml").read_text()
    (tmp_path / "feed.toml").write_text(
        "\n".join(
            line.removeprefix("# ") if " = " in line or line.startswith("# [") else line
            for line in written.splitlines()
        )
    )
    assert _run(*FEED, "config", "check", cwd=tmp_path).returncode == 0
    again = _run(*FEED, "config", "init", cwd=tmp_path)
    assert again.returncode == 2
    assert "is there already" in again.stderr


@pytest.mark.slow
def test_config_check_says_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "feed.toml").write_text("[serve]\nprot = 1\n")
    ended = _run(*FEED, "config", "check", cwd=tmp_path)
    assert ended.returncode == 2
    assert "did you mean serve.port?" in ended.stderr


@pytest.mark.slow
def test_a_mapping_is_proposed_and_checked(tmp_path: Path) -> None:
    (tmp_path / "desk.jsonl").write_text('{"type":"trade","symbol":"A","price":1.5,"size":2}\n{"type":"trade"}\n')
    proposed = _run(*FEED, "map", "init", "desk.jsonl", cwd=tmp_path)
    assert (proposed.returncode, proposed.stderr) == (0, "")
    (tmp_path / "desk.toml").write_text(proposed.stdout)
    checked = _run(*FEED, "map", "check", "desk.toml", "desk.jsonl", cwd=tmp_path)
    assert checked.returncode == 1
    trade, refused = checked.stdout.splitlines()
    assert trade.startswith('1: trades DESK:A [{"price":"1.5","size":"2"')
    assert refused == "2: refused: record without a symbol, wanted one where the mapping says"
    assert checked.stderr == "2 records, 1 of them refused, at least in part\n"
    missing = _run(*FEED, "map", "check", "none.toml", "desk.jsonl", cwd=tmp_path)
    assert (missing.returncode, "mapping none.toml cannot be read" in missing.stderr) == (2, True)
