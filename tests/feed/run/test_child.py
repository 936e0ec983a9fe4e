"""A child process from both sides: told its task, heard, and ended well, or killed where it does not end."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import msgspec
import pytest

from feed.run import child

pytestmark = pytest.mark.anyio

ECHO = """
import sys, asyncio, msgspec
from feed.run.child import given_task, tell, until_parent_ends
task = given_task(dict)
tell(msgspec.json.encode([*sys.argv[1:], task]))
asyncio.run(until_parent_ends())
tell(b"parent ended")
sys.exit(7)
"""
DEAF = """
import sys, time
print("deaf", flush=True)
while True:
    time.sleep(60)
"""


def runs(monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    monkeypatch.setattr(child, "COMMAND", (sys.executable, "-c", script))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))


async def test_a_child_is_told_its_task_and_ends_well_with_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    runs(monkeypatch, ECHO)
    async with child.started("serve", {"number": 1}, end_s=60) as process:
        assert process.stdout is not None
        assert msgspec.json.decode(await process.stdout.readline()) == ["serve", "--child", {"number": 1}]
        assert process.returncode is None
        # a signal of the terminal goes to the parent alone
        assert os.getsid(process.pid) != os.getsid(0)
    assert process.returncode == 7
    assert await process.stdout.read() == b"parent ended\n"


async def test_a_child_that_does_not_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    runs(monkeypatch, DEAF)
    async with child.started("serve", {}, end_s=0) as process:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"deaf\n"
    assert process.returncode == -9


async def test_a_child_is_ended_when_its_parent_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    runs(monkeypatch, ECHO)
    with pytest.raises(ZeroDivisionError):
        async with child.started("serve", {}, end_s=60) as process:
            raise ZeroDivisionError
    assert process.returncode == 7


async def test_a_child_that_ends_before_it_has_its_task_gives_its_code(monkeypatch: pytest.MonkeyPatch) -> None:
    runs(monkeypatch, "import sys; sys.exit(3)")
    long = {"text": "x" * (1 << 20)}  # longer than a pipe holds
    async with child.started("serve", long, end_s=60) as process:
        assert await process.wait() == 3
