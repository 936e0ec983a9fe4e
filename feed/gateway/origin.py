"""Which browsers may open a stream, and in which subprotocol: the checks of a handshake that are ours.

A page of any site can open a WebSocket to any server, with the visitor's network; only the server can refuse it.
Programs send no `Origin`, and pass.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

_ORIGIN: Final = re.compile(r"(?i)(https?)://([a-z0-9.\-_]+|\[[0-9a-f:.]+\])(?::(\d{1,5}))?")
_HOST: Final = re.compile(r"(?i)([a-z0-9.\-_]+|\[[0-9a-f:.]+\])(?::(\d{1,5}))?")
_PORTS: Final = {"http": "80", "https": "443"}


def allowed(headers: Iterable[tuple[bytes, bytes]], origins: Sequence[str]) -> bool:
    """Whether a handshake with these headers may go on: no origin, the server's own host, or one of `origins`."""
    found = [(name, value.decode("latin-1")) for name, value in headers if name in (b"origin", b"host")]
    sent = [value for name, value in found if name == b"origin"]
    if not sent:
        return True
    if len(sent) > 1:
        return False
    origin = sent[0]
    if origin in origins:
        return True
    return any(_same_host(origin, value) for name, value in found if name == b"host")


def _same_host(origin: str, host: str) -> bool:
    parts, own = _ORIGIN.fullmatch(origin), _HOST.fullmatch(host)
    if parts is None or own is None:
        return False
    # a proxy may end TLS before us: the port that goes without saying is that of the browser's scheme
    scheme, name, port = parts[1].lower(), parts[2].lower(), parts[3]
    default = _PORTS[scheme]
    return (name, port or default) == (own[1].lower(), own[2] or default)


def subprotocol(offered: Sequence[str], known: Sequence[str]) -> str | None:
    """What to answer to the client's offer: the first of ours in it, or nothing when it offered nothing.

    Raises:
        LookupError: it offered others only. A browser would drop the connection without saying why; so it is refused.
    """
    for name in offered:
        if name in known:
            return name
    if any(offered):
        raise LookupError(", ".join(known))
    return None
