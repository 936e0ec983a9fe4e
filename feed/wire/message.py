"""Messages as the feed log holds them: bytes that are split and joined, and hardly ever read.

Owns the *bare* form in which the gateway keeps a message: its JSON without the `{"type":"` that it starts with and
without its closing brace. A record's value is split into bare messages and bare messages are joined into a text frame
without touching any of them; several messages joined by `JOINT` (what one tick did to one channel) are one bare
message too. Leaves what a message says to those who decode it.

`JOINT` occurs only between messages: in a JSON text a quote is escaped, and no object inside a message has a key
`type`.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct as Packer
from typing import Final

import msgspec
from msgspec import Struct

from feed.errors import CorruptLog
from feed.wire.frames import Frames, frame_head
from feed.wire.model import KINDS, Kind
from feed.wire.record import PART_BYTES_MAX

START: Final = b'{"type":"'
END: Final = b"}"
JOINT: Final = b'},{"type":"'
PREV: Final = b',"prev":'
SEQ: Final = b',"seq":'
_ARRAY_START: Final = b"[" + START
_ARRAY_END: Final = b"}]"
_HEAD_BYTES: Final = len(_ARRAY_START)
_WRAP_BYTES: Final = len(_ARRAY_START) + len(_ARRAY_END)
_COMMA_END: Final = b"},"
_BRACKET: Final = ord("]")
# a frame of the common size, its length still to be filled in
_MEDIUM_MIN: Final = 126
_MEDIUM_MAX: Final = 0xFFFF
_MEDIUM_HEAD: Final = frame_head(_MEDIUM_MAX)
_MEDIUM_HEAD_BYTES: Final = len(_MEDIUM_HEAD)
FRAME_START: Final = _MEDIUM_HEAD + b"["
_put_medium: Final = Packer("!H").pack_into
_join: Final = bytearray().join
KIND_INDEX: Final[dict[str, int]] = {kind: index for index, kind in enumerate(KINDS)}
KIND_BIT: Final[dict[str, int]] = {kind: 1 << index for index, kind in enumerate(KINDS)}
ALL_KINDS: Final = (1 << len(KINDS)) - 1


class Head(Struct, frozen=True, gc=False):
    """What every message of a channel says before its data."""

    type: str
    channel: Kind
    symbol: str
    source: str = ""
    prev: int = -1
    seq: int = -1
    ts_recv: str | None = None
    state: str | None = None
    part: tuple[int, int] | None = None


_HEADS: Final = msgspec.json.Decoder(Head)


def split(value: bytes) -> list[bytes]:
    """The bare messages of a record's value."""
    return value[_HEAD_BYTES:-2].split(JOINT) if len(value) > _WRAP_BYTES else []


def bare(message: Struct) -> bytes:
    """A message in bare form."""
    return msgspec.json.encode(message)[len(START) : -1]


def whole(message: bytes) -> list[bytes]:
    """The messages of a bare form, each as complete JSON."""
    return [START + one + END for one in message.split(JOINT)]


def head_of(message: bytes) -> Head:
    """The head of a single bare message.

    Raises:
        CorruptLog: it is not a message of a channel.
    """
    try:
        return _HEADS.decode(START + message + END)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CorruptLog(f"message of the feed log cannot be read: {error}") from error


def frame(messages: Sequence[bytes]) -> bytes:
    """WebSocket text frames with these bare messages: one, or several where they are too many for one."""
    body = JOINT.join(messages)
    if len(body) <= PART_BYTES_MAX:
        return b"".join((frame_head(len(body) + _WRAP_BYTES), _ARRAY_START, body, _ARRAY_END))
    return _frames(messages)


def part(messages: Sequence[bytes]) -> bytes:
    """These bare messages as JSON, a comma behind each: a piece of what `closed` makes a frame of."""
    return b"".join((START, JOINT.join(messages), _COMMA_END))


def closed(parts: Sequence[bytes]) -> Frames:
    """The frame (several where it is too large) of `FRAME_START` and parts, of which some may be empty.

    What every reader's flush goes through, so each byte is copied once: the head is filled in afterwards, and the last
    comma becomes the bracket. Nothing where all parts are empty.
    """
    made = _join(parts)
    size = len(made) - _MEDIUM_HEAD_BYTES
    if _MEDIUM_MIN <= size <= _MEDIUM_MAX:
        made[-1] = _BRACKET
        _put_medium(made, 2, size)
        return made
    messages = [one[len(START) : -len(_COMMA_END)] for one in parts[1:] if one]
    return frame(messages) if messages else b""


def _frames(messages: Sequence[bytes]) -> bytes:
    out: list[bytes] = []
    group: list[bytes] = []
    size = 0
    for message in messages:
        # joined messages are taken apart only where they are too large together: parts of one update
        for one in message.split(JOINT) if len(message) > PART_BYTES_MAX else (message,):
            if group and size + len(one) > PART_BYTES_MAX:
                out.append(_one_frame(group))
                group, size = [], 0
            group.append(one)
            size += len(one) + len(JOINT)
    out.append(_one_frame(group))
    return b"".join(out)


def _one_frame(messages: Sequence[bytes]) -> bytes:
    body = JOINT.join(messages)
    return b"".join((frame_head(len(body) + _WRAP_BYTES), _ARRAY_START, body, _ARRAY_END))
