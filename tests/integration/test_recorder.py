"""The recorder on a real broker: killed, stopped, refused, out of space; the files hold each update once and whole."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from feed.recording.chosen import Chosen
from feed.recording.folder import Folder
from feed.recording.recording import Recording
from feed.recording.verify import faults_of
from tests.feed.recorder.test_session import stream_of, updates_of
from tests.integration.commands import Command
from tests.integration.stage import DEADLINE_S, Stage, Truth, dispose, said, seeded

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

KILLS = 50
VENUES = ("coinbase", "kraken", "binance-usdm")
CAPTURES_USED = (
    "coinbase/exchange_5products_20210417",
    "kraken/v1_5pairs_20210417.book",
    "binance/usdm_multi_20210722",
)
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
    recording = Recording(str(root))
    found = updates_of(stream_of(recording, Chosen()))
    recording.close()
    return all(key in found and found[key][-1] == updates[-1] for key, updates in truth.items())


async def wait_complete(root: Path, truth: Truth) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not complete(root, truth):
            await asyncio.sleep(1.0)


async def committed(command: Command, commits: int) -> None:
    """Waits until a recorder has committed so often since it started."""
    wanted = rf'"ok":true.*"commits":({"|".join(map(str, range(commits, 100)))}),'
    await asyncio.to_thread(command.said, wanted, lines=command.out, timeout_s=60.0)


def check(root: Path, truth: Truth) -> None:
    """Each update once and whole, and no file with a fault."""
    folder = Folder(str(root))
    assert [fault for place in folder.places() for fault in faults_of(folder, place)] == []
    stream = stream_of(Recording(str(root)), Chosen())
    assert updates_of(stream) == truth
    assert not any(b'"reason":"recording"' in entry[4] for entry in stream)


async def test_killed_50_times_during_a_publish_the_files_hold_each_update_once(
    kafka: str, data_dir: Path, tmp_path: Path
) -> None:
    random = seeded(11)
    root = tmp_path / "recordings"
    async with recorded_stage(kafka, tmp_path, VENUES) as stage:
        await committed(first := stage.start("record", "--json"), 0)
        publishing = [asyncio.create_task(stage.publish_capture(name, data_dir, speed="0.5")) for name in CAPTURES_USED]
        await dispose(first)
        for _ in range(KILLS):
            command = stage.start("record", "--json")
            await committed(command, random.randrange(1, 8))
            await asyncio.sleep(0.05 * random.random())
            await dispose(command)
        await asyncio.gather(*publishing)
        truth = await stage.truth()
        async with stage.running("record") as command:
            await wait_complete(root, truth)
            assert await asyncio.to_thread(command.end, signal.SIGTERM, timeout_s=DEADLINE_S) == 0
    assert not list(root.rglob("*.part"))
    check(root, truth)
