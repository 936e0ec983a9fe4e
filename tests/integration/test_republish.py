"""A recording written back as feed logs on a real broker: a gateway serves it as it served the live one."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from feed.channels.hub import Hub, HubSettings
from feed.channels.steps import whole
from feed.errors import ConfigError
from feed.recording.filter import Filter
from feed.recording.recording import RecordingFiles
from feed.recording.table_files import FROM_BEGIN, TO_END, RecordingCut
from feed.wire.log_reader import LogReader
from feed.wire.record import Record, record_of
from replay import republish as module
from replay.republish import republish
from tests.feed.memory_log import updates_of as updates_in
from tests.feed.recorder.made_up import head, truth_of
from tests.feed.recorder.test_session import made_up, record, stream_of
from tests.integration.stage import MARKET, Stage, Viewer, check_exact, said

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


async def published(stage: Stage, root: Path, start: RecordingCut = FROM_BEGIN) -> list[list[Record]]:
    """The records of the toy venue's feed log after a publish, by partition."""
    recording = RecordingFiles(str(root))
    await republish(
        recording,
        stage.kafka,
        stage.settings.feed_topic,
        {},
        "none",
        chosen=Filter(),
        start=start,
        end=TO_END,
        speed="max",
        tell=lambda done: None,
    )
    raws = await stage.records(stage.settings.feed_topic("toy"))
    return [[record_of(raw.headers, raw.value or b"[]", raw.offset) for raw in partition] for partition in raws]


def standing_from(records: list[Record]) -> dict[tuple[str, str], list[bytes]]:
    """What a gateway holds that starts at the last record's floor."""
    hub, reader, source = Hub(HubSettings()), LogReader(), ""
    for record_ in records[records[-1].floor :]:
        before = reader.take(record_)
        assert before is not None
        if record_.kind == "source" or reader.source != source:
            hub.found(reader.source, source)
            source = reader.source
        if record_.kind == "data":
            hub.data(record_.source, before, reader.pos, record_.value, record_.end)
        elif record_.kind == "keyframe":
            hub.keyframe(record_.source, record_.symbol, record_.value)
    hub.flush(0)
    return {
        (k, found.symbol): whole(hub.snapshot(k, found.symbol)) or [] for found in hub.symbols() for k in found.kinds
    }


@pytest.mark.parametrize("seed", range(3))
async def test_updates_and_states_come_back(
    kafka: str, fresh: Callable[[str], str], tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "KEYFRAME_BYTES", 20_000)
    chooser = random.Random(seed)
    logs = made_up(chooser)
    root = tmp_path / "recordings"
    record(root, [log.log for log in logs], chooser, deaths=0.01)
    async with Stage(kafka, tmp_path, ("toy",), partitions=2) as stage:
        partitions = await published(stage, root)
        found: dict[tuple[str, str], list[bytes]] = {}
        for records in partitions:
            for message in updates_in(records):
                read = head(message)
                if read["type"] == "update":
                    found.setdefault((read["channel"], read["symbol"]), []).append(message)
        assert found == truth_of(logs)
        recording = RecordingFiles(str(root))
        stands = {key: value.messages for key, value in recording.standing(Filter(), TO_END).items()}
        told = {key: value for records in partitions for key, value in standing_from(records).items() if value}
        assert told == stands
        assert partitions[0][-1].floor
        with pytest.raises(ConfigError, match="is not empty"):
            await published(stage, root)


async def test_from_a_time_on_it_begins_with_states(kafka: str, tmp_path: Path) -> None:
    chooser = random.Random(5)
    logs = made_up(chooser)
    root = tmp_path / "recordings"
    record(root, [log.log for log in logs], chooser, deaths=0.0)
    recording = RecordingFiles(str(root))
    stream = stream_of(recording, Filter())
    cut = RecordingCut(stream[len(stream) // 2][0])
    async with Stage(kafka, tmp_path, ("toy",), partitions=2) as stage:
        partitions = await published(stage, root, cut)
        told = {key: value for records in partitions for key, value in standing_from(records).items() if value}
        assert told == {key: value.messages for key, value in recording.standing(Filter(), TO_END).items()}


async def test_a_client_gets_what_was_recorded(kafka: str, data_dir: Path, tmp_path: Path) -> None:
    root = tmp_path / "recordings"
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    async with Stage(kafka, first, ("kraken",), partitions=2) as stage, stage.running("normalize") as normalizer:
        await said(normalizer, "normalizing")
        async with stage.running("record", "--to", str(root), "--json") as recorder:
            await asyncio.to_thread(recorder.said, '"commits":[1-9]', lines=recorder.out, timeout_s=60)
            await stage.publish_capture("kraken/v1_5pairs_20210417.book", data_dir)
            truth = await stage.truth()
            while (commits := recorder.out[-1]) and f'"rows":{sum(map(len, truth.values()))}' not in commits:
                await asyncio.sleep(0.2)
            assert await asyncio.to_thread(recorder.end, timeout_s=60) == 0
    async with (
        Stage(kafka, second, ("kraken",), partitions=2) as stage,
        stage.running("serve", "--port", "0") as gateway,
    ):
        url = await said(gateway, r"ws://\S+")
        async with Viewer(lambda: url, MARKET) as viewer:
            await viewer.answered()
            await stage.replay("publish", str(root), "--speed", "max")
            await viewer.has(truth)
            check_exact(viewer.client, truth)
