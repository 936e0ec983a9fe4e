"""What the fields of a `replay` request mean: times, ranges, speeds, steps.

Owns their bounds and the words for what is wrong with them; pure.
"""

from __future__ import annotations

from typing import Final

from msgspec import UNSET, UnsetType

from feed.errors import BadRequest
from feed.protocol.request import INTEGER_MAX, Replay
from feed.wire.times import ns_of
from replay.pacing import Speed

SPEED_MIN: Final = 0.1
SPEED_MAX: Final = 1000


def time_asked(name: str, text: str | UnsetType) -> int:
    """A time in nanoseconds.

    Raises:
        BadRequest: it is missing, or none.
    """
    if text is UNSET:
        raise BadRequest("bad_replay", f"{name} is missing, wanted nanoseconds or RFC 3339")
    try:
        return ns_of(str(text))
    except ValueError as error:
        raise BadRequest("bad_replay", f"{name}: {error}") from error


def open_range(request: Replay, begin: int, end: int) -> tuple[int, int]:
    """From when to when to play, as far as it was recorded; `begin` and `end` are the first and the last row's clock.

    Raises:
        BadRequest: `bad_replay` for times that make no sense, `no_recording` where nothing was recorded then.
    """
    first = begin if request.start is UNSET else time_asked("from", request.start)
    last = end + 1 if request.to is UNSET else time_asked("to", request.to)
    if first >= last and not (request.to is UNSET or request.start is UNSET):
        raise BadRequest("bad_replay", f"to {last} is not after from {first}")
    if first > end or last <= begin:
        raise BadRequest("no_recording", f"found {first} to {last}, recorded is {begin} to {end}")
    return max(first, begin), min(last, end + 1)


def speed_asked(speed: Speed | UnsetType) -> Speed:
    """A factor, or `max`.

    Raises:
        BadRequest: it is missing or out of bounds.
    """
    if isinstance(speed, UnsetType):
        raise BadRequest("bad_replay", f"speed is missing, wanted {SPEED_MIN} to {SPEED_MAX}, or max")
    if speed != "max" and not SPEED_MIN <= speed <= SPEED_MAX:
        raise BadRequest("bad_replay", f"found speed {speed}, wanted {SPEED_MIN} to {SPEED_MAX}, or max")
    return speed


def step_asked(request: Replay) -> tuple[int | None, int | None]:
    """How many updates to step, or until when.

    Raises:
        BadRequest: not one of both is given, or it makes no sense.
    """
    if (request.n is UNSET) == (request.until is UNSET):
        raise BadRequest("bad_replay", "a step has one of n and until")
    if request.n is UNSET:
        return None, time_asked("until", request.until)
    if not 1 <= request.n <= INTEGER_MAX:
        raise BadRequest("bad_replay", f"found n {request.n}, wanted at least 1")
    return request.n, None
