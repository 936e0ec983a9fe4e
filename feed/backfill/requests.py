"""The requests of one connection that begin in the past, beside each other and beside its live stream.

Owns which subscribes need the past at all, and from where; that each is answered in its place, as soon as it is known
where it begins; and that a channel which is asked for again, or taken away, is so wherever it is. Leaves the stages of
one request to `feed.backfill.request`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from feed.backfill.past import LogCut
from feed.backfill.request import BackfillRequest, Stage
from feed.channels.source import partition_of
from feed.channels.steps import STRIDE, NotYet
from feed.channels.subscription import Ask, Limits, Subscribing, subscribed, unsubscribe, unsubscribe_all
from feed.wire.message import KIND_BIT, KIND_INDEX
from feed.wire.model import Result
from feed.wire.symbols import is_pattern, prefix_of

if TYPE_CHECKING:
    from feed.backfill.request import BackfillReader
    from feed.channels.channel import Listing
    from feed.channels.hub import Hub
    from feed.channels.source import Source
    from feed.channels.steps import Steps
    from feed.channels.subscribers import Subscribers

REQUESTS_MAX: Final = 8
"""Of one connection at once; the next one waits in the line of requests."""


class BackfillRequests:
    """`reader`: None where the past cannot be read.

    A subscribe that needs the past is *asked* first: it waits in the connection's line, and those behind it do. When it
    can be answered it is *running*: others are answered beside it.
    """

    def __init__(self, hub: Hub, subscribers: Subscribers, reader: BackfillReader | None, limits: Limits) -> None:
        self._hub = hub
        self._subscribers = subscribers
        self._subscriber = subscribers.raw
        self._reader = reader
        self._limits = limits
        self._asked: BackfillRequest | None = None
        self._running: list[BackfillRequest] = []
        self._full = False
        """Whether a subscribe waits for one of those running to end."""

    def __len__(self) -> int:
        """How many are running."""
        return len(self._running)

    # ---- requests

    @property
    def answerable(self) -> bool:
        """Whether the subscribe that waits can go on now."""
        if self._asked is None:
            return self._full and len(self._running) < REQUESTS_MAX
        return self._asked.answerable

    @property
    def live_limits(self) -> Limits:
        """What those running leave of the client's limits to the live stream."""
        taken = [request.past.subscriber.interest for request in self._running]
        return Limits(
            subscriptions_max=self._limits.subscriptions_max - sum(interest.count for interest in taken),
            patterns_max=self._limits.patterns_max - sum(interest.patterns for interest in taken),
        )

    def subscribe(self, ask: Ask, time: int | None) -> Steps[list[Result]] | None:
        """The steps to a subscribe from a time, or from marks; None: the past has nothing to add to what memory holds.

        Raises:
            NotYet: it is not known yet where it begins.
            BadRequest: that could not be found.
        """
        request = self._asked
        if request is None:
            cuts = None if self._reader is None else self._cuts(ask, time)
            if self._reader is None or cuts is None:
                return None
            self._full = len(self._running) >= REQUESTS_MAX
            if not self._full:
                self._asked = BackfillRequest(ask, cuts, self._hub, self._subscriber)
                self._reader.start(self._asked)
            raise NotYet
        if request.refusal is not None:
            self._asked = None
            raise request.refusal
        if not request.answerable:
            raise NotYet
        return self._begin(request)

    def leave_to_live(self, ask: Ask, raw: list[str]) -> Steps[dict[tuple[str, str], Result]]:
        """A subscribe on the live stream: those running go on without what it begins anew, or takes into a view.

        The results of channels by name that it only changes, for those stay where they are. `raw`: the kinds that it
        takes into no view.
        """
        if ask.start is not None:
            raw = []
        yield from self._leave([kind for kind in ask.channels if kind not in raw], ask.symbols)
        yield from self._leave(raw, [symbol for symbol in ask.symbols if is_pattern(symbol)])
        kept: dict[tuple[str, str], Result] = {}
        for past in [request.past for request in self._running]:
            interest, names = past.subscriber.interest, past.hub.names
            for kind in raw:
                for symbol in ask.symbols:
                    bit = KIND_BIT.get(kind, 0)
                    if symbol in names and interest.has(names[symbol], bit):
                        one = replace(ask, channels=[kind], symbols=[symbol])
                        results = yield from Subscribing(past.hub, past.subscriber, one, self._limits).results()
                        kept[kind, symbol] = results[0]
                        if len(kept) % STRIDE == 0:
                            yield STRIDE
        return kept

    def unsubscribe(self, channels: list[str], symbols: list[str], results: list[Result]) -> Steps[list[Result]]:
        """Takes channels away from those running too; `results`: what came of it on the live stream."""
        for theirs in (yield from self._leave(channels, symbols)):
            results = [_either(one, other) for one, other in zip(results, theirs, strict=True)]
        return results

    def unsubscribe_all(self) -> Steps[list[Result]]:
        """Takes everything away; the results are what was there."""
        results: list[Result] = []
        for request in list(self._running):
            results += yield from unsubscribe_all(request.past.hub, request.past.subscriber)
        for request in list(self._running):
            self._drop(request)
        return results

    def subscribed(self, results: list[Result]) -> Steps[list[Result]]:
        """What those running have, besides what the live stream has."""
        every = results
        for request in list(self._running):
            every = every + (yield from subscribed(request.past.hub, request.past.subscriber))
        return sorted(every, key=lambda one: (isinstance(one.matched, int), KIND_INDEX[one.channel]))

    def close(self) -> None:
        """The connection is gone."""
        for request in [*self._running, *([self._asked] if self._asked is not None else [])]:
            request.close()
        self._running, self._asked = [], None

    # ---- what is sent

    @property
    def due(self) -> bool:
        """Whether `pull` goes on."""
        return self.answerable or any(request.due for request in self._running)

    def pull(self, bytes_max: int) -> bytes:
        """The next page of each, as far as there is room; those that have become live end."""
        pages: list[bytes] = []
        for request in list(self._running):
            if bytes_max <= 0:
                # another one is the first to be served next time
                self._running = [*self._running[1:], self._running[0]]
                break
            pages.append(request.pull(bytes_max))
            bytes_max -= len(pages[-1])
            if request.stage is Stage.LIVE:
                self._running.remove(request)
        return b"".join(pages)

    # ---- inside

    def _begin(self, request: BackfillRequest) -> Steps[list[Result]]:
        ask, past = request.ask, request.past
        names = self._hub.names
        past.expect({symbol: names[symbol].owner.name for symbol in ask.symbols if symbol in names})
        yield from self._leave(ask.channels, ask.symbols)
        yield from self._subscribers.unsubscribe(ask.channels, ask.symbols, self._limits)
        limits, every = self.live_limits, [subscriber.interest for subscriber in self._subscribers]
        left = Limits(
            subscriptions_max=limits.subscriptions_max - sum(interest.count for interest in every),
            patterns_max=limits.patterns_max - sum(interest.patterns for interest in every),
        )
        results = yield from request.begin(left)
        # what is not known begins with the live stream, however long the way from the past
        self._subscriber.take_over_awaited(past.subscriber)
        self._asked = None
        self._running.append(request)
        if not past.subscriber.interest.count:
            self._drop(request)
        return [self._matched_now(result) for result in results]

    def _matched_now(self, result: Result) -> Result:
        """A pattern matches what there is now: what began since its past is told by `joined`, as all of it is."""
        if not result.ok or not isinstance(result.matched, int):
            return result
        return replace(result, matched=len(self._hub.matching(prefix_of(result.symbol), KIND_INDEX[result.channel])))

    def _leave(self, channels: list[str], symbols: list[str]) -> Steps[list[list[Result]]]:
        """Takes channels away from each that is running; its results for each."""
        found: list[list[Result]] = []
        for request in list(self._running):
            past = request.past
            found += [(yield from unsubscribe(past.hub, past.subscriber, channels, symbols, self._limits))]
        for request in list(self._running):
            if not request.past.subscriber.interest.count:
                self._drop(request)
        return found

    def _drop(self, request: BackfillRequest) -> None:
        """It has no channels any more."""
        self._running.remove(request)
        request.leave()

    def _cuts(self, ask: Ask, time: int | None) -> dict[str, LogCut] | None:
        """For each partition that has to be read where it is cut; None: none has to be read."""
        hub, roster = self._hub, self._hub.roster
        prefixes = {prefix_of(symbol) for symbol in ask.symbols if is_pattern(symbol)}
        named = [hub.names[name] for name in dict.fromkeys(ask.symbols) if name in hub.names]
        listings = named + [listing for prefix in prefixes for listing in roster.of(prefix).values()]
        if time is None:
            return self._cuts_at_marks(ask, listings)
        partitions = {partition_of(name) for name in {listing.owner.name for listing in listings}}
        for source in hub.sources.values():
            if "" in prefixes or f"{source.venue.upper()}:" in prefixes:
                partitions.add(partition_of(source.name))
        return {partition: LogCut(time=time) for partition in partitions}

    def _cuts_at_marks(self, ask: Ask, listings: list[Listing]) -> dict[str, LogCut] | None:
        assert ask.start is not None
        marks = ask.start.marks
        bits = sum(KIND_BIT[kind] for kind in set(ask.channels) if kind in KIND_BIT)
        cuts: dict[str, LogCut] = {}
        behind: set[Source] = set()
        for source in {listing.owner for listing in listings}:
            mark = marks.get(source.name)
            cuts[partition_of(source.name)] = LogCut() if mark is None else LogCut(source=source.name, mark=mark)
            if mark is not None and source.may_miss(mark):
                behind.add(source)
        missed = any(
            c is not None and c.bit & bits and c.source is one.owner and c.missed(marks[c.source.name])
            for one in listings
            if one.owner in behind
            for c in one.channels
            if c is None or c.begun <= marks[one.owner.name]
        )
        return cuts if missed else None


def _either(one: Result, other: Result) -> Result:
    """Of the results of the same item on two streams what holds for both together."""
    if not other.ok or not one.ok:
        return other if other.ok else one
    if isinstance(one.matched, int) and isinstance(other.matched, int):
        return Result(one.channel, one.symbol, ok=True, matched=one.matched + other.matched)
    return one
