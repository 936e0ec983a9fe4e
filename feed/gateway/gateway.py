"""The gateway as one object: its settings, its hub and distributor, who is connected, and what other parts ask of it.

Owns the register of connections. The tasks are `fanout`, `pulse` and the watchdog; whoever
reads the log feeds `hub`, then calls `fanout.notify()`, and tells `health` what it saw.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from typing import TYPE_CHECKING, Final, cast

from feed.channels.distributor import Distributor
from feed.gateway.backfill import BackfillService, FeedLogs
from feed.gateway.clients import tell_of_losses
from feed.gateway.deflate import DeflateFactory, Deflater
from feed.gateway.doors import Doors
from feed.gateway.fanout import Fanout
from feed.gateway.flow import Flow, Follows, checks_of, flow_of, lag_of, state_of
from feed.gateway.flush_pacing import FlushPacing
from feed.gateway.health import Health, Watchdog
from feed.gateway.heartbeats import Heartbeats
from feed.gateway.merged import Merged
from feed.gateway.turns import Turns
from feed.gateway.ws import StreamProtocol
from feed.protocol.dialogue import Dialogue
from feed.protocol.session import Session, SessionSettings
from feed.runtime.checks import Check, is_ready
from feed.runtime.metrics import Metrics, prometheus_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from feed.gateway.recordings import Recordings
    from feed.gateway.worker_stats import WorkerStats
    from feed.runtime.settings import ServeSettings

_CATCH_UP_SECONDS: Final = 3.0
_CLOSE_SECONDS: Final = 0.002
_logger = logging.getLogger("feed.gateway")


class GatewayCounts:
    """What connections count."""

    def __init__(self, metrics: Metrics) -> None:
        self.accepted = metrics.counter("feed_gateway_accepted", "WebSocket connections accepted")
        self.received = metrics.counter("feed_gateway_received", "Messages received from clients")
        self.failed = metrics.counter("feed_gateway_failed", "Connections closed for an error of ours")
        self.closed = metrics.labelled("feed_gateway_closed", "WebSocket connections ended", "code")
        self.dropped = metrics.labelled("feed_gateway_dropped", "Connections dropped without a close", "reason")
        self.refused = metrics.labelled("feed_gateway_refused", "Requests refused before a route saw them", "status")


class ToldSettings(SessionSettings, frozen=True, kw_only=True):
    """A session's settings, and the limits of its socket, to be told in `welcome` by these names."""

    message_frames_max: int
    bytes_per_second: int
    frames_per_second: int


def told_settings(settings: ServeSettings) -> ToldSettings:
    """Settings of sessions: what is told is what this gateway enforces."""
    limits = settings.limits
    return ToldSettings(
        **settings.requests.model_dump(exclude={"share"}),
        server=settings.server,
        heartbeat_ms=settings.heartbeat_ms,
        page_bytes=settings.page_bytes,
        message_bytes_max=limits.message_bytes_max,
        message_frames_max=limits.message_frames_max,
        bytes_per_second=limits.bytes_per_second,
        frames_per_second=limits.frames_per_second,
    )


class Gateway:
    """Everything that the doors share."""

    def __init__(
        self,
        settings: ServeSettings,
        distributor: Distributor,
        metrics: Metrics,
        recordings: Recordings | None = None,
        past: FeedLogs | None = None,
        *,
        live: bool = True,
    ) -> None:
        """`past`: the feed logs, to be read again for clients that ask for what memory does not hold any more.

        `live`: there is a live stream; without one the hub stays empty.
        """
        self.live = live
        self.settings = settings
        self.distributor = distributor
        self.hub = distributor.hub
        self.metrics = metrics
        self.recordings = recordings
        self.started_at = time.monotonic()
        self.counts = GatewayCounts(metrics)
        self.doors = Doors(settings.limits)
        self.health = Health(
            kafka_silence_ms_max=settings.kafka_silence_ms_max,
            stall_ms_max=settings.stall_ms_max,
            live=live,
        )
        self.watchdog = Watchdog(self.health, metrics)
        self.deflater = Deflater(
            metrics,
            level=settings.deflate_level,
            bytes_min=settings.deflate_bytes_min,
            share=settings.deflate_share,
        )
        self.extensions = [DeflateFactory()] if settings.deflate else []
        self.fanout = Fanout(
            distributor,
            metrics,
            now_ns=self.now_ns,
            pace=FlushPacing(
                share=settings.flush_share,
                interval_busy=settings.flush_interval_busy_ms / 1000,
                interval_max=settings.flush_interval_max_ms / 1000,
            ),
            page_bytes=settings.page_bytes,
            packed=self.deflater.packed,
            received_ns=self.hub.received_ns,
        )
        self.turns = Turns(settings.requests.share, self.fanout.when_idle)
        self.backfill = (
            None if past is None else BackfillService(past, self._catch_up, settings.limits.walks_max, recordings)
        )
        self.pulse = Heartbeats(
            heartbeat_seconds=settings.heartbeat_ms / 1000,
            ping_seconds=settings.ping_interval_ms / 1000,
            when_idle=self.fanout.when_idle,
        )
        self.connections: set[StreamProtocol] = set()
        self._leaving: deque[StreamProtocol] = deque()
        """Connections that are gone, and whose sessions hold their places still."""
        self._closes = False
        """Whether they are being closed."""
        self._serves = False
        self.logs: Follows | None = None
        """The logs that feed its hub."""
        self.siblings: WorkerStats | None = None
        """The other workers, where this gateway is several processes."""
        self.told = told_settings(settings)
        metrics.gauge("feed_ready", "1 while clients can be sent here", lambda: float(is_ready(self.checks())))
        metrics.gauge("feed_gateway_connections", "WebSocket connections", lambda: len(self.connections))
        backfill = self.backfill
        metrics.gauge(
            "feed_gateway_walks", "Requests on their way from the past", lambda: backfill.requests if backfill else 0
        )
        metrics.gauge("feed_gateway_asking", "Clients whose requests wait for their turn", lambda: len(self.turns))
        metrics.gauge("feed_gateway_sockets", "TCP connections", lambda: len(self.doors))
        sums, self.merged = self.hub.counts, Merged(distributor)
        metrics.counted(
            "feed_gateway_updates",
            "Updates that clients had coming, by what became of them",
            lambda: {
                "delivered": sums.delivered,
                "merged": self.merged.read(),
                "gapped": sums.gapped,
                "left": sums.left,
            },
            label="outcome",
        )
        metrics.counted("feed_gateway_gaps", "Gaps told to clients that lost updates", lambda: sums.gaps)
        metrics.counted("feed_gateway_joins", "Channels begun with a snapshot", lambda: sums.joins)
        metrics.gauge("feed_gateway_behind", "Readers that are not in step", lambda: distributor.behind)

    def now_ns(self) -> int:
        """The wall clock, for messages that tell the time; nothing is measured by it."""
        return time.time_ns()

    async def serves(self) -> bool:
        """Waits until the hub shows the log up to where it ended at the start; False if that takes too long.

        Before that the hub shows channels where they were, not where they are: a client that resumes would be taken
        back to their beginning.
        """
        if self._serves:
            return True
        try:
            async with asyncio.timeout(_CATCH_UP_SECONDS):
                await self.health.read.wait()
                await self.fanout.shown()
        except TimeoutError:
            return False
        self._serves = True
        return True

    @property
    def full(self) -> bool:
        """Whether one more WebSocket connection is one too many."""
        return len(self.connections) >= self.settings.limits.connections_max

    def joined(self, connection: StreamProtocol, session: Dialogue | None) -> Dialogue:
        """A connection was accepted; this is its session: of the live stream, where it has none yet."""
        self.connections.add(connection)
        self.counts.accepted.value += 1
        connection.number = self.counts.accepted.value
        connection.joined_at = connection.loop.time()
        self.pulse.add(connection, connection.loop.time())
        return session or Session(self.distributor, connection, self.told, self.backfill)

    def left(self, connection: StreamProtocol) -> None:
        """A connection ended: what its session holds is given back as soon as no flush is under way."""
        self.connections.discard(connection)
        self._leaving.append(connection)
        if not self._closes:
            # in the next turn of the loop: those that go in this one are closed with it, not each at once
            self._closes = True
            connection.loop.call_soon(self.fanout.when_idle, self._close_some)

    def _close_some(self) -> None:
        """Closes sessions as long as a slice of time allows: thousands may go at once, and each has many channels."""
        until = time.perf_counter() + _CLOSE_SECONDS
        while self._leaving:
            connection = self._leaving.popleft()
            self._close(connection)
            if self._leaving and time.perf_counter() > until:
                connection.loop.call_soon(self.fanout.when_idle, self._close_some)
                return
        self._closes = False

    def _close(self, connection: StreamProtocol) -> None:
        if connection.session is None:
            return
        try:
            connection.session.close()
            tell_of_losses(connection)
            # a session and its connection hold each other
            connection.session = None
        except Exception:
            # the task that sends to all may be who closes it
            _logger.exception("session cannot be closed")
            self.counts.failed.value += 1

    def _catch_up(self, owner: object) -> None:
        connection = cast("StreamProtocol", owner)
        if not connection.ended:
            self.fanout.catch_up(connection)

    def follow(self, logs: Follows) -> None:
        """These logs feed its hub."""
        self.logs = logs
        self.hub.delay_s = lambda: logs.delay_s + self.fanout.delay_s
        metrics = self.metrics
        metrics.gauge(
            "feed_source_state",
            "1 for the state of a source that holds",
            lambda: state_of(logs),
            labels=("venue", "partition", "state"),
        )
        metrics.gauge(
            "feed_lag_seconds",
            "How long the oldest has waited that is not read, or not sent",
            lambda: lag_of(logs, self.fanout.delay_s),
            labels=("venue", "partition"),
        )
        metrics.counted(
            "feed_foreign_records",
            "Records in feed logs that none of ours has written",
            lambda: logs.foreign,
            labels=("venue", "partition"),
        )

    def checks(self) -> list[Check]:
        """What has to be so for clients to be sent here, and how its sources stand."""
        checks = self.health.checks()
        if self.logs is None:
            return checks
        return [*checks, *checks_of(self.logs, self._ticks_behind)]

    def _ticks_behind(self, source: str) -> int:
        known = self.hub.sources.get(source)
        return 0 if known is None else max(0, known.end - known.position)

    def flow(self, venues: Sequence[str] = ()) -> Flow:
        """Whether data flows, as this process sees it; `venues`: those that are asked for, all where there are none."""
        return Flow() if self.logs is None else flow_of(self.logs, venues)

    @property
    def alive(self) -> bool:
        """Whether its loop turns."""
        return self.health.alive

    async def export(self) -> bytes:
        """All numbers, those of the other workers among them."""
        await self.merged.told()
        return self.metrics.export() if self.siblings is None else prometheus_text(await self.siblings.families())

    async def all_checks(self) -> list[Check]:
        """The same, and that all other workers are ready."""
        own = self.checks()
        return own if self.siblings is None else [*own, *self.siblings.checks_of(await self.siblings.ask())]
