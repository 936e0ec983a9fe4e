"""Who looks after a process: the port for them, where the settings have one, and what a role without a gateway tells.

Owns whether there is such a port. What answers there is `admin`, which is imported only where there is one: it brings a
web server, which normalizers and recorders have no other use for.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from feed.runtime.checks import Check, is_ready
from feed.runtime.metrics import Metrics

if TYPE_CHECKING:
    from feed.run.admin import Admin
    from feed.runtime.settings import Settings


class Watched:
    """A role whose loop answers for itself, as it is watched; its numbers tell whether it is ready, too."""

    alive = True

    def __init__(self, checks: Callable[[], Sequence[Check]], metrics: Metrics) -> None:
        self._checks = checks
        self._metrics = metrics
        metrics.gauge("feed_ready", "1 while it can do its part", lambda: float(is_ready(checks())))

    async def all_checks(self) -> list[Check]:
        """What has to be so for it to be relied on."""
        return list(self._checks())

    async def export(self) -> bytes:
        """All its numbers."""
        return self._metrics.export()


def admin_of(settings: Settings) -> contextlib.AbstractContextManager[Admin | None]:
    """The port for those who look after this process, where it has one; it listens at once.

    Raises:
        FeedError: it cannot be listened on.
    """
    if not settings.admin.port:
        return contextlib.nullcontext()
    from feed.run.admin import opened

    return opened(settings.admin, settings.serve.hosts)
