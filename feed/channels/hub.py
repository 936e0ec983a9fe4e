"""The hub: the state of all channels as feed logs tell it, and the subscribers of it.

Owns the cycle: records come in (`opened`, `keyframe`, `data`), `flush` makes them visible at one moment, `fan_out`
gives what changed to the subscribers in step. Everything else is in the modules that this one puts together: `intake`
takes records apart, `channel` holds a channel's state and log, `flush` commits and keeps the window, `selection`
shares buffers, `subscriber` serves subscribers that are not in step, `subscription` answers requests. Leaves views, and
the order in which they and the raw channels are sent, to `distributor`.

From `flush` to the end of `fan_out` (`sending`) no subscriber may subscribe, unsubscribe or pull; `close`,
`leave_behind` and `marks` may be called. `Subscriber.own`, `pull` and `follow` assert it.

(Over 400 lines: it is the door to all modules here, and most of it is methods of a few lines that name what they do.)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Final, NamedTuple

from msgspec import Struct

from feed.channels.channel import Channel, Listing
from feed.channels.flush import Flush, Notice, Window
from feed.channels.intake import Intake
from feed.channels.join import Page
from feed.channels.lost import LostUpdates
from feed.channels.pending import JoinPlan
from feed.channels.roster import Roster
from feed.channels.selection import Selections
from feed.channels.shared import Openings
from feed.channels.source import Source
from feed.channels.state import FoldRules
from feed.channels.steps import Steps
from feed.channels.subscriber import Subscriber
from feed.channels.tally import Tally
from feed.channels.view_spec import RAW, ViewSpec
from feed.wire.frames import Frames
from feed.wire.message import KIND_INDEX, bare, whole
from feed.wire.model import Kind, State, StateReason

_EMPTY_BYTES: Final = 2
_RECEIVED: Final = b'"ts_recv":"'
_PLANS_MAX: Final = 16
"""So many are kept; those who join by an older one are sent theirs one by one."""
_FOLLOWED_MAX: Final = 64
"""Of so many sets of venues it is kept which sources they have."""
_ANEW_MAX: Final = 4
"""So often what patterns match is looked for anew since channels begin meanwhile; then without a pause."""


class HubSettings(Struct, frozen=True, kw_only=True):
    """What a hub keeps, and how much of it a subscriber gets at a time. The defaults of `serve`, whose bounds and words
    stand in `feed.runtime.settings`."""

    resume_window_bytes_max: int = 256 * 1024 * 1024
    resume_window_ms: int = 60_000
    page_bytes: int = 64 * 1024
    rules: FoldRules = FoldRules()


class HubCounts(Tally):
    """What a hub has done so far, of all its subscribers together."""

    __slots__ = ("joins",)

    def __init__(self) -> None:
        super().__init__()
        self.joins = 0
        """Channels begun with a snapshot."""

    def join(self, channels: int = 1) -> None:
        """So many channels have begun with a snapshot."""
        self.joins += channels


class Found(NamedTuple):
    """A symbol that can be subscribed."""

    symbol: str
    kinds: list[Kind]
    source: str


class Hub:
    """All channels that feed logs tell of, or that a view has."""

    def __init__(
        self,
        settings: HubSettings,
        *,
        spec: ViewSpec = RAW,
        counts: HubCounts | None = None,
        logs: Mapping[str, Source] | None = None,
    ) -> None:
        """`spec`: how its channels are seen. `counts`: those that it shares with other hubs. `logs`: the sources as
        their logs are read, where records go into another hub."""
        self.settings = settings
        self.spec = spec
        self.rules = settings.rules
        self.counts: HubCounts = counts or HubCounts()
        self.roster = Roster()
        self.listings: dict[int, Listing] = self.roster.by_id
        self.names: dict[str, Listing] = self.roster.by_name
        self.selections = Selections(self.listings)
        self.window = Window(settings.resume_window_bytes_max, settings.resume_window_ms)
        self.current: Flush = Flush(0)
        self.moves = 0
        """Rises whenever a channel begins or changes its source."""
        self.rebased = 0
        """The last flush with which one did."""
        self.delay_s: Callable[[], float] | None = None
        """For how many seconds what came in has waited in this process to be sent; None: nothing comes in."""
        self.holders: dict[Subscriber, None] = {}
        """Subscribers in step with channels that resumed ahead of this gateway."""
        self.subscribers = 0
        self.intake = Intake()
        self._logs = self.intake.sources if logs is None else logs
        self._lost = LostUpdates()
        self._before = self.current
        self.sending = False
        """Whether a flush is not sent to all subscribers yet."""
        self._newest = b""
        self.awaiting: dict[str, dict[Subscriber, None]] = {}
        """Who waits for symbols that are not known, by name."""
        self._called: list[Subscriber] = []
        self._followed: dict[frozenset[str], frozenset[Source]] = {}
        self._followed_of = (0, 0)
        self._open_venues: frozenset[str] = frozenset()
        self._waiters: dict[int, dict[Subscriber, None]] = {}
        self._plans: dict[tuple[tuple[str, int], ...], JoinPlan] = {}
        self._openings: dict[JoinPlan, Openings] = {}
        self._making: dict[tuple[tuple[str, int], ...], tuple[dict[int, int], list[tuple[str, int]]]] = {}
        self._makers: Counter[tuple[tuple[str, int], ...]] = Counter()
        self._plans_of = 0
        self._untold: dict[Channel, None] = {}
        """At least all channels that are `untold`."""

    # ---- what comes in

    def opened(self, source: str, ends: str, carries: bool, missing: bool = False) -> None:
        """A source begins, in place of `ends` (empty: none); `carries`: its keyframes come before its data.

        `missing`: it is not known that nothing is missing between the two.
        """
        self.intake.opened(source, ends, complete=carries and not missing)

    def found(self, source: str, before: str) -> None:
        """Reading goes on in the middle of a source, where it stood in another one (empty: in none) before."""
        self.intake.opened(source, before, begins=False)

    def followed(self, venues: frozenset[str]) -> frozenset[Source]:
        """The sources of some venues, as symbols begin (a star: of all), that have not ended."""
        every = self.intake.by_index
        if self._followed_of != (standing := (len(every), self.intake.openings)):
            self._followed, self._followed_of = {}, standing
            self._open_venues = frozenset([one.venue.upper() for one in every if not one.over])
        # clients may await names of venues that nobody has heard of, thousands of them, and others each time
        asked = self._open_venues if "*" in venues else venues & self._open_venues
        found = self._followed.get(asked)
        if found is None:
            if len(self._followed) >= _FOLLOWED_MAX:
                self._followed.clear()
            found = frozenset([one for one in every if not one.over and one.venue.upper() in asked])
            self._followed[asked] = found
        return found

    def expect(self, symbol: str, source: str) -> None:
        """A symbol of which nothing was said yet can be asked for: its kinds are silent."""
        if symbol not in self.names:
            listing = self.intake.listing(symbol, self.intake.source(source))
            self.roster.add(listing)

    def keyframe(self, source: str, symbol: str, value: bytes) -> None:
        """A keyframe record of a valid source: snapshots and states of one symbol, or a part of a large snapshot.

        Raises:
            CorruptLog: it cannot be read.
        """
        intake = self.intake
        intake.keyframe(intake.source(source), symbol, value)

    def data(self, source: str, pos: int, last: int, value: bytes, end: int) -> None:
        """A data record of a valid source: of its messages those above `pos` are new; the source stands at `last`.

        Raises:
            CorruptLog: a message cannot be read.
        """
        intake = self.intake
        found = intake.sources.get(source)
        if found is None:
            found = intake.source(source)
        found.end = end
        if len(value) > _EMPTY_BYTES:
            self._newest = value
        intake.data(found, pos, last, value)

    def stands(self, source: str, end: int, position: int, waits_ms: int) -> None:
        """How a source's ticks stand: where they end, up to where they were taken, how long the oldest has waited."""
        found = self.intake.source(source)
        found.end, found.position, found.waits_ms = end, position, waits_ms

    def confirmed(self, source: str) -> None:
        """All that lay in a source's log when it was last looked at was read."""
        self.intake.source(source).confirm()

    def lag(self, sources: Iterable[str]) -> int | None:
        """How long the oldest has waited that subscribers of these sources have not been sent, in milliseconds; 0 where
        nothing waits, None where nobody follows a log."""
        if self.delay_s is None:
            return None
        known = self.intake.sources
        return int(self.delay_s() * 1000) + max([known[name].waits_ms for name in sources if name in known], default=0)

    def source_state(self, source: str, state: str, reason: StateReason | None, since_ns: int) -> None:
        """Tells subscribers with channels in a source what is to be thought of it: live only, in no channel's order."""
        found = self.intake.source(source)
        told = "ok" if state == "ok" else "stale"
        message = bare(State(source, state=told, reason=reason, since=str(since_ns)))  # type: ignore[arg-type]
        self.take_notice(Notice(found, message, state, reason))

    def take_notice(self, notice: Notice) -> None:
        """The same, where the message is made already."""
        if notice.source.change_state(notice.state, notice.reason, notice.message):
            self.intake.open.add_notice(notice)

    # ---- flushes

    def flush(self, now_ns: int) -> bool:
        """Makes visible what came in; False when there is nothing for subscribers."""
        self.window.pass_time(now_ns)
        self._evict()
        intake, flush = self.intake, self.intake.open
        positions = tuple([source.pos for source in intake.by_index])
        candidates = flush.candidates(self.listings)
        if flush.empty:
            flush.commit(self.roster, self.spec)
            self._untold |= dict.fromkeys([channel for channel in candidates if channel.untold])
            self.current.stand_at(positions)
            return False
        flush.stand_at(positions)
        if flush.rebases or flush.born:
            self.moves += 1
            self.rebased = flush.number
        flush.commit(self.roster, self.spec)
        self._untold |= dict.fromkeys([channel for channel in candidates if channel.untold])
        for birth in flush.births:
            self.selections.open_channel(birth)
        self._before, self.current = self.current, flush
        intake.next_flush()
        self.window.add(flush)
        for openings in self._openings.values():
            openings.touch(chain(flush.changed, flush.runs), flush.number)
        self.sending = True
        return True

    def fan_out(self) -> Iterator[tuple[Frames, Sequence[Subscriber]]]:
        """After `flush`: whole WebSocket frames, and the subscribers that get them, each subscriber at most once.

        A subscriber that cannot take its buffer is to `leave_behind`.
        """
        if not self.sending:
            return
        counts, flush = self.counts, self.current
        held = list(self.holders)
        for selection, buffer, count in self.selections.buffers(flush, self.moves):
            yield buffer, tuple(selection.subscribers)
            # who was left behind meanwhile is not among them any more; no call, for each buffer of each flush
            selection.sent += count
            counts.delivered += count * len(selection.subscribers)
        for subscriber in held:
            page = Page(0)
            subscriber.render(flush, page)
            if page.size and subscriber.in_step:
                yield page.joined(), (subscriber,)
        self.sending = False
        for subscriber in list(self.holders):
            subscriber.ease()
        for birth in flush.births if self.awaiting else ():
            awaiting = list(self.awaiting.get(birth.channel.listing.name, ()))
            self._called += [subscriber for subscriber in awaiting if subscriber.arrive(birth.channel)]

    def called(self) -> list[Subscriber]:
        """After `fan_out`: subscribers that were in step and have something to pull now, symbols that they waited
        for."""
        if not self._called:
            return []
        called = self._called.copy()
        self._called.clear()
        return called

    @property
    def served(self) -> Flush:
        """The flush that all subscribers in step have got, so where one stays that cannot take the present one."""
        return self._before if self.sending else self.current

    # ---- what patterns match

    def matching(self, prefix: str, index: int) -> tuple[Channel, ...]:
        """The channels of a kind that a pattern matches now, by what it starts with."""
        return self.roster.channels(prefix, index, self.moves)

    def plan(self, found: tuple[tuple[str, int], ...]) -> Steps[JoinPlan]:
        """What patterns match, each with the bit of a kind, in this order; all who ask the same make it together, and
        share it."""
        self._makers[found] += 1
        try:
            return (yield from self._plan(found))
        finally:
            # who goes amid it leaves what was made to the others, and the last one nothing
            self._makers[found] -= 1
            if not self._makers[found]:
                del self._makers[found]
                self._making.pop(found, None)

    def _plan(self, found: tuple[tuple[str, int], ...]) -> Steps[JoinPlan]:
        anew = 0
        while True:
            if self._plans_of != self.moves:
                self._plans, self._making, self._plans_of = {}, {}, self.moves
                anew += 1
            plan = self._plans.get(found)
            if plan is not None:
                self._share(found, plan, self._openings[plan])
                return plan
            kinds, left = self._making.setdefault(found, ({}, [*reversed(found)]))
            while left:
                prefix, bit = left.pop()
                for channel in self.matching(prefix, bit.bit_length() - 1):
                    kinds[channel.id] = kinds.get(channel.id, 0) | bit
                if anew <= _ANEW_MAX:
                    yield len(kinds) // 8
                    break
            else:
                del self._making[found]
                plan = JoinPlan(kinds, announces=True)
                self._share(found, plan, Openings(plan, self.current.number))

    def _share(self, found: tuple[tuple[str, int], ...], plan: JoinPlan, openings: Openings) -> None:
        """Keeps the plans that were asked for last, and what those are sent who join as these say."""
        self._plans[found] = plan
        self._openings.pop(plan, None)
        self._openings[plan] = openings
        if len(self._openings) > _PLANS_MAX:
            gone = next(iter(self._openings))
            del self._openings[gone]
            self._plans = {asked: one for asked, one in self._plans.items() if one is not gone}

    def openings(self, plan: JoinPlan) -> Openings | None:
        """What those are sent who share a plan; None: others were asked for since. Only what this returns is told of
        what changes."""
        return self._openings.get(plan)

    def untold_of(self, plan: JoinPlan) -> list[Channel]:
        """The channels of a plan of which no mark tells who has them."""
        self._untold = {channel: None for channel in self._untold if channel.untold}
        return [channel for channel in self._untold if plan.kinds.get(channel.id, 0) & channel.bit]

    # ---- subscribers

    def subscriber(self, owner: object) -> Subscriber:
        """A new client's cursor; it has no channels yet."""
        self.subscribers += 1
        return Subscriber(self, owner)

    def step_out(self, subscriber: Subscriber, cursor: Flush) -> None:
        """A subscriber leaves the fan-out."""
        self.holders.pop(subscriber, None)
        self._waiters.setdefault(cursor.number, {})[subscriber] = None

    def step_on(self, subscriber: Subscriber, before: Flush, after: Flush) -> None:
        """A subscriber out of step goes on to a later flush."""
        self._unwait(subscriber, before)
        self._waiters.setdefault(after.number, {})[subscriber] = None

    def hold(self, subscriber: Subscriber) -> None:
        """A subscriber in step has channels that resumed ahead of this gateway: it gets a buffer of its own."""
        self.holders[subscriber] = None

    def let_go(self, subscriber: Subscriber) -> None:
        """It has none any more."""
        del self.holders[subscriber]

    def step_in(self, subscriber: Subscriber, cursor: Flush) -> None:
        """A subscriber is in step again."""
        self._unwait(subscriber, cursor)

    def forget(self, subscriber: Subscriber, cursor: Flush) -> None:
        """A subscriber is gone."""
        self._unwait(subscriber, cursor)
        self.subscribers -= 1

    @property
    def behind(self) -> int:
        """How many subscribers are not in step."""
        return sum(map(len, self._waiters.values()))

    # ---- what it knows

    @property
    def sources(self) -> dict[str, Source]:
        """Every source by its name."""
        return self.intake.sources

    def read(self, source: Source) -> Source:
        """A source as its log is read: a view stands behind that."""
        return self._logs.get(source.name, source)

    @property
    def updates(self) -> int:
        """Updates taken in so far."""
        return self.intake.updates

    def received_ns(self) -> int:
        """When the newest tick was received of what came in since the last call, by its collector; 0: none came."""
        value, self._newest = self._newest, b""
        at = value.rfind(_RECEIVED)
        if at < 0:
            return 0
        at += len(_RECEIVED)
        return int(value[at : value.find(b'"', at)])

    @property
    def waiting_bytes(self) -> int:
        """What came in since the last flush."""
        return self.intake.open.bytes + self.intake.open.rebased_bytes

    def symbols(self) -> list[Found]:
        """All symbols, in alphabetical order."""
        return [
            Found(name, [channel.kind for channel in listing.channels if channel is not None], listing.owner.name)
            for name, listing in sorted(self.names.items())
        ]

    def snapshot(self, kind: Kind, symbol: str) -> Steps[list[bytes] | None]:
        """The steps to a channel's whole state: its snapshot (in parts where large) and its state if not ok, as JSON.

        As of the first of them; there are more than one for a book of a megabyte.

        None: there is no such channel; an empty list: it waits for its state.
        """
        listing = self.names.get(symbol)
        channel = None if listing is None else listing.channels[KIND_INDEX[kind]]
        if channel is None:
            return None
        folded = yield from channel.folded_steps(self.rules)
        if folded is None:
            return []
        state = [] if folded.state is None else [folded.state]
        return [one for message in folded.messages + state for one in whole(message)]

    def adopt(self, channel: Channel) -> None:
        """A view has made a channel: it is seen at once."""
        channel.begin_amid(self.current.number)
        self.moves += 1

    def stand_at_once(self) -> None:
        """As by a flush without changes: in a quiet market marks would wait for the next one."""
        self.current.stand_at(tuple([source.pos for source in self.intake.by_index]))

    def drop(self, channel: Channel) -> None:
        """Forgets a channel that no subscriber has."""
        channel.listing.forget(channel)
        self.moves += 1

    def close(self) -> None:
        """Nobody reads it any more, and nobody will: what it holds goes now, not when a full collection comes."""
        for listing in self.intake.listings.values():
            listing.clear()
        for source in self.intake.by_index:
            source.clear()

    def _unwait(self, subscriber: Subscriber, cursor: Flush) -> None:
        waiters = self._waiters.get(cursor.number)
        if waiters is not None:
            waiters.pop(subscriber, None)
            if not waiters:
                del self._waiters[cursor.number]

    def _evict(self) -> None:
        window = self.window
        while (oldest := window.overfull()) is not None:
            for subscriber in self._waiters.get(oldest.number - 1, ()):
                self._lost.add(subscriber.cursor)
                break  # they have one cursor
            passed = self._lost.pass_by(oldest, self.listings)
            for source, position in zip(self.intake.by_index, oldest.positions, strict=False):
                source.evict(position)
            for openings in self._openings.values():
                openings.touch(chain(oldest.changed, oldest.runs), self.current.number)
            window.evict()
            for channel in passed:
                if channel.log:
                    channel.trim()
