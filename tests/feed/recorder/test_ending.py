"""A recorder that is told to end while a thread of it writes: the thread is waited for, and nothing is torn."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from feed.recorder.health import RecorderHealth
from feed.recorder.role import Pauses, _Life
from feed.recording.disk import Disk, NewFile
from feed.recording.filter import Filter
from feed.recording.recording import RecordingFiles
from feed.recording.verify import faults_of
from tests.feed.recorder.moving import Partition
from tests.feed.recorder.tape import FILES, Tape
from tests.feed.recorder.test_session import stream_of, updates_of

pytestmark = pytest.mark.anyio
SETTINGS = FILES.model_copy(
    update={"flush_interval_ms": 0, "flush_bytes": 0, "sync_interval_ms": 0, "retry_ms": 1, "free_bytes_min": 0}
)
"""Everything at once."""


class HeldDisk(Disk):
    """Writes nothing until it may; `fails`: and then not, either."""

    def __init__(self, root: Path, *, fails: bool) -> None:
        super().__init__(root)
        self.asked, self.may = threading.Event(), threading.Event()
        self.fails = fails

    def create(self, path: str) -> NewFile:
        disk = self

        class Held(NewFile):
            def write(self, data: bytes | bytearray) -> None:
                disk.asked.set()
                assert disk.may.wait(10)
                if disk.fails:
                    super().write(bytes(data[: len(data) // 2]))
                    raise OSError("the disk fails")
                super().write(data)

        return Held(self.root / path)


@pytest.mark.parametrize("fails", [False, True])
async def test_a_write_is_waited_for_before_the_files_are_ended(tmp_path: Path, fails: bool) -> None:
    partition = Partition("toy/0")
    for number in range(9):
        partition.trade("TOY:A", number)
    disk = HeldDisk(tmp_path, fails=fails)
    tape = Tape(tmp_path, [partition.log], disk=disk)
    life = _Life(disk, tmp_path, tape.session, tape.commits, SETTINGS, RecorderHealth(), Pauses("recording"))
    log = tape.logs[0]
    tape.read(0, 5)
    life.follower = SimpleNamespace(positions={log.source: (log.reader.pos, log.taken)})  # type: ignore[assignment]
    writing = asyncio.create_task(life.between())
    assert await asyncio.to_thread(disk.asked.wait, 10)
    for _ in range(3):
        writing.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert not writing.done()
    disk.may.set()
    with pytest.raises(asyncio.CancelledError):
        await writing
    tape.read(0, 5)
    life.follower.positions[log.source] = (log.reader.pos, log.taken)
    life.finish()
    await life.close()

    if fails:
        # what the writer left is for the next one
        tape = Tape(tmp_path, [partition.log])
        tape.play()
        tape.end()
    recording = RecordingFiles(str(tmp_path))
    assert [fault for place in recording.folder.places() for fault in faults_of(recording.folder, place)] == []
    assert updates_of(stream_of(recording, Filter())) == {("trades", "TOY:A"): partition.told["TOY:A"]}
