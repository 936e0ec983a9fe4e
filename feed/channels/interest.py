"""What one subscriber asked for: symbols by name, patterns in order, exceptions, and what to do when it lags.

Owns the rule "a channel has one set of parameters, that of the last request that matched it; an unsubscribe beats an
earlier pattern", and the count for the limits. What patterns select is the same for all symbols of a venue, so it is
worked out once a venue, and a change looks at no symbols but those of its pattern. Leaves where the subscriber stands
in its channels to `subscriber`.

(Over 400 lines: names, patterns and exceptions decide together what one channel is.)
"""

from __future__ import annotations

from collections.abc import Collection, ItemsView, Iterator, Mapping
from itertools import chain
from typing import TYPE_CHECKING, Final, NamedTuple

from feed.channels.masks import Masks
from feed.channels.selection import PatternInterest, PatternRule, closes, matched
from feed.channels.steps import STRIDE, Steps, whole
from feed.wire.message import KIND_BIT
from feed.wire.symbols import venue_of

_NAMES_COST: Final = 1 + STRIDE // 4
"""What `STRIDE` names are counted as that are only looked at."""
_SELECTED_MAX: Final = 4096

if TYPE_CHECKING:
    from feed.channels.channel import Listing
    from feed.channels.join import Start
    from feed.wire.model import OnLag


class Awaited(NamedTuple):
    """A channel that was asked for before its symbol was known: how it begins, and whether a lag on it closes."""

    start: Start | None
    close: bool


class Interest:
    """A subscriber's subscriptions. Symbols are kept by the id of their listing, kinds as bits.

    Those that are not known yet are kept by name: `awaited`, and exceptions from patterns (`_refused`).
    """

    __slots__ = (
        "_awaited_of",
        "_closing",
        "_exact",
        "_excluded",
        "_refused",
        "_selected",
        "_silent",
        "_venues",
        "_watch",
        "awaited",
        "changes",
        "count",
        "rules",
        "turned",
    )

    def __init__(self) -> None:
        self.rules: list[PatternRule] = []
        self.count = 0
        """Channels by name, exceptions of symbols that are not known, a pattern's kinds: what the limit is on."""
        self.awaited: dict[str, dict[int, Awaited]] = {}
        """By name and the bit of a kind."""
        self.changes = 0
        """Rises with every change."""
        self.turned: list[str] = []
        """Names that came into `awaited` or went out of it since somebody last emptied this."""
        self._awaited_of: dict[str, dict[str, None]] = {}
        """Names that are waited for, by venue."""
        self._refused: Masks[str] = Masks()
        self._exact: Masks[int] = Masks()
        self._excluded: Masks[int] = Masks()
        self._silent: dict[int, int] = {}
        self._closing: dict[int, int] = {}
        self._selected: dict[str, int] = {}
        """By venue what patterns select of its symbols; made as somebody asks."""
        self._watch: PatternInterest | None = None
        self._venues: frozenset[str] | None = None

    @property
    def patterns(self) -> int:
        """How many patterns there are, a kind each, subscribed or excepted."""
        return sum(rule.mask.bit_count() for rule in self.rules)

    def has(self, listing: Listing, bit: int) -> bool:
        """Whether this channel is subscribed."""
        mask = self._exact.get(listing.id) | self.by_pattern(listing)
        return bool(mask & bit) or self.awaits(listing.name, bit)

    def has_exact(self, listing: Listing, bit: int) -> bool:
        """Whether this channel is subscribed by its name."""
        return bool(self._exact.get(listing.id) & bit)

    def awaits(self, name: str, bit: int) -> bool:
        """Whether this channel was asked for by name while the symbol was not known."""
        return bit in self.awaited.get(name, ())

    def has_rule(self, prefix: str, bit: int) -> bool:
        """Whether this very pattern is subscribed."""
        return any(rule.add and rule.prefix == prefix and rule.mask & bit for rule in self.rules)

    def needs_rule(self, prefix: str, bit: int, venues: Collection[str], *, always: bool = False) -> bool:
        """Whether unsubscribing a pattern takes a rule of its own: a wider one brings some of what it matches.

        `always`: also where no symbol matches yet.
        """
        if any(rule.prefix == prefix and rule.mask & bit for rule in self.rules):
            return False
        wider = [rule for rule in self.rules if rule.mask & bit and rule.prefix != prefix and not rule.prefix]
        return bool(wider and wider[-1].add and prefix) and (always or prefix in venues)

    def pattern_interest(self) -> PatternInterest | None:
        """What decides about channels that begin later; None without patterns."""
        if not self.rules:
            return None
        if self._watch is None:
            refused = frozenset([(name, bit) for name, mask in self._refused.items() for bit in _bits_of(mask)])
            self._watch = PatternInterest(
                tuple(self.rules), _bits(self._excluded.items()), _bits(self._silent.items()), refused
            )
        return self._watch

    def venues(self) -> frozenset[str]:
        """The venues that it has anything of, as symbols begin; a star among them: all."""
        if self._venues is None:
            prefixes = [*self._exact.by_venue, *self._awaited_of, *[rule.prefix for rule in self.rules if rule.add]]
            self._venues = frozenset([prefix[:-1] or "*" for prefix in prefixes])
        return self._venues

    def add(self, listing: Listing, bit: int, on_lag: OnLag) -> None:
        """Subscribes a channel by name."""
        if not self._exact.get(listing.id) & bit:
            self.count += 1
        self._exact.set(listing.id, listing.venue, bit)
        self._excluded.clear(listing.id, listing.venue, bit)
        self._unrefuse(listing.name, bit)
        self._close(listing.id, bit, on_lag)
        self._changed()

    def add_silent(self, listing: Listing, bit: int) -> None:
        """Notes that a channel had not begun when it was asked for by name."""
        _set(self._silent, listing.id, bit)
        self._changed()

    def await_(self, name: str, bit: int, on_lag: OnLag, start: Start | None) -> None:
        """Subscribes a channel of a symbol that is not known yet."""
        if not (self.awaits(name, bit) or self._refused.get(name) & bit):
            self.count += 1
        self._refused.clear(name, venue_of(name), bit)
        if name not in self.awaited:
            self.awaited[name] = {}
            self._awaited_of.setdefault(venue_of(name), {})[name] = None
            self.turned.append(name)
        self.awaited[name][bit] = Awaited(start, on_lag == "close")
        self._changed()

    def arrive(self, listing: Listing, bit: int) -> Start | None:
        """The symbol of a channel that was waited for is known: how it begins; from now on it is as any other."""
        told = self._forget(listing.name, bit)
        self.add(listing, bit, "close" if told.close else "skip")
        return told.start

    def refuse(self, name: str, bit: int) -> None:
        """Unsubscribes a channel of a symbol that is not known yet; patterns will not bring it either."""
        if self.awaits(name, bit):
            self._forget(name, bit)
        if self._select(venue_of(name)) & bit & ~self._refused.get(name):
            self.count += 1
            self._refused.set(name, venue_of(name), bit)
        self._changed()

    def remove(self, listing: Listing, bit: int) -> bool:
        """Unsubscribes a channel; False where it was not subscribed."""
        if not self.has(listing, bit):
            return False
        if self._exact.get(listing.id) & bit:
            self.count -= 1
        self._forget_exact(listing.id, listing.venue, bit)
        if self._select(listing.venue) & bit:
            self._excluded.set(listing.id, listing.venue, bit)
        self._changed()
        return True

    def add_pattern(self, prefix: str, bit: int, on_lag: OnLag, listings: Mapping[int, Listing]) -> Steps[None]:
        """Subscribes a pattern; exceptions from it end before it holds."""
        close = on_lag == "close"
        for at, id_ in enumerate(self._excluded.of(prefix)):
            self._excluded.clear(id_, listings[id_].venue, bit)
            if at % STRIDE == STRIDE - 1:
                self._changed()
                yield _NAMES_COST
        for at, name in enumerate(self._refused.of(prefix)):
            self._unrefuse(name, bit)
            if at % STRIDE == STRIDE - 1:
                self._changed()
                yield _NAMES_COST
        for at, id_ in enumerate(self._exact.of(prefix) if close or self._closing else ()):
            if self._exact.get(id_) & bit:
                self._close(id_, bit, on_lag)
            if at % STRIDE == STRIDE - 1:
                self._changed()
                yield _NAMES_COST
        for at, name in enumerate(self._awaited_in(prefix)):
            if self.awaits(name, bit):
                self.awaited[name][bit] = self.awaited[name][bit]._replace(close=close)
            if at % STRIDE == STRIDE - 1:
                self._changed()
                yield _NAMES_COST
        if not self.has_rule(prefix, bit):
            self.count += 1
        self._drop_rules(prefix, bit)
        self.rules.append(PatternRule(add=True, prefix=prefix, mask=bit, close=close))
        self._reruled()

    def has_any(self, prefix: str, bit: int, *, venues: Collection[str], always: bool = False) -> bool:
        """Whether there is something of a pattern to unsubscribe.

        `venues`: those of all symbols that there are (`venue_of`), which may be more than the listings. `always`: what
        a wider pattern brings later is excepted too, though no symbol matches yet.
        """
        if any(rule.add and rule.mask & bit and rule.prefix.startswith(prefix) for rule in self.rules):
            return True
        if any(self._select(venue) & bit for venue in self._known(prefix, venues)):
            return True
        if always and any(rule.add and rule.mask & bit and prefix.startswith(rule.prefix) for rule in self.rules):
            return True
        return any(self._exact.get(id_) & bit for id_ in self._exact.of(prefix)) or any(
            self.awaits(name, bit) for name in self._awaited_in(prefix)
        )

    def remove_names(self, prefix: str, bit: int, listings: Mapping[int, Listing]) -> Steps[None]:
        """Unsubscribes what of a pattern was asked for by name, but for what becomes known meanwhile."""
        for at, name in enumerate(self._awaited_in(prefix)):
            if self.awaits(name, bit):
                self._forget(name, bit)
            if at % STRIDE == STRIDE - 1:
                self._changed()
                yield _NAMES_COST
        for at, id_ in enumerate(self._exact.of(prefix)):
            if self._exact.get(id_) & bit:
                self.count -= 1
                self._forget_exact(id_, listings[id_].venue, bit)
            if at % STRIDE == STRIDE - 1:
                self._changed()
                yield _NAMES_COST
        self._changed()

    def remove_pattern(
        self,
        prefix: str,
        bit: int,
        listings: Mapping[int, Listing],
        *,
        venues: Collection[str],
        always: bool = False,
    ) -> Steps[None]:
        """Unsubscribes every channel that a pattern matches; `venues` and `always` as in `has_any`.

        At once, but for exceptions that mean nothing without it: who has many by name removes those before.
        """
        whole(self.remove_names(prefix, bit, listings))
        self.count -= self.has_rule(prefix, bit)
        self._drop_rules(prefix, bit)
        self._reruled()
        if always or any(self._select(venue) & bit for venue in self._known(prefix, venues)):
            self.rules.append(PatternRule(add=False, prefix=prefix, mask=bit, close=False))
            self._reruled()
        for at, name in enumerate(self._refused.of(prefix)):
            if not self._select(venue_of(name)) & bit:
                self._unrefuse(name, bit)
            if at % STRIDE == STRIDE - 1:
                self._changed()
                yield _NAMES_COST

    def clear(self) -> None:
        """Unsubscribes everything."""
        turned, changes = [*self.turned, *self.awaited], self.changes
        self.__init__()  # type: ignore[misc]  # as at the beginning
        self.turned, self.changes = turned, changes + 1

    def closes(self, listing: Listing, bit: int) -> bool:
        """Whether the connection is to be closed when this channel lags."""
        if self._exact.get(listing.id) & bit:
            return bool(self._closing.get(listing.id, 0) & bit)
        return closes(self.rules, listing.venue, bit)

    @property
    def empty(self) -> bool:
        """Whether nothing was asked for."""
        return not (self.count or self.rules)

    @property
    def never_closes(self) -> bool:
        """Whether no channel has `on_lag: close`."""
        return not self._closing and not any(rule.close for rule in self.rules)

    def exact(self) -> Iterator[tuple[int, int]]:
        """Channels by name: listing and bits, in the order in which they were asked for."""
        return iter(self._exact.items())

    def patterns_subscribed(self) -> Iterator[tuple[str, str, OnLag]]:
        """Patterns: kind, pattern, what to do on lag."""
        for rule in self.rules:
            if not rule.add:
                continue
            for kind, bit in KIND_BIT.items():
                if rule.mask & bit:
                    yield kind, f"{rule.prefix}*", "close" if rule.close else "skip"

    def excepted(self, prefix: str, bit: int, listings: Mapping[int, Listing]) -> list[str]:
        """What was taken out of a pattern: patterns first, then names."""
        found = [f"{rule.prefix}*" for rule in self.rules if not rule.add and rule.mask & bit and not prefix]
        found += [listings[id_].name for id_ in self._excluded.of(prefix) if self._excluded.get(id_) & bit]
        return found + [name for name in self._refused.of(prefix) if self._refused.get(name) & bit]

    def brings(self, venue: str, bit: int) -> bool:
        """Whether patterns bring a kind of a venue's symbols, those aside that were taken out."""
        return bool(self._select(venue) & bit)

    def excluded(self, prefix: str, bit: int) -> list[int]:
        """The symbols of a pattern that are known and were taken out of one."""
        return [id_ for id_ in self._excluded.of(prefix) if self._excluded.get(id_) & bit]

    def named(self, prefix: str, bit: int) -> list[int]:
        """The symbols of a pattern that are subscribed by name."""
        return [id_ for id_ in self._exact.of(prefix) if self._exact.get(id_) & bit]

    @property
    def taken_out(self) -> int:
        """How many channels were taken out of patterns."""
        return len(self._excluded.items()) + len(self._refused.items())

    def looked_at(self, prefixes: Collection[str]) -> int:
        """How many names a request on patterns looks at for each kind."""
        kept: tuple[Mapping[str, Collection[object]], ...] = (
            self._awaited_of, self._exact.by_venue, self._excluded.by_venue, self._refused.by_venue
        )  # fmt: skip
        if "" in prefixes:
            return sum(len(names) for by_venue in kept for names in by_venue.values())
        return sum(len(by_venue[venue]) for by_venue in kept for venue in by_venue.keys() & prefixes)

    def kinds(self, listing: Listing) -> int:
        """All subscribed kinds of a symbol."""
        return self._exact.get(listing.id) | self.by_pattern(listing)

    def take_over(
        self,
        other: Interest,
        others: dict[int, Listing],
        names: dict[str, Listing],
        listings: dict[int, Listing],
    ) -> None:
        """Has also what another subscriber asked for of another hub (`others`), in whose place it goes on.

        Each of the two was asked for without what the other has, in no order of time: who is in either is in both.
        """
        theirs = {listing.name: listing for listing in others.values()}
        excluded: Masks[int] = Masks()
        for interest, known in ((self, listings), (other, others)):
            for id_, mask in interest._excluded.items():
                name = known[id_].name
                if (listing := names.get(name)) is not None:
                    has = other.kinds(theirs[name]) if name in theirs else other._select(listing.venue)
                    if left := mask & ~(has | self.kinds(listing)):
                        excluded.set(listing.id, listing.venue, left)
        refused: Masks[str] = Masks()
        for one, two in ((self, other), (other, self)):
            for name, mask in one._refused.items():
                if left := mask & ~two._named(name):
                    refused.set(name, venue_of(name), left)
        self.rules, self._excluded, self._refused = _either(self.rules, other.rules), excluded, refused
        self._reruled()
        for id_, mask in other.exact():
            if (listing := names.get(others[id_].name)) is not None:
                for bit in _bits_of(mask):
                    self.add(listing, bit, "close" if other.closes(others[id_], bit) else "skip")
        masks = [mask for _, mask in chain(self._exact.items(), self._refused.items())]
        self.count = sum(mask.bit_count() for mask in masks)
        self.count += sum(map(len, self.awaited.values()))
        self.count += sum(rule.mask.bit_count() for rule in self.rules if rule.add)
        self._changed()

    def by_pattern(self, listing: Listing) -> int:
        """The kinds of a symbol that patterns have subscribed."""
        if not self.rules:
            return 0
        selected = self._selected.get(listing.venue)
        if selected is None:
            selected = self._select(listing.venue)
        return selected & ~(self._excluded.get(listing.id) | self._refused.get(listing.name))

    def _select(self, venue: str) -> int:
        """The kinds of a venue's symbols that patterns select."""
        selected = self._selected.get(venue)
        if selected is None:
            if len(self._selected) >= _SELECTED_MAX:
                self._selected = {}  # venues are whatever somebody asks for
            selected = self._selected[venue] = matched(self.rules, venue)
        return selected

    def _known(self, prefix: str, venues: Collection[str]) -> list[str]:
        """The venues of a pattern, of those that there are."""
        return [venue for venue in ((prefix,) if prefix else venues) if venue in venues]

    def _awaited_in(self, prefix: str) -> list[str]:
        if not prefix:
            return list(self.awaited)
        return list(self._awaited_of.get(prefix, ()))

    def _named(self, name: str) -> int:
        """All subscribed kinds of a symbol that is not known."""
        return self._select(venue_of(name)) & ~self._refused.get(name) | sum(self.awaited.get(name, ()))

    def _forget(self, name: str, bit: int) -> Awaited:
        """A channel is not waited for any more."""
        self.count -= 1
        kinds = self.awaited[name]
        told = kinds.pop(bit)
        if not kinds:
            del self.awaited[name]
            self.turned.append(name)
            venue = venue_of(name)
            del self._awaited_of[venue][name]
            if not self._awaited_of[venue]:
                del self._awaited_of[venue]
        return told

    def _unrefuse(self, name: str, bit: int) -> None:
        """An exception is none any more."""
        if self._refused.get(name) & bit:
            self.count -= 1
            self._refused.clear(name, venue_of(name), bit)

    def _forget_exact(self, id_: int, venue: str, bit: int) -> None:
        self._exact.clear(id_, venue, bit)
        for masks in (self._silent, self._closing):
            _clear(masks, id_, bit)

    def _changed(self) -> None:
        """What was made of it is not true any more."""
        self.changes += 1
        self._watch = self._venues = None

    def _reruled(self) -> None:
        """Patterns select something else now."""
        self._selected = {}
        self._changed()

    def _close(self, id_: int, bit: int, on_lag: OnLag) -> None:
        if on_lag == "close":
            _set(self._closing, id_, bit)
        else:
            _clear(self._closing, id_, bit)

    def _drop_rules(self, prefix: str, bit: int) -> None:
        """Takes out the rules that one on this pattern replaces: its own, and those on parts of it."""
        kept: list[PatternRule] = []
        for rule in self.rules:
            if rule.prefix.startswith(prefix) and rule.mask & bit:
                self.count -= 1 if rule.add and rule.prefix != prefix else 0
                rule = rule._replace(mask=rule.mask & ~bit)
            if rule.mask:
                kept.append(rule)
        self.rules = kept


def _either(one: list[PatternRule], other: list[PatternRule]) -> list[PatternRule]:
    """Rules that select what one or the other selects; a pattern stands before those on parts of it."""
    rules: list[PatternRule] = []
    for bit in KIND_BIT.values():
        sides = [[rule for rule in side if rule.mask & bit] for side in (one, other)]
        made: list[PatternRule] = []
        for prefix in sorted({rule.prefix for side in sides for rule in side}, key=len):
            last = [[rule for rule in side if prefix.startswith(rule.prefix)][-1:] for side in sides]
            adding = [rule for found in last for rule in found if rule.add]
            own = next((rule for rule in adding if rule.prefix == prefix), None)
            if own is not None:
                made.append(own._replace(mask=bit))
            elif not adding and matched(made, prefix):
                made.append(PatternRule(add=False, prefix=prefix, mask=bit, close=False))
        rules += made
    return rules


def _bits_of(mask: int) -> Iterator[int]:
    return (bit for bit in KIND_BIT.values() if mask & bit)


def _bits(masks: ItemsView[int, int]) -> frozenset[tuple[int, int]]:
    return frozenset((id_, bit) for id_, mask in masks for bit in KIND_BIT.values() if mask & bit)


def _set(masks: dict[int, int], id_: int, bit: int) -> None:
    masks[id_] = masks.get(id_, 0) | bit


def _clear(masks: dict[int, int], id_: int, bit: int) -> None:
    left = masks.get(id_, 0) & ~bit
    if left:
        masks[id_] = left
    else:
        masks.pop(id_, None)
