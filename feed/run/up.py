"""The roles, put together from the settings: the normalizer, the gateway, or both in one loop, and a recorder beside.

Owns which objects a role is made of, and that roles start, end and fail together. Leaves which roles a command has to
`roles`, and the recorder itself, which is a process of its own, to `record`.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from msgspec import UNSET
from msgspec.structs import replace

from feed.channels.distributor import Distributor
from feed.channels.hub import Hub
from feed.follow.follower import Followed, Follower
from feed.gateway.app import Routes
from feed.gateway.backfill import FeedLogs
from feed.gateway.descriptors import fitted
from feed.gateway.gateway import Gateway
from feed.gateway.server import GatewayServer, build_server, serve
from feed.kafka.access import entrance_of
from feed.normalizer.role import Normalizer
from feed.normalizer.settings import NormalizerSettings
from feed.run.membership import AllPartitions, GroupMember
from feed.run.recorder_process import RecorderProcess
from feed.run.topics import remake_topics
from feed.run.venues import silent_after_s, venue_of
from feed.run.watched import Watched
from feed.runtime.checks import Check
from feed.runtime.metrics import Metrics, add_build_info
from feed.runtime.settings import Settings
from feed.runtime.tasks import together, until_signal
from feed.wire.model import PROTOCOL

if TYPE_CHECKING:
    from feed.gateway.probes import Probed
    from feed.run.admin import Admin
    from feed.venues.venue import Venue


class Roles(NamedTuple):
    """What runs in this process, its numbers, and the recorder that is its child."""

    metrics: Metrics
    normalizer: Normalizer | None
    server: GatewayServer | None
    recorder: RecorderProcess | None

    @property
    def checks(self) -> list[Callable[[], Check]]:
        """What has to be so of all but the gateway: whoever answers for this process tells it, too."""
        beside = (self.normalizer, self.recorder)
        return [role.check for role in beside if role is not None]

    def probed(self) -> Probed:
        """Who answers for this process; to be asked once, as it may add a number."""
        if self.server is not None:
            return self.server.gateway
        assert self.normalizer is not None
        return Watched(self.normalizer.checks, self.metrics)


def build(
    settings: Settings, *, normalizes: bool, serves: bool, records: bool = False, routes: Sequence[Routes] = ()
) -> Roles:
    """The objects of the roles that are asked for; nothing runs yet. `routes`: what the gateway answers besides."""
    metrics = Metrics()
    add_build_info(metrics, PROTOCOL)
    normalizer = _normalizer(settings, metrics) if normalizes else None
    server = build_server(make_gateway(settings, metrics), *routes) if serves else None
    roles = Roles(metrics, normalizer, server, RecorderProcess(settings, metrics) if records else None)
    if server is not None:
        server.gateway.health.others.extend(roles.checks)
    return roles


async def run_together(
    settings: Settings,
    roles: Roles,
    *beside: Coroutine[Any, Any, object],
    admin: Admin | None = None,
    probed: Probed | None = None,
    at_signal: bool = True,
) -> None:
    """Runs the roles, and what is given beside them, until a signal or until one of them ends; then ends the others.

    `admin`: the port that answers those who look after this process; `probed`: who tells what, where it is none of the
    roles. `at_signal`: without a gateway, which looks to that itself; False where what is beside does.

    Raises:
        Unreachable: no broker answered at the start.
        ConfigError: a feed log was written by a newer version.
    """
    working: list[Coroutine[Any, Any, object]] = [*beside]
    if roles.recorder is not None:
        working.append(roles.recorder.run())
    if admin is not None:
        working.append(admin.run(probed or roles.probed(), roles.metrics))
    if roles.normalizer is not None:
        working.append(_normalize(settings, roles.normalizer))
    if roles.server is not None:
        working += [follower(settings, roles.server.gateway).run(), serve(roles.server)]
    elif at_signal:
        working.append(until_signal())
    await together(working)


async def when_ready(server: GatewayServer, tell: Callable[[], None]) -> None:
    """Tells when the gateway listens, then waits until it is cancelled."""
    await server.ready.wait()
    tell()
    await asyncio.Event().wait()


async def _normalize(settings: Settings, normalizer: Normalizer) -> None:
    kafka = settings.kafka
    if kafka.assign == "all":
        await normalizer.run(AllPartitions())
        return
    member = GroupMember(
        entrance_of(kafka),
        kafka.group,
        session_timeout_ms=kafka.session_timeout_ms,
        heartbeat_interval_ms=kafka.heartbeat_interval_ms,
    )
    await normalizer.run(member)


def normalizer_settings(settings: Settings, venue: Venue) -> NormalizerSettings:
    """What the normalizer of a venue needs to know."""
    name = venue.name
    return NormalizerSettings(
        ticks_topic=settings.ticks_topic(name),
        feed_topic=settings.feed_topic(name),
        dead_topic=settings.kafka.dead_topic,
        rules=replace(settings.rules(name), mapping=venue.version or UNSET),
        normalize=settings.normalize,
        schema_registry=settings.venue(name).schema_registry,
        owner=f"{socket.gethostname()}:{os.getpid()}",
        compression=settings.kafka.compression,
    )


def _normalizer(settings: Settings, metrics: Metrics) -> Normalizer:
    kafka = settings.kafka
    found = [venue_of(settings, name) for name in settings.normalized.names]
    venues = {venue: normalizer_settings(settings, venue) for venue in found}
    normalizer = Normalizer(
        entrance_of(kafka),
        venues,
        named=settings.normalized.named,
        fetch_wait_ms=kafka.fetch_max_wait_ms,
        compression=kafka.compression,
        make_topics=partial(remake_topics, settings),
    )
    normalizer.numbers.register(metrics)
    return normalizer


def make_gateway(settings: Settings, metrics: Metrics, *, live: bool = True) -> Gateway:
    """The gateway as the settings say; `live`: it follows feed logs."""
    chosen = settings.serve
    recordings, files_a_reader = None, 0
    if chosen.recordings:
        from feed.gateway.recordings import FILES_A_READER, Recordings  # it brings pyarrow, a third of a second

        recordings, files_a_reader = Recordings(chosen.recordings), FILES_A_READER
    topics = {name: settings.feed_topic(name) for name in settings.served.names}
    past = FeedLogs(entrance_of(settings.kafka), topics) if live else None
    limits = fitted(chosen.limits, files_a_reader=files_a_reader)
    own = chosen.model_copy(update={"limits": limits})
    return Gateway(own, Distributor(Hub(settings.hub)), metrics, recordings, past, live=live)


def follower(settings: Settings, gateway: Gateway, *, lenient: bool = False) -> Follower:
    """What feeds a gateway's hub. `lenient`: it takes the place of one that served what can be served."""
    names, named = settings.served
    topics = {settings.feed_topic(name): Followed(silent_after_s(settings, name), named, name) for name in names}
    followed = Follower(
        entrance_of(settings.kafka),
        topics,
        sink=gateway.hub,
        watcher=gateway.health,
        notify=gateway.fanout.notify,
        resume_window_s=settings.serve.resume_window_s,
        fetch_wait_ms=settings.kafka.fetch_max_wait_ms,
        room=gateway.fanout.room,
        lenient=lenient,
    )
    gateway.follow(followed)
    return followed
