"""What a client may cost, and the gateway's own figures: every limit by name, with its unit and its default.

Owns the names and defaults, and the two kernel options that bound a socket. Where each is enforced: `http` (handshake,
connections), `ws` (messages, frames, socket), `feed.protocol.session` (requests, subscriptions).
"""

from __future__ import annotations

import socket
import sys
from typing import Final

from msgspec import Struct

from feed.gateway.origin import LOOPBACK_NAMES

# The numbers of Linux; `socket` has no name for them everywhere.
_TCP_NOTSENT_LOWAT: Final = 25
_TCP_INFO: Final = 11
_BYTES_ACKED: Final = slice(120, 128)
_NOTSENT_BYTES: Final = slice(144, 148)


class LimitSettings(Struct, frozen=True, kw_only=True):
    """What one client, one address and all of them may cost. At a limit is accepted, one more is refused by name."""

    message_bytes_max: int = 64 * 1024
    """A client's message, all its frames together; one byte more closes with 1009, before it is read."""
    message_frames_max: int = 1024
    """Frames that a client's message may be cut into; one more closes with 1009."""
    bytes_per_second: int = 128 * 1024
    frames_per_second: int = 500
    """Sustained rates of one client, control frames included. Over them its socket is read slower (`rate_limited`)."""
    burst_seconds: float = 4.0
    """How much of both rates may be used at once."""
    overload_seconds: float = 10.0
    """Closed with 1008 when a client was held back for so long without a pause."""
    connections_max: int = 10_000
    """WebSocket connections of all clients; one more gets HTTP 503."""
    connections_per_address_max: int = 2_000
    """TCP connections of one address; one more gets HTTP 429. 0: no limit, as behind a proxy."""
    http_connections_max: int = 256
    """TCP connections over `connections_max`, so that probes are answered while the gateway is full."""
    handshake_bytes_max: int = 16 * 1024
    """A request's line and headers; more gets HTTP 431."""
    handshake_seconds: float = 5.0
    """From the connection (or the first byte of a later request) to the whole request; then HTTP 408."""
    http_per_second: int = 100
    """Requests over HTTP of one address; probes count by themselves, and so do handshakes of WebSockets. More gets HTTP
    429. 0: no limit, as behind a proxy."""
    http_burst: int = 400
    """So many of them at once; of handshakes as many as an address may have connections, where that is more."""
    response_seconds: float = 30.0
    """From the whole request to the last byte of its response, of a history to the next piece; then it is cut."""
    histories_max: int = 4
    """Answers of `/v1/history` at once; one more gets HTTP 503."""
    history_bytes_per_second_min: int = 64 * 1024
    """Who takes a history slower than that, over all of it and `response_seconds`, is cut: its place is for others."""
    replays_max: int = 16
    """Connections to `/v1/replay` at once, each some tens of MB of memory; one more gets HTTP 503."""
    walks_max: int = 8
    """Subscriptions from a time, or from marks older than memory, that are read for at once; the next ones wait."""
    write_bytes_max: int = 32 * 1024
    """Unsent bytes of one client beyond the kernel's; a reader over it is left behind at its position."""
    kernel_unsent_bytes_max: int = 128 * 1024
    """Bytes that the kernel takes for one client before the network does (`TCP_NOTSENT_LOWAT`)."""
    close_seconds: float = 2.0
    """From our close frame to the end of the connection, whatever the client does."""


class GatewaySettings(Struct, frozen=True, kw_only=True):
    """How the gateway runs."""

    server: str = "gw-1"
    """Its name in `welcome`."""
    host: str = "127.0.0.1"
    port: int = 8000
    client_addresses: bool = False
    """Whether `/v1/clients` tells the addresses of clients; the log always does."""
    origins: tuple[str, ...] = ()
    """Origins allowed besides the server's own host, as browsers send them: `https://desk.example`, or `null`."""
    hosts: tuple[str, ...] = LOOPBACK_NAMES
    """The names by which it is known, for origins, and on a loopback address for every request; digits pass."""
    limits: LimitSettings = LimitSettings()
    heartbeat_ms: int = 5000
    ping_interval_ms: int = 10_000
    """A client that has answered no ping, sent nothing and taken nothing until the ping after it is dropped."""
    flush_share: float = 0.6
    """The share of the loop's time that sending may take."""
    flush_interval_busy_ms: int = 25
    """How far apart flushes are where the loop has little time left: fewer and larger writes."""
    flush_interval_max_ms: int = 1000
    page_bytes: int = 64 * 1024
    """What a reader that catches up gets at a time."""
    deflate: bool = True
    """Whether clients that ask for permessage-deflate get it."""
    deflate_level: int = 1
    """zlib's level, 1 (quick) to 9."""
    deflate_bytes_min: int = 512
    """A frame with fewer bytes goes out as it is."""
    deflate_share: float = 0.2
    """The share of the loop's time that compressing may take; beyond it frames go out as they are."""
    kafka_silence_ms_max: int = 5000
    """Without any answer of Kafka for so long the gateway is not ready."""
    stall_ms_max: int = 5000
    """The loop has not turned for so long: the gateway is not alive. A worker is killed after three times that."""
    drain_ms: int = 8000
    """From the signal to the last connection closed."""
    reconnect_spread_ms: int = 5000
    """Clients are told at `goaway` to come back at a random moment within it, so that they do not come at once."""


def bound_socket(peer: socket.socket, limits: LimitSettings) -> None:
    """Lets the kernel hold only `kernel_unsent_bytes_max` of what the network has not taken yet."""
    peer.setsockopt(socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, limits.kernel_unsent_bytes_max)


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
