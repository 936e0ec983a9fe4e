"""`feed tail` against a real gateway: over lost connections every update is printed once, in order."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import msgspec
import pytest

from feed.run import tail
from feed.runtime.settings import ServeSettings
from feed.wire.hashes import Hashes
from feed.wire.model import Quote, Snapshot, Update
from tests.gateways import Running

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

SOURCE = "toy/0@a"
SYMBOL = "TOY:A"
QUOTE = Quote("1", "2", "3", "4")


def _feed(running: Running, first: int, last: int) -> None:
    """Updates `first` to `last`, each of which follows the one before."""
    updates = [Update("quotes", SYMBOL, seq - 1, seq, None, "1", QUOTE) for seq in range(first, last + 1)]

    def act() -> None:
        running.gateway.hub.data(SOURCE, first - 1, last, msgspec.json.encode(updates), last + 1)
        running.gateway.fanout.notify()

    running.do(act)


def _cut(running: Running) -> None:
    running.do(lambda: [connection.transport.abort() for connection in running.gateway.connections])


async def _until(holds: Any) -> None:
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0.01)


async def test_each_update_is_printed_once_over_lost_connections(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tail, "FIRST_PAUSE_S", 0.05)
    printed: list[tuple[str, int]] = []
    hashing, wanted = tail.Hashing(), Hashes()

    def out(raw: bytes, message: tail.Message) -> None:
        printed.append((message["type"], message["seq"]))
        hashing.take(raw, message)

    settings = ServeSettings(port=0, heartbeat_ms=100, ping_interval_ms=60_000)
    with Running(settings) as running:
        snapshot = Snapshot("quotes", SYMBOL, SOURCE, 10, None, "1", QUOTE)
        running.do(lambda: running.gateway.hub.opened(SOURCE, "", True))
        running.do(lambda: running.gateway.hub.keyframe(SOURCE, SYMBOL, msgspec.json.encode([snapshot])))
        _feed(running, 11, 20)
        follower = tail.Tail(
            f"ws://127.0.0.1:{running.port}/v1/stream",
            "quotes",
            ["TOY:*"],
            out=out,
        )
        following = asyncio.create_task(follower.run())
        await _until(lambda: printed and printed[-1][1] == 20)
        for first in range(21, 61, 10):
            _feed(running, first, first + 4)
            await _until(lambda last=first + 4: printed[-1][1] == last)
            if first % 20 == 1:
                await asyncio.sleep(0.15)  # a heartbeat: sometimes the marks are newest, sometimes they are not
            _cut(running)
            _feed(running, first + 5, first + 9)
            await _until(lambda last=first + 9: printed[-1][1] == last)
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
    assert printed[0][0] == "snapshot"
    start = printed[0][1]
    assert [seq for kind, seq in printed if kind == "update"] == list(range(start + 1, 61))
    assert [kind for kind, _ in printed].count("snapshot") == 1
    for seq in range(start + 1, 61):
        message = msgspec.json.encode(Update("quotes", SYMBOL, seq - 1, seq, None, "1", QUOTE))
        wanted.take("quotes", SYMBOL, SOURCE, "update", seq, message)
    hashing.say()
    assert capsys.readouterr().out == f"{next(wanted.lines())[0]} quotes {SYMBOL}\n{wanted.total()}\n"


async def test_a_view_is_asked_for_again_after_a_loss(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tail, "FIRST_PAUSE_S", 0.05)
    told: list[tail.Message] = []

    def out(raw: bytes, message: tail.Message) -> None:
        told.append(message)

    settings = ServeSettings(port=0, heartbeat_ms=100, ping_interval_ms=60_000)
    with Running(settings) as running:
        snapshot = Snapshot("quotes", SYMBOL, SOURCE, 10, None, "1", QUOTE)
        running.do(lambda: running.gateway.hub.opened(SOURCE, "", True))
        running.do(lambda: running.gateway.hub.keyframe(SOURCE, SYMBOL, msgspec.json.encode([snapshot])))
        running.do(running.gateway.fanout.notify)
        following = tail.Tail(f"ws://127.0.0.1:{running.port}/v1/stream", "quotes", [SYMBOL], out=out, every_ms=50)
        task = asyncio.ensure_future(following.run())
        try:
            await _until(lambda: told)
            for first in range(11, 911, 300):
                for seq in range(first, first + 300):
                    _feed(running, seq, seq)
                await _until(lambda last=first + 299: told[-1]["seq"] == last)
                await _until(lambda last=first + 299: following._rule.marks.get(SOURCE) == last)
                _cut(running)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    assert [message["type"] for message in told].count("snapshot") == 1
    updates = told[1:]
    assert all(after["prev"] <= before["seq"] < after["seq"] for before, after in pairwise(updates))
    assert updates[-1]["seq"] == 910
    assert max(update.get("count", 1) for update in updates) > 1


async def test_it_ends_when_its_output_cannot_be_written() -> None:
    def out(raw: bytes, message: tail.Message) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    with Running(ServeSettings(port=0)) as running:
        snapshot = Snapshot("quotes", SYMBOL, SOURCE, 10, None, "1", QUOTE)
        running.do(lambda: running.gateway.hub.opened(SOURCE, "", True))
        running.do(lambda: running.gateway.hub.keyframe(SOURCE, SYMBOL, msgspec.json.encode([snapshot])))
        running.do(running.gateway.fanout.notify)
        following = tail.Tail(f"ws://127.0.0.1:{running.port}/v1/stream", "quotes", [SYMBOL], out=out)
        with pytest.raises(BrokenPipeError):
            await asyncio.wait_for(following.run(), 10)
