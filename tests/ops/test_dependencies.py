"""What we depend on: a reason each, no version with a known advisory, and a lock that holds all of it by hash."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "pyproject.toml").read_text()
PROJECT = tomllib.loads(TEXT)["project"]
LOCK = (ROOT / "ops" / "requirements.lock").read_text()
DECLARED = [*PROJECT["dependencies"], *(one for extra in PROJECT["optional-dependencies"].values() for one in extra)]
LOCKED = {name.lower(): Version(found) for name, found in re.findall(r"^([\w.-]+)==([\w.]+)", LOCK, re.MULTILINE)}

FLOORS = {
    "fastapi": "0.109.1",  # CVE-2024-24762
    "pyarrow": "23.0.1",  # CVE-2026-25087: use after free in IPC files
    "starlette": "1.3.0",  # PYSEC-2026-248, CVE-2026-48710: the path a check sees is not the path that is served
    "uvicorn": "0.52.1",  # before it, the sans-IO WebSocket had no write flow control and could truncate
    "websockets": "16",  # CVE-2018-1000518, CVE-2021-33880; older ones are not looked at
    "aiokafka": "0.14",  # below its documented API, so one minor version
}


@pytest.mark.parametrize(("name", "floor"), FLOORS.items())
def test_no_version_with_a_known_advisory_can_be_chosen(name: str, floor: str) -> None:
    declared = next(Requirement(one) for one in DECLARED if Requirement(one).name == name)
    lowest = min(Version(part.version) for part in declared.specifier if part.operator in (">=", "==", "~="))
    assert lowest >= Version(floor)
    assert LOCKED[name] >= Version(floor)
    assert Version(version(name)) >= Version(floor)


@pytest.mark.parametrize("declared", DECLARED)
def test_each_has_a_sentence_that_says_why_and_is_locked(declared: str) -> None:
    lines = TEXT.splitlines()
    at = next(number for number, line in enumerate(lines) if line.strip() == f'"{declared}",')
    assert re.fullmatch(r"  # .+[.]", lines[at - 1])
    assert Requirement(declared).specifier.contains(LOCKED[Requirement(declared).name.lower()])


def test_the_lock_is_by_hash_and_names_no_index() -> None:
    entries = re.split(r"\n(?=\S)", LOCK.strip())
    assert [entry for entry in entries if "--hash=sha256:" not in entry] == []
    assert "://" not in LOCK
