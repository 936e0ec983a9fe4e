"""Selections: the channels that readers in step have, shared by all readers with the same ones.

Owns who gets what of a flush while in step: one frame for each symbol and each set of its kinds that anybody has, made
once; one buffer for each distinct selection. Leaves readers that are not in step to `cursor`, and what a reader asked
for to `wanted`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final, NamedTuple

from feed.channels.message import frame

if TYPE_CHECKING:
    from feed.channels.channel import Channel, Listing, Source
    from feed.channels.cursor import Reader
    from feed.channels.flush import Birth, Flush


class Rule(NamedTuple):
    """A pattern that was subscribed or unsubscribed: the symbols that start so (all: empty), and the bits of kinds."""

    add: bool
    prefix: str
    mask: int
    close: bool
    """`on_lag: close`"""


class Watch(NamedTuple):
    """What decides about channels that begin later: patterns in order, and the exceptions from them."""

    rules: tuple[Rule, ...]
    excluded: frozenset[tuple[int, int]]
    silent: frozenset[tuple[int, int]]
    """Channels that were asked for by name while silent: they begin without `joined`."""

    def wants(self, channel: Channel) -> bool:
        """Whether a channel that begins is part of it."""
        return bool(matched(self.rules, channel.listing.name) & channel.bit) and (
            (channel.id, channel.bit) not in self.excluded
        )

    def announces(self, channel: Channel) -> bool:
        """Whether its beginning is told by `joined`."""
        return (channel.id, channel.bit) not in self.silent and self.wants(channel)

    def born_after(self, number: int, listings: dict[int, Listing]) -> Iterator[Channel]:
        """The channels that began with later flushes and would have been announced."""
        for listing in listings.values():
            for channel in listing.channels:
                if channel is not None and channel.born > number and self.announces(channel):
                    yield channel


def matched(rules: tuple[Rule, ...] | list[Rule], name: str) -> int:
    """The kinds of a symbol that patterns select; the last one that matches decides."""
    mask = 0
    for rule in rules:
        if name.startswith(rule.prefix):
            mask = mask | rule.mask if rule.add else mask & ~rule.mask
    return mask


_KEPT_MAX: Final = 8
Part = tuple[bytes, int]
"""A frame of a flush, and how many entries are in it."""


class Selection:
    """Symbols with the bits of their kinds; `readers` are in step, `users` also those that will be again."""

    __slots__ = ("_sources", "_sources_at", "digest", "kept", "masks", "out", "readers", "shared", "users", "watch")

    def __init__(self, masks: dict[int, int] | None = None, digest: int = 0) -> None:
        self.masks: dict[int, int] = {} if masks is None else masks
        self.digest = digest
        self.watch: Watch | None = None
        self.shared = False
        self.readers: dict[Reader, None] = {}
        self.users = 0
        self.out: list[Part] = []
        self.kept: dict[int, Part] = {}
        """What it got of the newest flushes, by their number, while several readers have it."""
        self._sources: frozenset[Source] = frozenset()
        self._sources_at = -1

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
        self._sources_at = -1

    def keep(self, number: int, buffer: bytes, count: int) -> None:
        """Keeps a buffer for readers that were left behind, of which there may be many."""
        if self.users > 1 and self.shared:
            self.kept[number] = buffer, count
            if len(self.kept) > _KEPT_MAX:
                del self.kept[next(iter(self.kept))]

    def sources(self, listings: dict[int, Listing], moves: int) -> frozenset[Source]:
        """The sources of its channels; `moves` changes with every change of a channel's source."""
        if self._sources_at != moves:
            self._sources_at = moves
            self._sources = frozenset(
                channel.source
                for id_, mask in self.masks.items()
                for channel in listings[id_].channels
                if channel is not None and channel.bit & mask
            )
        return self._sources


class Selections:
    """All selections of readers in step, by content and by symbol."""

    def __init__(self, listings: dict[int, Listing]) -> None:
        self._listings = listings
        self._by_digest: dict[int, list[Selection]] = {}
        # who has which kinds of a symbol: what takes a frame is kept ready, it is the inner loop of every flush
        self._by_symbol: dict[int, dict[int, dict[Selection, Callable[[Part], None]]]] = {}
        self._watching: dict[Selection, None] = {}
        self._all: dict[Selection, None] = {}

    def __len__(self) -> int:
        return len(self._all)

    def share(self, selection: Selection, watch: Watch | None) -> Selection:
        """The selection that all readers with this content have; the caller's own where it is the first."""
        selection.watch = watch
        equal = self._by_digest.setdefault(selection.digest, [])
        for known in equal:
            if known.watch == watch and known.masks == selection.masks:
                known.users += 1
                return known
        equal.append(selection)
        selection.shared = True
        selection.users = 1
        self._all[selection] = None
        if watch is not None:
            self._watching[selection] = None
        for id_, mask in selection.masks.items():
            self._index(selection, id_, mask)
        return selection

    def release(self, selection: Selection) -> None:
        """One user less; the last one takes it away."""
        selection.users -= 1
        if selection.users:
            return
        equal = self._by_digest[selection.digest]
        equal.remove(selection)
        if not equal:
            del self._by_digest[selection.digest]
        del self._all[selection]
        self._watching.pop(selection, None)
        for id_, mask in selection.masks.items():
            self._unindex(selection, id_, mask)

    def bear(self, birth: Birth) -> None:
        """A channel begins: those that watch for it have it from now on."""
        channel = birth.channel
        for selection in self._watching:
            assert selection.watch is not None
            if selection.watch.wants(channel):
                self._extend(selection, channel)

    def buffers(self, flush: Flush, moves: int) -> Iterator[tuple[Selection, bytes, int]]:
        """What each selection with readers gets of a flush: whole WebSocket frames, and how many entries they hold."""
        self._fill(flush, moves)
        for selection in list(self._all):
            out = selection.out
            if not out:
                continue
            if selection.readers:
                frames, counts = zip(*out, strict=True)
                buffer, count = b"".join(frames), sum(counts)
                if selection.users == len(selection.readers):
                    selection.kept.clear()
                selection.keep(flush.number, buffer, count)
                yield selection, buffer, count
            out.clear()

    def _fill(self, flush: Flush, moves: int) -> None:
        for birth in flush.births:
            joined = frame([birth.joined]), 0
            for selection in self._watching:
                assert selection.watch is not None
                if selection.watch.announces(birth.channel):
                    selection.out.append(joined)
        by_symbol = self._by_symbol
        for id_, entries in flush.changed.items():
            by_mask = by_symbol.get(id_)
            if by_mask is None:
                continue
            for mask, takers in by_mask.items():
                messages = [entry[2] for entry in entries if entry[1] & mask]
                if messages:
                    part = frame(messages), len(messages)
                    for take in takers.values():
                        take(part)
        for source, message in flush.notices:
            notice = frame([message]), 0
            for selection in self._all:
                if source in selection.sources(self._listings, moves):
                    selection.out.append(notice)

    def _extend(self, selection: Selection, channel: Channel) -> None:
        before = selection.masks.get(channel.id, 0)
        if before & channel.bit:
            return
        equal = self._by_digest[selection.digest]
        equal.remove(selection)
        if not equal:
            del self._by_digest[selection.digest]
        if before:
            self._unindex(selection, channel.id, before)
        selection.set(channel.id, before | channel.bit)
        self._index(selection, channel.id, before | channel.bit)
        self._by_digest.setdefault(selection.digest, []).append(selection)

    def _index(self, selection: Selection, id_: int, mask: int) -> None:
        self._by_symbol.setdefault(id_, {}).setdefault(mask, {})[selection] = selection.out.append

    def _unindex(self, selection: Selection, id_: int, mask: int) -> None:
        by_mask = self._by_symbol[id_]
        selections = by_mask[mask]
        del selections[selection]
        if not selections:
            del by_mask[mask]
            if not by_mask:
                del self._by_symbol[id_]
