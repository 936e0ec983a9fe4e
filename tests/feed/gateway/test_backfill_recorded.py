"""Requests into the past of recordings, then feed logs, then memory: one chain, and every hole in it is named."""

from __future__ import annotations

import contextlib
import errno
import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from feed.backfill.recorded import RecordedMessage, RecordedPart
from feed.errors import Unreachable
from feed.gateway import backfill
from feed.recording.filter import Filter
from feed.recording.folder import Folder
from feed.recording.merge import RowPage
from feed.recording.notes import CorruptRecording
from feed.recording.recording import RecordingFiles
from feed.wire.model import KINDS
from feed.wire.times import text_of
from tests.feed.gateway.pasts import Town
from tests.feed.gateway.test_backfill import SYMBOLS, check, wanted_after
from tests.feed.recorder.made_up import MadeUp, truth_of
from tests.feed.recorder.tape import Tape
from tests.feed.recorder.test_session import EAGER, record

pytestmark = [pytest.mark.anyio, pytest.mark.slow]
ALL = " ".join(KINDS)


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backfill, "_PAUSE_S", 0)


def made(chance: random.Random, steps: int = 150) -> list[MadeUp]:
    """Two partitions in which much has happened."""
    logs = [MadeUp(name, symbols, chance) for name, symbols in SYMBOLS.items()]
    for log in logs:
        log.grow(steps)
        log.record()
    return logs


def recorded(chance: random.Random, root: Path, steps: int = 150, **how: float) -> tuple[Town, int]:
    """What happened was recorded, then more happened; the logs hold what followed. And a time within the recording."""
    logs = made(chance, steps)
    record(root, [log.log for log in logs], chance, **how)
    ends = {log.name: len(log.records) - 1 for log in logs}
    time = chance.randrange(5, min(log.source.seq for log in logs) // 2)
    for log in logs:
        log.grow(steps)
        log.record()
    town = Town(logs, chance, root)
    for log in logs:
        town.logs[log.name].begin = log.records[ends[log.name]].floor
        assert log.records[town.logs[log.name].begin].last > time
    return town, time


@pytest.mark.parametrize("seed", range(7))
@pytest.mark.parametrize("symbols", ["*", "X:A X:C"])
async def test_recordings_and_logs_are_one_chain(seed: int, symbols: str, tmp_path: Path) -> None:
    chance = random.Random(seed)
    place, time = recorded(chance, tmp_path / "recordings", deaths=0.05)
    link = place.link()
    link.subscribe(ALL, symbols, id="t", start={"time": text_of(time)})
    await place.caught_up(link, "t", grows=True)
    place.grow(10)
    await place.until(lambda: link.in_step)
    wanted = wanted_after(place, time)
    check(link.client, {key: value for key, value in wanted.items() if symbols == "*" or key[1] in symbols.split()})
    assert sum(len(channel.applied) for channel in link.client.channels.values()) > 200
    await place.close()


async def test_the_check_sees_a_recorded_message_that_was_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(1)
    place, time = recorded(chance, tmp_path / "recordings", deaths=0.0)
    give, lost = RecordedPart.give, []

    def lossy(self: RecordedPart, messages: list[RecordedMessage]) -> None:
        at = next((n for n, one in enumerate(messages) if b'"type":"update"' in one.message and not lost), None)
        lost.extend(messages[at : at + 1] if at is not None else [])
        give(self, [one for one in messages if one not in lost])

    monkeypatch.setattr(RecordedPart, "give", lossy)
    link = place.link()
    link.subscribe(ALL, "*", id="t", start={"time": text_of(time)})
    with pytest.raises(AssertionError):  # the client is strict itself
        await place.caught_up(link, "t")
    assert lost
    await place.close()


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("symbols", ["*", "X:A X:C"])
async def test_marks_that_only_recordings_reach_resume(seed: int, symbols: str, tmp_path: Path) -> None:
    chance = random.Random(seed)
    logs = made(chance, 60)
    place = Town(logs, chance, tmp_path / "recordings")
    stayed, left = place.link(), place.link()
    for link in (stayed, left):
        link.subscribe(ALL, symbols)
        await place.until(lambda link=link: link.in_step)
    place.grow(5)
    left.take(left.session.heartbeat(5))
    marks = dict(left.client.marks)
    place.links.remove(left)
    left.session.close()
    for _ in range(60):
        place.grow(chance.randrange(4))
    record(tmp_path / "recordings", [log.log for log in logs], chance)
    ends = {log.name: len(log.records) - 1 for log in logs}
    for _ in range(60):
        place.grow(chance.randrange(4))
    for log in logs:
        place.logs[log.name].begin = log.records[ends[log.name]].floor
        assert log.records[place.logs[log.name].begin].last > marks[log.source.source]
    left.client.connect()
    back = place.link(left.client)
    back.subscribe(ALL, symbols, id="r", start={"marks": marks})
    await place.caught_up(back, "r", grows=True)
    place.grow(10)
    await place.until(lambda: back.in_step and stayed.in_step)
    for key, channel in stayed.client.channels.items():
        found = back.client.channels[key]
        assert not [gap for gap in found.gaps if gap["reason"] != "venue"], key
        assert found.applied == channel.applied, key
        assert found.holds() == channel.holds()
    await place.close()


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("symbols", ["*", "X:A X:C"])
async def test_a_hole_between_recording_and_log_is_a_gap(seed: int, symbols: str, tmp_path: Path) -> None:
    chance = random.Random(seed)
    place, time = recorded(chance, tmp_path / "recordings")
    for log in place.made:
        place.logs[log.name].begin = len(log.records) - 40
    link = place.link()
    link.subscribe(ALL, symbols, id="t", start={"time": text_of(time)})
    await place.caught_up(link, "t", grows=True)
    place.grow(10)
    await place.until(lambda: link.in_step)
    truth, wanted = truth_of(place.made), wanted_after(place, time)
    missing = 0
    for key, channel in link.client.channels.items():
        gaps = [gap for gap in channel.gaps if gap["reason"] != "venue"]
        assert [gap["reason"] for gap in gaps] in ([], ["recording"]), channel
        lacking = len(wanted.get(key, [])) - len(channel.applied)
        assert bool(gaps) or not lacking, channel
        missing += lacking
        if key in truth:
            assert channel.pos == place.made[key[1] == "X:C"].source.truths[key].seq
    assert missing > 20
    assert not link.client.holes
    await place.close()


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("time", [0, 1, 3, 6])
async def test_from_before_the_first_ticks_of_a_whole_recording_nothing_is_missing(
    seed: int, time: int, tmp_path: Path
) -> None:
    """Its tables begin with different commits: what had no row until a tick told the time was begun anew."""
    chance = random.Random(seed)
    place, _ = recorded(chance, tmp_path / "recordings", deaths=0.0)
    link = place.link()
    link.subscribe(ALL, "*", id="t", start={"time": text_of(time)})
    await place.caught_up(link, "t", grows=True)
    await place.until(lambda: link.in_step)
    check(link.client, wanted_after(place, time))
    await place.close()


@pytest.mark.parametrize("seed", range(4))
async def test_a_time_before_the_recording_begins_where_that_does(seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)
    logs = made(chance, 150)
    begins = {log.name: len(log.records) // 2 for log in logs}
    for log in logs:
        log.log.begin = log.records[begins[log.name]].floor
    record(tmp_path / "recordings", [log.log for log in logs], chance, deaths=0.0)
    ends = {log.name: len(log.records) - 1 for log in logs}
    for log in logs:
        log.grow(60)
        log.record()
    place = Town(logs, chance, tmp_path / "recordings")
    for log in logs:
        place.logs[log.name].begin = log.records[ends[log.name]].floor
    link = place.link()
    link.subscribe(ALL, "*", id="t", start={"time": text_of(3)})
    await place.caught_up(link, "t", grows=True)
    await place.until(lambda: link.in_step)
    truth = truth_of(place.made)
    for key, channel in link.client.channels.items():
        gaps = [(gap["reason"], gap["prev"]) for gap in channel.gaps if gap["reason"] != "venue"]
        assert gaps in ([], [("evicted", -1)], [("recording", -1)]), channel
        assert gaps or channel.snapshots <= 1  # of a channel that did not change from before the time to the begin
        assert channel.applied == truth[key][-len(channel.applied) :]
        assert channel.applied
    await place.close()


@pytest.mark.parametrize("seed", range(4))
async def test_a_time_before_what_is_kept_of_a_recording_begins_with_whole_states(seed: int, tmp_path: Path) -> None:
    """Its oldest file is one that a recorder began which was started again: its rows go on from those deleted."""
    chance = random.Random(seed)
    logs = made(chance, 150)
    root = tmp_path / "recordings"
    tape = Tape(root, [log.log for log in logs])
    for number, log in enumerate(logs):
        for _ in range(len(log.records) // 10):
            tape.read(number, 5)
            tape.commit()
    tape.end()
    old = Folder(str(root)).places()
    tape = Tape(root, [log.log for log in logs])
    tape.play(5)
    tape.end()
    for at in old:
        (root / at.path).unlink()
    ends = {log.name: len(log.records) - 1 for log in logs}
    for log in logs:
        log.grow(60)
        log.record()
    place = Town(logs, chance, root)
    for log in logs:
        place.logs[log.name].begin = log.records[ends[log.name]].floor
    link, new = place.link(), place.link()
    link.subscribe(ALL, "*", id="t", start={"time": text_of(3)})
    new.subscribe(ALL, "*")
    await place.caught_up(link, "t")
    await place.until(lambda: link.in_step and new.in_step)
    truth = truth_of(place.made)
    for key, channel in link.client.channels.items():
        gaps = [(gap["reason"], gap["prev"]) for gap in channel.gaps if gap["reason"] != "venue"]
        assert gaps in ([], [("evicted", -1)], [("recording", -1)]), channel
        assert channel.applied == truth[key][-len(channel.applied) :]
        if key[0] == "book":
            assert channel.holds() == new.client.channels[key].holds(), key
    assert not link.client.holes
    await place.close()


async def test_what_was_not_recorded_begins_with_the_log(tmp_path: Path) -> None:
    chance = random.Random(3)
    logs = made(chance)
    recorder = Tape(tmp_path / "recordings", [log.log for log in logs], chosen=Filter(["trades", "book"]), files=EAGER)
    for number in range(len(logs)):
        while recorder.read(number, 5):
            recorder.commit()
    recorder.end()
    ends = {log.name: len(log.records) - 1 for log in logs}
    for log in logs:
        log.grow(100)
        log.record()
    place = Town(logs, chance, tmp_path / "recordings")
    for log in logs:
        place.logs[log.name].begin = log.records[ends[log.name]].floor
    link = place.link()
    link.subscribe("trades quotes", "X:A", id="t", start={"time": text_of(20)})
    await place.until(lambda: link.client.answers)
    assert [result["mode"] for result in link.client.answers["t"]["results"]] == ["snapshot", "gap"]
    await place.caught_up(link, "t")
    await place.until(lambda: link.in_step)
    check(link.client, {("trades", "X:A"): wanted_after(place, 20)["trades", "X:A"]})
    assert [gap["reason"] for gap in link.channel("quotes", "X:A").gaps] == ["evicted"]
    await place.close()


async def test_a_recording_that_is_damaged_on_the_way_is_a_gap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(3)
    place, time = recorded(chance, tmp_path / "recordings", 900, deaths=0.0)
    pages = RecordingFiles.pages

    def damaged(recording: RecordingFiles, *arguments: Any, **more: Any) -> Iterator[RowPage]:
        """What is wrong with a batch is found when it is read: how far that is ahead is the machine's business."""
        first, *_ = pages(recording, *arguments, **more)
        yield first.slice(0, len(first) // 2)
        raise CorruptRecording("planted")

    monkeypatch.setattr(RecordingFiles, "pages", damaged)
    link = place.link()
    link.subscribe("trades", "X:A", id="t", start={"time": text_of(time)})
    await place.caught_up(link, "t")
    await place.until(lambda: link.in_step)
    channel = link.channel("trades", "X:A")
    assert [gap["reason"] for gap in channel.gaps if gap["reason"] != "venue"] == ["recording"]
    assert channel.pos == place.made[0].source.truths["trades", "X:A"].seq
    await place.close()


async def test_without_a_recording_yet_the_log_is_all(tmp_path: Path) -> None:
    chance = random.Random(3)
    logs = made(chance)
    place = Town(logs, chance, tmp_path / "none")
    for log in logs:
        place.logs[log.name].begin = len(log.records) // 2
    link = place.link()
    link.subscribe("trades", "X:A", id="t", start={"time": text_of(3)})
    await place.caught_up(link, "t")
    assert [gap["reason"] for gap in link.channel("trades", "X:A").gaps if gap["reason"] != "venue"] == ["evicted"]
    await place.close()


def held(root: Path) -> int:
    """How many files below a folder this process has open."""
    found = 0
    for fd in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found += str(fd.readlink()).startswith(str(root))
    return found


@pytest.mark.parametrize("fate", ["the client leaves", "OSError", "KeyError", "Unreachable", "kafka is away"])
async def test_what_is_open_is_closed_however_the_looking_ends(
    fate: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(3)
    place, time = recorded(chance, tmp_path / "recordings", deaths=0.0)
    begun, goes_on = threading.Event(), threading.Event()
    positions, place_of = RecordingFiles.footing, backfill.place_of

    def looks(recording: RecordingFiles, *tables: Any) -> int:
        begun.set()
        assert goes_on.wait(20)
        if fate == "OSError":
            raise OSError(errno.EMFILE, "planted")
        if fate == "KeyError":
            raise KeyError("planted")
        return positions(recording, *tables)

    async def away(*of: Any) -> Any:
        if begun.is_set() and fate in ("Unreachable", "kafka is away"):
            raise Unreachable("planted") if fate == "Unreachable" else OSError(errno.ECONNREFUSED, "planted")
        return await place_of(*of)

    monkeypatch.setattr(RecordingFiles, "footing", looks)
    monkeypatch.setattr(backfill, "place_of", away)
    link = place.link()
    link.subscribe("trades", "X:A", id="t", start={"time": text_of(time)})
    await place.until(begun.is_set)
    assert held(tmp_path) > 0
    if fate == "the client leaves":
        place.links.remove(link)
        link.session.close()
        await place.until(lambda: not place.backfill.requests)
    goes_on.set()
    await place.until(lambda: fate == "the client leaves" or "t" in link.client.answers)
    await place.until(lambda: held(tmp_path) == 0)
    if fate != "the client leaves":
        assert link.client.answers["t"]["code"] in ("source_unavailable", "internal")
    await place.close()
