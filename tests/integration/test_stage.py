"""The checks of the tests of kills and resumes, on a scene in memory: right as it is, and not with a fault planted.

A log with copies of a second writer goes through the log's reader, the hub and a session to a client that drops and
resumes by marks, on two gateways in turn. No broker and no chance: each fault is always seen.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from feed.channels.channel import Channel
from feed.channels.distributor import Distributor
from feed.channels.hub import Hub, HubSettings
from feed.channels.intake import Intake
from feed.channels.join import Join
from feed.protocol.session import Session, SessionSettings
from feed.wire.log_reader import LogReader
from feed.wire.record import Record
from tests.feed.feedlog.test_writer import make_ticks
from tests.feed.memory_log import Worker, updates_of
from tests.feed.toy import TOY
from tests.integration.stage import MARKET, Truth, check_exact
from tests.reference_client import Broken, Client, payloads, require

TICKS = make_ticks(400, seed=31)
PAGE = 7
DROP_EVERY = 11


class Gateway:
    """A hub over a log that it reads record by record, and at most one client's session."""

    def __init__(self) -> None:
        self.hub = Hub(HubSettings())
        self.distributor = Distributor(self.hub)
        self.reader = LogReader()
        self.session: Session | None = None

    def read(self, record: Record, client: Client) -> None:
        before = self.reader.take(record)
        if before is None:
            return
        if record.kind == "source":
            self.hub.opened(record.source, record.ends, record.carries, record.missing)
        elif record.kind == "keyframe":
            self.hub.keyframe(record.source, record.symbol, record.value)
        elif record.kind == "data":
            self.hub.data(record.source, before, self.reader.pos, record.value, record.end)
        if self.distributor.flush(1):
            for frames, _ in self.distributor.fan_out():
                give(client, frames)

    def connect(self, client: Client, request: dict[str, Any]) -> None:
        self.session = Session(self.distributor, None, SessionSettings())
        give(client, self.session.open(1))
        give(client, self.session.receive(client.ask(request), 1))
        while page := self.session.pull(1 << 20, 1):
            give(client, page)

    def drop(self) -> None:
        assert self.session is not None
        self.session.subscriber.close()
        self.session = None


def give(client: Client, frames: bytes) -> None:
    for payload in payloads(frames):
        client.receive(payload)
        require(not client.holes, f"a hole in {client.holes}")


def log_with_copies() -> list[Record]:
    """A log in which a second writer is always a little behind."""
    plain: list[Record] = []
    Worker(TOY, plain, TICKS).run([PAGE] * len(TICKS))
    data = [record for record in plain if record.kind == "data"]
    copies = {id(record): data[number - 2] for number, record in enumerate(data) if number >= 2}
    both: list[Record] = []
    for record in plain:
        both += [record, *([copies[id(record)]] if id(record) in copies else [])]
    return [replace(record, offset=offset) for offset, record in enumerate(both)]


def truth() -> Truth:
    """The updates of each channel, from a log that nobody disturbed."""
    log: list[Record] = []
    Worker(TOY, log, TICKS).run([len(TICKS)])
    made: Truth = {}
    for raw in updates_of(log):
        message = msgspec.json.decode(raw)
        if message["type"] == "update":
            made.setdefault((message["channel"], message["symbol"]), []).append(raw)
    return made


def play() -> None:
    """The scene, and the checks of it."""
    client, gateways = Client(), [Gateway(), Gateway()]
    request = {"op": "subscribe", "channels": list(MARKET), "symbols": ["*"]}
    log = log_with_copies()
    gateways[0].connect(client, request)
    current = 0
    away = 0
    for number, record in enumerate(log):
        for gateway in gateways:
            gateway.read(record, client)
        session = gateways[current].session
        if session is not None and number % DROP_EVERY:
            give(client, session.heartbeat(1))
        elif session is not None and number:
            gateways[current].drop()
            current, away = 1 - current, 3
        elif number and not (away := away - 1):
            client.connect()
            gateways[current].connect(client, request | {"from": {"marks": client.marks}})
    if gateways[current].session is None:
        client.connect()
        gateways[current].connect(client, request | {"from": {"marks": client.marks}})
    check_exact(client, truth())


def test_the_scene_is_right_as_it_is() -> None:
    play()


def copies_are_taken(patch: Callable[[Any, str, Any], None]) -> None:
    """Two nets hold copies back, the reader of the log and the chain of the channel: both are cut."""
    plain_take, plain_update = LogReader.take, Intake._update

    def take(self: LogReader, record: Record) -> int | None:
        before = plain_take(self, record)
        return record.after if before is None and record.kind == "data" else before

    def update(self: Intake, channel: Any, head: Any, message: bytes) -> None:
        if channel.awaiting_snapshot is None and head.seq <= channel.chain:
            self.open.add(channel, (head.seq, channel.bit, message, None))
        else:
            plain_update(self, channel, head, message)

    patch(LogReader, "take", take)
    patch(Intake, "_update", update)


def prev_is_ignored(patch: Callable[[Any, str, Any], None]) -> None:
    """A record is lost on its way to the hub, and the hub does not look whether updates follow each other."""
    plain_data, plain_update, count = Intake.data, Intake._update, iter(range(10**9))

    def data(self: Intake, source: Any, pos: int, last: int, value: bytes) -> None:
        plain_data(self, source, pos, last, b"[]" if next(count) % 20 == 19 else value)

    def update(self: Intake, channel: Any, head: Any, message: bytes) -> None:
        plain_update(self, channel, replace(head, prev=channel.chain), message)

    patch(Intake, "data", data)
    patch(Intake, "_update", update)


def a_lost_record_is_noticed(patch: Callable[[Any, str, Any], None]) -> None:
    """A record is lost on its way to the hub, which says so: also that is not what an undisturbed client gets."""
    plain, count = Intake.data, iter(range(10**9))

    def data(self: Intake, source: Any, pos: int, last: int, value: bytes) -> None:
        plain(self, source, pos, last, b"[]" if next(count) % 20 == 19 else value)

    patch(Intake, "data", data)


def resumes_skip_what_was_missed(patch: Callable[[Any, str, Any], None]) -> None:
    """What came while the client was away is not sent."""
    patch(Channel, "after", lambda self, position: [])


def resumes_forget_the_marks(patch: Callable[[Any, str, Any], None]) -> None:
    """A resume is a new start."""
    patch(Join, "after", lambda self, source: None)


def resumes_start_one_tick_late(patch: Callable[[Any, str, Any], None]) -> None:
    """The first update after the mark is taken for one at the mark."""
    plain = Channel.after
    patch(Channel, "after", lambda self, position: plain(self, position)[1:])


@pytest.mark.parametrize(
    "plant",
    [
        copies_are_taken,
        prev_is_ignored,
        a_lost_record_is_noticed,
        resumes_skip_what_was_missed,
        resumes_forget_the_marks,
        resumes_start_one_tick_late,
    ],
    ids=lambda plant: plant.__name__,
)
def test_a_planted_fault_is_seen(plant: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch.setattr)
    with pytest.raises(Broken):
        play()
