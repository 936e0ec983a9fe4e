"""Turns of connections, on the loop's clock moved by hand."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable

import pytest

from feed.gateway.heartbeats import Heartbeats

pytestmark = pytest.mark.anyio


class Peer:
    """Counts its turns."""

    def __init__(self) -> None:
        self.ended = False
        self.beats = 0
        self.checks = 0

    def beat(self) -> None:
        self.beats += 1

    def check(self) -> None:
        self.checks += 1


def at_once(act: Callable[[], None]) -> None:
    act()


async def test_beats_and_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    now = loop.time()
    moved = 0.0
    monkeypatch.setattr(loop, "time", lambda: now + moved)
    monkeypatch.setattr("feed.gateway.heartbeats._TICK_SECONDS", 0)
    pulse = Heartbeats(heartbeat_seconds=5, ping_seconds=10, when_idle=at_once)
    early, late = Peer(), Peer()
    pulse.add(early, now)
    task = asyncio.create_task(pulse.run())

    async def move(seconds: float) -> None:
        nonlocal moved
        moved += seconds
        for _ in range(5):
            await asyncio.sleep(0)

    await move(4)
    assert (early.beats, early.checks) == (0, 0)
    pulse.add(late, now + moved)
    await move(1)
    assert (early.beats, early.checks, late.beats) == (1, 0, 0)
    await move(5)
    assert (early.beats, early.checks, late.beats) == (2, 1, 1)
    late.ended = True
    await move(100)
    assert (early.beats, late.beats) == (3, 1)
    task.cancel()


async def test_turns_wait_for_a_flush(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("feed.gateway.heartbeats._TICK_SECONDS", 0)
    waiting: list[Callable[[], None]] = []
    pulse = Heartbeats(heartbeat_seconds=0.001, ping_seconds=0.001, when_idle=waiting.append)
    peer, gone = Peer(), Peer()
    loop = asyncio.get_running_loop()
    pulse.add(peer, loop.time() - 1)
    pulse.add(gone, loop.time() - 1)
    task = asyncio.create_task(pulse.run())
    for _ in range(5):
        await asyncio.sleep(0)
    assert peer.beats == 0
    gone.ended = True
    for act in waiting[:2]:
        act()
    assert (peer.beats, peer.checks, gone.beats) == (1, 1, 0)
    task.cancel()


async def test_beats_that_are_due_at_once_give_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("feed.gateway.heartbeats._TICK_SECONDS", 0)
    clock = 0.0
    given: list[Peer] = []

    class Slow(Peer):
        def beat(self) -> None:
            nonlocal clock
            super().beat()
            given.append(self)
            clock += 0.001

    pulse = Heartbeats(heartbeat_seconds=60, ping_seconds=60, when_idle=at_once, clock=lambda: clock)
    peers = [Slow() for _ in range(100)]
    for peer in peers[:50]:
        pulse.add(peer, asyncio.get_running_loop().time() - 60)
    task = asyncio.create_task(pulse.run())
    await asyncio.sleep(0)
    for peer in peers[50:]:
        pulse.beat_soon(peer)
    most = 0
    while len(given) < 100:
        before = len(given)
        await asyncio.sleep(0)
        most = max(most, len(given) - before)
    assert most <= 4
    assert all(peer.beats == 1 for peer in peers)
    assert all(peer.checks == 1 for peer in peers[:50])
    task.cancel()


async def test_who_is_gone_is_not_kept_for_its_turn() -> None:
    pulse = Heartbeats(heartbeat_seconds=60, ping_seconds=60, when_idle=at_once)
    peer = Peer()
    pulse.add(peer, 0)
    known = weakref.ref(peer)
    del peer
    assert known() is None
