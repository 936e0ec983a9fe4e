"""The README, run as it stands: its clients against a demo, its commands in a shell, its Python in an interpreter."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

import replay
from tests.browser.chromium import EXECUTABLE, Chromium
from tests.conftest import ROOT
from tests.integration.commands import FEED, running

pytestmark = pytest.mark.slow

TEXT: Final = (ROOT / "README.md").read_text("utf-8")
SECTION: Final = TEXT.partition("## Record, and look at it")[2].partition("\n## ")[0]
BLOCKS: Final = re.findall(r"```(\w+)\n(.*?)```", SECTION, re.DOTALL)
QUOTES: Final = dict(re.findall(r"<!-- quotes -->\n```(\w+)\n(.*?)```", TEXT, re.DOTALL))
A_TIME: Final = "2026-11-20T14:30:00Z"
A_QUOTE: Final = r"^[A-Z]+:\S+ \d+(\.\d+)? \d+(\.\d+)?$"


@contextmanager
def quotes_of_a_demo(language: str) -> Iterator[tuple[str, str]]:
    """The first program of the README in that language, for a demo that runs at a port of its own; and its address."""
    with running(*FEED, "demo", "--port", "0", cwd=ROOT) as demo:
        address = demo.said(r"http://(127\.0\.0\.1:\d+)")[1]
        assert "127.0.0.1:8000" in QUOTES[language]
        yield QUOTES[language].replace("127.0.0.1:8000", address), address


def lines(word: str) -> list[str]:
    """The commands that contain a word, without what is said about them."""
    return [
        line.partition("  #")[0] for kind, text in BLOCKS if kind == "sh" for line in text.splitlines() if word in line
    ]


def python(word: str) -> str:
    """The Python that contains a word."""
    (found,) = [text for kind, text in BLOCKS if kind == "python" and word in text]
    return found


def run(command: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """What it says; it must end well."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PATH": path, **environment},
    )
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where `feed demo` has recorded."""
    found = tmp_path_factory.mktemp("quant")
    (demo,) = lines("feed demo")
    said = run(demo.replace("--seconds 60", "--seconds 3 --port 0"), found).stderr
    updates = re.search(r"became ([\d,]+) updates", said)
    assert updates is not None
    assert run("replay info recordings", found).stdout.startswith(f"recordings: {updates[1]} updates of ")
    return found


def test_ten_lines_of_python_print_quotes(tmp_path: Path) -> None:
    assert len(QUOTES["python"].splitlines()) <= 10
    with quotes_of_a_demo("python") as (program, _), running(sys.executable, "-c", program, cwd=tmp_path) as client:
        for _ in range(3):
            client.said(A_QUOTE, lines=client.out)


@pytest.mark.browser
@pytest.mark.skipif(not EXECUTABLE, reason="NO BROWSER: install Debian's chromium, or set FEED_TEST_CHROMIUM")
def test_ten_lines_of_javascript_print_quotes_on_the_page_of_the_board(tmp_path: Path) -> None:
    assert len(QUOTES["js"].splitlines()) <= 10
    with quotes_of_a_demo("js") as (program, address), Chromium(tmp_path) as chromium:
        page = chromium.page()
        page.open(f"http://{address}/")
        page.wait_for("document.getElementById('badge')?.textContent === 'live'")
        page.evaluate(f"window.said = []; console.log = (...all) => window.said.push(all.join(' ')); {program}; 0")
        page.wait_for("window.said.length >= 3")
        assert [line for line in page.evaluate("window.said") if not re.match(A_QUOTE, line)] == []
        assert page.problems() == []


def test_the_commands_do_what_is_said(folder: Path) -> None:
    (verify,), (info,), (show,) = lines("verify"), lines("replay info"), lines("replay print")
    assert "every batch is whole, in order, unbroken" in run(verify, folder).stderr
    assert "gaps: none" in run(info, folder).stdout
    trades = run(show, folder).stdout.splitlines()
    assert trades
    assert all('"channel":"trades","symbol":"KRAKEN:' in line for line in trades)
    exports = lines("replay export")
    assert len(exports) == 2
    for export in exports:
        run(export, folder)
        assert (folder / export.rpartition("--to ")[2].split()[0]).stat().st_size


def test_the_python_does_what_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    shutil.copytree("recordings", "recordings-of-another-host")
    recording = replay.open("recordings")
    names: dict[str, Any] = {}
    exec(python("replay.open").replace(A_TIME, recording.info().last), names)
    trades = recording.trades("COINBASE:BTC-USD").to_pylist()
    assert len(names["frame"]) == recording.trades("KRAKEN:*").num_rows > 0
    assert sum(names["volume"]["size"].to_list()) == sum(row["size"] for row in trades) > 0
    assert names["last"].fetchall() == [("COINBASE:BTC-USD", max(row["price"] for row in trades))]
    exact = sum(row["price"] * row["size"] for row in trades)
    assert names["notional"].item() == pytest.approx(float(exact))
    assert names["best_bid"][0] < names["best_ask"][0]
    assert names["message"].startswith(b'{"type":"update","channel":"trades"')
    exec(python("scan_ipc"), names)
    found = dict(names["counts"].collect().iter_rows())
    assert found == Counter(recording.trades().column("symbol").to_pylist())


def test_a_client_that_knows_only_the_url_plays_it(folder: Path) -> None:
    (serve,) = lines("replay serve")
    program = python("/v1/replay")
    command = f"exec {Path(sys.executable).parent}/{serve.replace('8001', '0')}"
    with running("bash", "-c", command, cwd=folder) as server:
        port = server.said(r"replay  ws://127.0.0.1:(\d+)/v1/replay")[1]
        assert "127.0.0.1:8001" in program
        with running(sys.executable, "-c", program.replace("8001", port), cwd=folder) as client:
            for wanted in ("'state': 'ready'", "'type': 'update', 'channel': 'trades'", "'state': 'ended'"):
                client.said(wanted, lines=client.out)
        assert server.end() == 0


def test_what_was_repaired_is_whole(folder: Path, tmp_path: Path) -> None:
    run(f"cp -r {folder}/recordings .", tmp_path)
    (file,) = (tmp_path / "recordings" / "trades").rglob("*.arrow")
    os.truncate(file, file.stat().st_size - 100)
    (repair,) = lines("replay repair")
    assert "1 files were damaged" in run(repair, tmp_path).stderr
    assert file.with_name(f"{file.name}.damaged").exists()
    assert "unbroken" in run("replay verify recordings", tmp_path).stderr


def test_it_is_published(folder: Path, kafka: str, fresh: Callable[[str], str]) -> None:
    (publish,) = lines("replay publish")
    prefix = f"{fresh('feed')}."
    done = run(publish.replace("HOST:PORT", kafka), folder, FEED_KAFKA__FEED_PREFIX=prefix)
    assert re.search(r"published [\d,]+ messages", done.stderr)
