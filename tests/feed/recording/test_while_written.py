"""Recordings that are read while they are written: files that are sealed or deleted under a reader change nothing."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

import replay
from feed.gateway.catalog import Catalog
from feed.gateway.recordings import Recordings, range_of
from feed.recording import files
from feed.recording.filter import Filter
from feed.recording.folder import FilePlace, Folder
from feed.recording.notes import Note
from feed.recording.recording import RecordingFiles
from feed.recording.table_files import RecordingCut
from feed.recording.tables import TABLES
from feed.recording.verify import faults_of
from feed.wire.model import KINDS
from replay.checking import Checked, file_faults
from tests.feed.recorder.made_up import MadeUp
from tests.feed.recorder.moving import Partition
from tests.feed.recorder.tape import Tape
from tests.feed.recorder.test_session import Stream, stream_of

pytestmark = pytest.mark.slow


class Written:
    """A recording that is being written, and what its writer does next."""

    def __init__(self, root: Path, rounds: int = 3, seed: int = 9) -> None:
        self.root = root
        self._log = MadeUp("toy/0", ["TOY:A", "TOY:B"], random.Random(seed))
        self._log.grow(20)
        self._log.record()
        self._tape = Tape(root, [self._log.log])
        for _ in range(rounds):
            self.turn()

    def turn(self) -> None:
        """More is committed; all files are ended and sealed; more is committed."""
        self.grow()
        self._tape.rotate(TABLES)
        self.grow()

    def grow(self) -> None:
        self._log.grow(15)
        self._log.record()
        self._tape.play()

    def delete(self) -> int:
        """The oldest file of each table goes, as retention does; how many."""
        count = 0
        for table in TABLES:
            oldest = sorted((self.root / table).rglob("*.arrow"))
            if len(oldest) > 1:
                oldest[0].unlink()
                count += 1
        return count

    def stream(self) -> Stream:
        recording = RecordingFiles(str(self.root))
        try:
            return stream_of(recording, Filter())
        finally:
            recording.close()


def everything(root: Path, catalog: Catalog) -> Stream:
    """All that is done with a recording; its stream."""
    recording = RecordingFiles(str(root))
    try:
        there = range_of(recording)
        assert catalog.channels(recording)
        recording.standing(Filter(), RecordingCut((there.begin + there.end) // 2))
        return stream_of(recording, Filter())
    finally:
        recording.close()


@pytest.fixture
def at_open(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, Callable[[], object]], None]:
    """Something is done just before the n-th file is opened; nothing where so many are not."""
    hold = files.hold

    def plan(number: int, act: Callable[[], object]) -> None:
        count = 0

        def held(path: str) -> int:
            nonlocal count
            count += 1
            if count == number:
                act()
            return hold(path)

        monkeypatch.setattr(files, "hold", held)

    return plan


@pytest.mark.parametrize("number", range(1, 33, 4))
def test_files_that_are_sealed_under_a_reader(
    number: int, tmp_path: Path, at_open: Callable[[int, Callable[[], object]], None]
) -> None:
    written = Written(tmp_path)
    before = written.stream()
    at_open(number, written.turn)
    found = everything(tmp_path, Catalog())
    at_open(0, written.turn)
    after = written.stream()
    assert len(after) > len(before)
    # as it was at one moment: all tables up to the same tick
    assert found == after[: len(found)]
    assert len(found) >= len(before)
    last = found[-1][2]
    assert len(found) == len(after) or after[len(found)][2] > last


@pytest.mark.parametrize("number", range(1, 33, 4))
def test_files_that_are_deleted_before_a_reader_comes_to_them(
    number: int, tmp_path: Path, at_open: Callable[[int, Callable[[], object]], None]
) -> None:
    written = Written(tmp_path, rounds=4)
    at_open(number, written.delete)
    with replay.open(str(tmp_path)) as opened:
        assert opened.info().updates
    at_open(number, written.delete)
    found = everything(tmp_path, Catalog())
    at_open(0, written.delete)
    assert found[-1] == written.stream()[-1]


@pytest.mark.parametrize("number", [2, 100])
def test_a_verify_goes_on_behind_files_that_are_deleted(
    number: int, tmp_path: Path, at_open: Callable[[int, Callable[[], object]], None]
) -> None:
    written = Written(tmp_path, rounds=12)
    deleted: list[int] = []

    def delete() -> None:
        deleted.append(sum(written.delete() for _ in range(4)))

    recording = RecordingFiles(str(tmp_path))
    at_open(number, delete)
    assert Checked(recording).run().faults == []
    assert deleted[0] > 20
    recording.close()


def test_a_verify_goes_on_in_the_sealed_file(tmp_path: Path) -> None:
    written = Written(tmp_path)
    folder = Folder(str(tmp_path))
    places = folder.places()
    assert any(not place.sealed for place in places)
    written.turn()
    assert [fault for place in places for fault in faults_of(folder, place)] == []
    written.delete()
    assert [fault for place in places for fault in faults_of(folder, place)] == []
    assert list(file_faults(folder)) == []


def test_a_listing_that_misses_a_file_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is sealed while its folder is read may be seen under neither name."""
    written = Written(tmp_path)
    listed, count = Folder._listed, 0

    def racing(self: Folder, tables: tuple[str, ...]) -> list[FilePlace]:
        nonlocal count
        count += 1
        found = listed(self, tables)
        return [place for place in found if place.sealed or place.table != "trades"] if count == 1 else found

    wanted = written.stream()
    monkeypatch.setattr(Folder, "_listed", racing)
    assert written.stream() == wanted


def blocks_of(recording: RecordingFiles, *, close: bool = True) -> int:
    """How many blocks its open files have."""
    count = sum(
        len(table_files.file(number).blocks)
        for table_files in recording.files_by_table.values()
        for number, place in enumerate(table_files.places)
        if not place.sealed
    )
    if close:
        recording.close()
    return count


def test_a_growing_file_is_walked_over_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = Written(tmp_path)
    recordings = Recordings(str(tmp_path))
    known = blocks_of(recordings.open())
    note_of, walked = files.note_of, 0

    def counted(text: bytes) -> Note:
        nonlocal walked
        walked += 1
        return note_of(text)

    monkeypatch.setattr(files, "note_of", counted)
    for _ in range(3):
        written.grow()
        walked = 0
        recording = recordings.open()
        new = walked
        assert new == blocks_of(recording, close=False) - known > 0
        known += new
        assert stream_of(recording, Filter()) == written.stream()
        recording.close()
    # with new files, and with the ones that are sealed meanwhile
    written.turn()
    recording = recordings.open()
    assert stream_of(recording, Filter()) == written.stream()
    recording.close()
    recordings.close()


@pytest.mark.parametrize("rounds", [3, 5], ids=["same name", "other name"])
def test_another_file_in_the_place_of_a_growing_one_is_read_from_its_begin(tmp_path: Path, rounds: int) -> None:
    """A file system gives the number of a file that was deleted to the next one that is made."""
    old, new = tmp_path / "old", tmp_path / "new"
    Written(old)
    recordings = Recordings(str(old))
    recordings.open().close()
    written = Written(new, rounds, seed=2)
    written.grow()
    wanted = written.stream()
    for table in TABLES:
        for sealed in (old / table).rglob("*.arrow"):
            sealed.unlink()
        (part,) = (old / table).rglob("*.part")
        for file in (new / table).rglob("*.arrow*"):
            there = old / file.relative_to(new)
            there.parent.mkdir(exist_ok=True)
            if file.suffix != ".part":
                there.write_bytes(file.read_bytes())
                continue
            with part.open("r+b") as same:
                same.truncate()
                same.write(file.read_bytes())
            assert (there.name == part.name) == (rounds == 3)
            part.rename(there)
    for _ in range(2):
        recording = recordings.open()
        assert stream_of(recording, Filter()) == wanted
        recording.close()
    recordings.close()


def test_names_of_a_growing_file_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = Written(tmp_path)
    catalog = Catalog()
    everything(tmp_path, catalog)
    read = 0
    columns_from = files.RecordedFile.columns_from

    def counted(self: files.RecordedFile, start: int, names: tuple[str, ...]) -> object:
        nonlocal read
        read += len(self.blocks) - start
        return columns_from(self, start, names)

    monkeypatch.setattr(files.RecordedFile, "columns_from", counted)
    written.grow()
    recording = RecordingFiles(str(tmp_path))
    channels = catalog.channels(recording)
    assert 0 < read <= len(KINDS)
    assert channels == Catalog().channels(recording)
    recording.close()


def test_new_names_of_a_growing_file_are_seen(tmp_path: Path) -> None:
    partition = Partition("toy/0")
    tape, catalog = Tape(tmp_path, [partition.log]), Catalog()
    for number, symbol in enumerate(["TOY:A", "TOY:B", "TOY:A", "TOY:C"]):
        partition.trade(symbol, number)
        tape.play()
        recording = RecordingFiles(str(tmp_path))
        found = catalog.channels(recording)
        assert set(found) == {("trades", name) for name in partition.told}
        assert found == Catalog().channels(recording)
        recording.close()
    tape.die()
