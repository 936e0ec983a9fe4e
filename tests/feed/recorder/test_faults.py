"""Disks that fail at any byte, recorders that get in each other's way, files that are old: nothing is lost or twice."""

from __future__ import annotations

import errno
import os
import random
from pathlib import Path

import pytest

import replay
from feed.errors import FeedError
from feed.recorder.commits import Commits
from feed.recorder.lock import FolderLock
from feed.recorder.recovery import seal_ended, take_up
from feed.recorder.retention import _unused, keep
from feed.recording import recording
from feed.recording.disk import Disk, NewFile
from feed.recording.files import RecordedFile
from feed.recording.filter import Filter
from feed.recording.folder import Folder
from feed.recording.footing import WHOLE
from feed.recording.notes import CorruptRecording
from feed.recording.recording import RecordingFiles
from feed.recording.tables import GAPS, STATES
from feed.runtime.settings import RecordSettings
from feed.wire.model import KINDS
from tests.feed.recorder.made_up import MadeUp, truth_of
from tests.feed.recorder.tape import FILES, Tape
from tests.feed.recorder.test_session import EAGER, made_up, stream_of, updates_of

ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)


class FailingDisk(Disk):
    """Writes so many bytes, then fails; of what was to be written a part may be there."""

    def __init__(self, root: Path, chooser: random.Random, bytes_left: int) -> None:
        super().__init__(root)
        self.chooser = chooser
        self.left = bytes_left

    def create(self, path: str) -> NewFile:
        disk = self

        class Failing(NewFile):
            def write(self, data: bytes | bytearray) -> None:
                if len(data) > disk.left:
                    super().write(bytes(data[: disk.left * disk.chooser.randrange(2)]))
                    code = disk.chooser.choice(ERRORS)
                    raise OSError(code, os.strerror(code))
                disk.left -= len(data)
                super().write(data)

        return Failing(self.root / path)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_a_write_that_fails_anywhere_leaves_no_batch_half_counted(seed: int, tmp_path: Path) -> None:
    chooser = random.Random(seed)
    logs = made_up(chooser, steps=100)
    failed = 0
    while True:
        disk = FailingDisk(tmp_path, chooser, chooser.randrange(1, 200_000) if failed < 12 else 1 << 30)
        tape = None
        try:
            tape = Tape(tmp_path, [log.log for log in logs], files=EAGER, disk=disk)
            more = [True] * len(logs)
            while any(more):
                number = chooser.choice([number for number, left in enumerate(more) if left])
                more[number] = tape.read(number, chooser.randrange(1, 8))
                if chooser.random() < 0.4:
                    tape.commit()
            tape.end()
            break
        except OSError:
            failed += 1
            if tape is not None:
                tape.die()
    assert failed > 2
    stream = stream_of(RecordingFiles(str(tmp_path)), Filter())
    assert updates_of(stream) == truth_of(logs), f"seed {seed}, {failed} failures"


def newest_commit(parts: dict[str, int | None], sealed: dict[str, int | None]) -> int:
    """The wrong one: the last commit that any table has."""
    return max((commit for commit in [*parts.values(), *sealed.values()] if commit is not None), default=0)


@pytest.mark.slow
def test_a_half_written_commit_counts_in_no_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Teeth: if what only some tables have were kept, updates would be there twice."""

    def failures(root: Path) -> bool:
        chooser = random.Random(3)
        log = MadeUp("toy/0", ["TOY:A"], chooser)
        log.grow(200)
        log.record()
        for _ in range(6):
            tape = Tape(root, [log.log])
            tape.read(0, chooser.randrange(10, 30))
            tape.commit()
            tape.read(0, chooser.randrange(5, 10))
            write = Commits.write
            tables = tape.commits._tables
            with monkeypatch.context() as patched:
                patched.setattr(tape.commits, "_tables", dict(list(tables.items())[:3]))
                positions = {f.source: (f.reader.pos, f.taken) for f in tape.logs if f.source}
                write(tape.commits, *tape.session.take(positions))
            for table in tables.values():
                if table.part is not None:
                    table.part.close()
        tape = Tape(root, [log.log])
        while tape.read(0, 50):
            tape.commit()
        tape.end()
        return updates_of(stream_of(RecordingFiles(str(root)), Filter())) != truth_of([log])

    assert not failures(tmp_path / "right")
    monkeypatch.setattr(recording, "common_commit", newest_commit)
    assert failures(tmp_path / "wrong")


def test_a_sealing_that_fails_lets_go_of_its_file(tmp_path: Path) -> None:
    """A file that looks as if it were read is never deleted."""
    log = MadeUp("toy/0", ["TOY:A"], random.Random(3))
    log.grow(30)
    log.record()
    tape = Tape(tmp_path, [log.log])
    tape.play()
    path = tape.commits.end("states")
    assert path is not None
    with pytest.raises(OSError, match=r"No space|quota|large|Input|Read-only"):
        seal_ended(tmp_path, FailingDisk(tmp_path, random.Random(1), 10), path)
    assert _unused(tmp_path / path)
    tape.die()


def test_a_second_recorder_is_refused_and_told_by_whom(tmp_path: Path) -> None:
    first, second = FolderLock(tmp_path), FolderLock(tmp_path)
    first.take()
    with pytest.raises(FeedError, match=f'recorded by .*"pid": {os.getpid()}'):
        second.take()
    first.release()
    second.take()
    second.release()


@pytest.mark.slow
def test_damage_before_the_end_of_an_open_file_stops_the_recorder(tmp_path: Path) -> None:
    log = MadeUp("toy/0", ["TOY:A", "TOY:B"], random.Random(1))
    log.grow(100)
    log.record()
    tape = Tape(tmp_path, [log.log])
    while tape.read(0, 10):
        tape.commit()
    tape.die()
    (part,) = tmp_path.glob("trades/*/*.part")
    file = RecordedFile(Folder(str(tmp_path)), Folder(str(tmp_path)).places(["trades"])[0])
    data = bytearray(part.read_bytes())
    data[file.blocks[1].end - 30] ^= 8
    part.write_bytes(data)
    with pytest.raises(CorruptRecording, match=r"trades/.* batch 1: .*replay repair"):
        take_up(tmp_path, Disk(tmp_path), Filter().kinds)


def grown(root: Path, steps: int = 400) -> tuple[Tape, MadeUp]:
    log = MadeUp("toy/0", ["TOY:A", "TOY:B"], random.Random(2))
    log.grow(steps)
    log.record()
    tape = Tape(root, [log.log], files=FILES)
    while tape.read(0, 10):
        tape.commit()
        tape.rotate(tape.commits.tables)
    return tape, log


@pytest.mark.slow
def test_old_files_go_the_oldest_first_and_what_is_left_can_be_read(tmp_path: Path) -> None:
    tape, log = grown(tmp_path)
    tape.end()
    disk = Disk(tmp_path)
    folder = Folder(str(tmp_path))
    places = folder.places()
    total = sum(place.size for place in places)
    assert keep(tmp_path, disk, RecordSettings(keep_bytes=total), 0) == []
    gone = keep(tmp_path, disk, RecordSettings(keep_bytes=total // 2), 0)
    left = folder.places()
    assert sum(place.size for place in left) <= total // 2
    assert max(p.commit for p in places if p.path in gone) <= min(p.commit for p in left if p.sealed) + 1
    assert {place.table for place in left} == {place.table for place in places}
    whole = truth_of([log])
    for key, updates in updates_of(stream_of(RecordingFiles(str(tmp_path)), Filter())).items():
        assert updates == whole[key][-len(updates) :]
    found = replay.open(str(tmp_path)).book_at("TOY:A", 2**62)
    assert [str(price) for price, _ in found.bids] == [p for p, _ in log.source.truth("book", "TOY:A").data().bids]


@pytest.mark.slow
@pytest.mark.parametrize("rules", ["bytes", "seconds"])
def test_gaps_and_states_are_kept_as_long_as_what_they_belong_to(rules: str, tmp_path: Path) -> None:
    """They have long files, as they have few rows: such a one begins before all others, and ends after most."""
    log = MadeUp("toy/0", ["TOY:A", "TOY:B"], random.Random(2))
    log.grow(300)
    log.record()
    tape = Tape(tmp_path, [log.log])
    while tape.read(0, 20):
        tape.commit()
        tape.rotate(KINDS)
    tape.rotate((GAPS, STATES))
    tape.end()
    places = Folder(str(tmp_path)).places()
    half = sum(place.size for place in places) * 2 // 3
    ns = 1_000_000_000
    keeps = RecordSettings(keep_bytes=half) if rules == "bytes" else RecordSettings(keep_s=1)
    gone = keep(tmp_path, Disk(tmp_path), keeps, ns + log.source.seq // 2)
    assert len(gone) > 8
    assert not [path for path in gone if path.startswith((GAPS, STATES))]
    recording = RecordingFiles(str(tmp_path))
    assert WHOLE < recording.footing(KINDS) == recording.footing() < log.source.seq
    recording.close()


@pytest.mark.slow
def test_files_older_than_allowed_go_by_the_recordings_own_clock(tmp_path: Path) -> None:
    tape, log = grown(tmp_path, 100)
    tape.end()
    ns = 1_000_000_000
    assert keep(tmp_path, Disk(tmp_path), RecordSettings(keep_s=1), log.source.seq) == []
    assert keep(tmp_path, Disk(tmp_path), RecordSettings(keep_s=1), ns + log.source.seq // 2)
    assert keep(tmp_path, Disk(tmp_path), RecordSettings(keep_s=1), 10 * ns)
    assert len(Folder(str(tmp_path)).places()) == 8, "the newest file of a table stays"


@pytest.mark.slow
def test_a_damaged_file_grows_old_as_any_other(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tape, log = grown(tmp_path, 100)
    tape.end()
    places = Folder(str(tmp_path)).places()
    oldest = min((place for place in places if place.table == "trades"), key=lambda place: place.commit)
    data = (tmp_path / oldest.path).read_bytes()
    (tmp_path / oldest.path).write_bytes(data[: len(data) // 2])
    ns = 1_000_000_000
    assert keep(tmp_path, Disk(tmp_path), RecordSettings(keep_s=1), log.source.seq) == []
    gone = keep(tmp_path, Disk(tmp_path), RecordSettings(keep_s=1), ns + log.source.seq // 2)
    assert oldest.path in gone
    assert len(gone) > 8
    assert "it is deleted" in caplog.text


@pytest.mark.slow
def test_a_file_that_is_read_is_not_deleted(tmp_path: Path) -> None:
    tape, _ = grown(tmp_path, 60)
    tape.end()
    folder = Folder(str(tmp_path))
    place = folder.places(["quotes"])[0]
    reading = RecordedFile(folder, place)
    assert place.path not in keep(tmp_path, Disk(tmp_path), RecordSettings(keep_bytes=1), 0)
    reading.close()
    assert place.path in keep(tmp_path, Disk(tmp_path), RecordSettings(keep_bytes=1), 0)
