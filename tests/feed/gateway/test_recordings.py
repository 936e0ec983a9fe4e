"""Recordings that are read in threads for whoever asks: an item at a time, and no file stays open."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from feed.errors import BadRequest
from feed.gateway.recordings import THREADS, Begins, RecordingIterator, Recordings, range_of
from feed.recording.notes import Block, Gone
from feed.recording.recording import RecordingFiles
from feed.recording.table_files import NEVER, TableFiles
from feed.recording.tables import TABLES
from tests.feed.recorder.made_up import MadeUp
from tests.feed.recorder.tape import Tape

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording in which each table has a sealed file and a growing one."""
    log = MadeUp("toy/0", ["TOY:A", "TOY:B"], random.Random(5))
    log.grow(100)
    log.record()
    root = tmp_path_factory.mktemp("recordings")
    recorder = Tape(root, [log.log])
    recorder.play()
    recorder.rotate(recorder.commits.tables)
    recorder.die()
    return root


def held(root: Path) -> int:
    """How many files below a folder this process has open."""
    return sum(str(fd.readlink()).startswith(str(root)) for fd in Path("/proc/self/fd").iterdir() if fd.is_symlink())


def tables(recording: RecordingFiles) -> Iterator[str]:
    """Something to iterate over: the tables, each when its file was looked into."""
    for table, files in recording.files_by_table.items():
        files.blocks(0)
        yield table


async def closed(recordings: Recordings) -> None:
    """All threads have done what they were given."""
    for _ in range(THREADS):
        await recordings.run(lambda: None)


async def test_items_come_one_by_one_from_a_recording_of_its_own(folder: Path) -> None:
    recordings = Recordings(str(folder))
    found, threads = [], set()

    def noted(recording: RecordingFiles) -> Iterator[str]:
        for table in tables(recording):
            threads.add(threading.current_thread())
            yield table

    items = RecordingIterator(recordings, noted)
    assert held(folder) == 0
    while (item := await items.next()) is not None:
        found.append(item)
        assert held(folder) > 0
    assert set(found) == set(TABLES)
    assert threading.main_thread() not in threads
    assert await items.next() is None
    items.close()
    await closed(recordings)
    assert held(folder) == 0
    recordings.close()


async def test_one_that_is_closed_on_its_way_leaves_no_file_open_and_has_no_more(folder: Path) -> None:
    recordings = Recordings(str(folder))
    items = RecordingIterator(recordings, tables)
    assert await items.next() is not None
    items.close()
    assert await items.next() is None
    await closed(recordings)
    assert held(folder) == 0
    recordings.close()


async def test_one_that_is_closed_while_it_is_read_is_closed_after_that(folder: Path) -> None:
    recordings = Recordings(str(folder))
    begun, goes_on = threading.Event(), threading.Event()

    def slow(recording: RecordingFiles) -> Iterator[str]:
        begun.set()
        assert goes_on.wait(20)
        yield from tables(recording)

    items = RecordingIterator(recordings, slow)
    reading = asyncio.ensure_future(items.next())
    await asyncio.to_thread(begun.wait)
    items.close()
    assert held(folder) > 0
    goes_on.set()
    assert await reading is not None
    assert await items.next() is None
    await closed(recordings)
    assert held(folder) == 0
    recordings.close()


async def test_one_that_was_never_read_opens_nothing(folder: Path) -> None:
    recordings = Recordings(str(folder))
    items = RecordingIterator(recordings, tables)
    items.close()
    assert await items.next() is None
    await closed(recordings)
    assert held(folder) == 0
    recordings.close()


async def test_without_a_recording_it_is_refused(tmp_path: Path) -> None:
    recordings = Recordings(str(tmp_path / "none"))
    with pytest.raises(BadRequest) as refused:
        await RecordingIterator(recordings, tables).next()
    assert refused.value.code == "no_recording"
    recordings.close()


def test_a_recording_without_rows_has_no_range(tmp_path: Path) -> None:
    log = MadeUp("toy/0", ["TOY:A"], random.Random(5))
    recorder = Tape(tmp_path, [log.log])
    recorder.play()
    recorder.die()
    recordings = Recordings(str(tmp_path))
    with pytest.raises(BadRequest) as refused:
        recordings.range_of(recordings.open())
    assert refused.value.code == "no_recording"


def test_sealed_files_are_looked_into_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[bool] = []
    blocks = TableFiles.blocks

    def counted(files: TableFiles, number: int) -> list[Block]:
        looked.append(files.places[number].sealed)
        return blocks(files, number)

    recordings = Recordings(str(folder))
    recording = recordings.open()
    monkeypatch.setattr(TableFiles, "blocks", counted)
    begins = Begins()
    first = begins.of(recording)
    assert looked.count(True) == looked.count(False) == len(TABLES)
    looked.clear()
    assert begins.of(recording) == first
    assert looked == [False] * len(TABLES)  # one that grows, from where it was looked into before
    assert range_of(recording).begin == range_of(recording, begins).begin >= first
    recording.close()
    recordings.close()


def test_a_file_that_is_gone_changes_no_range(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recordings = Recordings(str(folder))
    recording = recordings.open()
    begins = Begins()
    first = begins.of(recording)

    def gone(files: TableFiles, number: int) -> list[Block]:
        raise Gone("planted")

    monkeypatch.setattr(TableFiles, "blocks", gone)
    assert begins.of(recording) == first
    assert Begins().of(recording) == NEVER
    recording.close()
    recordings.close()
