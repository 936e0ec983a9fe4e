"""What a client of a replay has asked for: channels of the recording, by name and by pattern.

Owns the results of subscribe, unsubscribe and list, with the live stream's words, limits and rule (`Interest`: a
channel has one set of parameters, an unsubscribe beats an earlier pattern). A recording's channels are all known from
the start, so a selection is a set of them. Leaves where each channel stands to `session`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from feed.channels.channel import Listing
from feed.channels.interest import Interest
from feed.channels.source import Source
from feed.channels.steps import whole
from feed.channels.subscription import Limits
from feed.recording.filter import ChannelFilter
from feed.wire.message import KIND_BIT
from feed.wire.model import KINDS, OnLag, Result
from feed.wire.symbols import is_pattern, prefix_of, venue_of

Channel = tuple[str, str]
"""Kind and symbol."""
_NOBODY: Final = Source("", 0)


class ReplaySelection:
    """The channels of a recording. `chosen`: those that are subscribed."""

    def __init__(self, recorded: Iterable[Channel], limits: Limits) -> None:
        self.chosen: set[Channel] = set()
        self._limits = limits
        self._wanted = Interest()
        self._recorded: dict[str, dict[str, None]] = {}
        for kind, symbol in sorted(recorded):
            self._recorded.setdefault(kind, {})[symbol] = None
        names = sorted({symbol for symbols in self._recorded.values() for symbol in symbols})
        self._names = {name: Listing(name, id_, _NOBODY) for id_, name in enumerate(names)}
        self._listings = {listing.id: listing for listing in self._names.values()}
        self._by_venue: dict[str, list[str]] = {}
        for name in names:
            self._by_venue.setdefault(venue_of(name), []).append(name)

    @property
    def count(self) -> int:
        """How many channels there are in it, and what was asked for."""
        return max(len(self.chosen), self._wanted.count)

    def touched(self, kinds: list[str], symbols: list[str]) -> int:
        """How many channels a request looks at: of a pattern all that it matches, and at least one."""
        names = [symbol for symbol in dict.fromkeys(symbols) if not is_pattern(symbol)]
        patterns = [symbol for symbol in dict.fromkeys(symbols) if is_pattern(symbol)]
        asked = dict.fromkeys(kinds)
        return len(asked) * len(names) + sum(
            max(1, len(self._matching(kind, symbol))) for kind in asked for symbol in patterns
        )

    def picked(self) -> ChannelFilter:
        """The rows of the recording that are theirs."""
        counts = dict.fromkeys(self._recorded, 0)
        for kind, _ in self.chosen:
            counts[kind] += 1
        whole = [kind for kind in KINDS if counts.get(kind, 0) == len(self._recorded.get(kind, ()))]
        return ChannelFilter(self.chosen, whole)

    def subscribe(
        self, kinds: list[str], symbols: list[str], on_lag: OnLag
    ) -> tuple[list[Result], dict[Channel, Result]]:
        """One result for each kind and symbol, in the order asked; and the channels that were asked for.

        Of a channel by name the result is its own (to be completed with where it begins), of others the pattern's.
        """
        results: list[Result] = []
        asked: dict[Channel, Result] = {}
        for kind in dict.fromkeys(kinds):
            for symbol in dict.fromkeys(symbols):
                result = self._pattern(kind, symbol, on_lag) if is_pattern(symbol) else self._name(kind, symbol, on_lag)
                results.append(result)
                if result.ok:
                    asked |= {(kind, name): result for name in self._matching(kind, symbol)}
        return results, asked

    def unsubscribe(self, kinds: list[str], symbols: list[str]) -> list[Result]:
        """The same for taking channels away."""
        symbols = list(dict.fromkeys(symbols))
        return [self._leave(kind, symbol) for kind in dict.fromkeys(kinds) for symbol in symbols]

    def unsubscribe_all(self) -> list[Result]:
        """Takes everything away; the results are what was there."""
        results = [Result(item.channel, item.symbol, ok=True) for item in self.subscribed()]
        self._wanted = Interest()
        self.chosen.clear()
        return results

    def subscribed(self) -> list[Result]:
        """Channels by name, then patterns, with their parameters."""
        results: list[Result] = []
        for kind, bit in KIND_BIT.items():
            for id_, mask in self._wanted.exact():
                if mask & bit:
                    listing = self._listings[id_]
                    on_lag: OnLag = "close" if self._wanted.closes(listing, bit) else "skip"
                    results.append(Result(kind, listing.name, on_lag=on_lag, every_ms=0, depth=0))
        for kind, pattern, on_lag in self._wanted.patterns_subscribed():
            matched = sum(
                1
                for name in self._matching(kind, pattern)
                if self._wanted.by_pattern(self._names[name]) & KIND_BIT[kind]
            )
            results.append(Result(kind, pattern, matched=matched, on_lag=on_lag, every_ms=0, depth=0))
        return results

    def on_lag(self, channel: Channel) -> OnLag:
        """What was chosen for a lag on a channel; in a replay there is none."""
        kind, symbol = channel
        return "close" if self._wanted.closes(self._names[symbol], KIND_BIT[kind]) else "skip"

    def _name(self, kind: str, symbol: str, on_lag: OnLag) -> Result:
        bit, listing = KIND_BIT.get(kind), self._names.get(symbol)
        if bit is None:
            return Result(kind, symbol, ok=False, code="unknown_channel")
        if listing is None:
            return Result(kind, symbol, ok=False, code="unknown_symbol")
        if not self._wanted.has_exact(listing, bit) and self._wanted.count >= self._limits.subscriptions_max:
            return Result(kind, symbol, ok=False, code="subscription_limit")
        self._wanted.add(listing, bit, on_lag)
        self.chosen |= {(kind, name) for name in self._matching(kind, symbol)}
        return Result(kind, symbol, ok=True, on_lag=on_lag, every_ms=0, depth=0)

    def _pattern(self, kind: str, symbol: str, on_lag: OnLag) -> Result:
        bit, prefix = KIND_BIT.get(kind), prefix_of(symbol)
        wanted, limits = self._wanted, self._limits
        if bit is None:
            return Result(kind, symbol, ok=False, code="unknown_channel")
        if not wanted.has_rule(prefix, bit) and (
            wanted.count >= limits.subscriptions_max or wanted.patterns >= limits.patterns_max
        ):
            return Result(kind, symbol, ok=False, code="subscription_limit")
        whole(wanted.add_pattern(prefix, bit, on_lag, self._listings))
        found = self._matching(kind, symbol)
        self.chosen |= {(kind, name) for name in found}
        return Result(kind, symbol, ok=True, matched=len(found), on_lag=on_lag, every_ms=0, depth=0)

    def _leave(self, kind: str, symbol: str) -> Result:
        bit, listing = KIND_BIT.get(kind), self._names.get(symbol)
        if bit is None:
            return Result(kind, symbol, ok=False, code="unknown_channel")
        if is_pattern(symbol):
            gone = {(kind, name) for name in self._matching(kind, symbol)} & self.chosen
            prefix = prefix_of(symbol)
            if not self._wanted.has_any(prefix, bit, venues=self._by_venue):
                return Result(kind, symbol, ok=False, code="not_subscribed")
            whole(self._wanted.remove_pattern(prefix, bit, self._listings, venues=self._by_venue))
            self.chosen -= gone
            return Result(kind, symbol, ok=True, matched=len(gone))
        if listing is None:
            return Result(kind, symbol, ok=False, code="unknown_symbol")
        if not self._wanted.remove(listing, bit):
            return Result(kind, symbol, ok=False, code="not_subscribed")
        self.chosen.discard((kind, symbol))
        return Result(kind, symbol, ok=True)

    def _matching(self, kind: str, symbol: str) -> list[str]:
        """The recorded symbols of a kind that a name or a pattern means."""
        names = self._recorded.get(kind, {})
        if is_pattern(symbol):
            if not (prefix := prefix_of(symbol)):
                return list(names)
            return [name for name in self._by_venue.get(prefix, ()) if name in names]
        return [symbol] if symbol in names else []
