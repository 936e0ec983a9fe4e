"""From the past into the present: the channels of a past that has come to what memory holds, joined to the live hub.

Owns when that can be, and what the reader has from then on. The join itself is that of any client that resumes by
marks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from feed.channels.join import Broken, Join
from feed.channels.message import KIND_BIT
from feed.channels.selection import matched
from feed.model import NO_SEQ

if TYPE_CHECKING:
    from collections.abc import Mapping

    from feed.channels.channel import Channel
    from feed.channels.cursor import Reader
    from feed.channels.hub import Hub
    from feed.channels.past import Past

Key = tuple[str, str]
"""Kind and symbol."""


def hand_over(past: Past, hub: Hub, reader: Reader, tells: str | int, *, forced: bool = False) -> bool:
    """Joins a reader of the live hub to what a past has come to; False where memory and past do not meet yet.

    They meet where both know the same channels of the same sources, and memory has all that follows. `forced`: where
    they never will, since the log has lost what lies between, those channels begin with a gap.
    """
    positions = past.positions
    before, now = _channels(past, past.hub), _channels(past, hub)
    apart = [channel for key, channel in now.items() if not _meets(before.get(key), channel, positions)]
    if not forced and (apart or any(not channel.waits and key not in now for key, channel in before.items())):
        return False
    reader.own()
    ahead = Join(
        hub.current.number, broken={(one.id, one.bit): Broken("evicted", _stood(before, one)) for one in apart}
    )
    join = Join(hub.current.number, marks=positions, tells=tells)
    reader.joins += [ahead, join] if apart else [join]
    reader.wanted.take_over(past.reader.wanted, past.hub.listings, hub.names, hub.listings)
    for key, channel in now.items():
        reader.drop(channel.id, channel.bit)
        told = key in before or reader.wanted.has_exact(channel.listing, channel.bit)
        reader.enter(channel, ahead if channel in apart else join, announce=channel in apart and not told)
    for kind, symbol in past.named:
        listing, bit = hub.names.get(symbol), KIND_BIT[kind]
        if listing is not None and (kind, symbol) not in now:
            reader.wait_for(listing, bit)
    return True


def leave(hub: Hub, reader: Reader, tells: str | int) -> None:
    """Nothing of a past is wanted any more: the client only hears that it need not wait."""
    reader.own()
    reader.joins.append(Join(hub.current.number, tells=tells))


def _meets(before: Channel | None, channel: Channel, positions: Mapping[str, int]) -> bool:
    if before is None or before.source.name != channel.source.name or before.waits != channel.waits:
        return False
    if before.gathering is not None:
        return False  # something of it is missing: it has still to be told how it goes on
    return channel.waits or not channel.missed(positions.get(channel.source.name, NO_SEQ))


def _stood(before: Mapping[Key, Channel], channel: Channel) -> int:
    """Where the client stands in a channel that does not go on; -1 where it was of another source."""
    known = before.get((channel.kind, channel.listing.name))
    return known.position if known is not None and known.source.name == channel.source.name else NO_SEQ


def _channels(past: Past, hub: Hub) -> dict[Key, Channel]:
    """What the reader of a past wants, in a hub."""
    wanted, known = past.reader.wanted, past.hub.names
    found: dict[Key, Channel] = {}
    for name, listing in hub.names.items():
        mask = wanted.kinds(known[name]) if name in known else matched(wanted.rules, name)
        if mask:
            found |= {(c.kind, name): c for c in listing.channels if c is not None and c.bit & mask}
    return found
