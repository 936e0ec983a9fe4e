"""Selections: the channels that subscribers in step have, shared by all subscribers with the same ones.

Owns who gets what of a flush while in step: what each symbol and each set of its kinds that anybody has comes to, once;
one frame for each distinct selection. Leaves subscribers that are not in step to `subscriber`, and what a subscriber
asked for to `interest`.

Each (symbol, kinds) that any selection has is a *slot*. A flush fills some of them; each selection that has one of
these picks its own out of all in one call (`itemgetter`: a seventh of the time of giving each to each). A *wide*
selection has no slots: finding a place for each of thousands of symbols, whenever its subscriber changes one of them,
costs more than looking up those that a flush has changed.

(Over 400 lines: buffers that many share, and who shares them, have to change in one step.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from feed.wire.frames import Frames
from feed.wire.message import FRAME_START, closed, part

if TYPE_CHECKING:
    from feed.channels.channel import Channel, Listing
    from feed.channels.flush import Birth, Flush
    from feed.channels.source import Source
    from feed.channels.subscriber import Subscriber
    from feed.wire.model import OnLag


class PatternRule(NamedTuple):
    """A pattern that was subscribed or unsubscribed: the symbols that start so (all: empty), and the bits of kinds."""

    add: bool
    prefix: str
    mask: int
    close: bool
    """`on_lag: close`"""


class PatternInterest(NamedTuple):
    """What decides about channels that begin later: patterns in order, and the exceptions from them."""

    rules: tuple[PatternRule, ...]
    excluded: frozenset[tuple[int, int]]
    silent: frozenset[tuple[int, int]]
    """Channels that were asked for by name while silent: they begin without `joined`."""
    refused: frozenset[tuple[str, int]] = frozenset()
    """Exceptions of symbols that were not known, by name."""

    def wants(self, channel: Channel) -> bool:
        """Whether a channel that begins is part of it."""
        return bool(matched(self.rules, channel.listing.name) & channel.bit) and (
            (channel.id, channel.bit) not in self.excluded and (channel.listing.name, channel.bit) not in self.refused
        )

    def announces(self, channel: Channel) -> bool:
        """Whether its beginning is told by `joined`."""
        return (channel.id, channel.bit) not in self.silent and self.wants(channel)

    def on_lag(self, channel: Channel) -> OnLag:
        """What becomes of a lag on a channel that it announces."""
        return "close" if closes(self.rules, channel.listing.name, channel.bit) else "skip"

    def born_after(self, number: int, listings: dict[int, Listing]) -> Iterator[Channel]:
        """The channels that began with later flushes and would have been announced."""
        for listing in listings.values():
            for channel in listing.channels:
                if channel is not None and channel.born > number and self.announces(channel):
                    yield channel


def matched(rules: tuple[PatternRule, ...] | list[PatternRule], name: str) -> int:
    """The kinds of a symbol that patterns select; the last one that matches decides."""
    mask = 0
    for rule in rules:
        if name.startswith(rule.prefix):
            mask = mask | rule.mask if rule.add else mask & ~rule.mask
    return mask


def closes(rules: tuple[PatternRule, ...] | list[PatternRule], name: str, bit: int) -> bool:
    """Whether the last pattern that has a channel asks to be closed when it lags."""
    for rule in reversed(rules):
        if rule.mask & bit and name.startswith(rule.prefix):
            return rule.close
    return False


_KEPT_MAX: Final = 8
_WIDE: Final = 512
"""Of more symbols than these a selection is wide."""
_PICKS_MIN: Final = 16
_SEEK_COST: Final = 4
"""What it costs to see whether a selection has a filled slot, in units of picking a slot out of all."""
_TOUCHES_MAX: Final = 4
"""With so many slots filled for each selection nearly all are touched: not worth to find out which are not."""
Part = tuple[Frames, int]
"""Frames of a flush, and how many updates are in them."""
Pick = Callable[[Sequence[Any]], tuple[Any, ...]]


class Slot:
    """One set of kinds of one symbol that selections have: where its part of a flush lies, and who takes it."""

    __slots__ = ("index", "takers")

    def __init__(self, index: int) -> None:
        self.index = index
        self.takers: dict[Selection, None] = {}

    def enter(self, selection: Selection) -> None:
        """One more has it."""
        self.takers[selection] = None

    def leave(self, selection: Selection) -> None:
        """One less has it."""
        del self.takers[selection]


def _no_slots(items: Sequence[Any]) -> tuple[Any, ...]:
    return (items[0],)


class Selection:
    """Symbols with the bits of their kinds; `subscribers` are in step, `users` also those that will be again."""

    __slots__ = (
        "_grown",
        "_sources",
        "_sources_at",
        "digest",
        "kept",
        "masks",
        "pattern_interest",
        "pick",
        "sent",
        "shared",
        "subscribers",
        "users",
        "wide",
    )

    def __init__(self, masks: dict[int, int] | None = None, digest: int = 0) -> None:
        self.masks: dict[int, int] = {} if masks is None else masks
        self.digest = digest
        self.pattern_interest: PatternInterest | None = None
        self.shared = False
        self.wide = False
        self.subscribers: dict[Subscriber, None] = {}
        self.users = 0
        self.sent = 0
        """Updates that each of its subscribers has been sent while in step."""
        self.pick: Pick = _no_slots
        """The first item and those of its slots, out of those of all slots."""
        self.kept: dict[int, Part] = {}
        """What it got of the newest flushes, by their number, while several subscribers have it."""
        self._sources: frozenset[Source] = frozenset()
        self._sources_at = -1
        self._grown: list[int] = []
        """Symbols of which it has had more since it was asked for its sources."""

    def enter(self, subscriber: Subscriber) -> None:
        """A subscriber with it is in step."""
        self.subscribers[subscriber] = None

    def leave(self, subscriber: Subscriber) -> bool:
        """A subscriber is not in step any more; False where it was not among those that share this one."""
        return self.subscribers.pop(subscriber, subscriber) is None

    def begin_sharing(self) -> None:
        """Its first user shares it with all who have the same; who changes it takes a copy."""
        self.shared = True
        self.users = 1
        self.wide = len(self.masks) > _WIDE

    def add_user(self) -> None:
        """One more has the same."""
        self.users += 1

    def drop_user(self) -> bool:
        """One less; whether that was the last one."""
        self.users -= 1
        return not self.users

    def watch(self, interest: PatternInterest | None) -> None:
        """What decides about channels that begin later."""
        self.pattern_interest = interest

    def pick_from(self, indices: list[int]) -> None:
        """Where its slots lie."""
        if indices:
            self.pick = itemgetter(0, *indices)

    def copy(self) -> Selection:
        """One that is nobody else's."""
        return Selection(self.masks.copy(), self.digest)

    def set(self, id_: int, mask: int) -> None:
        """Has these kinds of a symbol; none: drops it."""
        before = self.masks.get(id_, 0)
        if before:
            self.digest ^= hash((id_, before))
        if mask:
            self.masks[id_] = mask
            self.digest ^= hash((id_, mask))
        elif before:
            del self.masks[id_]
        if before & ~mask:
            self._sources_at = -1
        elif self._sources_at >= 0:
            self._grown.append(id_)

    def keep(self, number: int, buffer: Frames, count: int) -> None:
        """Keeps a buffer for subscribers that were left behind, of which there may be many."""
        if self.users > 1 and self.shared:
            if self.users == len(self.subscribers):
                self.kept.clear()
            self.kept[number] = buffer, count
            if len(self.kept) > _KEPT_MAX:
                del self.kept[next(iter(self.kept))]

    def sources(self, listings: dict[int, Listing], moves: int) -> frozenset[Source]:
        """The sources of its channels; `moves` changes with every change of a channel's source."""
        if self._sources_at != moves:
            self._sources_at, self._grown = moves, []
            self._sources = frozenset(self._sources_of(self.masks, listings))
        elif self._grown:
            grown, self._grown = self._grown, []
            self._sources |= frozenset(self._sources_of(grown, listings))
        return self._sources

    def _sources_of(self, ids: Iterable[int], listings: dict[int, Listing]) -> Iterator[Source]:
        for id_ in ids:
            mask = self.masks.get(id_, 0)
            for channel in listings[id_].channels:
                if channel is not None and channel.bit & mask:
                    yield channel.source


_Told = dict[Selection, list[bytes]]
"""What selections get besides updates, as parts of a frame."""


class Selections:
    """All selections of subscribers in step, by content and by symbol."""

    def __init__(self, listings: dict[int, Listing]) -> None:
        self._listings = listings
        self._by_digest: dict[int, list[Selection]] = {}
        self._by_symbol: dict[int, dict[int, Slot]] = {}
        self._watching: dict[Selection, None] = {}
        self._all: dict[Selection, None] = {}
        self._wide: dict[Selection, None] = {}
        self._extended: dict[Selection, None] = {}
        # by slot, while a flush is given out: its part of a frame, and how many updates are in it; the first is no slot
        self._parts: list[bytes] = [FRAME_START]
        self._counts: list[int] = [0]
        self._free: list[int] = []

    def __len__(self) -> int:
        return len(self._all) + len(self._wide)

    def share(self, selection: Selection, pattern_interest: PatternInterest | None) -> Selection:
        """The selection that all subscribers with this content have; the caller's own where it is the first."""
        selection.watch(pattern_interest)
        equal = self._by_digest.setdefault(selection.digest, [])
        for known in equal:
            if known.pattern_interest == pattern_interest and known.masks == selection.masks:
                known.add_user()
                return known
        equal.append(selection)
        selection.begin_sharing()
        if pattern_interest is not None:
            self._watching[selection] = None
        if selection.wide:
            self._wide[selection] = None
            return selection
        self._all[selection] = None
        for id_, mask in selection.masks.items():
            self._index(selection, id_, mask)
        self._set_pick(selection)
        return selection

    def release(self, selection: Selection) -> None:
        """One user less; the last one takes it away."""
        if not selection.drop_user():
            return
        equal = self._by_digest[selection.digest]
        equal.remove(selection)
        if not equal:
            del self._by_digest[selection.digest]
        self._watching.pop(selection, None)
        if selection.wide:
            del self._wide[selection]
            return
        del self._all[selection]
        self._extended.pop(selection, None)
        for id_, mask in selection.masks.items():
            self._unindex(selection, id_, mask)

    def open_channel(self, birth: Birth) -> None:
        """A channel begins: those that pattern_interest for it have it from now on."""
        channel = birth.channel
        for selection in self._watching:
            assert selection.pattern_interest is not None
            if selection.pattern_interest.wants(channel):
                self._extend(selection, channel)

    def buffers(self, flush: Flush, moves: int) -> Iterator[tuple[Selection, Frames, int]]:
        """What each selection with subscribers gets of a flush: whole WebSocket frames, and how many updates they
        hold."""
        for selection in self._extended:
            self._set_pick(selection)
        self._extended = {}
        filled = self._fill(flush)
        first, last = self._told(flush, moves)
        parts, counts = self._parts, self._counts
        few = _PICKS_MIN + _SEEK_COST * len(filled)
        try:
            for selection in self._touched(filled, first, last):
                if not selection.subscribers:
                    continue
                if len(selection.masks) <= few:
                    pieces: Sequence[bytes] = selection.pick(parts)
                    count = sum(selection.pick(counts))
                else:
                    own = [slot.index for slot in filled if selection in slot.takers]
                    pieces = [FRAME_START, *[parts[index] for index in own]]
                    count = sum([counts[index] for index in own])
                if first or last:
                    pieces = (FRAME_START, *first.get(selection, ()), *pieces[1:], *last.get(selection, ()))
                buffer = closed(pieces)
                if buffer:
                    selection.keep(flush.number, buffer, count)
                    yield selection, buffer, count
            yield from self._wide_buffers(flush, first, last)
        finally:
            for slot in filled:
                parts[slot.index], counts[slot.index] = b"", 0

    def _wide_buffers(self, flush: Flush, first: _Told, last: _Told) -> Iterator[tuple[Selection, Frames, int]]:
        """The same for those without slots."""
        made: dict[tuple[int, int], tuple[bytes, int]] = {}
        for selection in list(self._wide):
            if not selection.subscribers:
                continue
            pieces, count, masks = [FRAME_START, *first.get(selection, ())], 0, selection.masks
            for id_ in chain(flush.changed, flush.runs):
                mask = masks.get(id_)
                if not mask:
                    continue
                found = made.get((id_, mask))
                if found is None:
                    messages, updates = flush.said(id_, mask)
                    found = made[id_, mask] = part(messages) if messages else b"", updates
                if found[0]:
                    pieces.append(found[0])
                    count += found[1]
            buffer = closed([*pieces, *last.get(selection, ())])
            if buffer:
                selection.keep(flush.number, buffer, count)
                yield selection, buffer, count

    def _touched(self, filled: list[Slot], first: _Told, last: _Told) -> list[Selection]:
        """The selections that may get something."""
        if sum(len(slot.takers) for slot in filled) > _TOUCHES_MAX * len(self._all):
            return list(self._all)
        touched = dict.fromkeys([selection for selection in (*first, *last) if not selection.wide])
        for slot in filled:
            touched.update(slot.takers)
        return list(touched)

    def _fill(self, flush: Flush) -> list[Slot]:
        """Puts a flush's messages into the slots; those that have any."""
        filled: list[Slot] = []
        by_symbol, parts, counts = self._by_symbol, self._parts, self._counts
        for id_ in chain(flush.changed, flush.runs):
            by_mask = by_symbol.get(id_)
            if by_mask is None:
                continue
            for mask, slot in by_mask.items():
                messages, count = flush.said(id_, mask)
                if messages:
                    parts[slot.index], counts[slot.index] = part(messages), count
                    filled.append(slot)
        return filled

    def _told(self, flush: Flush, moves: int) -> tuple[_Told, _Told]:
        """What some selections get before and after their updates: channels that begin, and news of sources."""
        first: _Told = {}
        last: _Told = {}
        for birth in flush.births:
            for selection in self._watching:
                assert selection.pattern_interest is not None
                if selection.pattern_interest.announces(birth.channel):
                    joined = birth.joined(selection.pattern_interest.on_lag(birth.channel))
                    first.setdefault(selection, []).append(part([joined]))
        for source, message, _, _ in flush.notices:
            for selection in chain(self._all, self._wide):
                if source in selection.sources(self._listings, moves):
                    last.setdefault(selection, []).append(part([message]))
        return first, last

    def _extend(self, selection: Selection, channel: Channel) -> None:
        before = selection.masks.get(channel.id, 0)
        if before & channel.bit:
            return
        equal = self._by_digest[selection.digest]
        equal.remove(selection)
        if not equal:
            del self._by_digest[selection.digest]
        if before and not selection.wide:
            self._unindex(selection, channel.id, before)
        selection.set(channel.id, before | channel.bit)
        if not selection.wide:
            self._index(selection, channel.id, before | channel.bit)
            self._extended[selection] = None
        self._by_digest.setdefault(selection.digest, []).append(selection)

    def _set_pick(self, selection: Selection) -> None:
        by_symbol = self._by_symbol
        selection.pick_from([by_symbol[id_][mask].index for id_, mask in selection.masks.items()])

    def _index(self, selection: Selection, id_: int, mask: int) -> None:
        by_mask = self._by_symbol.setdefault(id_, {})
        slot = by_mask.get(mask)
        if slot is None:
            if self._free:
                index = self._free.pop()
            else:
                index = len(self._parts)
                self._parts.append(b"")
                self._counts.append(0)
            slot = by_mask[mask] = Slot(index)
        slot.enter(selection)

    def _unindex(self, selection: Selection, id_: int, mask: int) -> None:
        by_mask = self._by_symbol[id_]
        slot = by_mask[mask]
        slot.leave(selection)
        if not slot.takers:
            self._free.append(slot.index)
            del by_mask[mask]
            if not by_mask:
                del self._by_symbol[id_]
