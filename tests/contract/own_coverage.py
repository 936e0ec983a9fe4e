"""How much of each module its own test module covers: one run for all of them, counted by test file.

As a command it prints a line a module: how many percent of its statements and branches its test module alone reaches,
and which lines it does not. `--json FILE` writes that down instead. What a module does as it is imported counts, as it
does where one test module runs alone.

    python tests/contract/own_coverage.py [--json FILE] [MODULE...]      (for example feed/channels/log.py)
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import coverage
import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("feed/wire", "feed/channels", "feed/protocol", "feed/venues")
IMPORTS = "imports"
"""The context of what runs as modules are imported."""


def modules() -> list[str]:
    """Every module of these packages, as a path from the project's folder."""
    return [path.relative_to(ROOT).as_posix() for one in PACKAGES for path in sorted((ROOT / one).rglob("*.py"))]


def own_tests(module: str) -> str:
    """Where the tests of a module are."""
    path = Path(module)
    return (Path("tests") / path.parent / f"test_{path.name}").as_posix()


class Contexts:
    """A pytest plugin: what runs for a test file, its collection too, is counted for that file."""

    def __init__(self, measured: coverage.Coverage) -> None:
        self._measured = measured
        self._current = IMPORTS

    def _switch(self, path: Path) -> None:
        context = path.relative_to(ROOT).as_posix() if path.is_file() else IMPORTS
        if context != self._current:
            self._measured.switch_context(context)
            self._current = context

    def pytest_make_collect_report(self, collector: pytest.Collector) -> None:
        self._switch(collector.path)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self._switch(item.path)
        return (yield)


def measure(asked: list[str]) -> dict[str, Any]:
    """Runs the test modules that there are; by module: its test module or None, percent, and what is not covered."""
    tests = [test for test in map(own_tests, asked) if (ROOT / test).is_file()]
    # not sysmon: it sees a line once, in whichever context that is
    measured = coverage.Coverage(
        data_file=None, branch=True, include=[f"{one}/*" for one in PACKAGES], config_file=False
    )
    measured.set_option("run:core", "ctrace")
    measured.start()
    measured.switch_context(IMPORTS)
    for module in modules():
        import_module(module.removesuffix(".py").removesuffix("/__init__").replace("/", "."))
    quiet = ["-q", "-p", "no:cacheprovider", "-m", "not kafka and not browser"]
    code = pytest.main([*quiet, *tests], plugins=[Contexts(measured)]) if tests else 0
    measured.stop()
    if code:
        sys.exit(int(code))
    return {module: _found(measured, module) for module in asked}


def _found(measured: coverage.Coverage, module: str) -> dict[str, Any]:
    test = own_tests(module)
    with TemporaryDirectory() as folder:
        out = Path(folder, "found.json")
        measured.json_report([module], str(out), contexts=[f"^{re.escape(test)}$", f"^{IMPORTS}$"])
        of_file = json.loads(out.read_text())["files"][module]
    return {
        "tests": test if (ROOT / test).is_file() else None,
        "percent": of_file["summary"]["percent_covered"],
        "lines": of_file["missing_lines"],
        "branches": of_file["missing_branches"],
    }


def main() -> None:
    """Measures, and tells it."""
    parser = argparse.ArgumentParser(description="How much of each module its own test module covers.")
    parser.add_argument("--json", type=Path, help="write it to this file")
    parser.add_argument("module", nargs="*", help="feed/channels/log.py; all of the core if none is given")
    asked = parser.parse_args()
    found = measure(asked.module or modules())
    if asked.json is not None:
        asked.json.write_text(json.dumps(found, indent=1))
        return
    for module, of_module in sorted(found.items(), key=lambda item: item[1]["percent"]):
        print(f"{of_module['percent']:5.1f} %  {module}  {of_module['lines'] or ''}")


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
