"""The sessions of `schemas/examples`, played by the real thing: records into a hub, requests into a session.

Every message that the server sends there is compared byte for byte. Where one frame ends and the next begins is no
promise, so frames are taken apart.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import fields

import schemas
from feed.channels.distributor import Distributor
from feed.channels.hub import Hub, HubSettings
from feed.gateway.gateway import told_settings
from feed.protocol.request import OPS, Request, request_of, start_of
from feed.protocol.session import Close, Session, SessionSettings
from feed.runtime.settings import ServeSettings
from feed.wire.record import Record
from tests.feed.recorder.tape import Log, Tape
from tests.replay.desk import Desk

Message = dict[str, Any]
WINDOW_MS = 10_000


def compact(value: object) -> bytes:
    """JSON as it is on the wire."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def messages_of(frames: bytes) -> Iterator[bytes]:
    """The messages in a run of unmasked text frames."""
    while frames:
        length, head = frames[1], 2
        if length >= 126:
            size = 2 if length == 126 else 8
            length, head = int.from_bytes(frames[2 : 2 + size]), 2 + size
        yield from map(compact, json.loads(frames[head : head + length]))
        frames = frames[head + length :]


def settings(server: str) -> SessionSettings:
    """A gateway's settings of sessions, as they are without any of ours."""
    return told_settings(ServeSettings(server=server))


class Stage:
    """A gateway's hub and one client's session on it, and the feed log that they live from."""

    def __init__(self) -> None:
        self.hub = Hub(HubSettings(resume_window_ms=WINDOW_MS))
        self.distributor = Distributor(self.hub)
        self.session: Session | None = None
        self.now = 0
        self.sent: list[bytes] = []
        self.log: list[Callable[[Hub], None]] = []
        self.pos: dict[str, int] = {}
        self.source = ""
        self.stalled = False

    def connect(self, welcome: Message) -> None:
        """A new connection, to a new gateway that has read the same log."""
        self.hub = Hub(HubSettings(resume_window_ms=WINDOW_MS))
        self.distributor = Distributor(self.hub)
        for record in self.log:
            record(self.hub)
        self.now = int(welcome["time"])
        self.distributor.flush(self.now)
        list(self.distributor.fan_out())
        self.session = Session(self.distributor, self, settings(welcome["server"]))
        self._send(self.session.open(self.now))

    def write(self, record: Callable[[Hub], None]) -> None:
        """One more record of the feed log, and a flush."""
        self.log.append(record)
        record(self.hub)
        if self.distributor.flush(self.now):
            for buffer, readers in self.distributor.fan_out():
                if self.session and self.session.subscriber in readers:
                    if self.stalled:
                        self.session.subscriber.leave_behind()
                    else:
                        self._send(buffer)
            if self.distributor.called():
                self.pull()

    def opened(self, source: str, ends: str = "", *, carries: bool = False) -> None:
        """A source record."""
        self.source = source
        self.pos.setdefault(source, -1)
        self.write(lambda hub: hub.opened(source, ends, carries))

    def keyframe(self, symbol: str, *messages: Message) -> None:
        """A keyframe record."""
        source, value = self.source, compact(list(messages))
        self.write(lambda hub: hub.keyframe(source, symbol, value))

    def data(self, *messages: Message, last: int = -1) -> None:
        """A data record."""
        source, value = self.source, compact(list(messages))
        pos = self.pos[source]
        self.pos[source] = last = max(pos, last, *(message["seq"] for message in messages))
        self.write(lambda hub: hub.data(source, pos, last, value, last + 1))

    def ask(self, request: Message) -> None:
        """A request of the client."""
        assert self.session
        self._send(self.session.receive(compact(request), self.now))
        self.pull()

    def pull(self) -> None:
        """What a reader that is not in step gets."""
        assert self.session
        while page := self.session.pull(1 << 20, self.now):
            self._send(page)

    def _send(self, frames: bytes) -> None:
        self.sent += messages_of(frames)


def play(name: str, *, feed: Callable[[Stage, list[Message]], None]) -> None:
    """Plays a session; `feed` brings about the messages that a frame of the server holds, before they are due."""
    stage = Stage()
    steps = json.loads(schemas.example(name))["steps"]
    first = next(m for step in steps if step["from"] == "server" for m in step["frame"] if "source" in m)
    stage.opened(first["source"])
    fed: list[int] = []
    for i, step in enumerate(steps):
        frame = step["frame"]
        if step["from"] == "client":
            if i + 1 not in fed and steps[i + 1]["from"] == "server":
                fed.append(i + 1)
                feed(stage, steps[i + 1]["frame"])
            stage.ask(frame)
            continue
        if "close" in frame:
            continue
        if i not in fed:
            feed(stage, frame)
        wanted = [compact(message) for message in frame]
        assert stage.sent[: len(wanted)] == wanted
        del stage.sent[: len(wanted)]
    assert not stage.sent


def usual(stage: Stage, frame: list[Message]) -> None:
    """Snapshots come of keyframes, updates of data records, the rest of the session itself."""
    snapshots = [message for message in frame if message["type"] == "snapshot"]
    if snapshots:
        stage.keyframe(snapshots[0]["symbol"], *snapshots)
        stage.data(last=max(message["seq"] for message in snapshots))
    own = [message for message in frame if message["type"] == "update" or message.get("seq", -1) > -1]
    own = [message for message in own if message["type"] in ("update", "state")]
    if own:
        stage.data(*own)
    for message in frame:
        if message["type"] == "welcome":
            stage.connect(message)
        elif message["type"] == "heartbeat":
            stage.now, stage.hub.delay_s = int(message["time"]), partial(float, message["lag_ms"] / 1000)
            stage.data(last=message["marks"][stage.source])
            assert stage.session
            stage.sent += messages_of(stage.session.heartbeat(stage.now))
        elif message["type"] == "goaway":
            assert stage.session
            stage.sent += messages_of(stage.session.goaway(message["reason"], message["after_ms"], stage.now))
        elif message["type"] == "pong":
            stage.now = int(message["received"])


@pytest.mark.parametrize(
    "name", ["session_join", "session_resume", "session_pattern", "session_stale", "session_awaited"]
)
def test_a_session_is_as_it_is_written(name: str) -> None:
    play(name, feed=usual)


def test_a_source_that_carries_its_state() -> None:
    def feed(stage: Stage, frame: list[Message]) -> None:
        if frame[0]["type"] != "gap":
            usual(stage, frame)
            return
        new = frame[0]["source"]
        stage.opened(new, stage.source, carries=True)
        stage.pos[new] = 88200
        snapshots = [message for message in frame if message["type"] == "snapshot"]
        stage.keyframe(snapshots[0]["symbol"], *snapshots)

    play("session_source", feed=feed)


def test_a_source_without_state() -> None:
    def feed(stage: Stage, frame: list[Message]) -> None:
        if frame[0]["type"] == "gap":
            stage.opened(frame[0]["source"], stage.source)
            stage.data(last=0)
        else:
            usual(stage, frame)

    play("session_source_anew", feed=feed)


def _fall_behind(stage: Stage, template: Message) -> None:
    """The client's socket is full while two trades and three changes of the book pass, and time."""
    updates = []
    for channel, prevs in (("trades", (88131, 90000, 90010)), ("book", (88120, 90001, 90002, 90008))):
        for prev, seq in pairwise(prevs):
            data: Any = [] if channel == "trades" else {"bids": [], "asks": []}
            head = {"type": "update", "channel": channel, "symbol": "COINBASE:BTC-USD", "prev": prev, "seq": seq}
            updates.append({**head, "ts_event": None, "ts_recv": "0", "data": data})
    book = updates[-1]
    book |= {"ts_event": template["ts_event"], "ts_recv": template["ts_recv"]}
    old = {"bids": [["67187.47", "0"], ["67187.4", "0"]], "asks": [["67187.48", "0"], ["67188", "0"]]}
    book["data"] = {side: old[side] + template["data"][side] for side in old}
    stage.stalled = True
    for update in sorted(updates, key=lambda update: update["seq"]):
        stage.data(update)
    trades = {**template, "channel": "trades", "seq": 90010, "data": []}
    stage.keyframe(template["symbol"], trades, template)  # what was written before it may be let go of
    for _ in range(WINDOW_MS // 1000 + 2):  # time passes for the window, which takes no leaps
        stage.now += 1_000_000_000
        stage.data(last=stage.pos[stage.source])
    stage.stalled = False


def test_a_reader_that_was_left_behind() -> None:
    def feed(stage: Stage, frame: list[Message]) -> None:
        if frame[0]["type"] != "gap":
            usual(stage, frame)
            return
        _fall_behind(stage, frame[-1])
        stage.pull()

    play("session_lag", feed=feed)


def test_a_reader_that_asked_to_be_closed() -> None:
    def feed(stage: Stage, frame: list[Message]) -> None:
        if frame[0]["type"] != "goaway":
            usual(stage, frame)
            return
        lag = json.loads(schemas.example("session_lag"))["steps"]
        _fall_behind(stage, lag[-2]["frame"][-1])
        with pytest.raises(Close) as closed:
            stage.pull()
        stage.sent += messages_of(closed.value.frames)
        assert closed.value.code == 4008

    play("session_close", feed=feed)


# replays

BTC = "COINBASE:BTC-USD"
RECORDED: list[tuple[str, int, int, Any]] = [
    ("book", -1, 88110, {"bids": [["67187.47", "1.2"], ["67187.4", "0.05"]], "asks": [["67188", "2"]]}),
    ("trades", -1, 88112, [["67187.48", "0.01", "buy", "712344"]]),
    ("book", 88110, 88120, {"bids": [], "asks": [["67187.48", "0.3"]]}),
    ("book", 88120, 88129, {"bids": [["67187.4", "0"], ["67187.39", "0.75"]], "asks": []}),
    ("trades", 88112, 88131, [["67187.48", "0.00214", "buy", "712345"]]),
    ("book", 88129, 88131, {"bids": [], "asks": [["67187.48", "0.29786"]]}),
]


def _recorded(root: Path) -> None:
    """A recording of these updates, made by a recorder from a feed log."""
    values = []
    for channel, prev, seq, data in RECORDED:
        event = str(1795467600000000000 + (seq - 88000) * 1_000_000)
        received = str(int(event) + 3_417_000)
        if channel == "trades":
            names = ("price", "size", "side", "trade_id")
            data = [{**dict(zip(names, trade, strict=True)), "ts_event": event} for trade in data]
        head = {"type": "update", "channel": channel, "symbol": BTC, "prev": prev, "seq": seq}
        values.append({**head, "ts_event": event, "ts_recv": received, "data": data})
    common: Any = {"source": "coinbase/0@k7qd", "partitions": 1, "version": "1.x", "floor": 0, "since": -1, "at": 0}
    opening = Record(**common, kind="source", after=-1, first=-1, last=-1, end=0, value=b"[]", offset=0, carries=False)
    data_ = Record(**common, kind="data", after=-1, first=0, last=88131, end=88132, value=compact(values), offset=1)
    tape = Tape(root, [Log("coinbase/0", [opening, data_])])
    tape.read(0, 2)
    tape.end()


def test_a_replay_is_as_it_is_written(tmp_path: Path) -> None:
    _recorded(tmp_path / "recordings")
    steps = json.loads(schemas.example("session_replay"))["steps"]
    desk = Desk(tmp_path / "recordings", settings=settings("gw-1"), now_ns=int(steps[0]["frame"][0]["time"]))
    for step in steps:
        if step["from"] == "client":
            assert not desk.sent
            desk.ask(**step["frame"])
            continue
        wanted = [compact(message) for message in step["frame"]]
        assert desk.sent[: len(wanted)] == wanted
        del desk.sent[: len(wanted)]
    assert not desk.sent
    desk.close()


# requests


def _requests() -> list[tuple[str, Message]]:
    found = [(name, json.loads(schemas.example(name))) for name in schemas.examples()]
    return [(name, value) for name, value in found if "op" in value and "type" not in value]


@pytest.mark.parametrize(("name", "request_"), _requests())
def test_every_example_of_a_request_is_read(name: str, request_: Message) -> None:
    read = request_of(compact(request_))
    assert read.id == request_["id"]
    if request_["op"] == "subscribe":
        start_of(read)  # type: ignore[arg-type]  # it is a subscribe


@pytest.mark.parametrize("struct", Request.__args__, ids=lambda struct: str(struct.__struct_config__.tag))
def test_requests_have_the_fields_of_their_schemas(struct: Any) -> None:
    op = struct.__struct_config__.tag
    schema = schemas.schema(op)
    assert ["op", *(field.encode_name for field in fields(struct))] == list(schema["properties"])
    assert ["op", *(field.encode_name for field in fields(struct) if field.required)] == schema["required"]


def test_ops_are_those_of_the_schemas() -> None:
    assert set(OPS) == set(schemas.schema("request")["properties"]["op"]["enum"])


def test_welcome_tells_the_limits_of_the_example_and_the_page() -> None:
    session = Session(Distributor(Hub(HubSettings())), None, settings("gw-1"))
    (welcome,) = map(json.loads, messages_of(session.open(0)))
    assert welcome["limits"] == json.loads(schemas.example("welcome"))["limits"]
    page = (schemas._FILES / "README.md").read_text("utf-8")
    assert all(f"`{name}`" in page for name in welcome["limits"])
