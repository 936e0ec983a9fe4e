"""A folder that is deleted under its recorders, and pauses of each of them: told, and taken back."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from feed.recorder.health import RecorderHealth
from feed.recorder.raw import RawRecorder
from feed.recorder.recovery import seal_ended, take_up
from feed.recorder.retention import keep
from feed.recorder.role import Pauses, _Life
from feed.recording.disk import Disk
from feed.recording.tables import TICKS
from feed.runtime.settings import RecordSettings
from tests.feed.recorder.moving import Partition
from tests.feed.recorder.tape import Tape
from tests.feed.recorder.test_ending import SETTINGS

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    "act",
    [
        lambda root: take_up(root, Disk(root), ()),
        lambda root: take_up(root, Disk(root), (), (TICKS,)),
        lambda root: seal_ended(root, Disk(root), "trades/date=1970-01-01/000000000001-19700101T000000Z.arrow.part"),
        lambda root: keep(root, Disk(root), RecordSettings(keep_s=1), 0),
    ],
    ids=["taking up", "taking up of ticks", "sealing", "retention"],
)
def test_to_a_recorder_a_folder_that_is_gone_is_trouble_of_the_disk(act: Callable[[Path], Any], tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        act(tmp_path / "gone")


async def test_a_folder_that_goes_while_a_file_is_sealed_ends_one_life_alone(tmp_path: Path) -> None:
    partition = Partition("toy/0")
    for number in range(9):
        partition.trade("TOY:A", number)
    root = tmp_path / "recordings"
    tape = Tape(root, [partition.log])
    life = _Life(tape.disk, root, tape.session, tape.commits, SETTINGS, RecorderHealth(), Pauses("recording"))
    life.follower = SimpleNamespace(positions={})  # type: ignore[assignment]
    tape.play()
    path = tape.commits.end("trades")
    assert path is not None
    shutil.rmtree(root)
    sealing = asyncio.create_task(life._seal(path))
    life._sealing.add(sealing)
    await asyncio.wait([sealing])
    with pytest.raises(OSError, match="deleted"):  # upon which the recorder pauses
        await life.between()
    await life.close()


class Ticks(RawRecorder):
    """A recorder of ticks on a cluster that has none."""

    def __init__(self, root: Path, health: RecorderHealth, **settings: Any) -> None:
        super().__init__("127.0.0.1:1", ["ticks.toy"], root, settings=SETTINGS, health=health, fetch_wait_ms=1)

        async def nothing() -> Any:
            return {}

        self._cluster: Any = SimpleNamespace(start=nothing, stop=nothing, topics=nothing)
        self._fetcher: Any = SimpleNamespace(arrived=asyncio.Event(), stop=nothing)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0.001)


async def test_a_pause_of_ticks_is_told_and_taken_back(tmp_path: Path) -> None:
    root, locked = tmp_path / "recordings", asyncio.Event()
    health = RecorderHealth(silence_s_max=1e9)
    health.goes_on()
    health.kafka_answered()
    health.caught_up()
    locked.set()
    recording = asyncio.create_task(Ticks(root, health).run(locked))
    await until(lambda: not health.status().ok)
    assert health.status().found.startswith("paused: ")
    assert health.status().caught_up, "that the feed logs were read to their ends is as it was"
    root.mkdir()  # as the recorder of feed logs does
    await until(lambda: health.status().ok)
    assert not recording.done()
    health.paused("No space left on device")
    health.goes_on(TICKS)
    assert health.status().found == "paused: No space left on device"
    health.goes_on()
    assert health.status().ok
    recording.cancel()
    await asyncio.wait([recording])
    assert recording.cancelled()


def test_who_has_paused_says_when_it_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    pauses = Pauses("recording")
    pauses.go_on()
    assert not caplog.messages, "who has not paused has nothing to say"
    for _ in range(3):
        pauses.pause(OSError(28, "No space left on device"))
    assert [text.partition(";")[0] for text in caplog.messages] == [
        "recording pauses: [Errno 28] No space left on device"
    ]
    pauses.go_on()
    pauses.go_on()
    assert len(caplog.messages) == 2
    assert caplog.messages[1].startswith("recording goes on after ")
