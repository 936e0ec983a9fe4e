"""What single settings may be: the types of values in the tree, and the names of venues.

Owns the bounds that many settings share, and that a list may be written with commas. Leaves to `tree` which setting has
which type.
"""

from __future__ import annotations

import re
from typing import Annotated, Final, NamedTuple

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_settings import NoDecode

from feed.venues.table import CANONICAL, MAPPED, NAMES
from feed.wire.model import Interval, Kind
from feed.wire.symbols import is_awaitable, is_pattern

KNOWN_VENUES: Final = NAMES
FORMATS: Final = (*NAMES, CANONICAL, MAPPED)
MEBIBYTE: Final = 1024 * 1024
NS_PER_MS: Final = 1_000_000
MS_PER_H: Final = 3_600_000
NS_PER_S: Final = 1_000_000_000
_VENUE_CHARS_MAX: Final = 100
_BROKER: Final = re.compile(r"(\[[0-9a-fA-F:.]+(%\w+)?\]|[^\s,:\[\]]+):\d+").fullmatch
_TOPIC: Final = re.compile(r"[A-Za-z0-9._-]{1,249}").fullmatch
_HERE: Final = re.compile(r"localhost|127(\.[0-9]+){3}|::1").fullmatch
_VENUE: Final = re.compile(rf"[A-Za-z0-9._-]{{1,{_VENUE_CHARS_MAX}}}").fullmatch


def _listed(value: object) -> object:
    """A list may be written `a,b` where there is only text: in the environment and on the command line."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _symbols(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if not (is_pattern(name) or is_awaitable(name)):
            raise ValueError(f"{name!r} is none of VENUE:NAME, VENUE:* and *")
    return names


def _venues(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if _VENUE(name) is None:
            raise ValueError(
                f"{name!r} cannot be a venue, which is part of topics' names: wanted 1 to {_VENUE_CHARS_MAX} letters, "
                f"digits, dots, dashes and underscores"
            )
    return names


def _brokers(text: str) -> str:
    if not all(map(_BROKER, text.split(","))):
        raise ValueError("wanted HOST:PORT[,HOST:PORT], an IPv6 address in brackets")
    return text


def _topic(name: str) -> str:
    if name and _TOPIC(name) is None:
        raise ValueError("wanted 1 to 249 letters, digits, dots, dashes and underscores")
    return name


def _format(name: str) -> str:
    if name not in FORMATS:
        raise ValueError(f"{name!r} is no format; there are {', '.join(FORMATS)}")
    return name


Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_listed)]
VenueNames = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_listed), AfterValidator(_venues)]
Symbols = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_listed), AfterValidator(_symbols)]
Kinds = Annotated[tuple[Kind, ...], NoDecode, BeforeValidator(_listed)]
Intervals = Annotated[tuple[Interval, ...], NoDecode, BeforeValidator(_listed)]
Brokers = Annotated[str, AfterValidator(_brokers)]
Topic = Annotated[str, AfterValidator(_topic)]
Format = Annotated[str, AfterValidator(_format)]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(gt=0)]
Seconds = Annotated[float, Field(gt=0)]


class Venues(NamedTuple):
    """Venues by name. `named`: somebody asked for them; else they are the known ones, of which those count whose topics
    are there."""

    names: tuple[str, ...]
    named: bool

    def __str__(self) -> str:
        return ", ".join(self.names) if self.named else f"those of {', '.join(self.names)} whose topics are there"


def are_here(brokers: str) -> bool:
    """Whether all brokers of `HOST:PORT[,HOST:PORT]` are on this machine."""
    return all(_HERE(broker.rpartition(":")[0].strip("[]")) is not None for broker in brokers.split(","))


def named_or_known(names: tuple[str, ...]) -> Venues:
    """The venues of a list in which somebody may have named some."""
    return Venues(names or KNOWN_VENUES, bool(names))
