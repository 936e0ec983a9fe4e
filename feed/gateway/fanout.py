"""The task that sends: flushes to those in step, then pages to those who catch up, in turns.

Owns when that happens. While idle a flush follows a log batch at once. Under load the next one waits (`pace`): the more
there is to do, the more updates share a write. Leaves what is sent to whom to `feed.channels.distributor`, and sockets
to the connections.

While a flush is being sent (`busy`) nothing else may touch subscribers: it gives way to the loop every few
milliseconds, and a client that unsubscribed in between would get data after its ack. Who has to wait asks to be called
by `when_idle`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from time import perf_counter, thread_time
from typing import Final, Protocol

from feed.gateway.flush_pacing import FlushPacing
from feed.runtime.metrics import Metrics
from feed.wire.frames import Frames

_SLICE_SECONDS: Final = 0.004
_PAGES_SECONDS: Final = 0.002
"""At a time."""
_TURNS_BETWEEN_PAGES: Final = 8
"""What Kafka sends takes so many turns of the loop to become news; with pages in each of them it would be late."""
_WRITE_BYTES: Final = 256 * 1024
"""About so much of a flush goes to any client."""
_ROOM_TIMES_MAX: Final = 16
_TELLING_BYTES: Final = 64 * 1024
"""Smaller flushes say little of what part of one a client gets."""
_WRITES_BETWEEN_LOOKS: Final = 64
_SLEEP_SECONDS_MIN: Final = 0.0005
_NS_PER_S: Final = 1_000_000_000
_EARLY_SECONDS: Final = 0.001
"""uvloop's timers ring up to so much too early: four in ten did."""


class Peer(Protocol):
    """A connection, as far as the fan-out knows it."""

    full: bool
    ended: bool
    deflates: bool
    """Whether it gets frames compressed."""

    def write(self, frames: Frames) -> bool:
        """Sends frames, or says that the socket is over its bound."""
        ...

    def page(self, bytes_max: int) -> None:
        """Sends the next page of what its subscriber misses; asks to `catch_up` again while more is due."""
        ...


class Cursor(Protocol):
    """A subscriber, as far as the fan-out knows it."""

    owner: object
    """The connection that it belongs to."""

    def leave_behind(self) -> None:
        """Stays at the flush before."""
        ...


class FlushSource(Protocol):
    """What it sends: a `Distributor`, as far as the fan-out knows it."""

    @property
    def waiting_bytes(self) -> int:
        """What came in since the last flush."""
        ...

    @property
    def due_ns(self) -> int | None:
        """When `flush` is to be called though nothing came in: a view has something to tell."""
        ...

    def flush(self, now_ns: int) -> bool:
        """Closes the open flush; False when nothing changed."""
        ...

    def fan_out(self) -> Iterable[tuple[Frames, Sequence[Cursor]]]:
        """A buffer for each distinct selection, with its subscribers."""
        ...

    def called(self) -> Sequence[Cursor]:
        """After that: subscribers that were in step, and have something of their own to catch up with."""
        ...


class Fanout:
    """Sends what the distributor gives; `notify` after each log batch, `run` as a task."""

    def __init__(
        self,
        source: FlushSource,
        metrics: Metrics,
        *,
        now_ns: Callable[[], int],
        pace: FlushPacing,
        page_bytes: int,
        packed: Callable[[Frames], Frames] = bytes,
        received_ns: Callable[[], int] = lambda: 0,
        clock: Callable[[], float] = perf_counter,
        cpu: Callable[[], float] = thread_time,
    ) -> None:
        """`packed` compresses frames; `received_ns`: when the newest tick was received of what is flushed next, 0 where
        that is not known; `cpu` measures what a flush costs, where the clock also counts others' work."""
        self.busy = False
        self._clock = clock
        self._cpu = cpu
        self._source = source
        self._now_ns = now_ns
        self._pace = pace
        self._page_bytes = page_bytes
        self._packed = packed
        self._received_ns = received_ns
        self._aside = 0.0
        self._due = False
        self._due_since = 0.0
        self._hurried = False
        self._room_bytes = _WRITE_BYTES
        self._next_flush = 0.0
        self._behind: deque[Peer] = deque()
        self._behind_set: set[int] = set()
        self._after: deque[Callable[[], None]] = deque()
        self._letting = False
        self._wake = asyncio.Event()
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_ns: int | None = None
        self._shown = asyncio.Event()
        self._seconds = metrics.histogram("feed_gateway_flush_seconds", "Time that a flush took to send")
        self._delivery = metrics.histogram(
            "feed_delivery_seconds", "From when a flush's newest tick was received by its collector to all sockets"
        )
        self._flushes = metrics.counter("feed_gateway_flushes", "Flushes sent")
        self._writes = metrics.counter("feed_gateway_writes", "Buffers given to clients' sockets by flushes")
        self._bytes = metrics.counter("feed_gateway_sent_bytes", "Bytes given to clients' sockets by flushes")
        self._left = metrics.counter("feed_gateway_left_behind", "Times that a reader was left behind")
        self._pages = metrics.counter("feed_gateway_pages", "Pages sent to readers that catch up")
        metrics.gauge("feed_gateway_catching_up", "Readers that catch up", lambda: len(self._behind))

    def set_aside(self, seconds: float) -> None:
        """So much of the loop's time went to requests or pages: they give way, and no flush has to wait for that."""
        self._aside += seconds

    async def shown(self) -> None:
        """Returns when clients are shown what the hub was told until now."""
        if self._due:
            self._shown.clear()
            await self._shown.wait()

    async def room(self) -> None:
        """Returns when more may come in. What a client gets of one flush is one write, whether it reads or not, so no
        flush may grow until the loop has time for it."""
        before = -1
        while before != (waiting := self._source.waiting_bytes) >= self._room_bytes:
            before = waiting  # parts of a large update stay until its last one has come
            self._hurried = True
            self.notify()
            await self.shown()

    def notify(self) -> None:
        """The hub has news."""
        if not self._due:
            self._due, self._due_since = True, self._clock()
        self._wake.set()

    @property
    def delay_s(self) -> float:
        """For how long news of the hub have waited to be sent."""
        return self._clock() - self._due_since if self._due else 0.0

    def catch_up(self, peer: Peer) -> None:
        """This connection's subscriber is not in step, and its socket has room."""
        if id(peer) not in self._behind_set:
            self._behind_set.add(id(peer))
            self._behind.append(peer)
            self._wake.set()

    def when_idle(self, act: Callable[[], None]) -> None:
        """Calls `act` as soon as no flush is under way, and those who came before have been called."""
        if self.busy or self._after:
            self._after.append(act)
        else:
            act()

    async def run(self) -> None:
        """Sends until it is cancelled."""
        while True:
            if not (self._due or self._behind):
                await self._wake.wait()
            self._wake.clear()
            rest = self._until() - self._clock()
            if self._due and rest <= _SLEEP_SECONDS_MIN:
                self._due = self._hurried = False
                began = self._clock()
                cost = await self._flush()
                self._next_flush = self._pace.next_flush(
                    began=began, now=self._clock(), cost=cost, cpu=self._cpu() - self._aside
                )
            elif not self._behind:
                await self._sleep()
            if self._behind:
                began = self._cpu()
                self._send_pages()
                self.set_aside(self._cpu() - began)
                for _ in range(_TURNS_BETWEEN_PAGES):
                    await asyncio.sleep(0)
                    if self._due:
                        break
            await asyncio.sleep(0)

    def _until(self) -> float:
        """When the next flush may begin."""
        return self._pace.earliest if self._hurried else self._next_flush

    async def _sleep(self) -> None:
        """Rests after a flush, unless somebody has to catch up."""
        while not self._behind and (left := self._until() - self._clock()) > 0:
            self._wake.clear()
            try:
                async with asyncio.timeout(left):
                    await self._wake.wait()
            except TimeoutError:
                return

    async def _flush(self) -> float:
        """Sends one flush; returns what it cost, without what others did in between."""
        began, turn = self._cpu(), self._clock()
        cost = 0.0
        now_ns = self._now_ns()
        received_ns = self._received_ns()
        came = self._source.waiting_bytes
        changed = self._source.flush(now_ns)
        self._shown.set()
        self._set_alarm(now_ns)
        if not changed:
            return self._cpu() - began
        self.busy = True
        writes = sent = look = largest = 0
        try:
            for frames, subscribers in self._source.fan_out():
                size = len(frames)
                largest = max(largest, size)
                packed: Frames | None = None
                for subscriber in subscribers:
                    peer: Peer = subscriber.owner  # type: ignore[assignment]  # it is kept for us, unread
                    if peer.deflates:
                        if packed is None:
                            packed = self._packed(frames)
                        if peer.write(packed):
                            writes += 1
                            sent += len(packed)
                            continue
                    elif peer.write(frames):
                        writes += 1
                        sent += size
                        continue
                    subscriber.leave_behind()
                    self._left.value += not peer.ended
                look += 1 + len(subscribers)
                if look >= _WRITES_BETWEEN_LOOKS:
                    look = 0
                    now = self._clock()
                    if now - turn > _SLICE_SECONDS:
                        cost += self._cpu() - began
                        await asyncio.sleep(0)
                        began, turn = self._cpu(), self._clock()
        finally:
            self.busy = False
        if came >= _TELLING_BYTES and largest:
            # where nobody gets all of it, more may come in
            self._room_bytes = int(_WRITE_BYTES * min(max(came / largest, 1.0), _ROOM_TIMES_MAX))
        cost += self._cpu() - began
        self._flushes.value += 1
        self._writes.value += writes
        self._bytes.value += sent
        self._seconds.observe(cost)
        if received_ns and writes:
            self._delivery.observe(max(0, self._now_ns() - received_ns) / _NS_PER_S)
        for called in self._source.called():
            self.catch_up(called.owner)  # type: ignore[arg-type]  # as above
        self._let_go()
        return cost

    def _let_go(self) -> None:
        """Calls those who waited for the end of a flush, as long as a slice of time allows: thousands may."""
        until = self._clock() + _PAGES_SECONDS
        while self._after and not self.busy:
            self._after.popleft()()
            if self._clock() > until:
                break
        if self._after and not self.busy and not self._letting:
            self._letting = True
            asyncio.get_running_loop().call_soon(self._let_on)

    def _let_on(self) -> None:
        self._letting = False
        self._let_go()

    def _set_alarm(self, now_ns: int) -> None:
        """Has it flushed again when a view is due, also where nothing comes in until then."""
        due_ns = self._source.due_ns
        if due_ns == self._alarm_ns:
            return
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm, self._alarm_ns = None, due_ns
        if due_ns is not None:
            delay = max(due_ns - now_ns, 0) / _NS_PER_S + _EARLY_SECONDS
            self._alarm = asyncio.get_running_loop().call_later(delay, self._ring)

    def _ring(self) -> None:
        # by the source's clock it may be too early all the same: then the flush sets it again
        self._alarm = self._alarm_ns = None
        self.notify()

    def _send_pages(self) -> None:
        """A page to each that catches up, in turns, as long as a slice of time allows."""
        began = self._clock()
        while self._behind and self._clock() - began < _PAGES_SECONDS:
            peer = self._behind.popleft()
            self._behind_set.discard(id(peer))
            if peer.full or peer.ended:
                continue  # it comes again when its socket has room
            self._pages.value += 1
            peer.page(self._page_bytes)
