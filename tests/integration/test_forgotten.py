"""What a feed log has forgotten that nobody read: trades and bars say that it is lost, to clients and in recordings."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.structs import TopicPartition

from feed.recording.filter import Filter
from feed.recording.recording import RecordingFiles
from tests.integration.stage import DEADLINE_S, Stage, Viewer, dispose, port_of_a_gateway, said
from tests.integration.test_kills import Victim, desk_ticks
from tests.integration.test_past import floor_of

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

LOST_KINDS = ("trades", "bars")


async def recorded(root: Path, ticks: int) -> None:
    """Waits until so many ticks of the only partition are in the recording."""
    async with asyncio.timeout(DEADLINE_S):
        while max([span.tick for span in positions(root).values()], default=-1) < ticks - 1:
            await asyncio.sleep(0.1)


def positions(root: Path) -> Any:
    """Up to where each source was recorded; nothing while there is no recording."""
    if not root.is_dir():
        return {}
    recording = RecordingFiles(str(root))
    try:
        return recording.positions
    finally:
        recording.close()


def recorded_messages(root: Path) -> Iterator[dict[str, Any]]:
    """All of a recording, in order."""
    recording = RecordingFiles(str(root))
    try:
        for page in recording.pages(Filter()):
            yield from map(json.loads, page.messages.to_pylist())
    finally:
        recording.close()


async def forget(stage: Stage, ticks: list[tuple[str, bytes]]) -> None:
    """Deletes all that the feed log has, while these ticks come, so that a floor lies beyond it."""
    where = TopicPartition(stage.settings.feed_topic("desk"), 0)
    _, end = await stage.cluster.offsets(where)
    async with asyncio.timeout(DEADLINE_S):
        for tick in ticks:
            await stage.send("desk", [tick])
            await asyncio.sleep(0.05)
        while await floor_of(stage, where, (await stage.cluster.offsets(where))[1]) < end:
            await asyncio.sleep(0.1)
    admin = AIOKafkaAdminClient(bootstrap_servers=stage.kafka)
    await admin.start()
    try:
        await admin.delete_records({where: RecordsToDelete(before_offset=end)})
    finally:
        await admin.close()


async def test_what_was_forgotten_is_lost_to_clients_and_in_recordings(kafka: str, tmp_path: Path) -> None:
    root = tmp_path / "recordings"
    port = port_of_a_gateway()
    url = f"ws://127.0.0.1:{port}/v1/stream"
    async with Stage(kafka, tmp_path, ["desk"]) as stage, stage.running("normalize") as normalizer:
        await said(normalizer, "normalizing")
        gateway = Victim(stage, "serve", "--port", str(port), ready=r"ws://\S+")
        await gateway.start()
        try:
            async with Viewer(lambda: url) as viewer:
                await viewer.answered()
                recorder = stage.start("record", "--json", "--to", str(root))
                await stage.send("desk", desk_ticks(0, 50))
                await viewer.has(await stage.truth())
                await viewer.has_marks(1)
                await recorded(root, 99)
                await gateway.kill()
                await dispose(recorder)
                await stage.send("desk", desk_ticks(50, 120))
                await forget(stage, desk_ticks(120, 150))
                await gateway.start()
                recorder = stage.start("record", "--json", "--to", str(root))
                kinds = {kind: viewer.client.channel(kind, "DESK:A") for kind in ("trades", "bars", "book")}
                await viewer.until(lambda: bool(kinds["book"].book()[0].get("149")), "the last change")
                for kind, channel in kinds.items():
                    gaps = [(gap["reason"], gap["lost"]) for gap in channel.gaps]
                    assert gaps == [("evicted", kind in LOST_KINDS)], kind
                    assert not channel.waiting
                ids = [int(trade["trade_id"]) for trade in kinds["trades"].holds()]
                assert ids[:49] == list(range(1, 50))
                assert ids[49] > 50, "the trades of the gap came after all"
                assert ids[-1] == 149
                assert ids[49:] == list(range(ids[49], 150))
                await recorded(root, 299)
                await stage.send("desk", desk_ticks(150, 160))
                await recorded(root, 319)
                await dispose(recorder)
        finally:
            await gateway.end()
    told: dict[str, list[tuple[str, bool, str]]] = {}
    gaps_before: dict[str, dict[str, Any]] = {}
    for message in recorded_messages(root):
        if gap := gaps_before.pop(message["channel"], None):
            told.setdefault(message["channel"], []).append((gap["reason"], gap["lost"], message["type"]))
        if message["type"] == "gap":
            gaps_before[message["channel"]] = message
    assert told == {
        "trades": [("recording", True, "update")],
        "bars": [("recording", True, "update")],
        "book": [("recording", False, "snapshot")],
    }
