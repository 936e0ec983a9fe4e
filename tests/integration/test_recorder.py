"""The recorder on a real broker: killed, stopped, refused, out of space; the files hold each update once and whole."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import pytest

from feed.kafka.cluster import Raw
from feed.recording.filter import Filter
from feed.recording.folder import Folder
from feed.recording.recording import RecordingFiles
from feed.recording.verify import faults_of
from feed.venues.table import venue as venue_named
from replay.checking import file_faults
from replay.sinks import TickTopic
from replay.ticks import RecordedTick, ticks_of
from tests.feed.recorder.test_session import stream_of, updates_of
from tests.feed.venues.playing import CAPTURES, captured
from tests.integration.commands import Command
from tests.integration.stage import DEADLINE_S, Stage, Truth, dispose, said, seeded

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

KILLS = 50
STEPS_A_LIFE = 40
STARTS_S = 180.0
VENUES = ("coinbase", "kraken", "binance-usdm")
CAPTURES_USED = (
    "coinbase/exchange_5products_20210417",
    "kraken/v1_5pairs_20210417.book",
    "binance/usdm_multi_20210722",
)
SLOW_DISK = """
import os, time
whole = os.write
def in_pieces(fd, data):
    time.sleep(0.0005)
    return whole(fd, data[:max(len(data) // 2, 1024)])
os.write = in_pieces
"""
"""So that one kill in three or so comes in the middle of a commit, between two tables or within a batch."""
RECORD = """
[record]
flush_interval_ms = 30
sync_interval_ms = 100
free_bytes_min = 0
retry_ms = 100
"""


@asynccontextmanager
async def recorded_stage(
    kafka: str, folder: Path, venues: tuple[str, ...], record: str = RECORD
) -> AsyncIterator[Stage]:
    """A stage whose settings say how to record, with a normalizer that runs."""
    stage = Stage(kafka, folder, venues, partitions=2)
    file = folder / "feed.toml"
    file.write_text(file.read_text() + record)
    async with stage, stage.running("normalize") as normalizer:
        await said(normalizer, "normalizing")
        yield stage


def complete(root: Path, truth: Truth) -> bool:
    """Whether each channel's last update is there, sealed or not."""
    recording = RecordingFiles(str(root))
    found = updates_of(stream_of(recording, Filter()))
    recording.close()
    return all(key in found and found[key][-1] == updates[-1] for key, updates in truth.items())


async def wait_complete(root: Path, truth: Truth) -> None:
    async with asyncio.timeout(3 * DEADLINE_S):
        while not await asyncio.to_thread(complete, root, truth):
            await asyncio.sleep(0.25)


async def committed(command: Command, commits: int) -> None:
    """Waits until a recorder has committed so often since it started, and records."""
    deadline = time.monotonic() + STARTS_S
    while True:
        assert command.process.poll() is None, command.err[-5:]
        told = json.loads(command.out[-1]) if command.out else {}
        if told.get("ok") and told["commits"] >= commits:
            return
        assert time.monotonic() < deadline, f"{commits} commits: not in {STARTS_S} s; it says {told}"
        await asyncio.sleep(0.05)


def check(root: Path, truth: Truth) -> None:
    """Each update once and whole, and no file with a fault."""
    folder = Folder(str(root))
    assert [fault for place in folder.places() for fault in faults_of(folder, place)] == []
    stream = stream_of(RecordingFiles(str(root)), Filter())
    assert updates_of(stream) == truth
    assert not any(b'"reason":"recording"' in entry[4] for entry in stream)


class Publishing:
    """Captures on their way into their topics, a piece for each life of a recorder: whenever it is killed some come."""

    def __init__(self, stage: Stage, data_dir: Path, lives: int) -> None:
        self.begun = 0
        self._lives = lives
        self._frames = {name: captured(data_dir, name) for name in CAPTURES_USED}
        self._topics = {name: topic_of(stage, CAPTURES[name].venue) for name in CAPTURES_USED}

    async def run(self) -> None:
        """Sends a little, waits a little, up to what the lives so far may see."""
        steps = self._lives * STEPS_A_LIFE
        for step in range(steps):
            while step >= self.begun * STEPS_A_LIFE:
                await asyncio.sleep(0.01)
            for name, frames in self._frames.items():
                for frame in frames[len(frames) * step // steps : len(frames) * (step + 1) // steps]:
                    self._topics[name].add(frame)
                await self._topics[name].flush()
            await asyncio.sleep(0.01)


def topic_of(stage: Stage, venue: str) -> TickTopic:
    """Where a venue's captures go."""
    return TickTopic(stage.appender, stage.settings.ticks_topic(venue), 2, venue_named(venue).keys)


def open_files(root: Path) -> set[tuple[str, int]]:
    """Files that are being written, each with the time of its last write."""
    found = set()
    for file in root.glob("*/*/*.part"):
        with contextlib.suppress(FileNotFoundError):
            found.add((file.name, file.stat().st_mtime_ns))
    return found


async def killed_while_it(records: bool, command: Command, root: Path, random: Random) -> None:
    """Kills it at random: once it `records`, or at any moment since it began to work."""
    deadline = time.monotonic() + STARTS_S
    before = open_files(root)
    while not command.out or (records and before >= open_files(root)):
        assert command.process.poll() is None, command.err[-5:]
        assert time.monotonic() < deadline, f"no file in {STARTS_S} s; it says {command.out[-1:]}"
        await asyncio.sleep(0.005)
    await asyncio.sleep(0.3 * random.random())
    await dispose(command)


async def test_killed_50_times_during_a_publish_the_files_hold_each_update_once(
    kafka: str, data_dir: Path, tmp_path: Path
) -> None:
    random = seeded(11)
    root = tmp_path / "recordings"
    async with recorded_stage(kafka, tmp_path, VENUES) as stage:
        # a recording begins where its first recorder comes: from then on it is to have everything
        await committed(first := stage.start("record", "--json"), 1)
        await dispose(first)
        stage.planted = SLOW_DISK
        publishing = Publishing(stage, data_dir, KILLS + 1)
        sending = asyncio.create_task(publishing.run())
        killed: list[Command] = []
        for number in range(KILLS):
            publishing.begun += 1
            killed.append(stage.start("record", "--json"))
            await killed_while_it(number % 4 > 0, killed[-1], root, random)
        assert not sending.done()
        publishing.begun += 1
        await sending
        truth = await stage.truth()
        async with stage.running("record", "--json") as command:
            await committed(command, 1)
            await wait_complete(root, truth)
            assert await asyncio.to_thread(command.end, signal.SIGTERM, timeout_s=DEADLINE_S) == 0
        assert any("after its last whole batch" in line for command in killed for line in command.err)
    assert not list(root.rglob("*.part"))
    assert len(list((root / "trades").rglob("*.arrow"))) > KILLS / 3
    check(root, truth)


@asynccontextmanager
async def on_tmpfs(folder: Path, size: str) -> AsyncIterator[tuple[str, Path]]:
    """A process in its own mount namespace with a tmpfs of this size: its pid, and the folder as seen from here."""
    folder.mkdir()
    script = f"mount -t tmpfs -o size={size} none {folder} && echo ready && exec sleep 1000"
    holder = subprocess.Popen(["unshare", "-m", "sh", "-c", script], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        if holder.stdout.readline() != "ready\n":
            pytest.skip("NO MOUNT NAMESPACE: a disk that is full was NOT tested; needs root")
        yield str(holder.pid), Path(f"/proc/{holder.pid}/root{folder}")
    finally:
        holder.kill()
        holder.wait()
        if holder.stdout is not None:
            holder.stdout.close()


def inside(pid: str, *command: str) -> tuple[str, ...]:
    """A command in that namespace."""
    return ("nsenter", "-t", pid, "-m", *command)


async def test_a_full_disk_pauses_it_and_nothing_is_lost(kafka: str, data_dir: Path, tmp_path: Path) -> None:
    async with (
        on_tmpfs(tmp_path / "disk", "160k") as (pid, disk),
        recorded_stage(kafka, tmp_path, ("coinbase",)) as stage,
        recording_inside(pid, tmp_path) as command,
    ):
        await committed(command, 1)
        await stage.publish_capture("coinbase/exchange_5products_20210417", data_dir)
        await paused(command, "No space left on device")
        subprocess.run(inside(pid, "mount", "-o", "remount,size=64m", str(tmp_path / "disk")), check=True)
        await ends_well(command, disk / "recordings", await stage.truth())


async def test_a_read_only_disk_pauses_it_until_it_can_be_written(kafka: str, data_dir: Path, tmp_path: Path) -> None:
    async with (
        on_tmpfs(tmp_path / "disk", "64m") as (pid, disk),
        recorded_stage(kafka, tmp_path, ("kraken",)) as stage,
    ):
        (disk / "recordings").mkdir()
        subprocess.run(inside(pid, "mount", "-o", "remount,ro", str(tmp_path / "disk")), check=True)
        async with recording_inside(pid, tmp_path) as command:
            await paused(command, "Read-only file system")
            subprocess.run(inside(pid, "mount", "-o", "remount,rw", str(tmp_path / "disk")), check=True)
            await committed(command, 1)
            await stage.publish_capture("kraken/v1_5pairs_20210417.book", data_dir)
            await ends_well(command, disk / "recordings", await stage.truth())


@asynccontextmanager
async def recording_inside(pid: str, folder: Path) -> AsyncIterator[Command]:
    """`feed record` in that namespace."""
    settings = f"FEED_CONFIG={folder / 'feed.toml'}"
    main = ("env", settings, sys.executable, "-c", "from feed.cli import main; main()")
    to = str(folder / "disk" / "recordings")
    command = Command(*inside(pid, *main), "record", "--json", "--to", to, cwd=folder)
    try:
        yield command
    finally:
        await dispose(command)


async def paused(command: Command, words: str) -> None:
    """Waits until it says why it does not record."""
    await asyncio.to_thread(
        command.said, rf'"ok":false,"found":"paused: {words}', lines=command.out, timeout_s=DEADLINE_S
    )


async def ends_well(command: Command, root: Path, truth: Truth) -> None:
    """It records again by itself, has everything, and ends with 0."""
    await wait_complete(root, truth)
    await committed(command, 1)
    assert await asyncio.to_thread(command.end, signal.SIGTERM, timeout_s=DEADLINE_S) == 0
    check(root, truth)


async def test_a_file_size_limit_pauses_it_and_nothing_is_lost(kafka: str, data_dir: Path, tmp_path: Path) -> None:
    root = tmp_path / "recordings"
    async with recorded_stage(kafka, tmp_path, ("coinbase",)) as stage, stage.running("record", "--json") as command:
        await committed(command, 1)
        pid = str(command.process.pid)
        subprocess.run(["prlimit", "--fsize=40000:unlimited", "--pid", pid], check=True)
        await stage.publish_capture("coinbase/exchange_5products_20210417", data_dir)
        await paused(command, "File too large")
        subprocess.run(["prlimit", "--fsize=unlimited:unlimited", "--pid", pid], check=True)
        await ends_well(command, root, await stage.truth())


async def test_a_second_recorder_ends_and_says_why(kafka: str, tmp_path: Path) -> None:
    async with recorded_stage(kafka, tmp_path, ("kraken",)) as stage, stage.running("record", "--json") as first:
        await committed(first, 1)
        async with stage.running("record") as second:
            assert await asyncio.to_thread(second.wait, DEADLINE_S) == 1
            assert f'"pid": {first.process.pid}' in second.err[-1]


async def test_raw_ticks_are_recorded_over_kills_and_played_back_as_they_were(
    kafka: str, data_dir: Path, tmp_path: Path
) -> None:
    random = seeded(3)
    root, again = tmp_path / "recordings", tmp_path / "again"
    again.mkdir()
    async with recorded_stage(kafka, tmp_path, ("kraken",)) as stage:
        publishing = asyncio.create_task(stage.publish_capture("kraken/v1_5pairs_20210417.book", data_dir, speed="4"))
        for _ in range(4):
            command = stage.start("record", "--raw", "--json")
            await committed(command, 1)
            await asyncio.sleep(random.random())
            await dispose(command)
        await publishing
        wanted = [[lain(raw) for raw in raws] for raws in await stage.records(stage.settings.ticks_topic("kraken"))]
        async with stage.running("record", "--raw", "--json") as command:
            await committed(command, 1)
            async with asyncio.timeout(DEADLINE_S):
                while sum(len(ticks) for ticks in ticks_in(root)) < sum(map(len, wanted)):
                    await asyncio.sleep(0.5)
            assert await asyncio.to_thread(command.end, signal.SIGTERM, timeout_s=DEADLINE_S) == 0
        recorded = [
            [(t.offset, *t.entry) for ticks in ticks_in(root) for t in ticks if t.partition.partition == n]
            for n in (0, 1)
        ]
        assert recorded == wanted
        assert list(file_faults(Folder(str(root)))) == []
    async with Stage(kafka, again, ("kraken",), partitions=2) as other:
        # the same names on another broker would be the usual case: here the topic of the first stage grows
        await other.replay("publish", str(root), "--raw", "--speed", "max")
        grown = [[lain(raw) for raw in raws] for raws in await other.records(stage.settings.ticks_topic("kraken"))]
        for before, after in zip(wanted, grown, strict=True):
            assert [tick[1:] for tick in after] == [tick[1:] for tick in before] * 2


def lain(raw: Raw) -> tuple[int, bytes | None, bytes | None, list[tuple[str, bytes]]]:
    """A record as it lies in a topic."""
    return raw.offset, raw.key, raw.value, list(raw.headers)


def ticks_in(root: Path) -> list[list[RecordedTick]]:
    """The recorded ticks, block by block."""
    recording = RecordingFiles(str(root), tables=("ticks",))
    found = list(ticks_of(recording))
    recording.close()
    return found
