"""Cutting over: the channels of a past that has come to what memory holds are joined to the live hub.

Owns when that can be, and what the live subscriber has from then on. The join itself is that of any client that resumes
by marks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from feed.channels.join import Broken, Join
from feed.channels.pending import JoinPlan
from feed.channels.selection import matched
from feed.channels.steps import STRIDE, Steps, whole
from feed.wire.message import KIND_BIT, KIND_INDEX, PREV
from feed.wire.model import NO_SEQ

if TYPE_CHECKING:
    from collections.abc import Mapping

    from feed.backfill.past import Past
    from feed.channels.channel import Channel
    from feed.channels.hub import Hub
    from feed.channels.subscriber import Subscriber

_ATTEMPTS_MAX: Final = 4


def cut_over(past: Past, hub: Hub, subscriber: Subscriber, tells: str | int, *, forced: bool = False) -> Steps[bool]:
    """Joins the channels of a past to a subscriber of the live hub; False where past and memory do not meet yet.

    They meet where both know the same channels of the same sources, and memory has all that follows. `forced`: where
    they never will, since the log has lost what lies between, those channels begin with a gap.

    They are compared in steps, and joined in the last one; what has changed until then is compared again. Nothing may
    be given to the past meanwhile. `tells`: the request that hears `caught_up`.
    """
    for attempt in range(1, _ATTEMPTS_MAX + 1):
        before = _what_it_rests_on(past, hub)
        comparing = _compare(past, hub, forced=forced)
        # where something changes all the time it is done at once
        found = whole(comparing) if attempt == _ATTEMPTS_MAX else (yield from comparing)
        if found is None:
            return False
        if before == _what_it_rests_on(past, hub):
            _join(past, hub, subscriber, found, tells)
            return True
    raise AssertionError("nothing can have changed")


class _Compared(NamedTuple):
    """The channels that a past wants: listings and bits of those that go on, and those that do not."""

    bits: dict[int, int]
    apart: list[Channel]


def _what_it_rests_on(past: Past, hub: Hub) -> object:
    """While this is equal `_compare` comes to the same."""
    positions = past.positions
    behind = [source for source in hub.sources.values() if source.may_miss(positions.get(source.name, NO_SEQ))]
    gone = frozenset((source.name, source.evicted, source.floor) for source in behind)
    return hub.moves, past.subscriber.interest.changes, gone


def _compare(past: Past, hub: Hub, *, forced: bool) -> Steps[_Compared | None]:
    """None: they do not meet."""
    interest, known, positions = past.subscriber.interest, past.hub.names, past.positions
    found = _Compared({}, [])
    looked = 0
    for name, listing in list(hub.names.items()):
        looked += 1
        if looked >= STRIDE:
            yield looked
            looked = 0
        before = known.get(name)
        mask = matched(interest.rules, name) if before is None else interest.kinds(before)
        for channel in listing.channels if mask else ():
            if channel is None or not channel.bit & mask:
                continue
            looked += 1
            if _meets(None if before is None else before.channels[channel.index], channel, positions):
                found.bits[channel.id] = found.bits.get(channel.id, 0) | channel.bit
            elif forced:
                found.apart.append(channel)
            else:
                return None
    for name, before in list(known.items()) if not forced else ():
        looked += 1
        if looked >= STRIDE:
            yield looked
            looked = 0
        there, mask = hub.names.get(name), interest.kinds(before)
        for channel in before.channels if mask else ():
            if channel is None or channel.waits or not channel.bit & mask:
                continue
            if there is None or there.channels[channel.index] is None:
                return None
    return found


def _join(past: Past, hub: Hub, subscriber: Subscriber, found: _Compared, tells: str | int) -> None:
    """The live subscriber has all of them, with a join on its way for each."""
    subscriber.own()
    number, apart = hub.current.number, found.apart
    for id_ in subscriber.having({*found.bits, *[channel.id for channel in apart]}):
        mask = sum({channel.bit for channel in apart if channel.id == id_}) | found.bits.get(id_, 0)
        for bit in KIND_BIT.values():
            if mask & bit:
                subscriber.drop(id_, bit)
    broken = {(one.id, one.bit): Broken("evicted", _sent_to(past, one)) for one in apart}
    ahead = Join(number, broken=broken)
    join = Join(number, marks=past.positions, tells=tells, plan=JoinPlan(found.bits))
    subscriber.joins += [ahead, join] if apart else [join]
    subscriber.interest.take_over(past.subscriber.interest, past.hub.listings, hub.names, hub.listings)
    for channel in apart:
        told = _in_past(past, channel) is not None or subscriber.interest.has_exact(channel.listing, channel.bit)
        subscriber.enter(channel, ahead, announce=not told)
    for kind, symbol in past.named:
        listing, bit = hub.names.get(symbol), KIND_BIT[kind]
        if listing is not None and listing.channels[KIND_INDEX[kind]] is None:
            subscriber.wait_for(listing, bit)


def tell_caught_up(hub: Hub, subscriber: Subscriber, tells: str | int) -> None:
    """Nothing of a past is wanted any more: its client hears `caught_up`, so that it need not wait."""
    subscriber.own()
    subscriber.joins.append(Join(hub.current.number, tells=tells))


def _meets(before: Channel | None, channel: Channel, positions: Mapping[str, int]) -> bool:
    if before is None or before.source.name != channel.source.name or before.waits != channel.waits:
        return False
    if before.awaiting_snapshot is not None:
        return False  # something of it is missing: it has still to be told how it goes on
    if channel.waits:
        return True
    after = positions.get(channel.source.name, NO_SEQ)
    return not channel.missed(after) and _prev(channel, after) == before.position


def _prev(channel: Channel, after: int) -> int:
    """The last update that a client has to have which goes on after a position. Where a damaged record held it, a past
    is beyond it without it, and hears of that only with the next one."""
    updates = (message for message in channel.log.after(after) if not message.startswith(b"state"))
    message = next(updates, None)
    if message is None:
        return channel.position
    at = message.find(PREV) + len(PREV)
    return int(message[at : message.find(b",", at)])


def _sent_to(past: Past, channel: Channel) -> int:
    """Up to where the client was sent a channel that does not go on; -1 where that was of another source."""
    known = _in_past(past, channel)
    return known.position if known is not None and known.source.name == channel.source.name else NO_SEQ


def _in_past(past: Past, channel: Channel) -> Channel | None:
    """The same channel in the hub of the past."""
    listing = past.hub.names.get(channel.listing.name)
    return None if listing is None else listing.channels[channel.index]
