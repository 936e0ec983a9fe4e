"""How far long work is: lines now and then where nobody watches, a bar where somebody does."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from types import SimpleNamespace

import pytest

from replay import progress
from replay.progress import counted, told

Told = Callable[[], AbstractContextManager[Callable[[int], None]]]
BOTH = pytest.mark.parametrize(
    ("begin", "words"),
    [
        (lambda: told("checksums", 8 << 20), "checksums: 6 of 8 MiB, 1.0 MiB/s, 2 s left"),
        (lambda: counted("to x.csv", "rows"), f"to x.csv: {6 << 20:,} rows, {1 << 20:,}/s"),
    ],
    ids=["bytes", "rows"],
)


@BOTH
def test_elsewhere_it_is_a_line_every_five_seconds(
    begin: Told, words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 0.0
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: now))
    with begin() as tell:
        for second in range(1, 9):
            now = float(second)
            if second == 5:
                now = 4.9
            tell(second << 20)
    assert capsys.readouterr().err.splitlines() == [words]


@BOTH
def test_on_a_terminal_it_is_a_bar(
    begin: Told, words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    with begin() as tell:
        tell(4 << 20)
    told_ = capsys.readouterr().err
    assert words.partition(":")[0] in told_
    assert "4.2/8.4 MB" in told_ or f"{4 << 20:,} rows" in told_
