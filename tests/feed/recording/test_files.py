"""Files that are torn, damaged or hostile: what is whole is read, and everything else is named."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from feed.recording import files
from feed.recording.files import RecordedFile
from feed.recording.filter import Filter
from feed.recording.folder import FilePlace, Folder
from feed.recording.notes import CorruptRecording
from feed.recording.recording import RecordingFiles
from feed.recording.verify import faults_of
from tests.feed.recorder.made_up import MadeUp
from tests.feed.recorder.tape import Tape

FLIPS = 10_000


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A small recording whose recorder died, and the same one as it ended well."""
    chooser = random.Random(1)
    log = MadeUp("toy/0", ["TOY:A", "TOY:B"], chooser)
    log.grow(120)
    log.record()
    roots = tmp_path_factory.mktemp("open"), tmp_path_factory.mktemp("sealed")
    for root in roots:
        tape = Tape(root, [log.log])
        more = True
        while more:
            more = tape.read(0, 6)
            tape.commit()
        if root is roots[0]:
            tape.commits.sync()
            tape.die()
        else:
            tape.end()
    return roots


def place_of(root: Path, table: str) -> FilePlace:
    (place,) = Folder(str(root)).places([table])
    return place


def copied(root: Path, to: Path) -> Path:
    shutil.copytree(root, to)
    return to


def test_a_recording_that_is_still_open_reads_as_the_sealed_one(recorded: tuple[Path, Path]) -> None:
    open_, sealed = ([bytes(page.text()) for page in RecordingFiles(str(root)).pages(Filter())] for root in recorded)
    assert b"".join(open_) == b"".join(sealed)
    assert len(b"".join(open_)) > 10_000


@pytest.mark.slow
def test_every_cut_through_the_last_two_batches_is_read_up_to_the_last_whole_batch(
    recorded: tuple[Path, Path], tmp_path: Path
) -> None:
    root = copied(recorded[0], tmp_path / "cut")
    place = place_of(root, "trades")
    path = root / place.path
    whole = path.read_bytes()
    file = RecordedFile(Folder(str(root)), place)
    blocks = file.blocks
    rows = [file.batch(number).num_rows for number in range(len(blocks))]
    assert len(blocks) > 4
    for size in range(blocks[-3].end, len(whole) + 1):
        path.write_bytes(whole[:size])
        cut = RecordedFile(Folder(str(root)), place._replace(size=size))
        kept = sum(block.end <= size for block in blocks)
        assert [block.end for block in cut.blocks] == [block.end for block in blocks[:kept]]
        assert [cut.batch(number).num_rows for number in range(kept)] == rows[:kept]
        assert cut.torn_bytes == size - blocks[kept - 1].end
        cut.close()


@pytest.mark.slow
@pytest.mark.parametrize("form", [0, 1], ids=["open", "sealed"])
def test_every_flipped_bit_is_seen_and_named(recorded: tuple[Path, Path], tmp_path: Path, form: int) -> None:
    seed = 4
    chooser = random.Random(seed)
    root = copied(recorded[form], tmp_path / "flip")
    folder = Folder(str(root))
    places = [place_of(root, table) for table in ("trades", "book", "states")]
    originals = {place.path: (root / place.path).read_bytes() for place in places}
    last = {place.path: RecordedFile(folder, place).blocks[-1].start for place in places}
    for number in range(FLIPS // 2):
        place = chooser.choice(places)
        data = bytearray(originals[place.path])
        bit = chooser.randrange(8 * len(data))
        data[bit // 8] ^= 1 << bit % 8
        (root / place.path).write_bytes(data)
        faults = list(faults_of(folder, place))
        if not faults:
            # in the last batch of an open file it can look like a tail that is still being written
            file = RecordedFile(folder, place)
            assert not place.sealed
            assert file.torn_bytes
            assert bit // 8 >= last[place.path], f"seed {seed}, flip {number} of bit {bit} of {place.path}"
        else:
            assert place.path in faults[0]
        (root / place.path).write_bytes(originals[place.path])


def test_the_flips_are_seen_by_the_checksum(
    recorded: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Teeth: without it most of them are read as other data."""
    root = copied(recorded[1], tmp_path / "flip")
    place = place_of(root, "book")
    data = bytearray((root / place.path).read_bytes())
    file = RecordedFile(Folder(str(root)), place)
    data[file.blocks[0].end - 40] ^= 1
    file.close()
    (root / place.path).write_bytes(data)
    with pytest.raises(CorruptRecording, match=r"book/date=.* batch 0: checksum"):
        RecordedFile(Folder(str(root)), place).batch(0)
    monkeypatch.setattr(files, "crc_of", lambda data, at: data.slice(at, 8).to_pybytes())
    RecordedFile(Folder(str(root)), place).verify(0)


def test_a_damaged_batch_names_itself_when_it_is_read(recorded: tuple[Path, Path], tmp_path: Path) -> None:
    root = copied(recorded[1], tmp_path / "damaged")
    place = place_of(root, "quotes")
    data = bytearray((root / place.path).read_bytes())
    data[len(data) // 3] ^= 4
    (root / place.path).write_bytes(data)
    with pytest.raises(CorruptRecording, match=f"quotes/date=.*{Path(place.path).name}"):
        list(RecordingFiles(str(root)).pages(Filter()))


def test_a_file_of_another_table_is_refused(recorded: tuple[Path, Path], tmp_path: Path) -> None:
    root = copied(recorded[1], tmp_path / "other")
    quotes, status = place_of(root, "quotes"), place_of(root, "status")
    shutil.copy(root / quotes.path, root / status.path)
    with pytest.raises(CorruptRecording, match="wanted those of status"):
        RecordedFile(Folder(str(root)), status)
