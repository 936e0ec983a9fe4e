"""What becomes of a recording whose folder goes, whose files go, or cannot be opened."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import resource
import shutil
import threading
from pathlib import Path

import pytest

from feed.recorder import retention
from feed.recorder.health import RecorderHealth, register
from feed.recorder.lock import NAME, FolderLock
from feed.recorder.recovery import seal_ended
from feed.recorder.retention import keep
from feed.recorder.role import DiskFull, Pauses, refuse_full
from feed.recording.disk import Disk
from feed.recording.files import RecordedFile
from feed.recording.folder import Folder
from feed.runtime.metrics import Metrics
from feed.runtime.settings import RecordSettings
from tests.feed.recorder.moving import Partition
from tests.feed.recorder.tape import Tape
from tests.feed.runtime.test_metrics import exported


def partition(trades: int) -> Partition:
    made = Partition("toy/0")
    for number in range(trades):
        made.trade("TOY:A", number)
    return made


def test_a_folder_that_is_deleted_is_made_again_and_locked(tmp_path: Path) -> None:
    root = tmp_path / "recordings"
    lock, other = FolderLock(root), FolderLock(root)
    lock.take()
    shutil.rmtree(root)
    with pytest.raises(FileNotFoundError):
        Disk(root).free_bytes()
    lock.take()
    assert (root / NAME).exists()
    with pytest.raises(Exception, match="one recorder a folder"):
        other.take()
    lock.release()


def test_what_is_written_into_a_deleted_file_is_no_success(tmp_path: Path) -> None:
    tape = Tape(tmp_path, [partition(9).log])
    tape.read(0, 5)
    tape.commit()
    tape.commits.sync()
    (gone,) = tmp_path.glob("trades/*/*.part")
    gone.unlink()
    tape.read(0, 5)
    tape.commit()
    with pytest.raises(FileNotFoundError, match="was deleted while it was written"):
        tape.commits.sync()
    with pytest.raises(FileNotFoundError, match="before it was sealed"):
        seal_ended(tmp_path, tape.disk, str(gone.relative_to(tmp_path)))
    tape.die()


@pytest.mark.parametrize("rows_first", [True, False])
def test_files_are_called_by_the_day_of_the_ticks(tmp_path: Path, rows_first: bool) -> None:
    made = partition(0 if not rows_first else 2)
    tape = Tape(tmp_path, [made.log])
    tape.commits._wall_ns = lambda: 4_000_000_000_000_000_000
    tape.play()
    tape.commit()
    for number in range(2):
        made.trade("TOY:A", number)
    tape.play()
    tape.end()
    assert {path.parent.name for path in tmp_path.rglob("*.arrow")} == {"date=2026-11-23"}
    assert not list(tmp_path.rglob("*.part"))


def test_tables_that_rotate_together_may_delete_the_same_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tape = Tape(tmp_path, [partition(30).log])
    while tape.read(0, 5):
        tape.commit()
        tape.rotate(tape.commits.tables)
    tape.end()
    unused, both = retention._unused, threading.Barrier(2, timeout=5)

    def at_once(path: Path) -> bool:
        both.wait()
        return unused(path)

    monkeypatch.setattr(retention, "_unused", at_once)
    failed: list[BaseException] = []

    def run() -> None:
        try:
            keep(tmp_path, Disk(tmp_path), RecordSettings(keep_bytes=1), 0)
        except threading.BrokenBarrierError:
            pass
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []


def test_too_few_file_descriptors_are_no_damage(tmp_path: Path) -> None:
    tape = Tape(tmp_path, [partition(9).log])
    tape.play()
    tape.end()
    folder = Folder(str(tmp_path))
    place = folder.places(["trades"])[0]
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.open(tmp_path, os.O_RDONLY)
    os.close(free)
    try:
        for files_more in range(2):
            resource.setrlimit(resource.RLIMIT_NOFILE, (free + files_more, before[1]))
            with pytest.raises(OSError, match="Too many open files") as found:
                RecordedFile(folder, place)
            assert found.value.errno == errno.EMFILE
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    again = os.open(tmp_path, os.O_RDONLY)
    os.close(again)
    assert again == free
    RecordedFile(folder, place).close()


def test_a_recorder_says_once_that_it_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    pauses = Pauses("recording")
    pauses.go_on()
    for _ in range(3):
        pauses.pause(OSError(errno.ENOSPC, "No space left on device"))
    pauses.go_on()
    pauses.go_on()
    assert [record.message.split(" after ")[0] for record in caplog.records] == [
        "recording pauses: [Errno 28] No space left on device; Kafka holds what comes",
        "recording goes on",
    ]


@pytest.mark.parametrize(("free", "room"), [(1000, 0), (2500, 1500), (999, -1)])
def test_how_much_room_there_is_can_be_seen_before_it_pauses(
    free: int, room: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, health, metrics = Disk(tmp_path), RecorderHealth(), Metrics()
    register(metrics, health.status)
    monkeypatch.setattr(disk, "free_bytes", lambda: free)
    with pytest.raises(DiskFull) if room < 0 else contextlib.nullcontext():
        refuse_full(disk, 1000, health)
    assert exported(metrics)["feed_record_room_bytes"] == {"": room}
