"""The error tree: what can go wrong, and whose fault it is.

```
FeedError
├── PeerError           somebody else's input: reject it, count it, keep it
│   ├── BadTick         a venue message that cannot be used; goes to the dead letters
│   │   └── BadEntry    what it says of one symbol cannot be used; the rest of it can
│   │       └── Unforeseen  an exception that nobody expected came of it
│   ├── BadRequest      a client's request; becomes the protocol's `error` message
│   ├── BadCapture      a file that is not what it was said to be
│   └── ForeignRecord   a record in a feed log that none of ours has written: passed over, counted
├── ConfigError         settings that cannot work; the command ends with 2
├── Unreachable         a broker or gateway that does not answer; the command ends with 3
│   └── NotLetIn        it answers, and we are not let in: who we are, or what we may
├── SchemaAway          a schema that no registry has given yet: the tick waits, and is never guessed at
└── CorruptLog          our own feed log breaks its rules: its source stalls, everything is kept
    └── DamagedRecord   one record of it
```

Texts are lowercase, without a full stop, and name what was found and what was wanted.
"""

from __future__ import annotations

from typing import Final

SHOWN_MAX: Final = 50


def shown(text: str | bytes, most: int = SHOWN_MAX) -> str:
    """What was found, as an error names it: quoted, and no more than the first `most` characters of it."""
    return repr(text[:most])


class FeedError(Exception):
    """Root of every error that this project raises on purpose."""


class PeerError(FeedError):
    """Somebody else's input is at fault."""


class BadTick(PeerError):
    """A tick that cannot be parsed, breaks its venue's schema or leaves the decimal range."""


class BadEntry(BadTick):
    """What a tick says of one symbol breaks its venue's schema; what is in doubt since then was told."""


class Unforeseen(BadEntry):
    """A tick, or an entry of it, with which the state machine ended in an exception that nobody has expected: a fault
    of ours, which is the cause. What it may have changed is in doubt, and is told to be."""


class BadRequest(PeerError):
    """A client's request that is refused; `code` is one of `schemas/errors.json`."""

    def __init__(self, code: str, message: str, *, retry_after_ms: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.retry_after_ms = retry_after_ms


class BadCapture(PeerError):
    """A capture file that cannot be read as the format that it was said to have."""


class ForeignRecord(PeerError):
    """A record in a feed log that is none of ours."""

    def __init__(self, offset: int, why: str) -> None:
        super().__init__(f"record at offset {offset} is none of a feed log: {why}")
        self.offset = offset


class ConfigError(FeedError):
    """Settings that are unknown, malformed or contradict each other."""


class Unreachable(FeedError):
    """A broker or a gateway that does not answer."""


class NotLetIn(Unreachable):
    """A broker answers and does not let us in, or is not the one that it says it is."""


class SchemaAway(FeedError):
    """A tick needs a schema that has still to be fetched. Nothing may be made of what this tick did."""

    def __init__(self, number: int) -> None:
        super().__init__(f"schema {number} is not here yet")
        self.number = number


class CorruptLog(FeedError):
    """The feed log breaks one of its own rules."""


class DamagedRecord(CorruptLog):
    """A record that names a source of the feed log, and is not as that wrote it. `told`: it may have held messages."""

    def __init__(self, source: str, offset: int, why: str, *, told: bool = True) -> None:
        super().__init__(f"record of {source} at offset {offset} is damaged: {why}")
        self.source = source
        self.offset = offset
        self.told = told
