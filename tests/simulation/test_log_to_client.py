"""From ticks to clients in memory, with everything going wrong at once: seeded, so that a failure can be played again.

Writers die between any two records and several own the log at once; gateways start at any time, read at their own pace
and die; clients join, are left behind, drop and resume on another gateway. At the end every client holds what a state
machine that never stopped says, and each of its updates has the bytes of the unbroken run.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import msgspec
import pytest

from feed.channels.channel import Channel
from feed.channels.distributor import Distributor
from feed.channels.hub import Hub, HubSettings
from feed.errors import BadTick
from feed.protocol.session import Session, SessionSettings
from feed.venues.source import Source
from feed.venues.symbol import Rules, Tick
from feed.wire.log_reader import HoleInLog, LogReader
from feed.wire.model import KINDS
from feed.wire.record import Record
from tests.feed.feedlog.test_writer import make_ticks
from tests.feed.memory_log import Died, SecondWriter, Worker, updates_of
from tests.feed.toy import TOY
from tests.reference_client import Client, payloads

SOURCE = "toy/0@a"
CALM = SessionSettings(requests_per_second=10_000, requests_burst=10_000)


class Gateway:
    """A hub that reads the log from its last record's floor on, as the follower does."""

    def __init__(self, log: list[Record], window: int) -> None:
        self.log = log
        self.hub = Hub(HubSettings(resume_window_bytes_max=window))
        self.distributor = Distributor(self.hub)
        self.reader = LogReader()
        self.source = ""
        self.at = log[-1].floor if log else 0
        self.start = self.at

    def read(self, count: int) -> None:
        """Takes the next records."""
        for record in self.log[self.at : self.at + count]:
            self.at += 1
            try:
                before = self.reader.take(record)
            except HoleInLog as hole:
                if hole.floor >= self.start:
                    self.reader = LogReader()
                self.at = hole.floor
                return
            if before is None:
                continue
            if record.kind == "source" or self.source != self.reader.source:
                self.hub.opened(record.source, record.ends, record.carries, record.missing)
                self.source = record.source
            if record.kind == "data":
                self.hub.data(record.source, before, self.reader.pos, record.value, record.end)
            elif record.kind == "keyframe":
                self.hub.keyframe(record.source, record.symbol, record.value)

    @property
    def done(self) -> bool:
        return self.at >= len(self.log)


class Link:
    """A client and its connection. Owner of its reader; `full`: its socket takes nothing."""

    def __init__(self) -> None:
        self.client = Client()
        self.session: Session | None = None
        self.gateway: Gateway | None = None
        self.full = False

    def take(self, frames: bytes) -> None:
        for payload in payloads(frames):
            self.client.receive(payload)

    def connect(self, gateway: Gateway, now: int) -> None:
        self.drop()
        self.gateway = gateway
        self.client.connect()
        self.session = Session(gateway.distributor, self, CALM)
        self.take(self.session.open(now))
        if self.client.channels:
            for text in self.client.resume():
                self.answer(text, now)
        self.ask({"op": "subscribe", "channels": list(KINDS), "symbols": ["*"]}, now)

    def ask(self, request: dict[str, Any], now: int) -> None:
        if self.session is not None:
            self.answer(self.client.ask(request), now)

    def answer(self, text: bytes, now: int) -> None:
        assert self.session is not None
        self.take(self.session.receive(text, now))
        while self.session.under_way:
            self.take(self.session.wake(now))

    def heartbeat(self, now: int) -> None:
        if self.session is not None and not self.full:
            self.take(self.session.heartbeat(now))

    def pull(self, now: int) -> None:
        while self.session is not None and not self.full and not self.session.subscriber.in_step:
            frames = self.session.pull(4096, now)
            if not frames:
                return
            self.take(frames)

    def mend(self, now: int) -> None:
        """Holes of the client's own are subscribed anew, as the rule says."""
        while self.client.holes:
            hole = self.client.holes.pop()
            ask = {"op": "subscribe", "channels": [hole.kind], "symbols": [hole.symbol], "from": "snapshot"}
            self.ask(ask, now)

    def drop(self) -> None:
        if self.session is not None:
            self.session.subscriber.close()
        self.session = self.gateway = None
        self.full = False


def serve(gateway: Gateway, links: list[Link], now: int) -> None:
    """One flush, as the fan-out does it."""
    if gateway.distributor.flush(now):
        for frames, readers in gateway.distributor.fan_out():
            for reader in list(readers):
                link = reader.owner
                assert isinstance(link, Link)
                if link.full:
                    reader.leave_behind()
                else:
                    link.take(frames)
    for link in links:
        if link.gateway is gateway:
            link.pull(now)
            link.mend(now)


def truth(ticks: list[Tick]) -> dict[tuple[str, str], Any]:
    """Each channel's last position and state, from a machine that never stopped."""
    machine = Source(TOY, SOURCE, Rules())
    for tick in ticks:
        try:
            machine.apply(tick)
        except BadTick:
            continue
    found: dict[tuple[str, str], Any] = {}
    for name in machine:
        for message in msgspec.to_builtins(machine.keyframe(name)):
            if message["type"] == "snapshot":
                found[message["channel"], message["symbol"]] = message["seq"], message["data"]
    return found


def messages_of(log: list[Record]) -> set[bytes]:
    return {message for message in updates_of(log) if message.startswith(b'{"type":"update"')}


def run(seed: int) -> Counter[str]:
    rng = random.Random(seed)
    ticks = make_ticks(240, seed=1000 + seed, symbols=3)
    log: list[Record] = []
    workers = [Worker(TOY, log, ticks, ratio=rng.choice((0.2, 1.0)))]
    window = rng.choice((3_000, 30_000, 1 << 20))
    gateways = [Gateway(log, window), Gateway(log, window)]
    links = [Link() for _ in range(3)]
    happened: Counter[str] = Counter()
    now = 1

    def write() -> None:
        at = rng.randrange(len(workers))
        try:
            workers[at].run([rng.randrange(1, 12)], die_after=rng.randrange(1, 9) if rng.random() < 0.1 else None)
        except Died:
            happened["writers died"] += 1
            workers[at] = Worker(TOY, log, ticks)
        except SecondWriter:
            happened["writers met"] += 1
            workers[at] = Worker(TOY, log, ticks)

    while workers[0].writer.pos < ticks[-1].seq or not all(g.done for g in gateways):
        now += 10_000_000
        write()
        if rng.random() < 0.05:
            workers = [*workers[:2], Worker(TOY, log, ticks, ratio=rng.choice((0.3, 2.0)))]
        for index, gateway in enumerate(gateways):
            if rng.random() < 0.02:
                happened["gateways died"] += 1
                for link in links:
                    if link.gateway is gateway:
                        link.drop()
                gateway = gateways[index] = Gateway(log, window)
            gateway.read(rng.choice((0, 1, 3, 50)))
            serve(gateway, links, now)
        for link in links:
            if link.gateway is None or rng.random() < 0.04:
                happened["connections"] += 1
                link.connect(rng.choice(gateways), now)
            elif rng.random() < 0.1:
                link.full = not link.full
                happened["stalls"] += link.full
            elif rng.random() < 0.2:
                link.heartbeat(now)
            link.pull(now)
            link.mend(now)

    for link in links:
        link.full = False
        if link.gateway is None:
            link.connect(gateways[0], now)
    for _ in range(3):
        for gateway in gateways:
            now += 10_000_000
            gateway.read(len(log))
            serve(gateway, links, now)
    check(links, truth(ticks), messages_of(log), happened)
    return happened


def check(links: list[Link], wanted: dict[tuple[str, str], Any], bytes_: set[bytes], happened: Counter[str]) -> None:
    for link in links:
        for key, (seq, data) in wanted.items():
            channel = link.client.channels[key]
            assert not channel.waiting, channel
            assert channel.pos == seq, f"{channel}, wanted {seq}"
            lost = channel.kind in ("trades", "bars") and any(
                g["lost"] and g["reason"] != "venue" for g in channel.gaps
            )
            happened["gaps"] += len(channel.gaps)
            happened["updates applied"] += len(channel.applied)
            if not lost:
                assert channel.holds() == shape(channel.kind, data), channel
            assert set(channel.applied) <= bytes_


def shape(kind: str, data: Any) -> Any:
    """A snapshot's data in the form that a client holds."""
    return (dict(data["bids"]), dict(data["asks"])) if kind == "book" else data


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(40))
def test_every_client_ends_with_the_truth_whatever_went_wrong(seed: int) -> None:
    happened = run(seed)
    assert happened["updates applied"] > 0


@pytest.mark.parametrize(
    ("where", "fault"),
    [
        (Source, ("restore", lambda self, checkpoints: None)),
        (Channel, ("missed", lambda self, after: False)),
        (Channel, ("after", lambda self, position: [])),
    ],
    ids=["a state that is not taken up", "a resume that is never too late", "a resume that forgets"],
)
def test_planted_faults_are_seen(monkeypatch: pytest.MonkeyPatch, where: type, fault: tuple[str, object]) -> None:
    monkeypatch.setattr(where, *fault)
    with pytest.raises(AssertionError):
        [run(seed) for seed in range(20)]
