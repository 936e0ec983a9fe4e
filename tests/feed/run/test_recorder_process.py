"""A recorder as a child: what it tells is how it stands, and it is started again once it has recorded."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import msgspec
import pytest

from feed.errors import FeedError
from feed.recorder.health import RecorderStatus
from feed.run import child, recorder_process
from feed.run.recorder_process import RecorderProcess
from feed.runtime.metrics import Metrics
from feed.runtime.settings import load
from tests.feed.run.test_child import runs

pytestmark = pytest.mark.anyio


def telling(*lives: tuple[list[RecorderStatus], int]) -> str:
    """A child that tells these statuses and ends with this code, life after life; the last life goes on."""
    told = [[[msgspec.json.encode(status).decode() for status in statuses], code] for statuses, code in lives]
    return f"""
import asyncio, pathlib, sys
from feed.run.child import given_task, tell, until_parent_ends
task = given_task(dict)
count = pathlib.Path(task["record.to"])
life = int(count.read_text())
count.write_text(str(life + 1))
lives = {told!r}
statuses, code = lives[life]
for status in statuses:
    tell(status.encode())
if life == len(lives) - 1:
    asyncio.run(until_parent_ends())
sys.exit(code)
"""


def recorder(tmp_path: Path, metrics: Metrics | None = None) -> RecorderProcess:
    count = tmp_path / "lives"
    count.write_text("0")
    return RecorderProcess(load({"record.to": str(count)}).settings, metrics or Metrics())


async def test_it_stands_as_its_child_tells_and_ends_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = RecorderStatus(True, "recording", rows=5, commits=1, caught_up=True)
    runs(monkeypatch, telling(([RecorderStatus(False, "reading"), good], 0)))
    metrics = Metrics()
    process = recorder(tmp_path, metrics)
    assert not process.check().ok
    running = asyncio.create_task(process.run())
    await process.begun.wait()
    assert process.status == good
    assert process.check().ok
    assert b"feed_record_rows 5.0" in metrics.export()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_it_is_started_again_once_it_has_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = (RecorderStatus(True, "recording", commits=1, caught_up=at > 0) for at in range(2))
    runs(monkeypatch, telling(([first], 1), ([second], 0)))
    monkeypatch.setattr(recorder_process, "_AGAIN_S", 0)
    process = recorder(tmp_path)
    running = asyncio.create_task(process.run())
    await process.begun.wait()
    assert process.status == second
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


async def test_a_disk_that_takes_nothing_holds_nobody_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs(monkeypatch, telling(([RecorderStatus(False, "no room", pauses=1)], 0)))
    process = recorder(tmp_path)
    running = asyncio.create_task(process.run())
    await process.begun.wait()
    assert not process.check().ok
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


async def test_one_that_never_recorded_ends_its_parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "COMMAND", ("false",))
    with pytest.raises(FeedError, match="the recorder ended with 1"):
        await recorder(tmp_path).run()
