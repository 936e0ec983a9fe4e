"""A client's subscribers: one of the raw channels, and one in each view that it has channels in.

Owns which of them has a channel ("a channel has one set of parameters, that of the last request that matched it"), how
a channel goes from one to the other, and what the client is told of all of them together: pages, marks, sums. Leaves
each subscriber's place to `subscriber`, and what a request does there to `subscription`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from typing import TYPE_CHECKING, Final

from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from feed.channels.join import JoinGroup, Move
from feed.channels.marks import UNSAID
from feed.channels.steps import STRIDE, Steps
from feed.channels.subscription import (
    Ask,
    Elsewhere,
    Limits,
    Subscribing,
    leave,
    matched_by,
    subscribed,
    unsubscribe_all,
)
from feed.channels.tally import Account
from feed.channels.view_spec import RAW, ViewSpec
from feed.wire.message import KIND_BIT, KIND_INDEX
from feed.wire.model import NO_SEQ, Result
from feed.wire.symbols import is_pattern, prefix_of, venue_of

if TYPE_CHECKING:
    from feed.channels.distributor import Distributor
    from feed.channels.subscriber import Subscriber
    from feed.channels.views import View


_NAMES_A_CHANNEL: Final = 4
"""So many names that are only looked at cost as much as a channel."""


class Subscribers:
    """All subscribers of one client. `raw` is that of the raw channels, and is always there."""

    def __init__(self, distributor: Distributor, owner: object) -> None:
        self.hub = distributor.hub
        self.raw: Subscriber = distributor.hub.subscriber(owner)
        self._distributor = distributor
        self.inside: dict[ViewSpec, tuple[View, Subscriber]] = {}
        """Its subscribers in views."""
        self._owner = owner
        self._before = Account(0, 0, 0, 0, 0, 0, 0)
        """What became of the updates in views that it has left."""
        self._told: dict[str, int] = {}
        self._held: dict[str, int] | None = None
        """The marks when a request was left under way: it may have begun channels anew that its client still has."""
        self._turn = 0

    def __iter__(self) -> Iterator[Subscriber]:
        yield self.raw
        for _, subscriber in self.inside.values():
            yield subscriber

    # ---- what it is sent

    @property
    def in_step(self) -> bool:
        """Whether it misses nothing."""
        return all(subscriber.in_step for subscriber in self)

    @property
    def too_slow(self) -> bool:
        """Whether it lagged on a channel with `on_lag: close`."""
        return any(subscriber.too_slow for subscriber in self)

    def pull(self, bytes_max: int) -> bytes:
        """The next page of what any of them misses; they take turns, as each may have more than the socket takes."""
        self._not_while_sending()
        self._held = None
        if not self.inside:
            return self.raw.pull(bytes_max)
        subscribers = list(self)
        self._turn += 1
        page = b""
        for index in range(len(subscribers)):
            subscriber = subscribers[(self._turn + index) % len(subscribers)]
            page += subscriber.pull(bytes_max - len(page))
            if len(page) >= bytes_max or not subscriber.in_step:
                break  # or it has had to look at as much as belongs into a page
        self._tidy()
        return page

    @property
    def follows(self) -> bool:
        """Whether `follow` has something to give."""
        return any(subscriber.follows for subscriber in self)

    def follow(self, bytes_max: int) -> bytes:
        """While a request is under way: the next page of what it missed of the channels that it has already."""
        self._not_while_sending()
        if self._held is None:
            self._held = self.marks()
        page = b""
        for subscriber in self:
            if len(page) < bytes_max and subscriber.follows:
                page += subscriber.follow(bytes_max - len(page))
        return page

    def marks(self) -> dict[str, int]:
        """For each source: everything up to this position was sent, on the channels in step. Never goes back."""
        if self._held is not None:
            return self._held
        if not (self.inside or self._told):
            return self.raw.marks()
        marks: dict[str, int] = {}
        for subscriber in self:
            for name, seq in subscriber.standing().items():
                marks[name] = min(seq, marks.get(name, seq))
        for view, _ in self.inside.values():
            marks |= dict.fromkeys(view.rebasing, UNSAID)
        before = self._told or self.raw.told
        marks = {name: seq for name, seq in marks.items() if seq >= before.get(name, NO_SEQ)}
        self._told = before | marks
        return marks

    def doubt_holds(self) -> None:
        """Positions that turn out to be of none of this log: their channels begin anew. Not while a flush is sent."""
        for subscriber in self:
            subscriber.doubt_holds()

    def close(self) -> None:
        """The client is gone."""
        for subscriber in self:
            subscriber.close()
        for spec in list(self.inside):
            self._end(spec)

    # ---- how it stands

    def account(self) -> Account:
        """What became of all its updates; walks over all its channels."""
        return Account(*map(sum, zip(self._before, *[subscriber.account() for subscriber in self], strict=True)))

    @property
    def gapped(self) -> int:
        """Updates that it was told of only in gaps."""
        return self._before.gapped + sum(subscriber.gapped for subscriber in self)

    @property
    def channels(self) -> int:
        """How many channels it has begun."""
        return sum(subscriber.channels for subscriber in self)

    # ---- requests

    def subscribe(
        self, ask: Ask, spec: ViewSpec, limits: Limits, known: Mapping[tuple[str, str], Result] | None = None
    ) -> Steps[list[Result]]:
        """Does it: one result for each kind and symbol, in the order asked.

        `known`: those that somebody else did.
        """
        self._not_while_sending()
        kinds = list(dict.fromkeys(ask.channels))
        parts: dict[ViewSpec, list[str]] = {}
        for kind in kinds:
            parts.setdefault(spec.of(kind), []).append(kind)
        together = JoinGroup(ask.id, len(parts)) if len(parts) > 1 else None
        found: dict[str, list[Result]] = {}
        for own, chosen in parts.items():
            subscriber = self._subscriber(own)
            others = [other for other in self if other is not subscriber]
            rest = replace(
                limits,
                subscriptions_max=limits.subscriptions_max - sum(other.interest.count for other in others),
                patterns_max=limits.patterns_max - sum(other.interest.patterns for other in others),
            )
            view = self.inside[own][0] if own in self.inside else None
            subscribing = Subscribing(
                self.hub if view is None else view.hub,
                subscriber,
                replace(ask, channels=chosen),
                rest,
                view=view,
                elsewhere=_Others(self, own) if others else None,
                together=together,
            )
            with nullcontext() if view is None else view.asked():
                results = yield from subscribing.results(known)
            for result in results:
                found.setdefault(result.channel, []).append(result)
        self._tidy()
        return [result for kind in kinds for result in found[kind]]

    def unsubscribe(self, channels: list[str], symbols: list[str], limits: Limits) -> Steps[list[Result]]:
        """Takes channels away; one result for each kind and symbol, in the order asked."""
        self._not_while_sending()
        results: list[Result] = []
        symbols = list(dict.fromkeys(symbols))
        looked = 0
        for kind in dict.fromkeys(channels):
            for symbol in symbols:
                results.append((yield from self._leave(kind, symbol, limits)))
                looked += 1 + len(self.inside) // 2
                if looked >= STRIDE:
                    yield looked
                    looked = 0
        self._tidy()
        return results

    def unsubscribe_all(self) -> Steps[list[Result]]:
        """Takes everything away; the results are what was there."""
        self._not_while_sending()
        results = yield from unsubscribe_all(self.hub, self.raw)
        for view, subscriber in list(self.inside.values()):
            results += yield from unsubscribe_all(view.hub, subscriber)
        self._tidy()
        return results

    def subscribed(self) -> Steps[list[Result]]:
        """What it has asked for: of each way of seeing channels by name, then patterns, with their parameters."""
        results = yield from subscribed(self.hub, self.raw)
        for view, subscriber in list(self.inside.values()):
            results += yield from subscribed(view.hub, subscriber)
        return results

    def touched(self, kinds: list[str] | None, symbols: list[str] | None) -> int:
        """How many channels a request looks at: of a pattern all that it matches, and at least one."""
        if kinds is None or symbols is None:
            return sum(max(r.interest.count + r.interest.taken_out, r.channels) for r in self)
        names, prefixes = 0, list[str]()
        for symbol in dict.fromkeys(symbols):
            if is_pattern(symbol):
                prefixes.append(prefix_of(symbol))
            else:
                names += 1
        kept = sum(subscriber.interest.looked_at(prefixes) for subscriber in self) // _NAMES_A_CHANNEL
        venues = self.hub.roster.venues
        known = [prefix for prefix in prefixes if not prefix or prefix in venues]
        touched = 0
        for kind in dict.fromkeys(kinds):
            index = KIND_INDEX.get(kind)
            touched += names + len(prefixes) + kept
            for prefix in known if index is not None else ():
                touched += max(0, len(self.hub.matching(prefix, index)) - 1)  # type: ignore[arg-type]  # as asked for
        return touched

    def _not_while_sending(self) -> None:
        """A client that asked for something amid a flush would get data after its ack, or miss the flush."""
        assert not self._distributor.sending, "a client asks while a flush is sent"

    def _leave(self, kind: str, symbol: str, limits: Limits) -> Steps[Result]:
        result = yield from leave(self.hub, self.raw, kind, symbol, limits=limits)
        for view, subscriber in list(self.inside.values()):
            if (cost := know(view, subscriber, kind, symbol)) > 1:
                yield cost
            venues = self.hub.roster.venues
            other = yield from leave(view.hub, subscriber, kind, symbol, limits=limits, venues=venues)
            if other.ok is True:
                view.note_left()
                result = other if result.ok is not True else replace(other, matched=_sum(result, other))
            elif other.code == "subscription_limit" and result.ok is not True:
                result = other  # it is subscribed here, though not in the raw channels
        return result

    def _subscriber(self, spec: ViewSpec) -> Subscriber:
        if spec == RAW:
            return self.raw
        found = self.inside.get(spec)
        if found is None:
            view = self._distributor.view(spec)
            found = self.inside[spec] = view, view.subscriber(self._owner)
        return found[1]

    def _tidy(self) -> None:
        """Gives back the subscribers that have no channels any more."""
        for spec, (_, subscriber) in list(self.inside.items()):
            if not (subscriber.interest.count or subscriber.interest.rules or subscriber.joins):
                subscriber.close()
                self._end(spec)

    def _end(self, spec: ViewSpec) -> None:
        view, subscriber = self.inside.pop(spec)
        self._before = Account(*map(sum, zip(self._before, subscriber.account(), strict=True)))
        view.give_back(subscriber)


def _sum(one: Result, other: Result) -> int | UnsetType:
    """What two subscribers had of a pattern."""
    if isinstance(one.matched, UnsetType) or isinstance(other.matched, UnsetType):
        return UNSET
    return one.matched + other.matched


class _Others(Elsewhere):
    """A client's channels in other subscribers than that of one way of seeing them."""

    def __init__(self, subscribers: Subscribers, spec: ViewSpec) -> None:
        self._subscribers = subscribers
        self._spec = spec

    def release(self, kind: str, symbol: str) -> Steps[dict[str, Move | None]]:
        bit = KIND_BIT[kind]
        moves: dict[str, Move | None] = {}
        venues = self._subscribers.hub.roster.venues
        for spec, view, subscriber in list(self._places()):
            hub = self._subscribers.hub if view is None else view.hub
            pattern = is_pattern(symbol)
            if view is not None and (cost := know(view, subscriber, kind, symbol)) > 1:
                yield cost
            names = (yield from matched_by(hub, subscriber, prefix_of(symbol), bit)) if pattern else [symbol]
            held = False
            for at, name in enumerate(names):
                if at and at % STRIDE == 0:
                    yield 1 + STRIDE // 2
                listing = hub.names.get(name)
                if listing is None:
                    subscriber.own()  # what it watches for changes
                    subscriber.interest.refuse(name, bit)
                    subscriber.heed()
                if listing is None or not subscriber.interest.has(listing, bit):
                    continue
                held = True
                moves[name] = subscriber.place(listing, bit) if spec.depth == self._spec.depth else None
                subscriber.drop(listing.id, bit)  # or it would go on from there, too
            if pattern or held:
                yield from leave(hub, subscriber, kind, symbol, venues=venues, always=True)
        return moves

    def _places(self) -> Iterator[tuple[ViewSpec, View | None, Subscriber]]:
        if self._spec != RAW:
            yield RAW, None, self._subscribers.raw
        for spec, (view, subscriber) in self._subscribers.inside.items():
            if spec != self._spec:
                view.note_left()
                yield spec, view, subscriber


def know(view: View, subscriber: Subscriber, kind: str, symbol: str) -> int:
    """A view has only the symbols that were asked for; one that a pattern of the subscriber would match is one of them.

    Returns as how many channels that counts.
    """
    bit = KIND_BIT.get(kind, 0)
    if bit and not is_pattern(symbol) and subscriber.interest.brings(venue_of(symbol), bit):
        return view.need(symbol, bit)
    return 1
