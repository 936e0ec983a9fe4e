"""What the kernel does for one socket: the bound on what it holds unsent, and how far its peer has come.

Owns the options and their numbers. How large the bound is says `feed.runtime.settings`.
"""

from __future__ import annotations

import socket
import sys
from typing import Final

# The numbers of Linux; `socket` has no name for them everywhere.
_TCP_NOTSENT_LOWAT: Final = 25
_TCP_INFO: Final = 11
_BYTES_ACKED: Final = slice(120, 128)
_NOTSENT_BYTES: Final = slice(144, 148)


def bound_socket(peer: socket.socket, unsent_bytes_max: int) -> None:
    """Lets the kernel hold only so much of what the network has not taken yet."""
    peer.setsockopt(socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, unsent_bytes_max)


def socket_progress(peer: socket.socket) -> tuple[int, int] | None:
    """Bytes that the peer's kernel has taken so far, and bytes that ours still holds unsent; None where not told."""
    try:
        info = peer.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, 256)
    except OSError:
        return None
    acked, unsent = info[_BYTES_ACKED], info[_NOTSENT_BYTES]
    if len(unsent) < 4:
        return None
    return int.from_bytes(acked, sys.byteorder), int.from_bytes(unsent, sys.byteorder)
