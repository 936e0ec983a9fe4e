"""One hash of a capture, whoever saw it: live over a socket, its recording, replays at any speed, paused and moved.

Every capture is normalized into a feed log in memory. The live stream is that log in a gateway's hub; the recording is
made of it by a recorder; replays come from the same gateway, over sockets.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from websockets.sync.client import ClientConnection, connect

from feed.channels.hub import Hub, HubSettings
from feed.gateway.gateway import Gateway
from feed.runtime.command import run
from feed.runtime.settings import ServeSettings
from feed.venues.table import venue
from feed.wire.log_reader import LogReader
from feed.wire.model import KINDS
from feed.wire.record import Record
from replay.cli import app
from tests.feed.memory_log import Worker
from tests.feed.recorder.tape import Log, Tape
from tests.feed.venues.playing import CAPTURES, captured, ticks
from tests.gateways import Running
from tests.hashed_client import HashedClient

ALL = [*KINDS]
RECORDS_A_TURN = 20
DEADLINE_S = 60.0
DAY_NS = 86_400 * 10**9


class Player:
    """A client of a stream, live or replayed."""

    def __init__(self, socket: ClientConnection) -> None:
        self.client = HashedClient()
        self.state = ""
        self.time = self.end = 0
        self._socket = socket
        self.until(lambda: self.client.welcome is not None)
        self.ask(op="subscribe", channels=ALL, symbols=["*"])

    def ask(self, **request: object) -> None:
        """A request, until it is answered."""
        before = len(self.client.answers)
        self._socket.send(self.client.ask(request).decode())
        self.until(lambda: len(self.client.answers) > before)
        assert not self.client.errors

    def until(self, holds: Callable[[], bool]) -> None:
        """Takes what comes until something is so."""
        deadline = time.monotonic() + DEADLINE_S
        while not holds():
            frame = self._socket.recv(timeout=deadline - time.monotonic())
            assert isinstance(frame, str)
            self.client.receive(frame.encode())
            if '"type":"replay"' in frame:
                told = [message for message in json.loads(frame) if message["type"] == "replay"][-1]
                self.state, self.time, self.end = told["state"], int(told["time"]), int(told["to"])

    def replay(self, do: str, **more: object) -> None:
        """A request to steer; what is told before it is answered is about the time before."""
        self.state = "" if do != "pause" else self.state
        self.ask(op="replay", do=do, **more)

    def more(self, count: int) -> None:
        """So many more messages, or the end."""
        enough = self.client.messages + count
        self.until(lambda: self.client.messages >= enough or self.state == "ended")

    def stands(self) -> None:
        """Until it is known where it stands."""
        self.until(lambda: self.state in ("ready", "paused", "ended"))

    def hashes(self, capsys: pytest.CaptureFixture[str]) -> list[str]:
        """The lines that `feed tail --hash` would print."""
        capsys.readouterr()
        self.client.hashing.say()
        return capsys.readouterr().out.splitlines()


@contextmanager
def player(running: Running, path: str) -> Iterator[Player]:
    with connect(f"ws://127.0.0.1:{running.port}{path}", compression=None, max_size=None) as socket:
        yield Player(socket)


def follow(gateway: Gateway, reader: LogReader, records: list[Record]) -> None:
    """What a follower does with records that it has read."""
    hub = gateway.hub
    for record in records:
        before = reader.take(record)
        assert before is not None
        if record.kind == "source":
            hub.opened(record.source, record.ends, record.carries, record.missing)
        elif record.kind == "data":
            hub.data(record.source, before, reader.pos, record.value, record.end)
        elif record.kind == "keyframe":
            hub.keyframe(record.source, record.symbol, record.value)
    gateway.fanout.notify()


def record_to(root: Path, log: list[Record]) -> None:
    tape = Tape(root, [Log("x/0", log)])
    while tape.read(0, 50):
        tape.commit()
    tape.end()


def in_turns(play: Player, chooser: random.Random) -> None:
    """Plays to the end with pauses and steps, and goes back now and then, so that all of it is covered."""
    begin = play.time
    if begin < DAY_NS < play.end:  # frames that do not say when they were received are numbered from 0
        begin = play.end - DAY_NS // 240  # no capture is longer
        play.replay("step", until=str(begin))
        play.stands()
    while play.state != "ended":
        if chooser.random() < 0.3:
            play.replay("step", n=chooser.randrange(1, 500))
        else:
            play.replay("play")
            play.more(chooser.randrange(1, 10_000))
            play.replay("pause")
        play.stands()
        if play.state == "paused" and chooser.random() < 0.5:
            play.replay("seek", time=str(play.time - chooser.randrange(1 + (play.time - begin) // 5)))
            play.stands()


@pytest.mark.slow
@pytest.mark.parametrize("name", CAPTURES)
def test_live_recorded_and_replayed_are_the_same(
    name: str, data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log: list[Record] = []
    source = f"{CAPTURES[name].venue}/0@a"
    worker = Worker(venue(CAPTURES[name].venue), log, ticks(name, captured(data_dir, name)), source=source)
    worker.run([50] * (len(worker.ticks) // 50 + 1))
    record_to(tmp_path / "recordings", log)
    hub = Hub(HubSettings(resume_window_ms=10**9, resume_window_bytes_max=1 << 30))
    settings = ServeSettings(port=0, heartbeat_ms=100, ping_interval_ms=60_000)
    with Running(settings, hub=hub, recordings=tmp_path / "recordings") as running:
        with player(running, "/v1/stream") as live:
            reader = LogReader()
            for at in range(0, len(log), RECORDS_A_TURN):
                turn = log[at : at + RECORDS_A_TURN]
                running.do(lambda turn=turn: follow(running.gateway, reader, turn))  # type: ignore[misc]
            live.until(lambda: live.client.marks.get(source) == worker.writer.pos)
            wanted = live.hashes(capsys)
        assert len(wanted) > 1
        assert run(app, ["print", str(tmp_path / "recordings"), "--hash"]) == 0
        assert capsys.readouterr().out.splitlines() == wanted
        for speed in (100, "max"):
            with player(running, "/v1/replay") as play:
                play.replay("open", speed=speed)
                play.stands()
                in_turns(play, random.Random(name))
                assert play.hashes(capsys) == wanted, speed
                assert not play.client.holes


def test_the_hash_sees_one_byte(data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Teeth: a digit of one update, and the hashes differ."""
    name = "kraken/v1_5pairs_20210417.trade"
    found = []
    for planted in (False, True):
        log: list[Record] = []
        worker = Worker(venue("kraken"), log, ticks(name, captured(data_dir, name)), source="kraken/0@a")
        worker.run([len(worker.ticks)])
        if planted:
            at = next(n for n, record in enumerate(log) if b'"size":"' in record.value and record.kind == "data")
            value = log[at].value.replace(b'"size":"0.', b'"size":"1.', 1)
            assert value != log[at].value
            log[at] = Record(
                **{field: getattr(log[at], field) for field in log[at].__struct_fields__} | {"value": value}
            )
        root = tmp_path / str(planted)
        record_to(root, log)
        assert run(app, ["print", str(root), "--hash"]) == 0
        found.append(capsys.readouterr().out.splitlines())
    assert found[0][-1] != found[1][-1]
    assert sum(a != b for a, b in zip(*found, strict=True)) == 2, "one channel, and the sum"
