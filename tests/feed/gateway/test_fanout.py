"""The fan-out with a hub and peers made of lists: who gets what, when, and who has to wait."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import pytest

from feed.gateway.fanout import Fanout
from feed.gateway.flush_pacing import FlushPacing
from feed.runtime.metrics import Metrics

pytestmark = pytest.mark.anyio


class Peer:
    """A connection that keeps what it is sent."""

    def __init__(self, pages: int = 0) -> None:
        self.full = False
        self.ended = False
        self.deflates = False
        self.got: list[bytes] = []
        self.pages = pages
        self.fanout: Fanout

    def write(self, frames: bytes) -> bool:
        if self.full or self.ended:
            return False
        self.got.append(frames)
        return True

    def page(self, bytes_max: int) -> None:
        self.got.append(b"page")
        self.pages -= 1
        if self.pages > 0:
            self.fanout.catch_up(self)


class Reader:
    """A reader that knows whether it was left behind."""

    def __init__(self, owner: Peer) -> None:
        self.owner = owner
        self.left_at: list[int] = []
        self.hub: Hub

    def leave_behind(self) -> None:
        self.left_at.append(self.hub.flushes)


class Hub:
    """Selections that are sent as they stand at every flush; `cost` is what each buffer takes, on the clock."""

    def __init__(self, selections: list[tuple[bytes, list[Reader]]], clock: Clock, cost: float = 0.0) -> None:
        self.selections = selections
        self.flushes = 0
        self.changed = True
        self.due_ns: int | None = None
        self.waiting_bytes = self.kept_bytes = 0
        self.sent_at: list[float] = []
        self.calls: list[Reader] = []
        self._clock = clock
        self._cost = cost
        for _, readers in selections:
            for reader in readers:
                reader.hub = self

    def flush(self, now_ns: int) -> bool:
        self.flushes += 1
        self.sent_at.append(self._clock.now)
        self.waiting_bytes = self.kept_bytes
        return self.changed

    def fan_out(self) -> Iterator[tuple[bytes, Sequence[Reader]]]:
        for frames, readers in self.selections:
            self._clock.now += self._cost
            yield frames, readers

    def called(self) -> Sequence[Reader]:
        called, self.calls = self.calls, []
        return called


class Clock:
    """Time that passes only when somebody says so, or a little at every look."""

    def __init__(self) -> None:
        self.now = 0.0
        self.step = 0.0

    def __call__(self) -> float:
        self.now += self.step
        return self.now


def fanout_of(hub: Hub, clock: Clock, share: float = 0.5) -> Fanout:
    """A fan-out on a clock of the test's own."""
    pace = FlushPacing(share=share, interval_busy=0.0, interval_max=1.0)
    return Fanout(hub, Metrics(), now_ns=lambda: 7, pace=pace, page_bytes=1000, clock=clock, cpu=clock)


async def turns(count: int = 20) -> None:
    """Lets the loop turn."""
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.fixture
def runs() -> Iterator[Callable[[Fanout], None]]:
    """Runs fan-outs as tasks, to the end of the test."""
    tasks: list[asyncio.Task[None]] = []
    yield lambda fanout: tasks.append(asyncio.ensure_future(fanout.run()))
    for task in tasks:
        if task.done() and not task.cancelled():
            task.result()
        task.cancel()


async def test_a_flush_follows_a_notice_at_once_while_idle(runs: Callable[[Fanout], None]) -> None:
    clock, peer = Clock(), Peer()
    hub = Hub([(b"x", [Reader(peer)])], clock)
    fanout = fanout_of(hub, clock)
    runs(fanout)
    await turns()
    assert peer.got == []
    for count in range(1, 4):
        fanout.notify()
        await turns()
        assert peer.got == [b"x"] * count


@pytest.mark.parametrize(("received", "full", "counts"), [(0, False, 0), (5, True, 0), (5, False, 1), (9, False, 1)])
async def test_delivery_is_measured_once_a_flush_that_somebody_got(
    runs: Callable[[Fanout], None], received: int, full: bool, counts: int
) -> None:
    clock, peers = Clock(), [Peer(), Peer()]
    for peer in peers:
        peer.full = full
    hub = Hub([(b"x", [Reader(peer)]) for peer in peers], clock)
    metrics = Metrics()
    pace = FlushPacing(share=0.5, interval_busy=0.0, interval_max=1.0)
    received_ns = received * 10**9
    fanout = Fanout(
        hub, metrics, now_ns=lambda: 7 * 10**9, pace=pace, page_bytes=1, received_ns=lambda: received_ns, clock=clock
    )
    runs(fanout)
    fanout.notify()
    await turns()
    found = {sample.name: sample.value for family in metrics.collect() for sample in family.samples}
    assert found["feed_delivery_seconds_count"] == counts
    # a collector's clock that is ahead makes it no time, not less
    assert found["feed_delivery_seconds_sum"] == (2.0 * counts if received < 7 else 0.0)


async def test_notices_while_it_rests_become_one_flush(runs: Callable[[Fanout], None]) -> None:
    clock, peer = Clock(), Peer()
    hub = Hub([(b"x", [Reader(peer)])], clock, cost=0.030)
    fanout = fanout_of(hub, clock)
    runs(fanout)
    fanout.notify()
    await turns()
    for _ in range(5):
        fanout.notify()
        await turns()
    assert hub.flushes == 1
    clock.now += 0.031
    fanout.notify()
    await turns()
    assert hub.flushes == 2


async def test_who_waited_for_a_symbol_gets_a_page_after_the_flush(runs: Callable[[Fanout], None]) -> None:
    clock, peer = Clock(), Peer()
    hub = Hub([(b"x", [Reader(peer)])], clock)
    fanout = fanout_of(hub, clock)
    runs(fanout)
    await turns()
    assert peer.got == []
    hub.calls = [Reader(peer)]
    fanout.notify()
    await turns()
    assert peer.got == [b"x", b"page"]


@pytest.mark.parametrize(("share", "rest"), [(0.5, 0.030), (0.75, 0.010), (0.25, 0.090)])
async def test_the_rest_follows_the_cost(runs: Callable[[Fanout], None], share: float, rest: float) -> None:
    clock = Clock()
    hub = Hub([(b"x", [Reader(Peer())])], clock, cost=0.030)
    fanout = fanout_of(hub, clock, share)
    runs(fanout)
    fanout.notify()
    await turns()
    began = clock.now
    while hub.flushes < 2:
        clock.now += 0.001
        fanout.notify()
        await turns(3)
    assert clock.now - 0.030 - began == pytest.approx(rest, abs=0.002)


async def test_a_full_socket_is_left_behind_and_nobody_else(runs: Callable[[Fanout], None]) -> None:
    clock, slow, fast = Clock(), Peer(), Peer()
    readers = [Reader(slow), Reader(fast)]
    hub = Hub([(b"x", readers)], clock)
    fanout = fanout_of(hub, clock)
    runs(fanout)
    slow.full = True
    fanout.notify()
    await turns()
    assert readers[0].left_at == [1]
    assert slow.got == []
    assert fast.got == [b"x"]


async def test_a_connection_that_ended_did_not_get_the_flush(runs: Callable[[Fanout], None]) -> None:
    clock, gone = Clock(), Peer()
    gone.ended = True
    reader = Reader(gone)
    hub = Hub([(b"x", [reader])], clock)
    fanout = fanout_of(hub, clock)
    runs(fanout)
    fanout.notify()
    await turns()
    assert reader.left_at == [1]
    assert fanout._left.value == 0


async def test_nothing_new_is_no_flush(runs: Callable[[Fanout], None]) -> None:
    clock, peer = Clock(), Peer()
    hub = Hub([(b"x", [Reader(peer)])], clock)
    hub.changed = False
    fanout = fanout_of(hub, clock)
    runs(fanout)
    fanout.notify()
    await turns()
    assert peer.got == []


async def test_a_long_flush_gives_way_and_who_waits_is_called_behind_it(runs: Callable[[Fanout], None]) -> None:
    clock = Clock()
    peers = [Peer() for _ in range(300)]
    hub = Hub([(b"%d" % i, [Reader(peer)]) for i, peer in enumerate(peers)], clock, cost=0.001)
    fanout = fanout_of(hub, clock)
    runs(fanout)
    fanout.notify()
    seen: list[int] = []
    called: list[int] = []
    while not called:
        await asyncio.sleep(0)
        sent = sum(len(peer.got) for peer in peers)
        if fanout.busy:
            if not seen:
                fanout.when_idle(lambda: called.append(sum(len(peer.got) for peer in peers)))
            seen.append(sent)
    assert seen == sorted(set(seen))
    assert len(seen) >= 3
    assert called == [300]
    assert not fanout.busy


async def test_who_waited_for_a_flush_is_called_some_milliseconds_at_a_time(runs: Callable[[Fanout], None]) -> None:
    clock = Clock()
    peers = [Peer() for _ in range(300)]
    fanout = fanout_of(Hub([(b"x", [Reader(peer)]) for peer in peers], clock, cost=0.001), clock)
    runs(fanout)
    fanout.notify()
    called: list[int] = []

    def act(number: int) -> None:
        called.append(number)
        clock.now += 0.001

    while not fanout.busy:
        await asyncio.sleep(0)
    for number in range(50):
        fanout.when_idle(partial(act, number))
    most, late = 0, False
    while len(called) < 51:
        before = len(called)
        await asyncio.sleep(0)
        most = max(most, len(called) - before)
        if called and not late:
            late = True
            fanout.when_idle(partial(act, 50))  # who comes then is behind them
    assert most <= 6  # at the end of a flush, and once more in the same turn of the loop
    assert called == [*range(51)]


async def test_flushes_that_end_one_after_the_other_let_no_more_go_in_a_turn() -> None:
    clock = Clock()
    fanout = fanout_of(Hub([], clock), clock)
    called: list[int] = []

    def act(number: int) -> None:
        called.append(number)
        clock.now += 0.001

    fanout.busy = True
    for number in range(50):
        fanout.when_idle(partial(act, number))
    fanout.busy = False
    for _ in range(5):
        fanout._let_go()
    before = len(called)
    await asyncio.sleep(0)
    assert len(called) - before <= 3


async def test_an_alarm_that_rings_early_is_set_again(runs: Callable[[Fanout], None]) -> None:
    """What a view has pending is told when it is due, also where nothing else comes in."""
    clock, now = Clock(), 0
    hub = Hub([], clock)
    hub.due_ns, hub.changed = 2_000_000, False
    pace = FlushPacing(share=0.5, interval_busy=0.0, interval_max=1.0)
    fanout = Fanout(hub, Metrics(), now_ns=lambda: now, pace=pace, page_bytes=1000, clock=clock, cpu=clock)
    runs(fanout)
    fanout.notify()
    async with asyncio.timeout(5):
        while hub.flushes < 3:  # the clock of `now_ns` stands still: each time it is not due yet
            await asyncio.sleep(0.001)
    now, hub.due_ns = 2_000_000, None
    fanout.notify()
    await turns()
    flushes = hub.flushes
    await asyncio.sleep(0.01)
    assert hub.flushes == flushes


async def test_when_idle_is_at_once_while_idle() -> None:
    clock = Clock()
    called: list[int] = []
    fanout_of(Hub([], clock), clock).when_idle(lambda: called.append(1))
    assert called == [1]


async def test_pages_go_round(runs: Callable[[Fanout], None]) -> None:
    clock, one, other = Clock(), Peer(pages=3), Peer(pages=1)
    fanout = fanout_of(Hub([], clock), clock)
    runs(fanout)
    for peer in (one, other, one):
        peer.fanout = fanout
        fanout.catch_up(peer)
    await turns()
    assert one.got == [b"page"] * 3
    assert other.got == [b"page"]


async def test_who_is_full_or_gone_gets_no_page(runs: Callable[[Fanout], None]) -> None:
    clock, full, gone = Clock(), Peer(pages=3), Peer(pages=3)
    full.full = gone.ended = True
    full.fanout = fanout = fanout_of(Hub([], clock), clock)
    runs(fanout)
    fanout.catch_up(full)
    fanout.catch_up(gone)
    await turns()
    assert full.got == gone.got == []
    full.full = False
    fanout.catch_up(full)
    await turns()
    assert len(full.got) == 3


async def test_who_catches_up_takes_turns_with_flushes(runs: Callable[[Fanout], None]) -> None:
    """A thousand readers that join do not keep a flush from those in step."""
    clock, live = Clock(), Peer()
    clock.step = 0.0005
    hub = Hub([(b"x", [Reader(live)])], clock)
    fanout = fanout_of(hub, clock)
    joining = [Peer(pages=50) for _ in range(1000)]
    for peer in joining:
        peer.fanout = fanout
        fanout.catch_up(peer)
    runs(fanout)
    await turns(3)
    fanout.notify()
    await turns(10)
    assert live.got
    assert any(peer.pages > 0 for peer in joining)


async def test_news_that_need_some_turns_of_the_loop_wait_for_one_slice_of_pages(
    runs: Callable[[Fanout], None],
) -> None:
    clock = Clock()
    clock.step = 0.001  # a slice is over after two looks
    late, reader = Peer(pages=1000), Reader(Peer())
    hub = Hub([(b"flush", [reader])], clock)
    fanout = fanout_of(hub, clock)
    late.fanout = fanout
    runs(fanout)
    fanout.catch_up(late)
    await turns(50)
    for _ in range(3):
        pages, flushes = len(late.got), hub.flushes
        await turns(6)  # as a record passes from the socket to the hub
        fanout.notify()
        while hub.flushes == flushes:
            await asyncio.sleep(0)
        assert len(late.got) - pages <= 2 * 2


async def test_no_more_comes_in_than_one_write_may_have(runs: Callable[[Fanout], None]) -> None:
    """As a client gets it: where each has a tenth of a flush, that may be ten times as large."""
    clock, peer = Clock(), Peer()
    hub = Hub([(b"x" * 300_000, [Reader(peer)])], clock)
    pace = FlushPacing(share=0.5, interval_busy=1000.0, interval_max=1000.0)
    pace.use = 1.0
    fanout = Fanout(hub, Metrics(), now_ns=lambda: 7, pace=pace, page_bytes=1000, clock=clock, cpu=clock)
    runs(fanout)
    fanout.notify()
    await turns()
    assert hub.flushes == 1
    hub.waiting_bytes = 200_000
    await asyncio.wait_for(fanout.room(), 1)  # there is room
    assert hub.flushes == 1
    hub.waiting_bytes = 300_000
    await asyncio.wait_for(fanout.room(), 1)
    assert hub.flushes == 2  # it is flushed now, however far apart flushes are
    hub.selections[0] = b"x" * 30_000, hub.selections[0][1]
    hub.waiting_bytes = 300_000
    await asyncio.wait_for(fanout.room(), 1)
    assert hub.flushes == 3
    hub.waiting_bytes = 256 * 1024 * 10 - 1
    await asyncio.wait_for(fanout.room(), 1)
    assert hub.flushes == 3
    # parts of an update stay until its last one has come, so whoever brings that is let in
    hub.waiting_bytes = hub.kept_bytes = 8 << 20
    await asyncio.wait_for(fanout.room(), 1)
    assert hub.flushes == 4
