"""Which browsers may open a stream, by which names this server is known, and which subprotocol is spoken.

A page of any site can open a WebSocket to any server, with the visitor's network; only the server can refuse it.
Programs send no `Origin`, and pass. And the owner of any name may have it resolve to the visitor's own machine (DNS
rebinding): his page then has that name as its origin and as the `Host` of what it asks, so a name counts as ours only
if it is one that we know. An address in digits cannot be rebound.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from ipaddress import IPv6Address, ip_address
from typing import Final

_ORIGIN: Final = re.compile(r"(?i)(https?)://([a-z0-9.\-_]+|\[[0-9a-f:.]+\])(?::(\d{1,5}))?")
_HOST: Final = re.compile(r"(?i)([a-z0-9.\-_]+|\[[0-9a-f:.]+\])(?::(\d{1,5}))?")
_PORTS: Final = {"http": "80", "https": "443"}


def is_loopback(address: str) -> bool:
    """Whether an address of a socket can be reached from this machine alone."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return False  # of a socket that is no network's
    mapped = found.ipv4_mapped if isinstance(found, IPv6Address) else None
    return (mapped or found).is_loopback


def known(host: str, hosts: Sequence[str]) -> bool:
    """Whether a `Host` (with a port or without) is an address in digits, or the name of one of `hosts`."""
    own = _HOST.fullmatch(host)
    if own is None:
        return False
    name = own[1].lower()
    try:
        ip_address(name.strip("[]"))
    except ValueError:
        return name in [one.lower() for one in hosts]
    return True


def allowed(headers: Iterable[tuple[bytes, bytes]], origins: Sequence[str], hosts: Sequence[str]) -> bool:
    """Whether a handshake with these headers may go on: no origin, the server's own host, or one of `origins`.

    `hosts`: by which names the server is known.
    """
    found = [(name, value.decode("latin-1")) for name, value in headers if name in (b"origin", b"host")]
    sent = [value for name, value in found if name == b"origin"]
    if not sent:
        return True
    if len(sent) > 1:
        return False
    origin = sent[0]
    if origin in origins:
        return True
    return any(known(value, hosts) and _same_host(origin, value) for name, value in found if name == b"host")


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
