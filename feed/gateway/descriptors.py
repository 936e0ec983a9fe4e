"""File descriptors: as many as the limits on connections need, or fewer connections.

Owns the process' limit on open files (`RLIMIT_NOFILE`). Without one for a connection the kernel would leave it in the
queue or the loop would close it without a word; so what cannot be had is taken off `connections_max`, and who comes
then is told that the gateway is full.
"""

from __future__ import annotations

import logging
import resource
from typing import Final

from feed.errors import ConfigError
from feed.runtime.settings import LimitSettings

_SPARE: Final = 512
"""For Kafka, sockets between workers, and connections that are only told why not."""
_logger = logging.getLogger("feed.gateway")


def beside_clients(limits: LimitSettings, files_a_reader: int) -> int:
    """How many file descriptors a gateway may need besides one for each client."""
    readers = limits.histories_max + limits.replays_max + limits.walks_max
    return limits.http_connections_max + _SPARE + files_a_reader * readers


def fitted(limits: LimitSettings, *, files_a_reader: int = 0) -> LimitSettings:
    """Raises the limit of this process as far as is needed and allowed; the limits on connections that it leaves.

    `files_a_reader`: what a history, a replay or a request into the past may have open.

    Raises:
        ConfigError: it leaves not one connection.
    """
    others = beside_clients(limits, files_a_reader)
    wanted = limits.connections_max + others
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return limits
    allowed = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    except (OSError, ValueError):
        allowed = soft
    if allowed >= wanted:
        return limits
    left = allowed - others
    if left < 1:
        raise ConfigError(
            f"{allowed} file descriptors are allowed, wanted {others + 1} at least: raise the limit (ulimit -n) "
            "or lower serve.limits.http_connections_max"
        )
    _logger.warning(
        "%d file descriptors are allowed, %d wanted: connections_max is %d instead of %d; raise the limit (ulimit -n)",
        allowed,
        wanted,
        left,
        limits.connections_max,
    )
    return limits.model_copy(update={"connections_max": left})
