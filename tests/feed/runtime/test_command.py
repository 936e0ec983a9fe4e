"""How a command ends: its exit code, and what is said on stderr."""

from __future__ import annotations

import errno
import importlib.metadata
import subprocess
import sys

import pytest
from cyclopts import App

from feed.errors import ConfigError, FeedError, Unreachable
from feed.runtime import command
from feed.runtime.command import run, version


def ends(error: BaseException | None = None, answer: object = None) -> App:
    """A command that ends so."""
    app = App(name="toy")

    @app.default
    def toy(*, number: int = 0) -> object:
        if error is not None:
            raise error
        return answer

    return app


@pytest.fixture
def silenced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """How often stdout was given up, which is the test runner's here."""
    found: list[str] = []
    monkeypatch.setattr(command, "_no_more_output", lambda: found.append("stdout"))
    return found


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (ConfigError("no such folder"), 2, "error: no such folder\n"),
        (Unreachable("no broker answers"), 3, "error: no broker answers\n"),
        (FeedError("the port is in use"), 1, "error: the port is in use\n"),
    ],
)
def test_an_error_is_one_line_and_a_code(
    error: BaseException, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(ends(error), []) == code
    assert capsys.readouterr() == ("", said)


def test_an_interrupted_command_is_130() -> None:
    # the library of the commands ends the process with it by itself
    with pytest.raises(SystemExit) as ended:
        run(ends(KeyboardInterrupt()), [])
    assert ended.value.code == command.INTERRUPTED == 130


@pytest.mark.parametrize(("answer", "code"), [(None, 0), (0, 0), (5, 5), ("words", 0)])
def test_a_number_is_the_exit_code(answer: object, code: int) -> None:
    assert run(ends(answer=answer), []) == code


def test_wrong_usage_is_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(ends(), ["--number", "x"]) == 2
    assert "--number" in "".join(capsys.readouterr())


def test_a_fault_of_ours_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        run(ends(ZeroDivisionError()), [])


def test_nobody_reads_on_is_no_failure(silenced: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(ends(BrokenPipeError()), []) == 0
    assert silenced == ["stdout"]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "error: No space left on device\n"),
        (PermissionError(errno.EACCES, "Permission denied", "a.gz"), "error: a.gz: Permission denied\n"),
        (OSError("odd"), "error: odd\n"),
    ],
)
def test_what_the_system_refuses_is_said_with_its_file(
    error: OSError, said: str, silenced: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(ends(error), []) == 1
    assert silenced == ["stdout"]
    assert capsys.readouterr().err == said


def test_the_version_is_that_of_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    assert version() == importlib.metadata.version("market-feed")

    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    assert version() == "unknown"


@pytest.mark.slow
def test_what_is_still_in_the_buffer_goes_nowhere() -> None:
    program = """
import sys
from cyclopts import App
from feed.runtime.command import run
app = App()
@app.default
def toy():
    print("x" * 100_000)
sys.exit(run(app, []))
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        said = process.stderr.read()
    assert (process.returncode, said) == (0, b"")
