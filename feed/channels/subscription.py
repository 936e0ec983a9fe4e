"""Requests on channels: what subscribing and unsubscribing do to a reader, and what the ack says of each item.

Owns the results and the limits on subscriptions. Leaves the form of requests to `feed.protocol`, and sending anything
to the reader.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, Literal

from msgspec import Struct

from feed.channels.cursor import Reader
from feed.channels.join import Broken, Join
from feed.channels.message import KIND_BIT, KIND_INDEX
from feed.channels.wanted import OnLag, is_pattern, prefix_of
from feed.model import KINDS, NO_SEQ, Result

if TYPE_CHECKING:
    from feed.channels.channel import Channel, Listing
    from feed.channels.hub import Hub

_FOLD_FOR_ACK_MAX: Final = 64


class Start(Struct, frozen=True):
    """Where channels begin; `marks` and `last` belong to the modes of that name."""

    mode: Literal["snapshot", "live", "marks", "last"]
    marks: Mapping[str, int] = {}
    last: int = 0


class Ask(Struct, frozen=True, kw_only=True):
    """A subscribe request that was understood; `start` None: a channel that is there keeps its position."""

    id: str | int
    channels: list[str]
    symbols: list[str]
    start: Start | None = None
    on_lag: OnLag = "skip"


class Limits(Struct, frozen=True, kw_only=True):
    """What one reader may have."""

    subscriptions_max: int = 10_000
    """Channels by name, and kinds of patterns; one more gets `subscription_limit`."""
    patterns_max: int = 64
    """Kinds of patterns, exceptions from them included."""


class Subscribing:
    """One subscribe request under way; `touched` counts channels, as a measure of what it cost."""

    def __init__(
        self, hub: Hub, reader: Reader, ask: Ask, limits: Limits, broken: Mapping[tuple[int, int], Broken] | None = None
    ) -> None:
        """`broken`: of a past, the channels that begin with a gap."""
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
            tells=ask.id if mode in ("marks", "last") else None,
            broken=broken,
        )
        self._anew: Join | None = None

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
        listing = self._hub.names.get(symbol)
        if listing is None:
            return Result(kind, symbol, ok=False, code="unknown_symbol")
        wanted = self._reader.wanted
        if not wanted.has_exact(listing, bit) and wanted.count >= self._limits.subscriptions_max:
            return Result(kind, symbol, ok=False, code="subscription_limit")
        had = wanted.has(listing, bit)
        wanted.add(listing, bit, self._ask.on_lag)
        return self._enter(kind, listing, bit, had=had)

    def _join_of(self, channel: Channel) -> Join:
        """The request's, but a channel that marks cannot speak of starts by snapshot, before `caught_up`."""
        if self._join.marks is None or not channel.untold:
            return self._join
        if self._anew is None:
            joins = self._reader.joins
            self._anew = Join(self._join.number)
            joins.insert(joins.index(self._join), self._anew)
        return self._anew

    def _enter(self, kind: str, listing: Listing, bit: int, *, had: bool) -> Result:
        reader = self._reader
        channel = listing.channels[KIND_INDEX[kind]]
        if channel is None:
            reader.wait_for(listing, bit)
            return Result(kind, listing.name, ok=True, mode="live", source=listing.owner.name, seq=NO_SEQ)
        source = channel.source.name
        if had and self._ask.start is None:
            pending = reader.pending(listing.id, bit)
            if channel.waits or (pending is not None and pending.mode(channel) == "snapshot"):
                return Result(kind, listing.name, ok=True, mode="snapshot", source=source, seq=self._joined_at(channel))
            return Result(kind, listing.name, ok=True, mode="resumed", source=source, seq=channel.position)
        reader.drop(listing.id, bit)
        join = self._join_of(channel)
        reader.enter(channel, join, announce=False)
        mode = join.mode(channel)
        if mode == "snapshot":
            seq = channel.position if join.last or join.exact else self._joined_at(channel)
        elif mode == "live":
            seq = channel.position
        else:
            seq = join.prev(channel)
        return Result(kind, listing.name, ok=True, mode=mode, source=source, seq=seq)

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
            reader.enter(channel, self._join_of(channel), announce=True)
        wanted.add_pattern(prefix, bit, self._ask.on_lag, hub.listings)
        self.touched += matched
        return Result(kind, symbol, ok=True, matched=matched)


def unsubscribe(hub: Hub, reader: Reader, channels: list[str], symbols: list[str]) -> list[Result]:
    """Takes channels away; one result for each kind and symbol, in the order asked."""
    symbols = list(dict.fromkeys(symbols))
    reader.own()
    return [_leave(hub, reader, kind, symbol) for kind in dict.fromkeys(channels) for symbol in symbols]


def unsubscribe_all(hub: Hub, reader: Reader) -> list[Result]:
    """Takes everything away; the results are what was there."""
    results = [Result(item.channel, item.symbol, ok=True) for item in subscribed(hub, reader)]
    reader.empty()
    return results


def subscribed(hub: Hub, reader: Reader) -> list[Result]:
    """What a reader has asked for: channels by name, then patterns, with their parameters."""
    results: list[Result] = []
    wanted = reader.wanted
    for index, kind in enumerate(KINDS):
        bit = 1 << index
        for id_, mask in wanted.exact():
            if mask & bit:
                listing = hub.listings[id_]
                on_lag: OnLag = "close" if wanted.closes(listing, bit) else "skip"
                results.append(Result(kind, listing.name, on_lag=on_lag))
    for name, pattern, lag in wanted.patterns_subscribed():
        index, bit = KIND_INDEX[name], KIND_BIT[name]
        prefix = prefix_of(pattern)
        matching = [listing for listing in hub.listings.values() if listing.name.startswith(prefix)]
        matched = sum(
            1 for listing in matching if listing.channels[index] is not None and wanted.by_pattern(listing) & bit
        )
        results.append(Result(name, pattern, matched=matched, on_lag=lag))
    return results


def _leave(hub: Hub, reader: Reader, kind: str, symbol: str) -> Result:
    bit = KIND_BIT.get(kind)
    if bit is None:
        return Result(kind, symbol, ok=False, code="unknown_channel")
    wanted = reader.wanted
    if is_pattern(symbol):
        prefix = prefix_of(symbol)
        gone = [
            matching.id
            for matching in hub.listings.values()
            if matching.name.startswith(prefix) and wanted.has(matching, bit)
        ]
        if not wanted.remove_pattern(prefix, bit, hub.listings):
            return Result(kind, symbol, ok=False, code="not_subscribed")
        for id_ in gone:
            reader.drop(id_, bit)
        return Result(kind, symbol, ok=True, matched=len(gone))
    listing = hub.names.get(symbol)
    if listing is None:
        return Result(kind, symbol, ok=False, code="unknown_symbol")
    if not wanted.remove(listing, bit):
        return Result(kind, symbol, ok=False, code="not_subscribed")
    reader.drop(listing.id, bit)
    return Result(kind, symbol, ok=True)
