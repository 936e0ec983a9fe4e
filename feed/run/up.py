"""The roles, put together from the settings: the normalizer, the gateway, or both in one loop.

Owns which objects a role is made of, the topics that must be there, and that roles start, end and fail together. Leaves
options and words to `feed.cli`.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

from msgspec.structs import replace

from feed.channels.distributor import Distributor
from feed.channels.hub import Hub, HubSettings
from feed.errors import FeedError
from feed.follow.follower import Followed, Follower
from feed.gateway.app import Routes
from feed.gateway.backfill import FeedLogs
from feed.gateway.descriptors import fitted
from feed.gateway.gateway import Gateway
from feed.gateway.limits import GatewaySettings
from feed.gateway.server import GatewayServer, build_server, serve
from feed.kafka.cluster import Cluster
from feed.normalizer.role import Normalizer
from feed.normalizer.settings import NormalizerSettings
from feed.protocol.session import SessionSettings
from feed.run.membership import AllPartitions, GroupMember
from feed.runtime.command import say
from feed.runtime.metrics import Metrics, tell_build
from feed.runtime.settings import Settings, convert
from feed.runtime.tasks import together, until_signal
from feed.venues.table import venue as venue_named
from feed.wire.model import PROTOCOL

_DEAD_PARTITIONS: Final = 1


class Roles(NamedTuple):
    """What runs in this process, and its numbers."""

    metrics: Metrics
    normalizer: Normalizer | None
    server: GatewayServer | None

    @property
    def gateway(self) -> Gateway | None:
        """The gateway, where this process has one."""
        return self.server.gateway if self.server is not None else None


def build(settings: Settings, *, normalizes: bool, serves: bool, routes: Sequence[Routes] = ()) -> Roles:
    """The objects of the roles that are asked for; nothing runs yet. `routes`: what the gateway answers besides."""
    metrics = Metrics()
    tell_build(metrics, PROTOCOL)
    normalizer = _normalizer(settings, metrics) if normalizes else None
    server = build_server(make_gateway(settings, metrics), *routes) if serves else None
    if server is not None and normalizer is not None:
        server.gateway.health.others.append(normalizer.check)
    return Roles(metrics, normalizer, server)


async def run_together(
    settings: Settings, roles: Roles, *beside: Coroutine[Any, Any, object], at_signal: bool = True
) -> None:
    """Runs the roles, and what is given beside them, until a signal or until one of them ends; then ends the others.

    `at_signal`: without a gateway, which looks to that itself; False where what is beside does.

    Raises:
        Unreachable: no broker answered at the start.
        ConfigError: a feed log was written by a newer version.
    """
    working: list[Coroutine[Any, Any, object]] = [*beside]
    if roles.normalizer is not None:
        working.append(_normalize(settings, roles.normalizer))
    if roles.server is not None:
        working += [follower(settings, roles.server.gateway).run(), serve(roles.server)]
    elif at_signal:
        working.append(until_signal())
    await together(working)


async def make_topics(settings: Settings) -> list[str]:
    """Makes the topics of all venues that are missing; says which. A feed log gets as many partitions as its ticks.

    Where no venue was named: of those whose ticks are there; of all that are known where none is.

    Raises:
        Unreachable: no broker answers.
    """
    async with Cluster(settings.kafka.bootstrap) as cluster:
        known = await cluster.topics()
        return await _make(settings, cluster, known, _there(settings, known) or settings.normalized.names)


async def remake_topics(settings: Settings) -> list[str]:
    """Makes what has gone while normalizers run, and what has become missing: a venue that nobody named may go.

    Raises:
        Unreachable: no broker answers.
    """
    async with Cluster(settings.kafka.bootstrap) as cluster:
        known = await cluster.topics()
        return await _make(settings, cluster, known, _there(settings, known))


def _there(settings: Settings, known: Mapping[str, int]) -> Sequence[str]:
    """The venues that were named, else those whose ticks are there."""
    names, named = settings.normalized
    return names if named else [name for name in names if settings.ticks_topic(name) in known]


async def _make(settings: Settings, cluster: Cluster, known: Mapping[str, int], venues: Iterable[str]) -> list[str]:
    kafka = settings.kafka
    ticks: dict[str, int] = {}
    logs = {kafka.dead_topic: _DEAD_PARTITIONS}
    for venue in venues:
        topic = settings.ticks_topic(venue)
        ticks[topic] = known.get(topic) or kafka.partitions
        logs[settings.feed_topic(venue)] = ticks[topic]
    made = await cluster.make_topics(ticks, settings.topic_settings)
    return made + await cluster.make_topics(logs, settings.log_settings)


async def when_ready(server: GatewayServer, tell: Callable[[], None]) -> None:
    """Tells when the gateway listens, then waits until it is cancelled."""
    await server.ready.wait()
    tell()
    await asyncio.Event().wait()


def say_where(host: str, port: int) -> None:
    """Tells a person where the gateway's doors are."""
    at = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    say(f"stream  ws://{at}/v1/stream")
    say(f"board   http://{at}/")
    say(f"docs    http://{at}/docs")


def refuse_used_port(host: str, port: int, option: str = "--port") -> None:
    """Says so before anything starts. `option`: by which another one is chosen.

    Raises:
        FeedError: somebody listens there, or the address is not ours.
    """
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise FeedError(f"port {port} of {host} is in use; another one with {option}") from error
            raise FeedError(f"port {port} of {host} cannot be listened on: {error.strerror}") from error


async def _normalize(settings: Settings, normalizer: Normalizer) -> None:
    kafka = settings.kafka
    if kafka.assign == "all":
        await normalizer.run(AllPartitions())
        return
    member = GroupMember(
        kafka.bootstrap,
        kafka.group,
        session_timeout_ms=kafka.session_timeout_ms,
        heartbeat_interval_ms=kafka.heartbeat_interval_ms,
    )
    await normalizer.run(member)


def normalizer_settings(settings: Settings, name: str) -> NormalizerSettings:
    """What the normalizer of a venue needs to know."""
    kafka, chosen = settings.kafka, settings.normalize
    return NormalizerSettings(
        ticks_topic=settings.ticks_topic(name),
        feed_topic=settings.feed_topic(name),
        dead_topic=kafka.dead_topic,
        rules=settings.rules(name),
        ticks_a_step_max=chosen.poll_ticks_max,
        keyframe_ratio=chosen.keyframe_ratio,
        round_ms=chosen.keyframe_round_max_s * 1000,
        round_least_ms=chosen.keyframe_round_min_ms,
        alive_ms=chosen.alive_ms,
        open_transaction_max_ms=chosen.open_transaction_max_ms,
        rival_silence_ms=chosen.rival_silence_ms,
        owner=f"{socket.gethostname()}:{os.getpid()}",
        compression=kafka.compression,
    )


def _normalizer(settings: Settings, metrics: Metrics) -> Normalizer:
    kafka = settings.kafka
    venues = {venue_named(name): normalizer_settings(settings, name) for name in settings.normalized.names}
    normalizer = Normalizer(
        kafka.bootstrap,
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
    hub = Hub(
        HubSettings(
            resume_window_ms=chosen.resume_window_s * 1000,
            resume_window_bytes_max=chosen.resume_window_bytes_max,
            page_bytes=chosen.page_bytes,
            trades_kept=settings.normalize.trades_in_snapshot,
            bars_closed_kept=settings.normalize.bars_closed_kept,
        )
    )
    session = replace(
        convert(chosen.requests, SessionSettings),
        server=chosen.server,
        heartbeat_ms=chosen.heartbeat_ms,
        page_bytes=chosen.page_bytes,
        message_bytes_max=chosen.limits.message_bytes_max,
    )
    recordings, files_a_reader = None, 0
    if chosen.recordings:
        from feed.gateway.recordings import FILES_A_READER, Recordings  # it brings pyarrow, a third of a second

        recordings, files_a_reader = Recordings(chosen.recordings), FILES_A_READER
    topics = {name: settings.feed_topic(name) for name in settings.served.names}
    past = FeedLogs(settings.kafka.bootstrap, topics) if live else None
    own = convert(chosen, GatewaySettings)
    own = replace(own, limits=fitted(own.limits, files_a_reader=files_a_reader))
    return Gateway(own, Distributor(hub), session, metrics, recordings, past, live=live)


def follower(settings: Settings, gateway: Gateway, *, lenient: bool = False) -> Follower:
    """What feeds a gateway's hub. `lenient`: it takes the place of one that served what can be served."""
    names, named = settings.served
    topics = {
        settings.feed_topic(name): Followed(
            float(settings.silent_after_s(name, venue_named(name).silent_after_s)), named, name
        )
        for name in names
    }
    followed = Follower(
        settings.kafka.bootstrap,
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
