"""A live hub over feed logs, clients of it, and a reader that reads the past when a test says so: no task, no clock."""

from __future__ import annotations

from typing import Any

from feed.backfill.past import LogCut
from feed.backfill.recorded import RecordedPart
from feed.backfill.request import BackfillRequest
from feed.channels.distributor import Distributor
from feed.channels.hub import Hub, HubSettings
from feed.errors import BadRequest
from feed.protocol.session import SessionSettings
from tests.feed.backfill.logs import FeedLog, Follower, read_to_cut, short
from tests.feed.channels.desk import Link
from tests.reference_client import Client

REFUSAL = BadRequest("source_unavailable", "planted")


class ByHand:
    """`reads`: the requests that were given to it to read for."""

    def __init__(self, *logs: FeedLog, **settings: Any) -> None:
        self.made = {log.name: log for log in logs}
        self.hub = Hub(HubSettings(**{"resume_window_ms": 20} | settings))
        self.distributor = Distributor(self.hub)
        self.reads: list[BackfillRequest] = []
        self.asked_for: dict[BackfillRequest, int] = {}
        """How many pages each has asked for."""
        self.stopped: list[BackfillRequest] = []
        self.links: list[Link] = []
        self._followers = [Follower(self.hub, log) for log in logs]
        self._now = 1
        self.follow()

    # ---- what goes on live

    def follow(self) -> None:
        """Memory comes to the end of the logs, and clients are served."""
        for follower in self._followers:
            follower.follow()
        self._now += 1_000_000
        if self.distributor.flush(self._now):
            for frames, subscribers in self.distributor.fan_out():
                for one in subscribers:
                    one.owner.take(frames)  # type: ignore[attr-defined]  # a link

    def forget(self) -> None:
        """So much happens in the last symbol of each log that memory has only the states of the others."""
        for log in self.made.values():
            for symbol in log.symbols:
                log.keyframe(symbol)
        for _ in range(30):
            for log in self.made.values():
                log.tick("status", log.symbols[-1])
            self.follow()

    def link(self, client: Client | None = None, **settings: Any) -> Link:
        """A new client, whose channels live and past are of this."""
        link = Link(self.distributor, SessionSettings(**{"requests_burst": 1000} | settings), client, self)
        link.now = 10**12
        self.links.append(link)
        return link

    # ---- the reader

    def start(self, request: BackfillRequest) -> None:
        """As of `BackfillReader`."""
        self.reads.append(request)
        self.asked_for[request] = 0

        def more() -> None:
            self.asked_for[request] += 1

        request.read_by(more, lambda: self.stopped.append(request))

    def read_to_cuts(self, request: BackfillRequest, *, cut: LogCut | None = None) -> None:
        """Reads the logs of a request to their cuts, or to another one."""
        for name in request.cuts:
            log = self.made[name]
            read_to_cut(request.past.open_log(0), log, cut or request.cuts[name])

    def ready(self, request: BackfillRequest, recorded: RecordedPart | None = None) -> None:
        """The same, and says so."""
        self.read_to_cuts(request)
        request.ready(recorded)

    def give_rest(self, request: BackfillRequest) -> None:
        """Gives all that the logs have."""
        for log in request.past.logs:
            made = self.made[log.reader.source.partition("@")[0]]
            request.past.give(log, made.records[log.next :])

    def catch_up(self, link: Link, request: BackfillRequest, most: int = 100) -> list[str]:
        """Reads to the end of the logs until the request is over; what its client was sent."""
        told: list[str] = []
        self.give_rest(request)
        for _ in range(most):
            if request.over and not link.session.due:
                return told
            before = self.asked_for[request]
            told += pulled(link)
            if self.asked_for[request] > before and not request.over:
                request.at_end()
        raise AssertionError("it is never over")


def pulled(link: Link, bytes_max: int = 1 << 20) -> list[str]:
    """One page of a client, in short."""
    return short(link.pull(bytes_max))
