"""Walks: requests of one connection that begin in the past, on their way into the present.

Owns which requests walk, that each is answered in its place as soon as it is known where it begins, and that what a
walk is sent goes out in pages, as the socket has room. Leaves what a past says to `feed.backfill.past`, the way into
the live hub to `feed.backfill.cutover`, and reading what lies in Kafka and in recordings to the `Door`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final, Protocol

from msgspec.structs import replace

from feed.backfill.cutover import hand_over, leave
from feed.backfill.past import LogCut, Past
from feed.channels.steps import STEP_CHANNELS, STRIDE, NotYet
from feed.channels.subscription import Ask, Limits, Subscribing, subscribed, unsubscribe, unsubscribe_all
from feed.wire.message import KIND_BIT, KIND_INDEX
from feed.wire.model import Result
from feed.wire.symbols import is_pattern, prefix_of

if TYPE_CHECKING:
    from feed.backfill.recorded import RecordedPart
    from feed.channels.channel import Listing
    from feed.channels.hub import Hub
    from feed.channels.source import Source
    from feed.channels.steps import Steps
    from feed.channels.subscribers import Subscribers
    from feed.errors import BadRequest
    from feed.wire.model import GapReason

LOOKS_MAX: Final = 40
"""So often, a little later each time, memory is waited for; then what lies between is taken for lost."""
WALKS_MAX: Final = 8
"""Of one connection at once; the next one waits in the line of requests."""


class BackfillRequest:
    """One request on its way; `owner`: whose it is, as the subscriber's.

    The door brings `past` to the `cuts` of its partitions (`kraken/0`), notes sources of which too little is left as
    `late`, and says that it `stands`, or why not (`refused`). From then on it gives records whenever it is asked for
    `more`, and says when those were the last ones for now (`at_end`). `end` tells it to stop. Where there is a `tape`,
    the past stands where that ends; it is given, and sent, before the records.
    """

    def __init__(self, ask: Ask, cuts: Mapping[str, LogCut], past: Past, owner: object) -> None:
        self.ask = ask
        self.cuts = cuts
        self.past = past
        self.owner = owner
        self.late: dict[str, GapReason] = {}
        self.tape: RecordedPart | None = None
        self.stands = False
        self.refused: BadRequest | None = None
        self.failed: Exception | None = None
        """What ended it although it stood."""
        self.at_end = False
        self.looks = 0
        """How often it was at the end of its logs, and memory was not there."""
        self.handing: Steps[bool] | None = None
        """What is under way of handing it over to the live hub."""
        self.more: Callable[[], None] = _nothing
        self.end: Callable[[], None] = _nothing

    @property
    def due(self) -> bool:
        """Whether `pull` goes on."""
        if self.failed is not None:
            return True
        return self.past.due or self.at_end if self.tape is None else self.tape.due or self.tape.done

    def pull(self, bytes_max: int) -> bytes:
        """The next page.

        Raises:
            Exception: what it failed of.
        """
        if self.failed is not None:
            raise self.failed
        tape = self.tape
        if tape is None:
            return self.past.pull(bytes_max) if self.past.due else b""
        page = tape.pull(bytes_max)
        if tape.done:
            self.past.follow(tape)
            self.tape = None
        return page


class Door(Protocol):
    """What reads the past; it has the owner's `pull` called after everything that it says."""

    def start(self, walk: BackfillRequest) -> None:
        """Begins with a walk; does not block."""
        ...


class BackfillRequests:
    """The walks of one session. `door`: None where the past cannot be read."""

    def __init__(self, hub: Hub, subscribers: Subscribers, door: Door | None, limits: Limits) -> None:
        self._hub = hub
        self._subscribers = subscribers
        self._subscriber = subscribers.raw
        self._door = door
        self._limits = limits
        self._walks: list[BackfillRequest] = []
        self._asking: BackfillRequest | None = None
        self._full = False

    def __len__(self) -> int:
        return len(self._walks)

    # ---- requests

    @property
    def answered(self) -> bool:
        """Whether the request that waits can be done now."""
        if self._asking is None:
            return self._full and len(self._walks) < WALKS_MAX
        return self._asking.stands or self._asking.refused is not None

    @property
    def limits(self) -> Limits:
        """What of the subscriber's limits is left to the live stream."""
        return Limits(
            subscriptions_max=self._limits.subscriptions_max
            - sum(w.past.subscriber.interest.count for w in self._walks),
            patterns_max=self._limits.patterns_max - sum(w.past.subscriber.interest.patterns for w in self._walks),
        )

    def results(self, ask: Ask, time: int | None) -> Steps[list[Result]] | None:
        """The steps to a subscribe from a time, or from marks; None: the past has nothing to add to what memory holds.

        Raises:
            NotYet: it has still to be found where it begins.
            BadRequest: that could not be found.
        """
        walk = self._asking
        if walk is None:
            cuts = None if self._door is None else self._cuts(ask, time)
            if self._door is None or cuts is None:
                return None
            self._full = len(self._walks) >= WALKS_MAX
            if not self._full:
                self._asking = BackfillRequest(ask, cuts, Past(ask.symbols, self._hub.settings), self._subscriber.owner)
                self._door.start(self._asking)
            raise NotYet
        if walk.refused is not None:
            self._asking = None
            raise walk.refused
        if not walk.stands:
            raise NotYet
        return self._begin(walk)

    def keep(self, ask: Ask, raw: list[str]) -> Steps[dict[tuple[str, str], Result]]:
        """A subscribe on the live stream: walks go on without what it begins anew, and what it takes into a view.

        The results of channels by name that it only changes, for those stay where they are. `raw`: the kinds that it
        takes into no view.
        """
        if ask.start is not None:
            raw = []
        yield from self._leave([kind for kind in ask.channels if kind not in raw], ask.symbols)
        yield from self._leave(raw, [symbol for symbol in ask.symbols if is_pattern(symbol)])
        kept: dict[tuple[str, str], Result] = {}
        for past in [walk.past for walk in self._walks]:
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
        """Takes channels away from the walks too; `results`: what came of it on the live stream."""
        for theirs in (yield from self._leave(channels, symbols)):
            results = [_either(one, other) for one, other in zip(results, theirs, strict=True)]
        return results

    def unsubscribe_all(self) -> Steps[list[Result]]:
        """Takes everything away; the results are what was there."""
        results: list[Result] = []
        for walk in list(self._walks):
            results += yield from unsubscribe_all(walk.past.hub, walk.past.subscriber)
        for walk in list(self._walks):
            self._end(walk, told=False)
        return results

    def subscribed(self, results: list[Result]) -> Steps[list[Result]]:
        """What walks have, besides what the live stream has."""
        every = results
        for walk in list(self._walks):
            every = every + (yield from subscribed(walk.past.hub, walk.past.subscriber))
        return sorted(every, key=lambda one: (isinstance(one.matched, int), KIND_INDEX[one.channel]))

    def close(self) -> None:
        """The connection is gone."""
        for walk in [*self._walks, *([self._asking] if self._asking is not None else [])]:
            walk.end()
        self._walks, self._asking = [], None

    # ---- what is sent

    @property
    def due(self) -> bool:
        """Whether `pull` goes on."""
        return self.answered or any(walk.due for walk in self._walks)

    def pull(self, bytes_max: int) -> bytes:
        """The next page of each walk, as far as there is room; those that have come to the present end."""
        pages: list[bytes] = []
        for walk in list(self._walks):
            if bytes_max <= 0:
                self._walks = [*self._walks[1:], self._walks[0]]  # another one is the first to be served next time
                break
            pages.append(walk.pull(bytes_max))
            bytes_max -= len(pages[-1])
            if walk.at_end:
                if walk.past.due:
                    continue
                met = self._hand_over(walk)
                if met is None:
                    continue  # it goes on with the next pull
                walk.at_end = False
                if met:
                    self._end(walk, told=True)
                    continue
            elif walk.due:
                continue
            walk.more()
        return b"".join(pages)

    # ---- inside

    def _hand_over(self, walk: BackfillRequest) -> bool | None:
        """Some steps of handing a walk over to the live hub: whether they meet; None: there is more to do."""
        if walk.handing is None:
            walk.looks += 1
            forced = walk.looks > LOOKS_MAX
            walk.handing = hand_over(walk.past, self._hub, self._subscriber, walk.ask.id, forced=forced)
        room = STEP_CHANNELS
        try:
            while room > 0:
                room -= next(walk.handing)
        except StopIteration as ended:
            walk.handing = None
            return bool(ended.value)
        return None

    def _cuts(self, ask: Ask, time: int | None) -> dict[str, LogCut] | None:
        """For each partition that has to be read where it is cut; None: none has to be read."""
        hub, roster = self._hub, self._hub.roster
        prefixes = {prefix_of(symbol) for symbol in ask.symbols if is_pattern(symbol)}
        named = [hub.names[name] for name in dict.fromkeys(ask.symbols) if name in hub.names]
        listings = named + [listing for prefix in prefixes for listing in roster.of(prefix).values()]
        if time is None:
            return self._cuts_at_marks(ask, listings)
        partitions = {_partition_of(name) for name in {listing.owner.name for listing in listings}}
        for source in hub.sources.values():
            if "" in prefixes or f"{source.venue.upper()}:" in prefixes:
                partitions.add(_partition_of(source.name))
        return {partition: LogCut(time=time) for partition in partitions}

    def _cuts_at_marks(self, ask: Ask, listings: list[Listing]) -> dict[str, LogCut] | None:
        assert ask.start is not None
        marks = ask.start.marks
        bits = sum(KIND_BIT[kind] for kind in set(ask.channels) if kind in KIND_BIT)
        cuts: dict[str, LogCut] = {}
        behind: set[Source] = set()
        for source in {listing.owner for listing in listings}:
            mark = marks.get(source.name)
            cuts[_partition_of(source.name)] = LogCut() if mark is None else LogCut(source=source.name, mark=mark)
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

    def _begin(self, walk: BackfillRequest) -> Steps[list[Result]]:
        ask, past = walk.ask, walk.past
        sources = {_partition_of(log.reader.source): log.reader.source for log in past.logs if log.reader.source}
        for symbol in ask.symbols:
            listing = self._hub.names.get(symbol)
            if listing is not None:
                past.expect(symbol, sources.get(_partition_of(listing.owner.name), listing.owner.name))
        yield from self._leave(ask.channels, ask.symbols)
        yield from self._subscribers.unsubscribe(ask.channels, ask.symbols, self._limits)
        limits, every = self.limits, [subscriber.interest for subscriber in self._subscribers]
        left = Limits(
            subscriptions_max=limits.subscriptions_max - sum(interest.count for interest in every),
            patterns_max=limits.patterns_max - sum(interest.patterns for interest in every),
        )
        results = yield from past.begin(ask, left, walk.late, walk.tape)
        # what is not known begins in the present, however long the way from the past
        self._subscriber.take_over_awaited(past.subscriber)
        self._asking = None
        self._walks.append(walk)
        if not past.subscriber.interest.count:
            self._end(walk, told=False)
        return [self._now(result) for result in results]

    def _now(self, result: Result) -> Result:
        """A pattern matches what there is now: what began since its past is told by `joined`, as all of it is."""
        if not result.ok or not isinstance(result.matched, int):
            return result
        return replace(result, matched=len(self._hub.matching(prefix_of(result.symbol), KIND_INDEX[result.channel])))

    def _leave(self, channels: list[str], symbols: list[str]) -> Steps[list[list[Result]]]:
        found: list[list[Result]] = []
        for walk in list(self._walks):
            past = walk.past
            found += [(yield from unsubscribe(past.hub, past.subscriber, channels, symbols, self._limits))]
        for walk in list(self._walks):
            if not walk.past.subscriber.interest.count:
                self._end(walk, told=False)
        return found

    def _end(self, walk: BackfillRequest, *, told: bool) -> None:
        """`told`: the join that follows says that it has caught up."""
        self._walks.remove(walk)
        walk.handing = None
        walk.end()
        if not told:
            leave(self._hub, self._subscriber, walk.ask.id)


def _partition_of(source: str) -> str:
    return source.partition("@")[0]


def _either(one: Result, other: Result) -> Result:
    """Of the results of the same item on two streams what holds for both together."""
    if not other.ok or not one.ok:
        return other if other.ok else one
    if isinstance(one.matched, int) and isinstance(other.matched, int):
        return Result(one.channel, one.symbol, ok=True, matched=one.matched + other.matched)
    return one


def _nothing() -> None:
    """Nobody walks."""
