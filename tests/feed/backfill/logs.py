"""Feed logs that grow by what a test says, hubs that read them, and what frames say, in short."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from typing import Any

from feed.backfill.past import LogCut, Past, PastLog
from feed.channels.hub import Hub, HubSettings
from feed.channels.join import Start
from feed.channels.steps import whole
from feed.channels.subscription import Ask, Limits
from feed.wire.log_reader import LogReader
from feed.wire.model import Result
from tests.feed.recorder.made_up import MadeUp
from tests.reference_client import payloads
from tests.truth import some_data


class _Steady(random.Random):
    """Where a log is made by chance it is made in the usual way."""

    def random(self) -> float:
        return 0.5


class FeedLog(MadeUp):
    """One partition. A tick's receive time is its position."""

    def __init__(self, name: str = "x/0", symbols: Iterable[str] = ("X:A", "X:B")) -> None:
        super().__init__(name, list(symbols), _Steady())
        self._number = 0

    def tick(self, kinds: str = "trades", symbol: str = "X:A", *, recorded: bool = True, **how: Any) -> None:
        """One tick that changes these kinds of a symbol, and the record of it; else it comes with the next record."""
        self._number += 1
        self.source.tick([(kind, symbol, some_data(kind, self._number)) for kind in kinds.split()], **how)
        if recorded:
            self.record()

    def ticks(self, count: int, kinds: str = "trades", symbol: str = "X:A") -> None:
        """So many."""
        for _ in range(count):
            self.tick(kinds, symbol)

    def in_parts(self, kinds: str) -> None:
        """One tick that fills a record with each kind; only the last one covers it."""
        self.tick(kinds, recorded=False)
        after = self._pos
        for _, last, value in self.source.records():
            self._add("data", value, after=after, last=last)
            after = self._pos


class Follower:
    """Reads a log into a live hub, from its begin to its end."""

    def __init__(self, hub: Hub, log: MadeUp) -> None:
        self._hub = hub
        self._log = log
        self._reader = LogReader()
        self._source = ""
        self._at = 0

    def follow(self) -> None:
        """Reads what has come."""
        hub, reader = self._hub, self._reader
        for record in self._log.records[self._at :]:
            before = reader.take(record)
            assert before is not None
            if record.kind == "source" or reader.source != self._source:
                hub.found(reader.source, self._source)
                self._source = reader.source
            if record.kind == "data":
                hub.data(record.source, before, reader.pos, record.value, record.end)
            elif record.kind == "keyframe":
                hub.keyframe(record.source, record.symbol, record.value)
        self._at = len(self._log.records)


def opened(logs: Iterable[MadeUp], cut: LogCut, symbols: str = "*", start: int = 0) -> Past:
    """A past whose logs were read up to their cuts."""
    past = Past(symbols.split(), HubSettings())
    for log in logs:
        read_to_cut(past.open_log(start), log, cut)
    return past


def read_to_cut(past_log: PastLog, log: MadeUp, cut: LogCut) -> None:
    """Reads a log up to its cut."""
    for record in log.records[past_log.start :]:
        if past_log.read(record, cut):
            return


def ask(channels: str, symbols: str, start: Start | None = None, **more: Any) -> Ask:
    """A subscribe request."""
    begins = Start("snapshot") if start is None else start
    return Ask(id="t", channels=channels.split(), symbols=symbols.split(), start=begins, **more)


def begin(past: Past, asked: Ask, **how: Any) -> list[Result]:
    """Subscribes; the results."""
    return whole(
        past.begin(
            asked, Limits(subscriptions_max=10_000, patterns_max=64), how.pop("late", {}), how.pop("recorded", None)
        )
    )


def give_rest(past: Past, log: MadeUp, at: int = 0) -> None:
    """Gives all records of a log after those that were read."""
    past_log = past.logs[at]
    past.give(past_log, log.records[past_log.next :])


def pulled(past: Past, bytes_max: int = 1 << 20) -> list[str]:
    """All that a client is sent now, in short."""
    told: list[str] = []
    while past.due:
        told += short(past.pull(bytes_max))
    return told


def messages(frames: bytes) -> list[dict[str, Any]]:
    """What frames say."""
    return [message for payload in payloads(frames) for message in json.loads(payload)]


def short(frames: bytes) -> list[str]:
    """The same, a few words each: `update trades X:A 3`, `gap book X:A -1..3 evicted`."""
    return [_short(message) for message in messages(frames)]


def _short(message: dict[str, Any]) -> str:
    if "channel" not in message:
        return f"{message['type']} {message.get('id', '')}".strip()
    at = message["seq"]
    if message["type"] == "gap":
        at = f"{message['prev']}..{message['seq']} {message['reason']}"
    elif message["type"] == "joined":
        at = f"{message['mode']} {message['seq']}"
    elif message["type"] == "state":
        at = f"{message['seq']} {message['state']}"
    return f"{message['type']} {message['channel']} {message['symbol']} {at}"
