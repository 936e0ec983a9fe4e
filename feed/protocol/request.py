"""Requests: JSON objects of a client, read strictly.

Owns the form of each request and the words for what is wrong with one. Fields that are not known are ignored, as the
protocol says, and can be named; known ones must be of their type. Leaves what a request does to `session`.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType, field
from msgspec.structs import fields

from feed.channels.join import Start
from feed.errors import BadRequest, shown
from feed.wire.frames import UNREADABLE
from feed.wire.model import OnLag
from feed.wire.times import ns_of

INTEGER_MAX: Final = 2**53 - 1
Id = str | Annotated[int, Meta(ge=-INTEGER_MAX, le=INTEGER_MAX)]
Do = Literal["open", "play", "pause", "seek", "speed", "step", "stop"]
IGNORED_MAX: Final = 16
"""So many fields that are not known are named, and so many characters of each."""
IGNORED_CHARS_MAX: Final = 64
_Words = Annotated[list[str], Meta(min_length=1)]


class Subscribe(Struct, frozen=True, tag_field="op", tag="subscribe"):
    """Opens channels or changes their parameters."""

    id: Id
    channels: _Words
    symbols: _Words
    start: msgspec.Raw | UnsetType = field(default=UNSET, name="from")
    on_lag: OnLag = "skip"
    every_ms: int | UnsetType = UNSET
    depth: int | UnsetType = UNSET
    wait: bool = False


class Unsubscribe(Struct, frozen=True, tag_field="op", tag="unsubscribe"):
    """Closes channels; both lists left out: all."""

    id: Id
    channels: _Words | UnsetType = UNSET
    symbols: _Words | UnsetType = UNSET


class List(Struct, frozen=True, tag_field="op", tag="list"):
    """What is subscribed."""

    id: Id


class Ping(Struct, frozen=True, tag_field="op", tag="ping"):
    """The server's times."""

    id: Id


class Auth(Struct, frozen=True, tag_field="op", tag="auth"):
    """Credentials."""

    id: Id
    token: str


class Replay(Struct, frozen=True, tag_field="op", tag="replay"):
    """Steers a replay; not on a live stream. Which fields belong to what is done is the replay's business."""

    id: Id
    do: Do
    start: str | UnsetType = field(default=UNSET, name="from")
    to: str | UnsetType = UNSET
    time: str | UnsetType = UNSET
    speed: int | float | Literal["max"] | UnsetType = UNSET
    n: int | UnsetType = UNSET
    until: str | UnsetType = UNSET


Request = Subscribe | Unsubscribe | List | Ping | Auth | Replay
OPS: Final = ("auth", "subscribe", "unsubscribe", "list", "ping", "replay")


class _Identified(Struct, frozen=True):
    id: Id


class _Named(Struct, frozen=True):
    op: str


class _From(Struct, frozen=True):
    marks: dict[str, int] | UnsetType = UNSET
    last: int | UnsetType = UNSET
    time: str | UnsetType = UNSET


_REQUESTS: Final[msgspec.json.Decoder[Request]] = msgspec.json.Decoder(Request)
_IDS: Final = msgspec.json.Decoder(_Identified)
_NAMES: Final = msgspec.json.Decoder(_Named)
_FROMS: Final = msgspec.json.Decoder(_From)
_FIELDS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_FROM_FIELDS: Final = frozenset(one.encode_name for one in fields(_From))
_KNOWN: Final = {
    kind: frozenset(["op", *(one.encode_name for one in fields(kind))])
    for kind in (Subscribe, Unsubscribe, List, Ping, Auth, Replay)
}


def id_of(text: bytes) -> str | int | None:
    """The id of a request, where it has a usable one."""
    try:
        return _IDS.decode(text).id
    except UNREADABLE:
        return None


def request_of(text: bytes) -> Request:
    """The request that a JSON object is.

    Raises:
        BadRequest: it has no usable id, an unknown op, or fields that are missing or mistyped.
    """
    if text.lstrip()[:1] != b"{":
        raise BadRequest("bad_message", "a request is an object")
    if id_of(text) is None:
        raise BadRequest("bad_message", "id is missing or not usable, wanted a string or an integer below 2^53")
    try:
        op = _NAMES.decode(text).op
    except UNREADABLE as error:
        raise BadRequest("bad_message", _words(error)) from error
    if op not in OPS:
        raise BadRequest("unknown_op", f"found op {shown(op, 40)}, wanted one of {', '.join(OPS)}")
    try:
        return _REQUESTS.decode(text)
    except UNREADABLE as error:
        raise BadRequest("bad_message", _words(error)) from error


def ignored_in(request: Request, text: bytes) -> list[str]:
    """The fields of a request that was read of `text` that are not known, as paths (`from.mrks`), the first of them."""
    found = [name for name in _FIELDS.decode(text) if name not in _KNOWN[type(request)]]
    if isinstance(request, Subscribe) and not isinstance(request.start, UnsetType):
        start = bytes(request.start)
        if start.lstrip()[:1] == b"{":
            found += [f"from.{name}" for name in _FIELDS.decode(start) if name not in _FROM_FIELDS]
    return [name[:IGNORED_CHARS_MAX] for name in found[:IGNORED_MAX]]


def start_of(request: Subscribe) -> Start | int | None:
    """Where a subscribe begins; for history the moment in nanoseconds since 1970 UTC, None where it does not say.

    Raises:
        BadRequest: `from` is none of the forms, or out of range.
    """
    raw = request.start
    if isinstance(raw, UnsetType):
        return None
    text = bytes(raw).strip()
    if text == b'"snapshot"':
        return Start("snapshot")
    if text == b'"live"':
        return Start("live")
    try:
        if text[:1] != b"{":
            raise BadRequest("bad_position", 'from is none of "snapshot", "live", marks, last and time')
        found = _FROMS.decode(text)
    except UNREADABLE as error:
        raise BadRequest("bad_position", f"from: {_words(error)}") from error
    given = [value for value in (found.marks, found.last, found.time) if value is not UNSET]
    if len(given) != 1:
        raise BadRequest("bad_position", f"from has {len(given)} of marks, last and time, wanted one")
    if found.marks is not UNSET:
        return _from_marks(found.marks)
    if found.last is not UNSET:
        if not 1 <= found.last <= INTEGER_MAX:
            raise BadRequest("bad_position", f"found last {found.last}, wanted at least 1")
        return Start("last", last=found.last)
    try:
        return ns_of(str(found.time))
    except ValueError as error:
        raise BadRequest("bad_position", f"from.time: {error}") from error


def _from_marks(marks: dict[str, int]) -> Start:
    for seq in marks.values():
        if not -1 <= seq <= INTEGER_MAX:
            raise BadRequest("bad_position", f"found mark {seq}, wanted -1 or above, below 2^53")
    return Start("marks", marks=marks)


def _words(error: Exception) -> str:
    """What msgspec found, without its type's name."""
    text = str(error) or type(error).__name__
    return text[:1].lower() + text[1:]
