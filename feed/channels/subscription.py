"""Requests on channels: what subscribing and unsubscribing do to a subscriber, and what the ack says of each item.

Owns the results and the limits on subscriptions. Leaves the form of requests to `feed.protocol`, and sending anything
to the subscriber.

A request is done in `Steps`: between two of them flushes may be sent to others, and channels begin, are rebased and go
on. The subscriber is out of step meanwhile, and is sent only what goes on of the channels that it has
(`Subscriber.follow`); each step joins channels as of the flush that it finds.

(Over 400 lines: subscribing and leaving are steps over the same subscriber, each undoing what the other does.)
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Final, Protocol

from msgspec import Struct
from msgspec.structs import replace

from feed.channels.interest import Interest
from feed.channels.join import Broken, Join, JoinGroup, Move, Start
from feed.channels.pending import NOTHING, JoinPlan
from feed.channels.shared import Way
from feed.channels.steps import STRIDE, Steps
from feed.channels.subscriber import Subscriber
from feed.wire.message import KIND_BIT, KIND_INDEX
from feed.wire.model import NO_SEQ, OnLag, Result
from feed.wire.symbols import is_awaitable, is_pattern, prefix_of

if TYPE_CHECKING:
    from feed.channels.channel import Channel, Listing
    from feed.channels.hub import Hub
    from feed.channels.views import View

_FOLD_FOR_ACK_MAX: Final = 64


class Ask(Struct, frozen=True, kw_only=True):
    """A subscribe request that was understood; `start` None: a channel that is there keeps its position."""

    id: str | int
    channels: list[str]
    symbols: list[str]
    start: Start | None = None
    on_lag: OnLag = "skip"
    beyond: frozenset[str] = frozenset()
    """Sources whose marks lie beyond all that there is of them."""
    wait: bool = False
    """Whether names that are not known are waited for."""
    since: int | None = None
    """A moment from which on everything is asked for, in nanoseconds."""


class Limits(Struct, frozen=True, kw_only=True):
    """What one subscriber may have."""

    subscriptions_max: int
    """Channels by name, and kinds of patterns; one more gets `subscription_limit`."""
    patterns_max: int
    """Kinds of patterns, exceptions from them included."""


class Elsewhere(Protocol):
    """The client's channels that other subscribers of it have."""

    def release(self, kind: str, symbol: str) -> Steps[dict[str, Move | None]]:
        """Takes a channel, or those of a pattern, from them: the symbols, and where each can go on from."""
        ...


class Subscribing:
    """One subscribe request under way.

    `view` is where `hub` is that of one. `together`: a request that several of these make up. `broken`: of a past,
    the channels that begin with a gap.
    """

    def __init__(
        self,
        hub: Hub,
        subscriber: Subscriber,
        ask: Ask,
        limits: Limits,
        broken: Mapping[tuple[int, int], Broken] | None = None,
        *,
        view: View | None = None,
        elsewhere: Elsewhere | None = None,
        together: JoinGroup | None = None,
    ) -> None:
        self._hub = hub
        self._subscriber = subscriber
        self._ask = ask
        self._limits = limits
        self._folds = len(ask.channels) * len(ask.symbols) <= _FOLD_FOR_ACK_MAX
        self._broken = broken
        self._view = view
        self._elsewhere = elsewhere
        tells = ask.start is not None and ask.start.mode in ("marks", "last")
        self._together = (together or JoinGroup(ask.id, 1)) if tells else None
        self._join = self._made(NOTHING)
        self._anew: Join | None = None
        self._silent: Join | None = None
        self._moved: list[Join] = []

    def _made(self, plan: JoinPlan) -> Join:
        start, hub, ask = self._ask.start, self._hub, self._ask
        mode = None if start is None else start.mode
        return Join(
            hub.current.number,
            marks=None if start is None or mode != "marks" else start.marks,
            flush=hub.current if mode == "live" else None,
            last=0 if start is None else start.last,
            live=mode == "live",
            tells=self._together,
            broken=self._broken,
            beyond=ask.beyond,
            replaces=self._view is None,
            plan=plan,
        )

    def results(self, known: Mapping[tuple[str, str], Result] | None = None) -> Steps[list[Result]]:
        """Does it; one result for each kind and symbol, in the order asked. `known`: those that somebody else did."""
        done = known or {}
        subscriber, ask = self._subscriber, self._ask
        subscriber.own()
        kinds, symbols = list(dict.fromkeys(ask.channels)), list(dict.fromkeys(ask.symbols))
        if subscriber.interest.empty and self._elsewhere is None and not done and all(map(is_pattern, symbols)):
            planned = yield from self._planned(kinds, symbols)
            if planned is not None:
                return planned
        subscriber.joins.append(self._join)
        results: list[Result] = []
        for kind in kinds:
            for symbol in symbols:
                if results and len(results) % STRIDE == 0:
                    yield STRIDE
                    self._go_on()
                result = done.get((kind, symbol))
                if result is None:
                    result = yield from self._item(kind, symbol)
                results.append(result)
        join = self._join
        if not join.pending and join.tells is None:
            subscriber.joins.remove(join)
        return results

    def _go_on(self) -> None:
        """After a pause: what follows is joined as of the flush that is there now."""
        if self._hub.current.number == self._join.number:
            return
        if self._together is not None:
            self._together.more()
        self._join = self._made(NOTHING)
        self._anew = self._silent = None
        self._moved = []
        self._subscriber.joins.append(self._join)

    def _planned(self, kinds: list[str], symbols: list[str]) -> Steps[list[Result] | None]:
        """Does it for a subscriber that has nothing yet, and asks for patterns alone: what they match is worked out
        once for all who ask the same. None: it has to be done channel by channel."""
        view, hub, ask, interest, limits = self._view, self._hub, self._ask, self._subscriber.interest, self._limits
        if view is not None and ask.start is not None and ask.start.mode == "marks":
            return None
        asked = [(kind, symbol) for kind in kinds for symbol in symbols]
        room = max(0, min(limits.subscriptions_max - interest.count, limits.patterns_max - interest.patterns))
        found = [(prefix_of(symbol), KIND_BIT[kind]) for kind, symbol in asked if kind in KIND_BIT][:room]
        while True:
            if view is not None:
                for prefix, bit in found:
                    yield from view.need_all(prefix, bit)
            plan = yield from hub.plan(tuple(found))
            if view is None or all(view.has_all(prefix, bit) for prefix, bit in found):
                break
        self._join = join = self._made(plan)
        self._subscriber.joins.append(join)
        for channel in hub.untold_of(plan) if join.marks is not None else ():
            join.pending.remove(channel.id, channel.bit)
            self._subscriber.enter(channel, self._join_of(channel, None), announce=True)
        matched: dict[tuple[str, int], int] = {}
        for prefix, bit in found:
            yield from interest.add_pattern(prefix, bit, ask.on_lag, hub.listings)
            matched[prefix, bit] = len(hub.matching(prefix, bit.bit_length() - 1))
        openings = hub.openings(plan)
        if openings is not None and not (self._broken or ask.beyond):
            marks = None if join.marks is None else frozenset(join.marks.items())
            join.share(openings, Way(join.live, join.last, marks, ask.on_lag), interest.changes)
        if not join.pending and join.tells is None:
            self._subscriber.joins.remove(join)
        results: list[Result] = []
        for kind, symbol in asked:
            count = matched.get((prefix_of(symbol), KIND_BIT.get(kind, 0)))
            if count is not None:
                results.append(replace(self._done(kind, symbol), matched=count))
            else:
                code = "subscription_limit" if kind in KIND_BIT else "unknown_channel"
                results.append(Result(kind, symbol, ok=False, code=code))
            if len(results) % STRIDE == 0:
                yield 1 + STRIDE // 4
        return results

    def _item(self, kind: str, symbol: str) -> Steps[Result]:
        bit = KIND_BIT.get(kind)
        if bit is None:
            return Result(kind, symbol, ok=False, code="unknown_channel")
        if is_pattern(symbol):
            return (yield from self._pattern(kind, symbol, bit))
        if self._view is not None and (cost := self._view.need(symbol, bit)) > 1:
            yield cost
            self._go_on()
        listing = self._hub.names.get(symbol)
        if listing is None:
            return (yield from self._await(kind, symbol, bit))
        interest = self._subscriber.interest
        if interest.awaits(symbol, bit):
            interest.arrive(listing, bit)
            self._subscriber.heed()
        if not interest.has_exact(listing, bit) and interest.count >= self._limits.subscriptions_max:
            return Result(kind, symbol, ok=False, code="subscription_limit")
        had = interest.has(listing, bit)
        moves = (yield from self._elsewhere.release(kind, symbol)) if self._elsewhere is not None else {}
        self._go_on()
        interest.add(listing, bit, self._ask.on_lag)
        return self._enter(kind, listing, bit, had=had, move=moves.get(symbol), anew=symbol in moves)

    def _await(self, kind: str, symbol: str, bit: int) -> Steps[Result]:
        """A symbol that is not known."""
        ask, subscriber = self._ask, self._subscriber
        if not ask.wait or not is_awaitable(symbol):
            return Result(kind, symbol, ok=False, code="unknown_symbol")
        known = subscriber.interest.awaited.get(symbol, {}).get(bit)
        if known is None and subscriber.interest.count >= self._limits.subscriptions_max:
            return Result(kind, symbol, ok=False, code="subscription_limit")
        if self._elsewhere is not None:
            yield from self._elsewhere.release(kind, symbol)
        start = ask.start if ask.since is None else Start("time")
        subscriber.await_(symbol, bit, ask.on_lag, known.start if known is not None and start is None else start)
        return replace(self._done(kind, symbol), mode="awaited")

    def _done(self, kind: str, symbol: str) -> Result:
        """A good result: the parameters that hold from now on."""
        return replace(_told(self._hub, kind, symbol, self._ask.on_lag), ok=True)

    def _join_of(self, channel: Channel, move: Move | None) -> Join:
        """The request's, but a channel that marks cannot speak of starts by snapshot, before `caught_up`.

        One that another subscriber of the client had goes on from there.
        """
        if move is not None and self._ask.start is None and move.source == channel.source.name and not channel.waits:
            if not self._lost(channel, move.after):
                return self._join_moved(move)
            return self._join
        marks = self._join.marks
        after = None if marks is None else marks.get(channel.source.name)
        if marks is None or not (channel.untold or (after is not None and self._lost(channel, after))):
            return self._join
        if self._anew is None:
            self._anew = Join(self._join.number)
            self._before(self._anew)
        return self._anew

    def _lost(self, channel: Channel, after: int) -> bool:
        """Whether a view cannot go on after a position: it says so by a snapshot."""
        view = self._view
        if view is None:
            return False
        # of less than a whole book other views do not tell every update: which one the client has is known only of
        # those that this one has told
        cut = view.spec.depth > 0 and channel.kind == "book"
        return channel.missed(after) or (cut and channel.standing(after)[0] <= channel.made)

    def _join_moved(self, move: Move) -> Join:
        for join in self._moved:
            if join.marks is not None and join.marks.get(move.source, move.after) == move.after:
                join.add_mark(move.source, move.after)
                return join
        join = Join(self._join.number, marks={move.source: move.after})
        self._moved.append(join)
        self._before(join)
        return join

    def _join_silent(self, channel: Channel) -> Join:
        """For who is told that a channel is live from its first update on: it may come before the channel's turn."""
        name = channel.source.name
        if self._silent is None:
            self._silent = Join(self._join.number, marks={}, live=True)
            self._before(self._silent)
        self._silent.add_mark(name, NO_SEQ)
        return self._silent

    def _before(self, join: Join) -> None:
        joins = self._subscriber.joins
        joins.insert(joins.index(self._join), join)

    def _enter(self, kind: str, listing: Listing, bit: int, *, had: bool, move: Move | None, anew: bool) -> Result:
        """`anew`: its client has it from another subscriber, and may hold a state that is none here."""
        subscriber, done = self._subscriber, self._done(kind, listing.name)
        channel = listing.channels[KIND_INDEX[kind]]
        if channel is None:
            subscriber.wait_for(listing, bit)
            return replace(done, mode="live", source=listing.owner.name, seq=NO_SEQ)
        source = channel.source.name
        if had and self._ask.start is None and subscriber.knows(channel):
            pending = subscriber.pending(listing.id, bit)
            if channel.waits or (pending is not None and pending.mode(channel) == "snapshot"):
                return replace(done, mode="snapshot", source=source, seq=self._joined_at(channel))
            return replace(done, mode="resumed", source=source, seq=subscriber.stands(channel))
        subscriber.drop(listing.id, bit)
        join = self._join_of(channel, move)
        mode = join.mode(channel)
        if mode == "live" and join.after(channel.source) is None:
            join = self._join_silent(channel)
            if anew and kind == "book":
                # of some depth it may have shown nothing yet, of another one much
                join.begin_empty(channel)
                mode = "snapshot"
        subscriber.enter(channel, join, announce=False)
        if mode == "snapshot":
            seq = channel.position if join.exact or join.cuts(channel) else self._joined_at(channel)
        elif mode == "live":
            seq = channel.position
        else:
            seq = join.goes_on_at(channel)
        return replace(done, mode=mode, source=source, seq=seq)

    def _joined_at(self, channel: Channel) -> int:
        """The snapshot's position; in a large request it is folded only when its turn comes."""
        if self._folds:
            return channel.joined_at(self._hub.rules)
        return channel.position if channel.base is None or channel.base.seq == NO_SEQ else channel.base.seq

    def _pattern(self, kind: str, symbol: str, bit: int) -> Steps[Result]:
        hub, subscriber, prefix = self._hub, self._subscriber, prefix_of(symbol)
        interest, limits = subscriber.interest, self._limits
        if not interest.has_rule(prefix, bit) and (
            interest.count >= limits.subscriptions_max or interest.patterns >= limits.patterns_max
        ):
            return Result(kind, symbol, ok=False, code="subscription_limit")
        moves = (yield from self._elsewhere.release(kind, symbol)) if self._elsewhere is not None else {}
        view, keeps = self._view, self._ask.start is None
        done: set[int] = set()
        while True:
            if view is not None:
                yield from view.need_all(prefix, bit)
            self._go_on()
            for channel in hub.matching(prefix, KIND_INDEX[kind]):
                if channel.id in done:
                    continue
                done.add(channel.id)
                if len(done) % STRIDE == 0:
                    yield STRIDE
                    self._go_on()
                listing = channel.listing
                had = interest.has(listing, bit)
                if had:
                    if keeps:
                        continue
                    subscriber.drop(listing.id, bit)
                join = self._join_of(channel, moves.get(listing.name))
                if listing.name in moves or had:
                    # its client has it in step until `joined` says how it goes on
                    join.begin_anew(channel.source)
                subscriber.enter(channel, join, announce=True)
            if view is None or view.has_all(prefix, bit):
                break
        yield from interest.add_pattern(prefix, bit, self._ask.on_lag, hub.listings)
        self._go_on()
        return replace(self._done(kind, symbol), matched=len(done))


def unsubscribe(
    hub: Hub, subscriber: Subscriber, channels: list[str], symbols: list[str], limits: Limits
) -> Steps[list[Result]]:
    """Takes channels away; one result for each kind and symbol, in the order asked."""
    symbols = list(dict.fromkeys(symbols))
    results: list[Result] = []
    for kind in dict.fromkeys(channels):
        for symbol in symbols:
            results.append((yield from leave(hub, subscriber, kind, symbol, limits=limits)))
            if len(results) % STRIDE == 0:
                yield STRIDE
    return results


def unsubscribe_all(hub: Hub, subscriber: Subscriber) -> Steps[list[Result]]:
    """Takes everything away; the results are what was there."""
    listed = yield from subscribed(hub, subscriber)
    subscriber.empty()
    return [Result(item.channel, item.symbol, ok=True) for item in listed]


def subscribed(hub: Hub, subscriber: Subscriber) -> Steps[list[Result]]:
    """What a subscriber has asked for: channels by name, then patterns, with their parameters."""
    interest = subscriber.interest
    results: list[Result] = []
    exact, awaited = list(interest.exact()), list(interest.awaited.items())
    for kind, bit in KIND_BIT.items():
        for start in range(0, len(exact), STRIDE):
            for id_, mask in exact[start : start + STRIDE]:
                if mask & bit:
                    listing = hub.listings[id_]
                    results.append(_told(hub, kind, listing.name, "close" if interest.closes(listing, bit) else "skip"))
            yield 1 + STRIDE // 2
    for kind, bit in KIND_BIT.items():
        for start in range(0, len(awaited), STRIDE):
            for name, kinds in awaited[start : start + STRIDE]:
                if bit in kinds:
                    told = _told(hub, kind, name, "close" if kinds[bit].close else "skip")
                    results.append(replace(told, mode="awaited"))
            yield 1 + STRIDE // 2
    for kind, pattern, on_lag in interest.patterns_subscribed():
        prefix = prefix_of(pattern)
        told = replace(_told(hub, kind, pattern, on_lag), matched=_matched(hub, interest, prefix, kind))
        without = interest.excepted(prefix, KIND_BIT[kind], hub.listings)
        results.append(replace(told, without=without) if without else told)
        yield 2 + len(without) // 8
    return results


def _told(hub: Hub, kind: str, symbol: str, on_lag: OnLag) -> Result:
    """The parameters that hold, as every good result and every `list` tells them."""
    every_ms, depth = hub.spec.of(kind)
    return Result(kind, symbol, on_lag=on_lag, every_ms=every_ms, depth=depth)


def _matched(hub: Hub, interest: Interest, prefix: str, kind: str) -> int:
    """How many channels a pattern brings, without those that were taken out of it."""
    bit, index = KIND_BIT[kind], KIND_INDEX[kind]
    count = 0
    for venue in (prefix,) if prefix else hub.roster.venues:
        if interest.brings(venue, bit):
            count += len(hub.matching(venue, index)) if venue else 0
    gone = [id_ for id_ in interest.excluded(prefix, bit) if hub.listings[id_].channels[index] is not None]
    return count - sum(interest.brings(hub.listings[id_].venue, bit) for id_ in gone)


def matched_by(hub: Hub, subscriber: Subscriber, prefix: str, bit: int) -> Steps[list[str]]:
    """The symbols of a pattern that a subscriber has a channel of, or has asked for by name."""
    interest = subscriber.interest
    found: dict[str, None] = {}
    if interest.rules:
        for at, channel in enumerate(hub.matching(prefix, bit.bit_length() - 1)):
            if interest.has(channel.listing, bit):
                found[channel.listing.name] = None
            if at % STRIDE == STRIDE - 1:
                yield 1 + STRIDE // 4
    return list(found | dict.fromkeys([hub.listings[id_].name for id_ in interest.named(prefix, bit)]))


def leave(
    hub: Hub,
    subscriber: Subscriber,
    kind: str,
    symbol: str,
    *,
    limits: Limits | None = None,
    venues: Collection[str] | None = None,
    always: bool = False,
) -> Steps[Result]:
    """Takes a channel, or those of a pattern, away.

    `limits`: of its client; None: it is not the client that asks. `venues`: those of all symbols that there are, where
    the hub has only some of them; `always` as in `Interest.has_any`.
    """
    bit = KIND_BIT.get(kind)
    if bit is None:
        return Result(kind, symbol, ok=False, code="unknown_channel")
    interest = subscriber.interest
    if is_pattern(symbol):
        prefix, known = prefix_of(symbol), hub.roster.venues if venues is None else venues
        if limits is not None and interest.patterns >= limits.patterns_max and interest.needs_rule(prefix, bit, known):
            return Result(kind, symbol, ok=False, code="subscription_limit")
        if not interest.has_any(prefix, bit, venues=known, always=always):
            return Result(kind, symbol, ok=False, code="not_subscribed")
        return (yield from _leave_pattern(hub, subscriber, kind, symbol, known, always=always))
    listing = hub.names.get(symbol)
    if listing is None and not interest.awaits(symbol, bit):
        return Result(kind, symbol, ok=False, code="unknown_symbol")
    if listing is not None and not interest.has(listing, bit):
        return Result(kind, symbol, ok=False, code="not_subscribed")
    subscriber.own()
    if listing is None:
        interest.refuse(symbol, bit)
        subscriber.heed()
        return Result(kind, symbol, ok=True)
    if interest.awaits(symbol, bit):
        interest.arrive(listing, bit)
        subscriber.heed()
    interest.remove(listing, bit)
    subscriber.drop(listing.id, bit)
    return Result(kind, symbol, ok=True)


def _leave_pattern(
    hub: Hub, subscriber: Subscriber, kind: str, symbol: str, venues: Collection[str], *, always: bool
) -> Steps[Result]:
    interest, prefix, bit = subscriber.interest, prefix_of(symbol), KIND_BIT[kind]
    before, moves = hub.current.number, hub.moves
    gone = yield from matched_by(hub, subscriber, prefix, bit)
    subscriber.own()
    for cost in interest.remove_names(prefix, bit, hub.listings):
        subscriber.heed()
        yield cost
    if hub.moves != moves:
        # what began between the steps, also where it was waited for by name
        began = [channel for channel in hub.matching(prefix, bit.bit_length() - 1) if channel.born > before]
        late = [c for c in began if interest.has(c.listing, bit) or subscriber.pending(c.id, bit) is not None]
        gone = list(dict.fromkeys([*gone, *[channel.listing.name for channel in late]]))
    steps = interest.remove_pattern(prefix, bit, hub.listings, venues=venues, always=always)
    cost = next(steps, 1)
    subscriber.heed()
    yield cost
    yield from steps
    for at, name in enumerate(gone):
        if at and at % STRIDE == 0:
            yield 1 + STRIDE // 2
        subscriber.drop(hub.names[name].id, bit)
    return Result(kind, symbol, ok=True, matched=len(gone))
