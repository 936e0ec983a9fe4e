"""How every command ends: its exit code, and what is said on stderr.

Owns the codes 0 ok, 1 failed, 2 usage, 3 unreachable (and 130: interrupted before it was done), and that nobody sees a
traceback for what is not our fault. Leaves options and output to `feed.cli` and `replay.cli`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from feed.errors import ConfigError, FeedError, Unreachable

if TYPE_CHECKING:
    from cyclopts import App

OK: Final = 0
FAILED: Final = 1
USAGE: Final = 2
UNREACHABLE: Final = 3
INTERRUPTED: Final = 130


def version() -> str:
    """The version that is installed."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    try:
        return installed("market-feed")
    except PackageNotFoundError:
        return "unknown"


def run(app: App, arguments: Sequence[str] | None = None) -> int:
    """Runs the command of `arguments` (those of the process); gives its exit code."""
    from cyclopts import CycloptsError

    try:
        code = app(arguments, result_action="return_value", exit_on_error=False, print_error=True)
        sys.stdout.flush()
    except CycloptsError:
        return USAGE
    except FeedError as error:
        say(f"error: {error}")
        return _code_of(error)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        _no_more_output()  # whoever read it has gone
        return OK
    except OSError as error:
        # What no role could say better: a full disk behind stdout, a file that may not be read.
        _no_more_output()
        at = f"{error.filename}: " if error.filename else ""
        say(f"error: {at}{error.strerror or error}")
        return FAILED
    return code if isinstance(code, int) else OK


def say(words: str) -> None:
    """Words for a person; stdout is for data."""
    print(words, file=sys.stderr, flush=True)  # noqa: T201  # this is where commands speak


def _no_more_output() -> None:
    """What is still in stdout's buffer goes nowhere, also at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _code_of(error: FeedError) -> int:
    if isinstance(error, ConfigError):
        return USAGE
    if isinstance(error, Unreachable):
        return UNREACHABLE
    return FAILED
