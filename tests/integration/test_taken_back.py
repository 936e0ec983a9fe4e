"""Ticks taken back and written anew, logs that were cut: what is new comes, in a new incarnation, and is told."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from aiokafka.structs import TopicPartition
from broker import Broker

from tests.conftest import BrokerMaker
from tests.integration.stage import Stage, Viewer
from tests.integration.test_standstill import trade

pytestmark = [pytest.mark.anyio, pytest.mark.slow]
Fresh = Callable[[str], str]
_BATCH_OVERHEAD = 61


def cut_log(broker: Broker, topic: str, ticks: int) -> None:
    """Takes the last batches of a partition's log away, as a machine does that lost what was not on its disk yet.

    `ticks`: how many batches go; each tick was sent in one.
    """
    (folder,) = (broker.folder / "data").glob(f"{topic}-0")
    segment = max(folder.glob("*.log"))
    raw = segment.read_bytes()
    starts, at = [], 0
    while at + 12 <= len(raw) and (length := int.from_bytes(raw[at + 8 : at + 12])):
        starts.append(at)
        at += 12 + length
    segment.write_bytes(raw[: starts[-ticks]])
    for index in (*folder.glob("*.index"), *folder.glob("*.timeindex"), *folder.glob("*.snapshot")):
        index.unlink()


def ids(viewer: Viewer, symbol: str) -> list[str]:
    """The trades that came as updates, by their ids."""
    return [one["trade_id"] for raw in viewer.channels["trades", symbol].applied for one in json.loads(raw)["data"]]


async def one_by_one(stage: Stage, name: str, numbers: range) -> None:
    for number in numbers:
        await stage.send(name, [("A", trade(number))])


@pytest.mark.parametrize("rewritten", [5, 40])
async def test_ticks_that_were_taken_back_and_written_anew_all_come(
    own_broker: BrokerMaker, tmp_path: Path, fresh: Fresh, rewritten: int
) -> None:
    """The normalizer runs all the while. `rewritten`: fewer new ticks than were lost, or more: then it finds as many as
    it had read, and none is out of range."""
    broker = own_broker()
    name = fresh("desk")
    symbol = f"{name.upper()}:A"
    async with Stage(broker.address, tmp_path, [name]) as stage:
        async with (
            contextlib.AsyncExitStack() as stack,
            stage.running("normalize") as normalizer,
            stage.running("serve", "--port", "0") as gateway,
        ):
            url = (await asyncio.to_thread(gateway.said, r"ws://\S+", timeout_s=60.0))[0]
            viewer = await stack.enter_async_context(Viewer(lambda: url, ["trades", "status"]))
            await one_by_one(stage, name, range(60))
            status = json.dumps({"channel": "status", "data": {"action": "halt", "reason": None}}).encode()
            await stage.send(name, [("A", status)])
            await one_by_one(stage, name, range(60, 80))
            await viewer.has(await stage.truth())
            before = viewer.channels["trades", symbol].source
            normalizer.process.send_signal(signal.SIGSTOP)
            await asyncio.to_thread(broker.kill)
            cut_log(broker, stage.settings.ticks_topic(name), 25)  # the status, too
            await asyncio.to_thread(broker.start)
            await stage.appender.stop()
            stage.appender = type(stage.appender)(broker.address)
            await stage.appender.start()
            await one_by_one(stage, name, range(1000, 1000 + rewritten))
            normalizer.process.send_signal(signal.SIGCONT)
            wanted = [f"t{number}" for number in range(1000, 1000 + rewritten)]
            await viewer.until(lambda: ids(viewer, symbol)[-rewritten:] == wanted, "the new trades", 60)
            channel = viewer.channels["trades", symbol]
            assert channel.source != before
            assert [(gap["reason"], gap["lost"]) for gap in channel.gaps] == [("source", True)]
            # what was told of ticks that are gone stays told
            assert viewer.channels["status", symbol].data["action"] == "halt"
            assert ids(viewer, symbol).count("t79") <= 1
        # a restart goes on from there
        async with stage.up() as url, Viewer(lambda: url, ["trades", "status"]) as viewer:
            await viewer.until(lambda: len(viewer.channels) == 2, "both channels")
            assert viewer.channels["trades", symbol].source != before
            assert viewer.channels["status", symbol].data["action"] == "halt"
            assert [one["trade_id"] for one in viewer.channels["trades", symbol].data][-rewritten:] == wanted


async def test_a_cut_that_is_found_at_a_start_publishes_nothing_old(
    own_broker: BrokerMaker, tmp_path: Path, fresh: Fresh
) -> None:
    broker = own_broker()
    name = fresh("desk")
    symbol = f"{name.upper()}:A"
    async with Stage(broker.address, tmp_path, [name]) as stage:
        async with stage.up() as url, Viewer(lambda: url, ["trades"]) as viewer:
            await one_by_one(stage, name, range(50))
            await viewer.has(await stage.truth())
            (last, *_) = await stage.records(stage.settings.feed_topic(name))
        await asyncio.to_thread(broker.kill)
        cut_log(broker, stage.settings.ticks_topic(name), 10)
        await asyncio.to_thread(broker.start)
        await stage.appender.stop()
        stage.appender = type(stage.appender)(broker.address)
        await stage.appender.start()
        async with stage.up() as url, Viewer(lambda: url, ["trades"]) as viewer:
            await viewer.until(lambda: len(viewer.channels) == 1, "the symbol")
            await one_by_one(stage, name, range(100, 103))
            await viewer.until(lambda: ids(viewer, symbol)[-1:] == ["t102"], "the new trades", 60)
            (raws,) = await stage.records(stage.settings.feed_topic(name))
            told = [raw for raw in raws if raw.offset > last[-1].offset and dict(raw.headers)["kind"] == b"data"]
            messages = [message for raw in told for message in json.loads(raw.value or b"[]")]
            trades = [m for m in messages if m["type"] == "update" and m["channel"] == "trades"]
            assert [one["trade_id"] for m in trades for one in m["data"]] == ["t100", "t101", "t102"]
            openings = [dict(raw.headers) for raw in raws if dict(raw.headers)["kind"] == b"source"]
            assert [(o["carries"], o["missing"], o["last"]) for o in openings[1:]] == [(b"1", b"1", b"39")]
            where = TopicPartition(stage.settings.ticks_topic(name), 0)
            assert (await stage.cluster.offsets(where, ticks=True))[1] == 43
