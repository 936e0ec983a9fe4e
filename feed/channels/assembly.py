"""What comes in several pieces: a tick over records, an update in parts, a snapshot in parts.

Owns the putting together, and what of it waits for the rest. Leaves what the whole means to `intake`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from feed.channels.state import Folded
from feed.wire.message import JOINT, Head, head_of, split
from feed.wire.model import NO_SEQ

if TYPE_CHECKING:
    from feed.channels.channel import Channel, Source


def keyframes(source: Source, value: bytes) -> Iterator[tuple[Head, Folded]]:
    """The whole snapshots that a keyframe record ends, each with its state; a part waits for those after it.

    A state belongs to the snapshot before it where both are of one channel. Else it is all that is known of its own: of
    one that has had no update yet.
    """
    messages = split(value)
    heads = [head_of(message) for message in messages]
    index = 0
    while index < len(messages):
        head, message = heads[index], messages[index]
        index += 1
        if head.type == "state":
            yield head, Folded(NO_SEQ, [], message, head.seq)
        if head.type != "snapshot":
            continue
        parts = [message] if head.part is None else _with_snapshot_part(source, head.part, message)
        if parts is None:
            continue
        state, covers = None, head.seq
        if index < len(messages) and heads[index].type == "state" and heads[index].channel == head.channel:
            state, covers = messages[index], max(covers, heads[index].seq)
            index += 1
        yield head, Folded(head.seq, parts, state, covers)


def covered(source: Source, messages: list[bytes], last: int) -> list[bytes]:
    """Of all messages not taken yet those that the source's position covers; the rest waits for the next record.

    So a position says exactly what was sent: no subscriber has half a tick.
    """
    messages = source.uncovered + messages
    keep = len(messages)
    while keep and (messages[keep - 1].startswith(b"gap") or head_of(messages[keep - 1]).seq > last):
        keep -= 1
    source.uncovered = messages[keep:]
    return messages[:keep]


def with_part(channel: Channel, head: Head, part: tuple[int, int], message: bytes) -> bytes | None:
    """All parts joined, once the last missing one is there."""
    if channel.parts_seq != head.seq:
        channel.parts_seq, channel.parts = head.seq, {}
    channel.parts[part[0]] = message
    if len(channel.parts) < part[1]:
        return None
    whole = JOINT.join(channel.parts[index] for index in sorted(channel.parts))
    channel.parts = {}
    return whole


def _with_snapshot_part(source: Source, part: tuple[int, int], message: bytes) -> list[bytes] | None:
    """All parts in order, once the last one is there; None before that, and where one is missing."""
    if part[0] == 1:
        source.parts = []
    source.parts.append(message)
    if part[0] < part[1]:
        return None
    parts, source.parts = source.parts, []
    return parts if len(parts) == part[1] else None
