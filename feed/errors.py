"""The error tree: what can go wrong, and whose fault it is.

```
FeedError
├── PeerError           somebody else's input: reject it, count it, keep it
│   ├── BadTick         a venue message that cannot be used; goes to the dead letters
│   │   └── BadEntry    what it says of one symbol cannot be used; the rest of it can
│   ├── BadRequest      a client's request; becomes the protocol's `error` message
│   └── BadCapture      a file that is not what it was said to be
├── ConfigError         settings that cannot work; the command ends with 2
├── Unreachable         a broker or gateway that does not answer; the command ends with 3
└── CorruptLog          our own feed log breaks its rules: stop, keep everything
```

Texts are lowercase, without a full stop, and name what was found and what was wanted.
"""

from __future__ import annotations


class FeedError(Exception):
    """Root of every error that this project raises on purpose."""


class PeerError(FeedError):
    """Somebody else's input is at fault."""


class BadTick(PeerError):
    """A tick that cannot be parsed, breaks its venue's schema or leaves the decimal range."""


class BadEntry(BadTick):
    """What a tick says of one symbol breaks its venue's schema; what is in doubt since then was told."""


class BadRequest(PeerError):
    """A client's request that is refused; `code` is one of `schemas/errors.json`."""

    def __init__(self, code: str, message: str, *, retry_after_ms: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.retry_after_ms = retry_after_ms


class BadCapture(PeerError):
    """A capture file that cannot be read as the format that it was said to have."""


class ConfigError(FeedError):
    """Settings that are unknown, malformed or contradict each other."""


class Unreachable(FeedError):
    """A broker or a gateway that does not answer."""


class CorruptLog(FeedError):
    """The feed log breaks one of its own rules."""
