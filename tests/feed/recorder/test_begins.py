"""Where a recording begins, and where it goes on when its log has lost what it had yet to read."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.structs import TopicPartition

from feed.backfill.past import LogCut
from feed.channels.state import FoldRules
from feed.errors import ConfigError
from feed.follow.floors import EARLIEST, Floors
from feed.recorder import role
from feed.recorder.health import RecorderHealth
from feed.recorder.raw import RawTicks
from feed.recorder.recovery import take_up
from feed.recorder.session import RecorderSession
from feed.recording.disk import Disk
from feed.recording.filter import Filter
from feed.recording.notes import Span
from feed.recording.recording import RecordingFiles
from feed.run.record import begin_of, raw_recorder, record
from feed.runtime.settings import Settings, load
from feed.wire.model import KINDS
from tests.feed.gateway.pasts import MemoryLog
from tests.feed.recorder.made_up import MadeUp, head
from tests.feed.recorder.moving import Partition
from tests.feed.recorder.tape import Log, Tape
from tests.feed.recorder.test_session import stream_of, updates_of


def recorded(root: Path, log: Log, step: int = 5) -> RecordingFiles:
    tape = Tape(root, [log])
    tape.play(step)
    tape.end()
    return RecordingFiles(str(root))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("step", [1, 20, 1000])
def test_what_a_log_still_has_behind_a_hole_is_recorded(tmp_path: Path, seed: int, step: int) -> None:
    made = MadeUp("toy/0", ["TOY:A", "TOY:B"], random.Random(seed))
    made.grow(60)
    made.record()
    recorded(tmp_path / "on", made.log)
    made.grow(200)
    end = len(made.records)
    made.grow(300)
    made.record()
    begin = next(record.offset for record in made.records[end:] if record.floor >= end - 60) - 30
    log = Log("toy/0", made.records, begin)
    # what a new recorder finds in the same log is what there is
    there = updates_of(stream_of(recorded(tmp_path / "new", log), Filter()))
    stream = stream_of(recorded(tmp_path / "on", log, step), Filter())
    found = updates_of(stream)
    assert set(there) <= set(found)
    for channel, updates in there.items():
        assert found[channel][-len(updates) :] == updates, channel
    gaps = [head(text) for *_, text in stream if b'"reason":"recording"' in text]
    lost = {(gap["channel"], gap["symbol"]): gap["lost"] for gap in gaps}
    for channel, updates in found.items():
        if channel in there and len(updates) > len(there[channel]):
            assert lost[channel] is (channel[0] in ("trades", "bars"))


def test_what_was_lost_of_a_log_is_looked_for_from_its_first_place_on(tmp_path: Path) -> None:
    made = Partition("toy/0")
    for number in range(9):
        made.trade("TOY:A", number)
    recorded(tmp_path, made.log)
    end = len(made.records)
    session = Tape(tmp_path, [made.log]).session
    assert session.starts("toy/0", 3, end) == end
    assert session.starts("toy/1", 3, end) == EARLIEST
    for begin, stop in ((end + 5, end + 9), (0, 4)):
        assert session.starts("toy/0", begin, stop) == EARLIEST
    # in the middle of a life, too
    tape = Tape(tmp_path / "new", [made.log])
    tape.read(0, 5)
    tape.commit()
    assert tape.session.starts("toy/0", 2, end) == 5
    assert tape.session.starts("toy/0", 7, end) == EARLIEST
    (tmp_path / "no").mkdir()
    assert (
        RecorderSession(take_up(tmp_path / "no", Disk(tmp_path), KINDS), Filter(), FoldRules(), begins=None).starts(
            "toy/0", 0, end
        )
        is None
    )


def floors_of(log: MemoryLog) -> Floors:
    """Floors on a cluster that has one log."""

    async def offsets(partition: Any) -> tuple[int, int]:
        return await log.bounds()

    async def page(partition: Any, offset: int, bytes_max: int) -> Any:
        return await log.page(offset)

    return Floors(SimpleNamespace(offsets=offsets, page=page), 0)  # type: ignore[arg-type]  # a fake


def test_a_new_recording_begins_with_what_the_log_holds_or_at_a_time() -> None:
    made = MadeUp("toy/0", ["TOY:A", "TOY:B"], random.Random(4))
    made.grow(400)
    made.record()
    log = MemoryLog(made.records, random.Random(1))
    floors, end = floors_of(log), len(made.records)

    def of(wanted: Any) -> int:
        return asyncio.run(floors.of(None, wanted, log.begin, end))  # type: ignore[arg-type]  # the log is the only one

    assert of(EARLIEST) == 0
    late = made.records[-20]
    found = of(LogCut(time=late.last))
    assert 0 < found <= late.offset
    assert made.records[found:][0].offset == found
    log.begin = end // 2
    assert log.begin <= of(EARLIEST) <= log.begin + 60


def test_the_words_of_from() -> None:
    assert begin_of("earliest") == EARLIEST
    assert begin_of("latest") is None
    assert begin_of("2026-11-20T14:30:00.000000001Z") == LogCut(time=1_795_185_000_000_000_001)
    for wrong in ("", "now", "17", "1795467600", "9" * 4400):
        with pytest.raises(ConfigError, match="wanted earliest, latest or a time"):
            begin_of(wrong)


class Followed(Exception):
    """A recorder got so far that it follows its logs."""


class NoFollower:
    """Follows nothing; `starts` is what it was told."""

    starts: Any = None

    def __init__(self, *_: Any, starts: Any, **more: Any) -> None:
        NoFollower.starts = staticmethod(starts)
        self.standings: list[Any] = []
        self.positions: dict[str, Any] = {}

    async def run(self) -> None:
        raise Followed


@pytest.fixture
def no_follower(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(role, "Follower", NoFollower)


def settings_of(root: Path) -> Settings:
    return load({"record.to": str(root), "record.venues": ["toy"], "record.free_bytes_min": 0}).settings


PLACES = {"earliest": EARLIEST, "latest": None, "2026-11-20T14:30:00Z": LogCut(time=1_795_185_000_000_000_000)}


@pytest.mark.usefixtures("no_follower")
@pytest.mark.parametrize("text", [*PLACES, None])
def test_a_new_recording_begins_where_it_was_asked_to(text: str | None, tmp_path: Path) -> None:
    with pytest.raises(Followed):
        asyncio.run(record(settings_of(tmp_path), tells=False, child=False, begin=text))
    assert NoFollower.starts(TopicPartition("feed.toy", 0), 3, 9) == PLACES[text or "earliest"]


@pytest.mark.usefixtures("no_follower")
@pytest.mark.parametrize("text", [*PLACES, None])
def test_from_is_refused_where_there_is_a_recording(text: str | None, tmp_path: Path) -> None:
    made = Partition("toy/0")
    made.trade("TOY:A", 1)
    recorded(tmp_path, made.log)
    with pytest.raises(Followed if text is None else ConfigError, match=None if text is None else "--from is for a"):
        asyncio.run(record(settings_of(tmp_path), tells=False, child=False, begin=text))


@pytest.mark.parametrize("begins", PLACES.values(), ids=PLACES)
def test_a_partition_that_is_added_is_recorded_from_its_begin(begins: LogCut | None, tmp_path: Path) -> None:
    """Where the recording began says nothing of what it did not know then."""
    made = Partition("toy/0")
    made.trade("TOY:A", 1)
    recorded(tmp_path, made.log)
    session = RecorderSession(take_up(tmp_path, Disk(tmp_path), KINDS), Filter(), FoldRules(), begins=begins)
    assert session.starts("toy/1", 3, 9) == EARLIEST
    assert session.starts("toy/0", 0, 9) == len(made.records)
    ticks = RawTicks(SimpleNamespace(), {"ticks.toy/0": Span(4, 5, 1)})  # type: ignore[arg-type]  # none are written
    assert ticks.start("ticks.toy/1", 3, 9) == 3
    assert ticks.start("ticks.toy/0", 3, 9) == 5


@pytest.mark.anyio
@pytest.mark.parametrize(("text", "wanted"), [*zip(PLACES, [3, 9, 6], strict=True)])
async def test_ticks_of_a_new_recording_begin_there_too(text: str, wanted: int, tmp_path: Path) -> None:
    asked: list[int] = []

    async def offset_at(partition: TopicPartition, time_ms: int) -> int | None:
        asked.append(time_ms)
        return 6 if len(asked) == 1 else None

    ticks = raw_recorder(settings_of(tmp_path), RecorderHealth(), begin_of(text))
    ticks._cluster = SimpleNamespace(offset_at=offset_at)  # type: ignore[assignment]  # a fake
    assert RawTicks(SimpleNamespace(), {}).start("ticks.toy/0", 3, 9) is None  # type: ignore[arg-type]
    partition = TopicPartition("ticks.toy", 0)
    assert await ticks._new(partition, 3, 9) == wanted
    if asked:
        assert asked == [1_795_185_000_000]
        assert await ticks._new(partition, 3, 9) == 9, "nothing is as new: at its end"
