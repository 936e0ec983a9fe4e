"""Requests on channels: what subscribing and unsubscribing do to a reader, and what the ack says of each item.

Owns the results and the limits on subscriptions. Leaves the form of requests to `feed.protocol`, and sending anything
to the reader.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, Protocol

from msgspec import Struct
from msgspec.structs import replace

from feed.channels.cursor import Reader
from feed.channels.join import Broken, Join, Move, Start, Together
from feed.channels.message import KIND_BIT, KIND_INDEX
from feed.channels.wanted import Wanted
from feed.model import NO_SEQ, OnLag, Result
from feed.symbols import is_awaitable, is_pattern, prefix_of

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
    """What one reader may have."""

    subscriptions_max: int = 10_000
    """Channels by name, and kinds of patterns; one more gets `subscription_limit`."""
    patterns_max: int = 64
    """Kinds of patterns, exceptions from them included."""


class Elsewhere(Protocol):
    """The client's channels that other readers of it have."""

    def release(self, kind: str, symbol: str) -> dict[str, Move | None]:
        """Takes a channel, or those of a pattern, from them: the symbols, and where each can go on from."""
        ...


class Subscribing:
    """One subscribe request under way; `touched` counts channels, as a measure of what it cost.

    `view` is where `hub` is that of one. `together`: a request that several of these make up. `broken`: of a past,
    the channels that begin with a gap.
    """

    def __init__(
        self,
        hub: Hub,
        reader: Reader,
        ask: Ask,
        limits: Limits,
        broken: Mapping[tuple[int, int], Broken] | None = None,
        *,
        view: View | None = None,
        elsewhere: Elsewhere | None = None,
        together: Together | None = None,
    ) -> None:
        start = ask.start
        mode = None if start is None else start.mode
        self.touched = 0
        self._hub = hub
        self._reader = reader
        self._ask = ask
        self._limits = limits
        self._folds = len(ask.channels) * len(ask.symbols) <= _FOLD_FOR_ACK_MAX
        self._join = Join(
            hub.current.number,
            marks=None if start is None or mode != "marks" else start.marks,
            flush=hub.current if mode == "live" else None,
            last=0 if start is None else start.last,
            live=mode == "live",
            tells=(together or ask.id) if mode in ("marks", "last") else None,
            broken=broken,
            beyond=ask.beyond,
            replaces=view is None,
        )
        self._anew: Join | None = None
        self._silent: Join | None = None
        self._moved: list[Join] = []
        self._view = view
        self._elsewhere = elsewhere

    def results(self, known: Mapping[tuple[str, str], Result] | None = None) -> list[Result]:
        """Does it; one result for each kind and symbol, in the order asked. `known`: those that somebody else did."""
        done = known or {}
        reader, join, ask = self._reader, self._join, self._ask
        reader.own()
        reader.joins.append(join)
        symbols = list(dict.fromkeys(ask.symbols))
        results = [
            done.get((kind, symbol)) or self._item(kind, symbol)
            for kind in dict.fromkeys(ask.channels)
            for symbol in symbols
        ]
        if not join.pending and join.tells is None:
            reader.joins.remove(join)
        return results

    def _item(self, kind: str, symbol: str) -> Result:
        self.touched += 1
        bit = KIND_BIT.get(kind)
        if bit is None:
            return Result(kind, symbol, ok=False, code="unknown_channel")
        if is_pattern(symbol):
            return self._pattern(kind, symbol, bit)
        if self._view is not None:
            self._view.need(symbol, bit)
        listing = self._hub.names.get(symbol)
        if listing is None:
            return self._await(kind, symbol, bit)
        wanted = self._reader.wanted
        if wanted.awaits(symbol, bit):
            wanted.arrive(listing, bit)
            self._reader.heed()
        if not wanted.has_exact(listing, bit) and wanted.count >= self._limits.subscriptions_max:
            return Result(kind, symbol, ok=False, code="subscription_limit")
        had = wanted.has(listing, bit)
        moves = self._elsewhere.release(kind, symbol) if self._elsewhere is not None else {}
        wanted.add(listing, bit, self._ask.on_lag)
        return self._enter(kind, listing, bit, had=had, move=moves.get(symbol), anew=symbol in moves)

    def _await(self, kind: str, symbol: str, bit: int) -> Result:
        """A symbol that is not known."""
        ask, reader = self._ask, self._reader
        if not ask.wait or not is_awaitable(symbol):
            return Result(kind, symbol, ok=False, code="unknown_symbol")
        known = reader.wanted.awaited.get(symbol, {}).get(bit)
        if known is None and reader.wanted.count >= self._limits.subscriptions_max:
            return Result(kind, symbol, ok=False, code="subscription_limit")
        if self._elsewhere is not None:
            self._elsewhere.release(kind, symbol)
        start = ask.start if ask.since is None else Start("time")
        reader.await_(symbol, bit, ask.on_lag, known.start if known is not None and start is None else start)
        return replace(self._done(kind, symbol), mode="awaited")

    def _done(self, kind: str, symbol: str) -> Result:
        """A good result: the parameters that hold from now on."""
        return replace(_told(self._hub, kind, symbol, self._ask.on_lag), ok=True)

    def _join_of(self, channel: Channel, move: Move | None) -> Join:
        """The request's, but a channel that marks cannot speak of starts by snapshot, before `caught_up`.

        One that another reader of the client had goes on from there.
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
                join.marks = {**join.marks, move.source: move.after}
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
        self._silent.marks = {**(self._silent.marks or {}), name: NO_SEQ}
        return self._silent

    def _before(self, join: Join) -> None:
        joins = self._reader.joins
        joins.insert(joins.index(self._join), join)

    def _enter(self, kind: str, listing: Listing, bit: int, *, had: bool, move: Move | None, anew: bool) -> Result:
        """`anew`: its client has it from another reader, and may hold a state that is none here."""
        reader, done = self._reader, self._done(kind, listing.name)
        channel = listing.channels[KIND_INDEX[kind]]
        if channel is None:
            reader.wait_for(listing, bit)
            return replace(done, mode="live", source=listing.owner.name, seq=NO_SEQ)
        source = channel.source.name
        if had and self._ask.start is None and reader.knows(channel):
            pending = reader.pending(listing.id, bit)
            if channel.waits or (pending is not None and pending.mode(channel) == "snapshot"):
                return replace(done, mode="snapshot", source=source, seq=self._joined_at(channel))
            return replace(done, mode="resumed", source=source, seq=channel.position)
        reader.drop(listing.id, bit)
        join = self._join_of(channel, move)
        mode = join.mode(channel)
        if mode == "live" and join.after(channel.source) is None:
            join = self._join_silent(channel)
            if anew and kind == "book":
                # of some depth it may have shown nothing yet, of another one much
                join.emptied.add((channel.id, channel.bit))
                mode = "snapshot"
        reader.enter(channel, join, announce=False)
        if mode == "snapshot":
            seq = channel.position if join.last or join.exact else self._joined_at(channel)
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

    def _pattern(self, kind: str, symbol: str, bit: int) -> Result:
        hub, reader, prefix = self._hub, self._reader, prefix_of(symbol)
        wanted, limits = reader.wanted, self._limits
        if not wanted.has_rule(prefix, bit) and (
            wanted.count >= limits.subscriptions_max or wanted.patterns >= limits.patterns_max
        ):
            return Result(kind, symbol, ok=False, code="subscription_limit")
        if self._view is not None:
            self._view.need_all(prefix, bit)
        moves = self._elsewhere.release(kind, symbol) if self._elsewhere is not None else {}
        index = KIND_INDEX[kind]
        matched = 0
        keeps = self._ask.start is None
        for listing in hub.listings.values():
            channel = listing.channels[index]
            if channel is None or not listing.name.startswith(prefix):
                continue
            matched += 1
            if wanted.has(listing, bit):
                if keeps:
                    continue
                reader.drop(listing.id, bit)
            join = self._join_of(channel, moves.get(listing.name))
            if listing.name in moves or wanted.has(listing, bit):
                # its client has it in step until `joined` says how it goes on
                join.anew.add(channel.source)
            reader.enter(channel, join, announce=True)
        wanted.add_pattern(prefix, bit, self._ask.on_lag, hub.listings)
        self.touched += matched
        return replace(self._done(kind, symbol), matched=matched)


def unsubscribe(hub: Hub, reader: Reader, channels: list[str], symbols: list[str]) -> list[Result]:
    """Takes channels away; one result for each kind and symbol, in the order asked."""
    symbols = list(dict.fromkeys(symbols))
    return [leave(hub, reader, kind, symbol) for kind in dict.fromkeys(channels) for symbol in symbols]


def unsubscribe_all(hub: Hub, reader: Reader) -> list[Result]:
    """Takes everything away; the results are what was there."""
    results = [Result(item.channel, item.symbol, ok=True) for item in subscribed(hub, reader)]
    reader.empty()
    return results


def subscribed(hub: Hub, reader: Reader) -> list[Result]:
    """What a reader has asked for: channels by name, then patterns, with their parameters."""
    wanted = reader.wanted
    results = [
        _told(hub, kind, hub.listings[id_].name, "close" if wanted.closes(hub.listings[id_], bit) else "skip")
        for kind, bit in KIND_BIT.items()
        for id_, mask in wanted.exact()
        if mask & bit
    ]
    results += [
        replace(_told(hub, kind, name, "close" if kinds[bit].close else "skip"), mode="awaited")
        for kind, bit in KIND_BIT.items()
        for name, kinds in wanted.awaited.items()
        if bit in kinds
    ]
    matches = _matches(hub, wanted) if wanted.rules else {}
    for kind, pattern, on_lag in wanted.patterns_subscribed():
        matched = matches.get((prefix_of(pattern), KIND_BIT[kind]), 0)
        results.append(replace(_told(hub, kind, pattern, on_lag), matched=matched))
    return results


def _told(hub: Hub, kind: str, symbol: str, on_lag: OnLag) -> Result:
    """The parameters that hold, as every good result and every `list` tells them."""
    every_ms, depth = hub.spec.of(kind)
    return Result(kind, symbol, on_lag=on_lag, every_ms=every_ms, depth=depth)


def _matches(hub: Hub, wanted: Wanted) -> dict[tuple[str, int], int]:
    """How many channels each pattern has, by what names start with and the bit of a kind; in one walk for all."""
    prefixes = {rule.prefix for rule in wanted.rules if rule.add}
    alike: dict[tuple[str, int], int] = {}
    for listing in hub.listings.values():
        mask = wanted.by_pattern(listing)
        if mask:
            mask &= sum([channel.bit for channel in listing.channels if channel is not None])
        for prefix in prefixes if mask else ():
            if listing.name.startswith(prefix):
                alike[prefix, mask] = alike.get((prefix, mask), 0) + 1
    found: dict[tuple[str, int], int] = {}
    for (prefix, mask), count in alike.items():
        for bit in KIND_BIT.values():
            if mask & bit:
                found[prefix, bit] = found.get((prefix, bit), 0) + count
    return found


def matched_by(hub: Hub, reader: Reader, prefix: str, bit: int) -> list[str]:
    """The symbols of a pattern that a reader has."""
    return [
        listing.name
        for listing in hub.listings.values()
        if listing.name.startswith(prefix) and reader.wanted.has(listing, bit)
    ]


def leave(
    hub: Hub, reader: Reader, kind: str, symbol: str, *, names: Mapping[str, object] | None = None, always: bool = False
) -> Result:
    """Takes a channel, or those of a pattern, away.

    `names`: all symbols that there are, where the hub has only some of them; `always` as in `Wanted.remove_pattern`.
    """
    bit = KIND_BIT.get(kind)
    if bit is None:
        return Result(kind, symbol, ok=False, code="unknown_channel")
    reader.own()
    wanted = reader.wanted
    if is_pattern(symbol):
        prefix = prefix_of(symbol)
        gone = [hub.names[name].id for name in matched_by(hub, reader, prefix, bit)]
        if not wanted.remove_pattern(prefix, bit, hub.listings, names=names, always=always):
            return Result(kind, symbol, ok=False, code="not_subscribed")
        reader.heed()
        for id_ in gone:
            reader.drop(id_, bit)
        return Result(kind, symbol, ok=True, matched=len(gone))
    listing = hub.names.get(symbol)
    if listing is None:
        if not wanted.awaits(symbol, bit):
            return Result(kind, symbol, ok=False, code="unknown_symbol")
        wanted.refuse(symbol, bit)
        reader.heed()
        return Result(kind, symbol, ok=True)
    if wanted.awaits(symbol, bit):
        wanted.arrive(listing, bit)
        reader.heed()
    if not wanted.remove(listing, bit):
        return Result(kind, symbol, ok=False, code="not_subscribed")
    reader.drop(listing.id, bit)
    return Result(kind, symbol, ok=True)
