"""A hub with a made-up source and strict clients, without sockets: what unit tests of channels and sessions work on."""

from __future__ import annotations

from typing import Any

from feed.backfill.request import BackfillReader
from feed.channels.distributor import Distributor
from feed.channels.hub import Hub, HubSettings
from feed.protocol.session import Session, SessionSettings
from tests.reference_client import Channel, Client, payloads
from tests.truth import TrueSource, some_data

MEGABYTE = 1 << 20


class Link:
    """A client, its session and its socket; `full`: the socket takes nothing. `frames` is what it was sent."""

    def __init__(
        self,
        distributor: Distributor,
        settings: SessionSettings,
        client: Client | None = None,
        past: BackfillReader | None = None,
    ) -> None:
        self.client = client or Client()
        self.full = False
        self.now = 1
        self.frames: list[bytes] = []
        self.session = Session(distributor, self, settings, past)
        self.take(self.session.open(1))

    @property
    def in_step(self) -> bool:
        return self.session.subscriber.in_step

    def take(self, frames: bytes) -> None:
        for payload in payloads(frames):
            self.frames.append(payload)
            self.client.receive(payload)

    def ask(self, op: str, channels: str = "", symbols: str = "", **fields: Any) -> dict[str, Any]:
        """Sends a request, kinds and symbols separated by blanks; its answer."""
        request: dict[str, Any] = {"op": op, **({"channels": channels.split()} if channels else {})}
        if symbols:
            request["symbols"] = symbols.split()
        if "start" in fields:
            request["from"] = fields.pop("start")
        text = self.client.ask(request | fields)
        self.take(self.session.receive(text, self.now))
        while self.session.under_way:
            self.take(self.session.wake(self.now))
        return self.client.answers[list(self.client.answers)[-1]] if self.client.answers else {}

    def subscribe(self, channels: str, symbols: str, **fields: Any) -> dict[str, Any]:
        return self.ask("subscribe", channels, symbols, **fields)

    def pull(self, bytes_max: int = MEGABYTE) -> bytes:
        frames = self.session.pull(bytes_max, self.now)
        self.take(frames)
        return frames

    def drain(self, bytes_max: int = MEGABYTE) -> int:
        """Pulls until it is in step; how many pages that took."""
        self.full = False
        pages = 0
        while not self.in_step:
            self.pull(bytes_max)
            pages += 1
            assert pages < 100_000
        return pages

    def channel(self, kind: str, symbol: str) -> Channel:
        return self.client.channel(kind, symbol)

    def types(self) -> list[str]:
        """The types of all messages so far, `update trades X:A` for those of channels."""
        import json

        out = []
        for payload in self.frames:
            for message in json.loads(payload):
                named = f" {message['channel']} {message['symbol']}" if "channel" in message else ""
                out.append(message["type"] + named)
        return out


class Desk:
    """One hub that reads one source."""

    def __init__(self, *, session: SessionSettings | None = None, **settings: Any) -> None:
        self.hub = Hub(HubSettings(**settings))
        self.distributor = Distributor(self.hub)
        self.session = session or SessionSettings(requests_burst=1000)
        self.links: list[Link] = []
        self.now = 1
        self.number = 0
        self.source = TrueSource("x/0@a")
        self.hub.opened(self.source.source, "", False)

    @property
    def merged(self) -> int:
        """Updates that were merged into later ones for all clients so far."""
        here = [subscriber.merged for view in self.distributor.views for subscriber in view.subscribers]
        return self.hub.counts.merged + sum(here)

    def link(self, client: Client | None = None) -> Link:
        """A new client."""
        self.links.append(Link(self.distributor, self.session, client))
        return self.links[-1]

    def tick(self, kinds: str, symbol: str = "X:A", **how: Any) -> None:
        """One tick that changes these kinds of a symbol; not read yet."""
        self.number += 1
        self.source.tick([(kind, symbol, some_data(kind, self.number)) for kind in kinds.split()], **how)

    def change(self, kind: str, data: Any, symbol: str = "X:A") -> None:
        """One tick with this data, read and flushed."""
        self.source.tick([(kind, symbol, data)])
        self.read()

    def read(self, *, flush: bool = True) -> None:
        """The hub reads what was written, and flushes."""
        pos, last, value = self.source.record()
        self.hub.data(self.source.source, pos, last, value, last + 1)
        if flush:
            self.flush()

    def step(self, kinds: str, symbol: str = "X:A", **how: Any) -> None:
        """A tick, read and flushed."""
        self.tick(kinds, symbol, **how)
        self.read()

    def keyframe(self, symbol: str = "X:A") -> None:
        self.hub.keyframe(self.source.source, symbol, self.source.keyframe(symbol))

    def switch(self, name: str, *, carries: bool, missing: bool = False) -> None:
        """A new incarnation, opened but not read further."""
        before, self.source = self.source, TrueSource(name, self.source.seq if carries else -1)
        self.hub.opened(name, before.source, carries, missing)
        if carries:
            self.source.carry(before)

    def flush(self) -> None:
        self.now += 1_000_000
        if not self.distributor.flush(self.now):
            return
        for buffer, readers in self.distributor.fan_out():
            for reader in readers:
                link = reader.owner
                assert isinstance(link, Link)
                if link.full:
                    reader.leave_behind()
                else:
                    link.take(buffer)

    def agrees(self, link: Link, kind: str, symbol: str = "X:A") -> None:
        """The client holds what is true."""
        import json

        import msgspec

        truth, channel = self.source.truths[kind, symbol], link.channel(kind, symbol)
        wanted = json.loads(msgspec.json.encode(truth.data()))
        if kind == "book":
            wanted = (dict(wanted["bids"]), dict(wanted["asks"]))
        assert not channel.waiting, channel
        assert channel.pos == truth.seq
        assert channel.holds() == wanted
        assert not link.client.holes
