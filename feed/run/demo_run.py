"""`feed demo` put together: broker in memory, simulated venues, all roles, figures.

Owns the order in which they start and end, and what is counted for the figures. The venues' frames go through the same
publisher as recorded ones, which comes as an argument: it is `replay`'s.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, Protocol

from feed.demo.broker import PARTITIONS, DemoBroker
from feed.demo.collect import Exchanges, collect
from feed.demo.figures import SETTINGS, Figures, tell
from feed.demo.venue import Captured
from feed.kafka.access import entrance_of
from feed.kafka.append import Appender
from feed.run.ports import address_of, refuse_used_port, say_where
from feed.run.up import Roles, build, run_together, when_ready
from feed.run.watched import admin_of
from feed.runtime.command import say
from feed.runtime.logs import set_up
from feed.runtime.settings import Settings, load, open_broker
from feed.venues.table import venue as venue_named

if TYPE_CHECKING:
    from feed.gateway.app import Routes
    from feed.run.admin import Admin

_LOOK_S: Final = 0.05
_LOOKS: Final = 200


class Topic(Protocol):
    """Where the frames of a venue go."""

    ticks: int
    """How many they are so far."""

    def add(self, captured: Captured, /) -> bool:
        """Takes a frame."""

    async def flush(self) -> None:
        """Returns when all of them are in the log."""


Send = Callable[[list[tuple[str, Captured]]], Awaitable[None]]
TopicMaker = Callable[[Appender, str, int, Callable[[bytes], list[str]]], Topic]
"""Makes one from a producer, the topic's name and partitions, and what tells the symbols of a frame."""


async def run_demo(
    flags: Mapping[str, object],
    make_topic: TopicMaker,
    routes: Callable[[Settings], Sequence[Routes]],
    *,
    records: bool,
    seconds: float | None,
    seed: int,
) -> None:
    """Runs the demo until a signal, or for so many seconds; `routes`: what its gateway answers besides.

    Raises:
        FeedError: the port is in use.
        ConfigError: the extra `demo` is not installed.
    """
    began = time.monotonic()
    chosen = {**SETTINGS, **open_broker(), **flags}
    settings = load(chosen).settings
    refuse_used_port(settings.serve.host, settings.serve.port)
    set_up(settings.log.level, settings.log.form)
    with admin_of(settings) as admin, DemoBroker() as broker:
        settings = load({**chosen, "kafka.bootstrap": broker.address}).settings
        venues = settings.normalized.names
        topics = [name(venue) for venue in venues for name in (settings.ticks_topic, settings.feed_topic)]
        broker.make_topics([*topics, settings.kafka.dead_topic])
        roles = build(settings, normalizes=True, serves=True, records=records, routes=routes(settings))
        assert roles.server is not None
        demo = _Demo(settings, roles)
        await demo.run(make_topic, seconds, seed, admin)
    figures = demo.read()
    say(
        f"demo ended after {time.monotonic() - began:.1f} s: {figures.ticks:,} ticks became {figures.updates:,} "
        f"updates of {figures.symbols} symbols; {demo.dead} could not be read"
    )


class _Demo:
    """What runs, and what it counts."""

    def __init__(self, settings: Settings, roles: Roles) -> None:
        assert roles.server is not None
        assert roles.normalizer is not None
        self._settings = settings
        self._roles = roles
        self._server = roles.server
        self._counters = roles.normalizer.numbers
        self._topics: dict[str, Topic] = {}
        self._over = False
        self._sent = roles.metrics.counter("feed_gateway_sent_bytes", "Bytes given to clients' sockets by flushes")

    @property
    def dead(self) -> int:
        """Ticks that became dead letters: none, if the simulated venues are right."""
        return self._counters.dead

    def read(self) -> Figures:
        """The figures now."""
        gateway = self._server.gateway
        behind = sum(max(0, source.end - 1 - source.pos) for source in gateway.hub.sources.values())
        symbols = len(list(gateway.hub.symbols()))
        return Figures(
            self._counters.ticks,
            gateway.hub.updates,
            self._sent.value,
            len(gateway.connections),
            symbols,
            behind,
        )

    async def run(self, make_topic: TopicMaker, seconds: float | None, seed: int, admin: Admin | None) -> None:
        """Everything at once; returns when the gateway has drained."""
        appender = Appender(entrance_of(self._settings.kafka), compression="zstd")
        await appender.start()
        topics = self._topics = {
            name: make_topic(appender, self._settings.ticks_topic(name), PARTITIONS, venue_named(name).keys)
            for name in self._settings.normalized.names
        }

        async def send(frames: list[tuple[str, Captured]]) -> None:
            if self._over:
                await asyncio.Event().wait()
            for name, captured in frames:
                topics[name].add(captured)
            await asyncio.gather(*(topic.flush() for topic in topics.values()))

        try:
            await run_together(
                self._settings,
                self._roles,
                self._markets(seed, send),
                when_ready(self._server, self._say_where),
                self._figures(seconds),
                admin=admin,
            )
        finally:
            await appender.stop()

    def _say_where(self) -> None:
        host, port = self._settings.serve.host, self._server.port
        say_where(host, port)
        say(f"try     feed tail trades '*' --url ws://{address_of(host, port)}/v1/stream (Ctrl-C ends it)")

    async def _markets(self, seed: int, send: Send) -> None:
        """The venues, once a recorder hears them: a recording holds what the demo did from its first tick on."""
        await self._recorder_begun()
        await collect(Exchanges(seed), send)

    async def _recorder_begun(self) -> None:
        if self._roles.recorder is not None:
            await self._roles.recorder.begun.wait()

    async def _figures(self, seconds: float | None) -> None:
        await self._server.ready.wait()
        await self._recorder_begun()
        await tell(self.read, seconds)
        # the venues end first: what is told at the end is what all have
        self._over = True
        for _ in range(_LOOKS):
            if self._all_there():
                break
            await asyncio.sleep(_LOOK_S)
        else:
            say(f"not all that was sent has come through in {_LOOKS * _LOOK_S:.0f} s")
        self._server.should_exit = True
        await asyncio.Event().wait()

    def _all_there(self) -> bool:
        """Whether the gateway, and the recorder if there is one, have taken in every tick that was sent."""
        sources = self._server.gateway.hub.sources
        if sum(source.pos + 1 for source in sources.values()) < sum(topic.ticks for topic in self._topics.values()):
            return False
        if (recorder := self._roles.recorder) is None:
            return True
        return all(recorder.status.ticks.get(name, -1) >= source.pos for name, source in sources.items())
