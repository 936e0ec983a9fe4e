"""What a recording holds, whatever the flushes, rotations and deaths of its recorders: each update once, in order."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from feed.channels.channel import NOTHING
from feed.channels.state import Folded, FoldRules, fold
from feed.recorder.recovery import take_up
from feed.recording.disk import Disk
from feed.recording.filter import Filter
from feed.recording.merge import RANKS
from feed.recording.recording import RecordingFiles
from feed.recording.table_files import FROM_BEGIN, TO_END, RecordingCut
from feed.wire.message import END, START
from feed.wire.model import KINDS, Kind
from tests.feed.recorder.made_up import MadeUp, head, truth_of
from tests.feed.recorder.tape import FILES, Log, Tape

EAGER = FILES.model_copy(update={"rotate_bytes": 40_000, "keyframe_ratio": 0.2, "keyframe_bytes_min": 3000})
DEATHS_MAX = 60
Stream = list[tuple[int, str, int, int, bytes]]


def made_up(chooser: random.Random, steps: int = 150) -> list[MadeUp]:
    """Two partitions of a venue."""
    logs = [MadeUp("toy/0", ["TOY:A", "TOY:B"], chooser), MadeUp("toy/1", ["TOY:C"], chooser)]
    for log in logs:
        log.grow(steps)
        if chooser.random() < 0.5:
            log.new_source()
            log.grow(steps // 2)
        log.record()
    return logs


def record(
    root: Path, logs: list[Log], chooser: random.Random, *, deaths: float = 0.05, chosen: Filter | None = None
) -> int:
    """Records all of the logs by recorders that die at random moments; how many died."""
    died = 0
    while True:
        tape = Tape(root, logs, files=EAGER, chosen=chosen)
        more = [True] * len(logs)
        while any(more):
            number = chooser.choice([number for number, left in enumerate(more) if left])
            more[number] = tape.read(number, chooser.randrange(1, 8))
            if chooser.random() < 0.4:
                tape.commit()
            if chooser.random() < deaths and died < DEATHS_MAX:
                tape.die()
                died += 1
                break
        else:
            tape.end()
            return died


def stream_of(
    recording: RecordingFiles, chosen: Filter, start: RecordingCut = FROM_BEGIN, end: RecordingCut = TO_END
) -> Stream:
    """Clock, source, tick, rank and message of all that is read."""
    found: Stream = []
    for page in recording.pages(chosen, start, end):
        sources = [page.sources[code] for code in page.source.tolist()]
        texts = [text.encode().rstrip(b"\n") for text in page.messages.to_pylist()]
        assert bytes(page.text()) == b"".join(text + b"\n" for text in texts)
        found += zip(page.clock.tolist(), sources, page.at.tolist(), page.rank.tolist(), texts, strict=True)
    return found


def updates_of(stream: Stream) -> dict[tuple[str, str], list[bytes]]:
    """The updates of each channel."""
    found: dict[tuple[str, str], list[bytes]] = {}
    for *_, message in stream:
        if message.startswith(b'{"type":"update"'):
            read = head(message)
            found.setdefault((read["channel"], read["symbol"]), []).append(message)
    return found


def standing_of(stream: Stream) -> dict[tuple[str, str], list[bytes]]:
    """How each channel stands after a stream: the fold of all that was said of it."""
    found: dict[tuple[str, str], tuple[str, Folded, list[bytes]]] = {}
    waiting: set[tuple[str, str]] = set()
    for _, source, _, _, message in stream:
        read = head(message)
        key = read["channel"], read["symbol"]
        bare = message[len(START) : -len(END)]
        if read["type"] == "snapshot":
            found[key] = source, Folded(read["seq"], [bare], None, read["seq"]), []
            waiting.discard(key)
        elif read["type"] == "gap" and not read["lost"]:
            waiting.add(key)
        else:
            found.setdefault(key, (source, NOTHING, []))[2].append(bare)
    out = {}
    for key in sorted(found.keys() - waiting):
        source, start, entries = found[key]
        folded = fold(key[0], key[1], source, start, entries, FoldRules())  # type: ignore[arg-type]
        if folded.messages:
            out[key] = [*folded.messages, *([folded.state] if folded.state else [])]
    return out


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
def test_each_update_is_there_once_whatever_flushes_rotations_and_deaths(seed: int, tmp_path: Path) -> None:
    chooser = random.Random(seed)
    logs = made_up(chooser)
    died = record(tmp_path, [log.log for log in logs], chooser)
    recording = RecordingFiles(str(tmp_path))
    stream = stream_of(recording, Filter())
    assert updates_of(stream) == truth_of(logs), f"seed {seed}, {died} deaths"
    assert [entry[:4] for entry in stream] == sorted(entry[:4] for entry in stream)
    assert not any(b'"reason":"recording"' in entry[4] for entry in stream)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_only_what_is_chosen_is_recorded_whatever_deaths(seed: int, tmp_path: Path) -> None:
    chooser = random.Random(seed)
    logs = made_up(chooser)
    some = Filter(["book", "trades"], ["TOY:A", "TOY:C*"])
    record(tmp_path, [log.log for log in logs], chooser, deaths=0.2, chosen=some)
    wanted = {key: told for key, told in truth_of(logs).items() if key[0] in some.kinds and some.symbol(key[1])}
    stream = stream_of(RecordingFiles(str(tmp_path)), Filter())
    assert updates_of(stream) == wanted, f"seed {seed}"
    assert {file.parts[0] for file in (path.relative_to(tmp_path) for path in tmp_path.rglob("*.arrow"))} <= {
        "book",
        "trades",
        "gaps",
        "states",
    }


@pytest.mark.parametrize("kinds", [KINDS, ("book", "trades")], ids=["all kinds", "two kinds"])
def test_the_first_commit_counts_when_its_recorder_dies(kinds: tuple[Kind, ...], tmp_path: Path) -> None:
    logs = made_up(random.Random(1))
    tape = Tape(tmp_path, [log.log for log in logs], chosen=Filter(kinds))
    tape.read(0, 20)
    tape.commit()
    tape.die()
    assert take_up(tmp_path, Disk(tmp_path), kinds).positions["toy/0@a"].tick > 0


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_the_table_is_the_same_whatever_flushes_and_rotations(seed: int, tmp_path: Path) -> None:
    chooser = random.Random(seed)
    logs = [log.log for log in made_up(chooser, steps=80)]
    streams = []
    for turn in range(3):
        record(tmp_path / str(turn), logs, random.Random(turn), deaths=0.1 * turn)
        recording = RecordingFiles(str(tmp_path / str(turn)))
        # turns stand where the flush was; updates where their tick is
        streams.append(
            [(at, source, text) for _, source, at, _, text in stream_of(recording, Filter()) if text[9:15] == b"update"]
        )
    assert [set(stream) for stream in streams] == [set(streams[0])] * 3


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_a_channel_stands_anywhere_as_all_that_was_said_before_comes_to(seed: int, tmp_path: Path) -> None:
    chooser = random.Random(seed)
    logs = made_up(chooser)
    record(tmp_path, [log.log for log in logs], chooser, deaths=0.02)
    recording = RecordingFiles(str(tmp_path))
    stream = stream_of(recording, Filter())
    for cut in [RecordingCut(chooser.choice(stream)[0]) for _ in range(12)] + [FROM_BEGIN, TO_END]:
        standing = recording.standing(Filter(), cut)
        told = {key: [m[len(START) : -len(END)] for m in found.messages] for key, found in standing.items()}
        assert told == standing_of([entry for entry in stream if entry[0] <= cut.time])
        assert stream_of(recording, Filter(), cut) == [entry for entry in stream if entry[0] > cut.time]
    some = Filter(["book", "trades"], ["TOY:A", "TOY:C*"])
    cut = RecordingCut(stream[len(stream) // 2][0])
    wanted = [
        entry
        for entry in stream
        if head(entry[4])["channel"] in some.kinds and some.symbol(head(entry[4])["symbol"]) and entry[0] > cut.time
    ]
    assert stream_of(recording, some, cut) == wanted


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_positions_cut_as_times_do(seed: int, tmp_path: Path) -> None:
    chooser = random.Random(seed)
    logs = made_up(chooser)
    record(tmp_path, [log.log for log in logs], chooser)
    recording = RecordingFiles(str(tmp_path))
    stream = stream_of(recording, Filter())
    ticks = {
        source: chooser.choice([entry[2] for entry in stream if entry[1] == source])
        for source in {e[1] for e in stream}
    }
    cut = RecordingCut(-1, ticks)
    assert stream_of(recording, Filter(), cut) == [entry for entry in stream if entry[2] > ticks[entry[1]]]
    before = [entry for entry in stream if entry[2] <= ticks[entry[1]]]
    assert stream_of(recording, Filter(), FROM_BEGIN, cut) == before


@pytest.mark.slow
def test_large_batches_are_split_when_they_are_sealed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chooser = random.Random(9)
    logs = made_up(chooser, steps=200)
    tape = Tape(tmp_path, [log.log for log in logs])
    while any([tape.read(0, 60), tape.read(1, 60)]):
        tape.commit()
    tape.commit()
    monkeypatch.setattr("feed.recording.seal.BATCH_BYTES_MAX", 500)
    tape.end()
    recording = RecordingFiles(str(tmp_path))
    assert len(recording.files_by_table["trades"].file(0).blocks) > 12
    stream = stream_of(recording, Filter())
    assert updates_of(stream) == truth_of(logs)
    assert [entry[:4] for entry in stream] == sorted(entry[:4] for entry in stream)
    for cut in [RecordingCut(chooser.choice(stream)[0]) for _ in range(20)]:
        told = {
            key: [m[len(START) : -len(END)] for m in found.messages]
            for key, found in recording.standing(Filter(), cut).items()
        }
        assert told == standing_of([entry for entry in stream if entry[0] <= cut.time])
        assert stream_of(recording, Filter(), cut) == [entry for entry in stream if entry[0] > cut.time]


def test_ranks_are_those_of_the_docs() -> None:
    assert RANKS["gaps"] < RANKS["trades"] < RANKS["book"] < RANKS["states"]
