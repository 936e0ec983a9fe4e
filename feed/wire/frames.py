"""Text frames: messages to bytes and back.

Owns the JSON encoding of server messages, the WebSocket framing of what a server sends (RFC 6455, section 5.2:
unmasked, one frame a message) and the decoding of client frames into objects. Leaves what an object means to `request`
and `session`, and frames that a client sends to the gateway's parser.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct as Packer
from typing import Final

import msgspec

from feed.errors import BadRequest

Frames = bytes | bytearray
"""Whole WebSocket frames, one after the other."""
_FIN_TEXT: Final = 0x81
_LENGTH_7_MAX: Final = 125
_LENGTH_16_MAX: Final = 0xFFFF
_SHORT: Final = Packer("!BB").pack
_MEDIUM: Final = Packer("!BBH").pack
_LONG: Final = Packer("!BBQ").pack
_ENCODER: Final = msgspec.json.Encoder()
_ITEMS: Final = msgspec.json.Decoder(list[msgspec.Raw])
UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""All that msgspec raises for bytes that it cannot take."""


def encode(messages: Sequence[msgspec.Struct]) -> bytes:
    """The payload of one text frame: a JSON array of the messages, in order."""
    return _ENCODER.encode(messages)


def encode_one(message: msgspec.Struct) -> bytes:
    """One message as JSON."""
    return _ENCODER.encode(message)


def frame_head(length: int) -> bytes:
    """What stands before a payload of `length` bytes in an unmasked text frame."""
    if length <= _LENGTH_7_MAX:
        return _SHORT(_FIN_TEXT, length)
    if length <= _LENGTH_16_MAX:
        return _MEDIUM(_FIN_TEXT, 126, length)
    return _LONG(_FIN_TEXT, 127, length)


def text_frame(payload: bytes) -> bytes:
    """An unmasked WebSocket text frame with this payload, ready for a socket."""
    return frame_head(len(payload)) + payload


def message_frame(*messages: msgspec.Struct) -> bytes:
    """A frame with these messages."""
    return text_frame(_ENCODER.encode(messages))


def objects(text: bytes) -> list[bytes]:
    """The JSON objects of a client frame, unread: one, or those of an array.

    Raises:
        BadRequest: the frame is not JSON, or the array is empty.
    """
    try:
        # read whole and strictly: a Raw alone would let broken JSON inside through
        msgspec.json.decode(text)
        if text.lstrip()[:1] != b"[":
            return [text]
        found = [bytes(item) for item in _ITEMS.decode(text)]
    except UNREADABLE as error:
        raise BadRequest("bad_message", f"the frame is not JSON: {error}") from error
    if not found:
        raise BadRequest("bad_message", "the frame holds no request")
    return found
