"""Ports: whether one can be listened on, how workers share one, and how a person is told of it.

Owns nothing that stays open but what it is asked for.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Iterator

from feed.errors import FeedError
from feed.runtime.command import say


def address_of(host: str, port: int) -> str:
    """HOST:PORT as it stands in a URL."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def say_where(host: str, port: int) -> None:
    """Tells a person where the gateway can be reached."""
    at = address_of(host, port)
    say(f"stream  ws://{at}/v1/stream")
    say(f"board   http://{at}/")
    say(f"docs    http://{at}/docs")


def family_of(host: str) -> socket.AddressFamily:
    """The kind of socket that can be bound to a host."""
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def refuse_used_port(host: str, port: int, option: str = "--port") -> None:
    """Says so before anything starts. `option`: by which another one is chosen.

    Raises:
        FeedError: somebody listens there, or the address is not ours.
    """
    with socket.socket(family_of(host)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise FeedError(f"port {port} of {host} is in use; another one with {option}") from error
            raise FeedError(f"port {port} of {host} cannot be listened on: {error.strerror}") from error


@contextlib.contextmanager
def reserved(host: str, port: int) -> Iterator[int]:
    """A port that is this service's while the block runs, whichever workers listen there; 0: any free one.

    Raises:
        FeedError: it cannot be bound.
    """
    with bound(host, port) as held:
        yield int(held.getsockname()[1])


def bound(host: str, port: int) -> socket.socket:
    """A socket at a port that others of this service are bound to; one that does not listen gets no connections.

    Raises:
        FeedError: it cannot be bound.
    """
    made = socket.socket(family_of(host))
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        made.bind((host, port))
    except OSError as error:
        made.close()
        raise FeedError(f"port {port} of {host} cannot be listened on: {error.strerror}") from error
    return made
