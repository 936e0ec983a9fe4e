"""Clients that begin in the past, on a real broker: from any time, and from marks older than the gateway's memory."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.structs import TopicPartition
from websockets.asyncio.client import connect

from feed.recording.recording import RecordingFiles
from feed.wire.times import text_of
from tests.feed.venues.playing import CAPTURES
from tests.integration.stage import DEADLINE_S, MARKET, Stage, Truth, Viewer, check_exact, dispose, said, seeded
from tests.reference_client import Client, Json, require

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

VENUES = ("coinbase", "kraken", "binance-usdm")
CAPTURES_USED = (
    "coinbase/exchange_5products_20210417",
    "kraken/v1_5pairs_20210417.book",
    "binance/usdm_multi_20210722",
)
SHORT_S = 2
SHORT = f"resume_window_s = {SHORT_S}"
BETWEEN_NS = 50
"""A time between those of updates: in recordings a source's clock goes on by a nanosecond where a channel turns."""


async def publish(stage: Stage, data_dir: Path, names: tuple[str, ...], speed: str) -> None:
    """Captures, all at once, to their ends."""
    await asyncio.gather(
        *(
            stage.publish(CAPTURES[name].venue, *(data_dir / file for file in CAPTURES[name].files), speed=speed)
            for name in names
        )
    )


Clocks = dict[tuple[str, str, int], int]


async def clocks_of(stage: Stage, venues: Sequence[str] = VENUES) -> Clocks:
    """For each update, by kind, symbol and seq: the newest time that its source had seen by then."""
    clocks: Clocks = {}
    for venue in venues:
        for raws in await stage.records(stage.settings.feed_topic(venue)):
            clock = 0
            for raw in raws:
                if dict(raw.headers)["kind"] != b"data":
                    continue
                for message in msgspec.json.decode(raw.value or b"[]"):
                    if message["type"] == "update":
                        clock = max(clock, int(message["ts_recv"]))
                        clocks.setdefault((message["channel"], message["symbol"], message["seq"]), clock)
    return clocks


def times_of(clocks: Clocks) -> dict[str, list[int]]:
    """The times of all updates and of each venue's, by pattern, in order."""
    times: dict[str, list[int]] = {"*": sorted(clocks.values())}
    for (_, symbol, _), clock in clocks.items():
        times.setdefault(f"{symbol.partition(':')[0]}:*", []).append(clock)
    return {pattern: sorted(found) for pattern, found in times.items()}


class PastClient:
    """A client that asks for everything of some kinds from a time on."""

    def __init__(self, url: str, time: int, symbols: str, kinds: tuple[str, ...] = MARKET) -> None:
        self.client = Client()
        self.time = time
        self._url = url
        self._request: dict[str, Any] = {
            "op": "subscribe",
            "id": "t",
            "channels": list(kinds),
            "symbols": [symbols],
            "from": {"time": text_of(time)},
        }
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> PastClient:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def caught_up(self) -> None:
        """Waits until it is live."""
        async with asyncio.timeout(DEADLINE_S):
            while "t" not in self.client.caught_up:
                assert self._task is not None
                if self._task.done():
                    self._task.result()
                await asyncio.sleep(0.02)

    async def has(self, truth: Truth) -> None:
        """Waits until each channel that it has stands where it ends."""
        ends = {key: msgspec.json.decode(updates[-1])["seq"] for key, updates in truth.items()}
        async with asyncio.timeout(DEADLINE_S):
            while not all(channel.pos >= ends.get(key, -1) for key, channel in self.client.channels.items()):
                assert self._task is not None
                if self._task.done():
                    self._task.result()
                await asyncio.sleep(0.02)

    def check(self, truth: Truth, clocks: Clocks) -> None:
        """Each update after the time came once, in order, byte for byte, and none before it."""
        require(bool(self.client.channels), "no channels")
        for key, channel in self.client.channels.items():
            wanted = [
                update for update in truth.get(key, []) if clocks[*key, msgspec.json.decode(update)["seq"]] > self.time
            ]
            gaps = [gap for gap in channel.gaps if gap["reason"] != "venue"]
            require(not gaps, f"{channel}: gaps {gaps[:3]}")
            require(channel.applied == wanted, f"{channel}: {len(channel.applied)} updates, wanted {len(wanted)}")

    async def _run(self) -> None:
        async with connect(self._url, max_size=None, compression=None, proxy=None, ping_interval=None) as socket:
            await socket.send(self.client.ask(self._request).decode())
            async for payload in socket:
                self.client.receive(payload if isinstance(payload, bytes) else payload.encode())
                require(not self.client.holes, f"a hole in {self.client.holes}")


async def test_from_any_time_the_chain_has_no_seam(kafka: str, data_dir: Path, tmp_path: Path) -> None:
    chance = seeded(7)
    async with (
        Stage(kafka, tmp_path, VENUES, partitions=2, serve=SHORT) as stage,
        stage.running("normalize") as normalizer,
        stage.running("serve", "--port", "0") as gateway,
    ):
        await said(normalizer, "normalizing")
        url = await said(gateway, r"ws://\S+")
        published = asyncio.create_task(publish(stage, data_dir, CAPTURES_USED, "3"))
        await asyncio.sleep(3 * SHORT_S)
        while len(times := times_of(await clocks_of(stage))) <= len(VENUES):
            await asyncio.sleep(0.2)
        everywhere = [time for time in times["*"] if time <= min(max(of_venue) for of_venue in times.values())]
        async with contextlib.AsyncExitStack() as stack:
            clients = [
                await stack.enter_async_context(
                    PastClient(url, chance.choice(everywhere if symbols == "*" else times[symbols]), symbols)
                )
                for symbols in ("*", "*", "COINBASE:*", "KRAKEN:*", "BINANCE-USDM:*")
            ]
            for client in clients:
                await client.caught_up()
            await published
            truth, clocks = await stage.truth(), await clocks_of(stage)
            for client in clients:
                await client.has(truth)
                client.check(truth, clocks)
        async with PastClient(url, times["*"][0] - 1, "*") as all_of_it:
            await all_of_it.caught_up()
            await all_of_it.has(truth)
            all_of_it.check(truth, clocks)
            assert all_of_it.client.channels.keys() >= {key for key in truth if key[0] in MARKET}


async def test_marks_that_memory_has_long_forgotten(kafka: str, data_dir: Path, tmp_path: Path) -> None:
    async with (
        Stage(kafka, tmp_path, VENUES[1:], serve=SHORT) as stage,
        stage.running("normalize") as normalizer,
        stage.running("serve", "--port", "0") as gateway,
    ):
        await said(normalizer, "normalizing")
        address = [await said(gateway, r"ws://\S+")]
        url = address[0]
        async with Viewer(lambda: address[0]) as viewer:
            await viewer.answered()
            published = asyncio.create_task(publish(stage, data_dir, CAPTURES_USED[1:], "3"))
            await viewer.has_marks(2)
            for connections in (1, 2):
                address[0] = "ws://127.0.0.1:9/"
                viewer.drop()
                await asyncio.sleep(5)  # longer than memory reaches
                address[0] = url
                await viewer.caught_up(connections)
            await published
            truth = await stage.truth()
            await viewer.has(truth)
            check_exact(viewer.client, truth)


async def test_recordings_then_the_log_then_memory_without_a_seam(kafka: str, data_dir: Path, tmp_path: Path) -> None:
    """Under load; the recorder is killed twice on the way, and the log forgets all but its end."""
    chance = seeded(23)
    root = tmp_path / "recordings"
    serve = f'{SHORT}\nrecordings = "{root}"'
    async with (
        Stage(kafka, tmp_path, VENUES, partitions=2, serve=serve) as stage,
        stage.running("normalize") as normalizer,
        stage.running("serve", "--port", "0") as gateway,
    ):
        await said(normalizer, "normalizing")
        url = await said(gateway, r"ws://\S+")
        recording = stage.start("record", "--json", "--to", str(root))
        await asyncio.to_thread(recording.said, '"commits":[1-9]', lines=recording.out, timeout_s=DEADLINE_S)
        published = asyncio.create_task(publish(stage, data_dir, CAPTURES_USED, "0.5"))
        ends: dict[TopicPartition, int] = {}
        for _ in range(2):
            await asyncio.sleep(2 + chance.random() * 2)
            ends = ends or await ends_of(stage)
            await dispose(recording)
            recording = stage.start("record", "--json", "--to", str(root))
            await asyncio.to_thread(recording.said, '"commits":[2-9]', lines=recording.out, timeout_s=DEADLINE_S)
        before = await forget(stage, ends, root)
        times = {pattern: found[: len(found) // 4] for pattern, found in times_of(before).items()}
        async with contextlib.AsyncExitStack() as stack:
            clients = [
                await stack.enter_async_context(
                    PastClient(url, chance.choice(times[symbols][: len(times[symbols]) // 2]) - BETWEEN_NS, symbols)
                )
                for symbols in ("COINBASE:*", "KRAKEN:*", "BINANCE-USDM:*", "KRAKEN:*", "BINANCE-USDM:*")
            ]
            for client in clients:
                await client.caught_up()
            await published
            truth, clocks = await stage.truth(), await clocks_of(stage) | before
            for client in clients:
                await client.has(truth)
                client.check(truth, clocks)
                assert sum(len(channel.applied) for channel in client.client.channels.values()) > 100
        await dispose(recording)


async def ends_of(stage: Stage) -> dict[TopicPartition, int]:
    """Where each feed log ends."""
    logs = [TopicPartition(stage.settings.feed_topic(venue), number) for venue in VENUES for number in range(2)]
    return {where: (await stage.cluster.offsets(where))[1] for where in logs}


async def forget(stage: Stage, ends: dict[TopicPartition, int], root: Path) -> Clocks:
    """Deletes of each feed log what was before, once nobody needs it who starts where the recording ends; the clocks
    of what there was."""
    admin = AIOKafkaAdminClient(bootstrap_servers=stage.kafka)
    await admin.start()
    try:
        for where, end in ends.items():
            async with asyncio.timeout(DEADLINE_S):
                while await floor_of(stage, where, recorded(stage, root).get(where, 0)) < end:
                    await asyncio.sleep(0.2)
        clocks = await clocks_of(stage)
        await admin.delete_records({where: RecordsToDelete(before_offset=end) for where, end in ends.items()})
        return clocks
    finally:
        await admin.close()


def recorded(stage: Stage, root: Path) -> dict[TopicPartition, int]:
    """Up to which offset of each feed log was recorded."""
    recording = RecordingFiles(str(root))
    places = {name.partition("@")[0]: span.offset for name, span in recording.positions.items()}
    recording.close()
    logs = [(TopicPartition(stage.settings.feed_topic(venue), n), f"{venue}/{n}") for venue in VENUES for n in range(2)]
    return {where: places[name] for where, name in logs if name in places}


async def floor_of(stage: Stage, where: TopicPartition, end: int) -> int:
    """The floor of the last record of a feed log before an offset; -1 where there is none."""
    pages = [page async for page in stage.cluster.read(where, max(end - 1, 0), end)]
    return int(dict(pages[-1][-1].headers)["floor"]) if pages else -1


async def test_tail_from_a_time_prints_what_came_after_it(kafka: str, data_dir: Path, tmp_path: Path) -> None:
    async with (
        Stage(kafka, tmp_path, ["kraken"], serve=SHORT) as stage,
        stage.running("normalize") as normalizer,
        stage.running("serve", "--port", "0") as gateway,
    ):
        await said(normalizer, "normalizing")
        url = await said(gateway, r"ws://\S+")
        await stage.publish_capture("kraken/v1_5pairs_20210417.book", data_dir)
        truth = await stage.truth()
        async with PastClient(url, 0, "*") as everything:
            await everything.has(truth)
        clocks = await clocks_of(stage, ["kraken"])
        time = sorted(clocks.values())[len(clocks) // 2]
        wanted = [
            (key, update)
            for key, updates in truth.items()
            for update in updates
            if key[0] == "book" and clocks[*key, msgspec.json.decode(update)["seq"]] > time
        ]
        async with stage.running("tail", "book", "*", "--from", str(time), "--url", url, "--json") as tail:
            async with asyncio.timeout(DEADLINE_S):
                while sum('"type":"update"' in line for line in tail.out) < len(wanted):
                    assert tail.process.poll() is None, tail.err
                    await asyncio.sleep(0.1)
            found = [line.encode() for line in tail.out if '"type":"update"' in line]
        assert sorted(found) == sorted(update for _, update in wanted)


async def test_a_history_of_a_busy_log_catches_up_within_a_second_of_its_gap(kafka: str, tmp_path: Path) -> None:
    """Something comes all the time, so that reading the log never finds it at its end for long."""
    async with (
        Stage(kafka, tmp_path, ["acme"], partitions=2, serve=SHORT) as stage,
        stage.running("normalize") as normalizer,
        stage.running("serve", "--port", "0") as gateway,
    ):
        await said(normalizer, "normalizing")
        url = await said(gateway, r"ws://\S+")
        ticking = asyncio.create_task(tick_for_ever(stage, "acme", partitions=2))
        try:
            marks = await marks_of(url)
            await asyncio.sleep(3 * SHORT_S)
            logs = [TopicPartition(stage.settings.feed_topic("acme"), number) for number in range(2)]
            await delete_before(stage, {where: await newest_floor(stage, where) for where in logs})
            for start in ({"marks": marks}, {"time": "2026-11-20"}):
                gaps, took = await gap_to_caught_up(url, start)
                assert {gap["reason"] for gap in gaps} == {"evicted"}
                assert took < 1, f"caught up {took:.1f} s after the gap, from {start}"
        finally:
            ticking.cancel()
            await asyncio.wait([ticking])


async def tick_for_ever(stage: Stage, venue: str, *, partitions: int) -> None:
    """A trade every few milliseconds in each partition."""
    for number in itertools.count(1):
        trade = {"price": "1", "size": "1", "side": "buy", "trade_id": str(number), "ts_event": None}
        value = msgspec.json.encode({"channel": "trades", "ts_event": None, "data": [trade]})
        for partition in range(partitions):
            await stage.send(venue, [(f"S{partition}", value)], partition=partition)
        await asyncio.sleep(0.005)


async def marks_of(url: str) -> dict[str, int]:
    """What a client would resume from now."""
    async with connect(url, max_size=None, compression=None, proxy=None) as socket:
        client = Client()
        await socket.send(client.ask({"op": "subscribe", "channels": ["trades"], "symbols": ["*"]}).decode())
        async with asyncio.timeout(DEADLINE_S):
            while len([mark for mark in client.marks.values() if mark > 0]) < 2 or len(client.channels) < 2:
                client.receive(await socket.recv(decode=False))
    return client.marks


async def newest_floor(stage: Stage, where: TopicPartition) -> int:
    """The floor of the last record of a feed log."""
    return await floor_of(stage, where, (await stage.cluster.offsets(where))[1])


async def delete_before(stage: Stage, begins: dict[TopicPartition, int]) -> None:
    """Deletes what lies before these offsets, as retention does."""
    admin = AIOKafkaAdminClient(bootstrap_servers=stage.kafka)
    await admin.start()
    try:
        await admin.delete_records({where: RecordsToDelete(before_offset=begin) for where, begin in begins.items()})
    finally:
        await admin.close()


async def gap_to_caught_up(url: str, start: Json) -> tuple[list[Json], float]:
    """The gaps that a resume of all trades brings, and how long after the first of them it has caught up."""
    client = Client()
    gap_at = 0.0
    async with connect(url, max_size=None, compression=None, proxy=None) as socket, asyncio.timeout(DEADLINE_S):
        request = {"op": "subscribe", "id": "t", "channels": ["trades"], "symbols": ["*"], "from": start}
        await socket.send(client.ask(request).decode())
        while "t" not in client.caught_up:
            client.receive(await socket.recv(decode=False))
            if not gap_at and any(channel.gaps for channel in client.channels.values()):
                gap_at = asyncio.get_running_loop().time()
        assert not client.holes
        gaps = [gap for channel in client.channels.values() for gap in channel.gaps]
        return gaps, asyncio.get_running_loop().time() - gap_at
