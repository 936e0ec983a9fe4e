"""A stage on a real broker: topics of a test's own, the commands over them as processes, clients, and the truth.

`Stage` has the topics and a folder with their `feed.toml`, in which `feed` and `replay` run. `Viewer` is a client over
any number of connections: it applies the client's rule (`tests.reference_client`) and resumes by marks. `truth` is what
a machine that is never disturbed makes of the ticks as they lie in the topics: the bytes of every update.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
from aiokafka.structs import TopicPartition
from broker import free_port
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidHandshake, WebSocketException

from feed.errors import BadTick
from feed.kafka.append import Appender
from feed.kafka.cluster import Cluster, Raw
from feed.normalizer.ticks import tick_of
from feed.run.topics import make_topics
from feed.run.venues import venue_of
from feed.runtime.settings import Settings, load
from feed.runtime.tasks import end
from feed.venues.source import Source
from feed.venues.symbol import Tick
from feed.wire.model import Update
from tests.feed.venues.playing import CAPTURES
from tests.integration.commands import REPLAY, Command, running
from tests.reference_client import Channel, Client, Json, require

DEADLINE_S: Final = 90.0
PUBLISH_S: Final = 300.0
MAIN: Final = "from feed.cli import main; main()"
MARKET: Final = ("trades", "quotes", "book", "bars", "status")
Key = tuple[str, str]
Truth = dict[Key, list[bytes]]


class Stage:
    """Topics of its own on a broker, and the processes over them. `planted`: Python that commands run first."""

    def __init__(
        self,
        kafka: str,
        folder: Path,
        venues: Sequence[str],
        *,
        partitions: int = 1,
        planted: str = "",
        serve: str = "",
    ) -> None:
        self.kafka = kafka
        self.folder = folder
        self.venues = tuple(venues)
        self.planted = planted
        name = secrets.token_hex(4)
        listed = ", ".join(f'"{venue}"' for venue in venues)
        (folder / "feed.toml").write_text(
            f"""
            [kafka]
            bootstrap = "{kafka}"
            ticks_prefix = "ticks.{name}."
            feed_prefix = "feed.{name}."
            dead_topic = "feed.dead.{name}"
            group = "group.{name}"
            partitions = {partitions}
            assign = "all"
            fetch_max_wait_ms = 100
            [normalize]
            venues = [{listed}]
            alive_ms = 250
            [serve]
            heartbeat_ms = 100
            reconnect_spread_ms = 100
            {serve}
            """
        )
        self.settings: Settings = load(file=folder / "feed.toml").settings
        self.cluster = Cluster(kafka)
        self.appender = Appender(kafka)

    async def __aenter__(self) -> Stage:
        await make_topics(self.settings)
        await self.cluster.start()
        await self.appender.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.appender.stop()
        await self.cluster.stop()

    # ---- processes

    def start(self, *arguments: str) -> Command:
        """A command of `feed`, to be ended or killed by the test."""
        return Command(sys.executable, "-c", f"{self.planted}\n{MAIN}", *arguments, cwd=self.folder)

    @contextlib.asynccontextmanager
    async def running(self, *arguments: str) -> AsyncIterator[Command]:
        """A command of `feed` that is killed when the block is left, however it is."""
        command = self.start(*arguments)
        try:
            yield command
        finally:
            await dispose(command)

    @contextlib.asynccontextmanager
    async def up(self) -> AsyncIterator[str]:
        """All roles in one process: the address of the stream."""
        async with self.running("up", "--port", "0") as command:
            yield await said(command, r"ws://\S+")

    async def publish(self, venue: str, *files: Path, speed: str = "max", symbol: str | None = None) -> None:
        """`replay publish`, to its end."""
        named = ["--symbol", symbol] if symbol else []
        await self.replay("publish", *map(str, files), "--venue", venue, "--speed", speed, *named)

    async def replay(self, *arguments: str) -> None:
        """A command of `replay`, to its end."""
        command = [*REPLAY, *arguments]
        with running(*command, cwd=self.folder) as publishing:
            assert await asyncio.to_thread(publishing.wait, PUBLISH_S) == 0, publishing.err

    async def publish_capture(self, name: str, data_dir: Path, speed: str = "max") -> None:
        """A capture of `tests.feed.venues.playing`, to its end."""
        capture = CAPTURES[name]
        files = [data_dir / file for file in capture.files]
        await self.publish(capture.venue, *files, speed=speed, symbol=capture.symbol)

    async def send(self, venue: str, ticks: Sequence[tuple[str, bytes]], *, partition: int = 0, **more: int) -> None:
        """Ticks, key and value, straight into a partition; `ts_recv` where it is not Kafka's time."""
        headers = [(name, b"%d" % number) for name, number in more.items()]
        await self.appender.append(
            TopicPartition(self.settings.ticks_topic(venue), partition),
            [(key.encode() or None, value, headers) for key, value in ticks],
        )

    # ---- what lies in the topics

    async def records(self, topic: str) -> list[list[Raw]]:
        """All records of a topic, by partition."""
        found: list[list[Raw]] = []
        for number in range(await self.cluster.partitions(topic)):
            where = TopicPartition(topic, number)
            ticks = topic.startswith(self.settings.kafka.ticks_prefix)
            pages = self.cluster.read(where, *await self.cluster.offsets(where, ticks=ticks), ticks=ticks)
            found.append([raw async for page in pages for raw in page])
        return found

    async def truth(self) -> Truth:
        """The updates of each channel, as bytes, that an undisturbed machine makes of the ticks."""
        made: Truth = {}
        for name in self.venues:
            for raws in await self.records(self.settings.ticks_topic(name)):
                play(name, self.settings, [tick_of(raw) for raw in raws], made)
        return made


def play(name: str, settings: Settings, ticks: Sequence[Tick], made: Truth) -> None:
    """Adds what ticks of one source do to the updates of its channels."""
    machine = Source(venue_of(settings, name), "truth", settings.rules(name))
    for tick in ticks:
        with contextlib.suppress(BadTick):
            machine.apply(tick)
        for message in machine.take():
            if isinstance(message, Update):
                made.setdefault((message.channel, message.symbol), []).append(msgspec.json.encode(message))


class Viewer:
    """A client that subscribes to everything of these kinds, and after a loss resumes by marks.

    `url` is asked at every connection, so the next one may be to another gateway.
    """

    def __init__(self, url: Callable[[], str], kinds: Sequence[str] = MARKET, symbols: Sequence[str] = ("*",)) -> None:
        self.client = Client()
        self.connections = 0
        self.marks: dict[str, int] = {}
        """Marks from which all channels can be resumed: those told since everything asked for had caught up."""
        self._url = url
        self._kinds, self._symbols = list(kinds), list(symbols)
        self._socket: ClientConnection | None = None
        self._resumes: str | None = None
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Viewer:
        self._task = asyncio.create_task(self._run(), name="viewer")
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        await end([self._task])

    @property
    def channels(self) -> dict[Key, Channel]:
        """What it holds."""
        return self.client.channels

    def drop(self) -> None:
        """Breaks the connection off; the next one follows at once."""
        if self._socket is not None:
            self._socket.transport.abort()

    async def until(
        self, holds: Callable[[], bool], what: str | Callable[[], str], timeout_s: float = DEADLINE_S
    ) -> None:
        """Waits for something that messages bring about."""
        try:
            async with asyncio.timeout(timeout_s):
                while not holds():
                    assert self._task is not None
                    if self._task.done():
                        self._task.result()
                    await asyncio.sleep(0.02)
        except TimeoutError:
            words = what if isinstance(what, str) else what()
            raise AssertionError(f"{words}: not in {timeout_s} s") from None

    async def answered(self) -> None:
        """Waits until it is subscribed."""
        await self.until(lambda: bool(self.client.answers), "an ack")

    async def has_marks(self, sources: int) -> None:
        """Waits until it could resume so many sources."""
        await self.until(lambda: len(self.marks) >= sources, "marks of every source")

    async def caught_up(self, times: int) -> None:
        """Waits until it has come back and caught up so many times."""
        await self.until(lambda: len(self.client.caught_up) >= times, f"to have caught up {times} times")

    async def has(self, truth: Truth, timeout_s: float = DEADLINE_S) -> None:
        """Waits until each channel stands where it ends."""
        ends = {key: msgspec.json.decode(updates[-1])["seq"] for key, updates in truth.items() if key[0] in self._kinds}

        def stands() -> bool:
            found = self.channels
            return all(key in found and found[key].pos >= seq for key, seq in ends.items())

        await self.until(stands, "every channel at its end", timeout_s)

    async def _run(self) -> None:
        while True:
            try:
                async with connect(
                    self._url(), max_size=None, compression=None, proxy=None, ping_interval=None, close_timeout=1
                ) as socket:
                    self._socket = socket
                    await self._ask(socket)
                    async for payload in socket:
                        self.client.receive(payload if isinstance(payload, bytes) else payload.encode())
                        require(not self.client.holes, f"a hole in {self.client.holes}")
                        if self._resumes is None or self._resumes in self.client.caught_up:
                            self.marks |= self.client.marks
            except (OSError, WebSocketException, InvalidHandshake, TimeoutError):
                await asyncio.sleep(0.05)
            finally:
                self._socket = None

    async def _ask(self, socket: ClientConnection) -> None:
        request: Json = {"op": "subscribe", "channels": self._kinds, "symbols": self._symbols}
        if self.connections:
            self.client.connect()
            self._resumes = f"resume {self.connections}"
            request |= {"id": self._resumes, "from": {"marks": self.marks}}
        self.connections += 1
        await socket.send(self.client.ask(request).decode())


async def joined(url: str, kinds: Sequence[str], symbols: Sequence[str] = ("*",), stay_s: float = 0.0) -> Client:
    """What a client holds that comes now, as soon as it has a state of every channel, or a little later."""
    client = Client()
    async with (
        asyncio.timeout(DEADLINE_S),
        connect(url, max_size=None, compression=None, proxy=None, ping_interval=None, close_timeout=1) as socket,
    ):
        request = client.ask({"op": "subscribe", "channels": list(kinds), "symbols": list(symbols)})
        await socket.send(request.decode())
        while not _whole(client):
            client.receive(await _received(socket))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(stay_s):
                while True:
                    client.receive(await _received(socket))
    return client


async def _received(socket: ClientConnection) -> bytes:
    payload = await socket.recv()
    return payload if isinstance(payload, bytes) else payload.encode()


def _whole(client: Client) -> bool:
    matched = sum(result.get("matched", 0) for ack in client.answers.values() for result in ack["results"])
    has = [channel for channel in client.channels.values() if not channel.waiting]
    return bool(client.answers) and len(has) >= matched and len(has) == len(client.channels)


def check_exact(client: Client, truth: Truth) -> None:
    """The client applied exactly the updates of the truth: nothing lost, nothing twice, in order, the same bytes."""
    kinds = {key[0] for key in client.channels}
    wanted = {key: updates for key, updates in truth.items() if key[0] in kinds}
    require_equal(sorted(key for key, channel in client.channels.items() if channel.applied), sorted(wanted))
    for key, updates in wanted.items():
        channel = client.channels[key]
        gaps = [gap for gap in channel.gaps if gap["reason"] != "venue"]
        require(channel.applied == updates, f"{channel}: {_difference(channel.applied, updates)}; gaps {gaps[:3]}")
        require(not gaps, f"{channel}: gaps {gaps[:3]}, wanted none")


def require_equal(found: Any, wanted: Any) -> None:
    """Raises `Broken` where two small things differ."""
    require(found == wanted, f"found {found}, wanted {wanted}")


def _difference(found: list[bytes], wanted: list[bytes]) -> str:
    for number, (one, other) in enumerate(zip(found, wanted, strict=False)):
        if one != other:
            return f"update {number} is {one[:160]!r}, wanted {other[:160]!r}"
    return f"{len(found)} updates, wanted {len(wanted)}"


async def said(command: Command, pattern: str) -> str:
    """Waits for a command's words without stopping the clients of this process."""
    return (await asyncio.to_thread(command.said, pattern, timeout_s=60.0))[0]


async def dispose(command: Command) -> None:
    """Kills a command (SIGKILL) where it still runs, and reads the rest of its words."""
    if command.process.poll() is None:
        command.process.kill()
    await asyncio.to_thread(command.wait)
    for stream in (command.process.stdout, command.process.stderr):
        assert stream is not None
        stream.close()


def seeded(seed: int) -> random.Random:
    """Chance that can be had again: the seed stands in a failing test's output."""
    print(f"seed {seed}")
    return random.Random(seed)


def port_of_a_gateway() -> int:
    """A port for gateways that come and go at one address."""
    return int(free_port())


def lines_of(file: Path) -> Iterator[bytes]:
    """The lines of a capture, gzip or not."""
    import gzip

    raw = file.read_bytes()
    yield from (gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw).splitlines()
