"""What the frames of Kraken's two sockets have in common, and how they are told apart.

Owns the head of an object: the members that say which socket it comes from, and what it speaks of. Leaves the shapes of
what is in it, and what it means, to `kraken_v1` and `kraken_v2`. Field names are the venue's where they are words. A
field that may be left out is absent then, which is neither null nor zero.

- v1: arrays, `[336, {…}, "book-10", "XBT/USD"]`, and objects with an `event`.
- v2: objects with a `channel` (and its `data`) or a `method` (the answer to a request), never an `event`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct, field

from feed.errors import BadTick
from feed.wire.frames import UNREADABLE

ABSENT: Final = Raw(b"")


class Subscription(Struct, gc=False):
    """Of an event of v1: the channel that was subscribed."""

    name: str = ""


class Answered(Struct, gc=False):
    """Of an answer of v2: what was subscribed, or is no longer."""

    symbol: str = ""
    channel: str = ""
    depth: int | None = None


class KrakenHead(Struct, gc=False):
    """The members of an object by which its kind is known: those of v2, then those of an event of v1."""

    channel: str = ""
    type: str = ""
    data: Raw = ABSENT
    method: str = ""
    success: bool | None = None
    result: Answered | None = None
    error: Any = None
    event: str = ""
    status: str = ""
    pair: Any = None
    channel_name: Any = field(default="", name="channelName")
    subscription: Subscription | None = None

    @property
    def is_event(self) -> bool:
        """Whether the object is an event of v1."""
        return bool(self.event) and self.result is None


def decoder(type_: Any) -> Callable[[bytes | Raw], Any]:
    """Reads JSON as this type; raises one of `UNREADABLE`."""
    return msgspec.json.Decoder(type_).decode


HEAD: Final[Callable[[bytes], KrakenHead]] = decoder(KrakenHead)


def head_of(frame: bytes) -> KrakenHead:
    """The head of an object.

    Raises:
        BadTick: it cannot be read.
    """
    try:
        return HEAD(frame)
    except UNREADABLE as error:
        raise BadTick(f"frame cannot be read: {error}") from error
