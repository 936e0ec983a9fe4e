"""Readers that the window has left behind: what their gaps count, and what keeping that costs."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from types import FrameType

import pytest

from tests.feed.channels.desk import Desk, Link

KINDS = "trades quotes book"


def steps_of(act: Callable[[], object]) -> int:
    """How many functions of Python it calls."""
    steps = 0

    def count(frame: FrameType, event: str, arg: object) -> None:
        nonlocal steps
        steps += event == "call"

    sys.setprofile(count)
    try:
        act()
    finally:
        sys.setprofile(None)
    return steps


@pytest.mark.parametrize("turned", [False, True])
def test_a_flush_that_goes_costs_what_was_in_it_whatever_slow_readers_have(turned: bool) -> None:
    desk = Desk(resume_window_ms=1_000)
    for number in range(150):
        desk.tick("trades", f"X:{number:03}")
    desk.read()
    links = [desk.link() for _ in range(10)]
    for link in links:
        link.subscribe("trades", "*")
        link.drain()
    for link in links:
        link.full = True
        desk.step("trades", "X:000")
    if turned:
        desk.switch("x/0@b", carries=True)
        for number in range(150):
            desk.keyframe(f"X:{number:03}")
        desk.step("trades", "X:000")
    for _ in range(20):
        desk.step("trades", "X:000")
    desk.now += 990_000_000  # the flush of all symbols has gone, those of the cursors go
    desk.tick("trades", "X:000")
    before = len(desk.hub.window)
    assert steps_of(desk.read) < 2_000
    assert len(desk.hub.window) < before - 8
    for link in links:
        link.drain()
        assert link.session.subscribers.account().pending == 0


@pytest.mark.parametrize("seed", range(3))
def test_gaps_count_exactly_what_is_missing_for_each_of_many_cursors(seed: int) -> None:
    chance = random.Random(seed)
    desk = Desk(resume_window_bytes_max=6_000)
    symbols = [f"X:{number}" for number in range(6)]
    for symbol in symbols:
        desk.step(KINDS, symbol)
    links = [desk.link() for _ in range(24)]
    for link in links:
        link.subscribe(KINDS, "*")
        link.drain()
    incarnations = iter("bcdefgh")

    def some_ticks() -> None:
        for _ in range(chance.randint(1, 4)):
            desk.tick(chance.choice([KINDS, "trades", "book", "quotes"]), chance.choice(symbols))
        desk.read()
        desk.keyframe(chance.choice(symbols))

    for index, link in enumerate(links):
        link.full = True
        if index % 10 == 5:
            desk.switch(f"x/0@{next(incarnations)}", carries=chance.random() < 0.5)
        some_ticks()
        if index % 5 == 3:
            links[chance.randrange(index)].drain(chance.choice([1, 500, 1 << 20]))
    for _ in range(30):
        some_ticks()
    for link in chance.sample(links, len(links)):
        # some ticks also while its channels come back one by one
        while not link.in_step:
            link.pull(1)
            if chance.random() < 0.02:
                some_ticks()
        account = link.session.subscribers.account()
        assert account.pending == 0
        known, gapped = counted(link)
        assert account.gapped == gapped or not known


def counted(link: Link) -> tuple[bool, int]:
    """Whether each gap that a client was told of said how many updates are missing, and how many that were."""
    counts = [gap["count"] for channel in link.client.channels.values() for gap in channel.gaps]
    return None not in counts, sum(count or 0 for count in counts)


def test_nothing_is_kept_where_nobody_lags_and_little_where_many_do() -> None:
    desk = Desk(resume_window_bytes_max=3_000)
    for kinds in ("trades", "quotes"):
        desk.step(kinds)
    channels = [channel for channel in desk.hub.names["X:A"].channels if channel is not None]

    def flow(flushes: int) -> None:
        for _ in range(flushes):
            desk.step("trades quotes")

    flow(20)
    assert not any(channel.stood for channel in channels)
    oldest = desk.link()
    oldest.subscribe("trades", "X:A")
    oldest.full = True
    for _ in range(60):
        link = desk.link()
        link.subscribe("trades", "X:A")
        link.full = True
        flow(3)
        link.session.close()
        desk.links.remove(link)
    del link
    assert 0 < max(len(channel.stood) for channel in channels) < 45
    oldest.drain()
    flow(5)
    assert not any(channel.stood for channel in channels)
