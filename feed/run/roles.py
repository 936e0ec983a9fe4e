"""The server commands: which roles run in which process, and in which order they start.

Owns `feed up`, `normalize` and `serve`. Leaves what a role is made of to `up`, and options to `feed.cli`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from feed.run.ports import refuse_used_port, say_where
from feed.run.topics import make_topics
from feed.run.up import Roles, build, run_together, when_ready
from feed.run.watched import admin_of
from feed.runtime.command import say

if TYPE_CHECKING:
    from feed.gateway.app import Routes
    from feed.run.admin import Admin
    from feed.runtime.settings import Settings


async def run_roles(
    settings: Settings, routes: Sequence[Routes], *, normalizes: bool, serves: bool, records: bool
) -> None:
    """Runs them until a signal, or until one of them ends; `routes`: what a gateway answers besides.

    Raises:
        FeedError: a port is in use, or a role could not begin.
    """
    with admin_of(settings) as admin:
        if serves:
            refuse_used_port(settings.serve.host, settings.serve.port)
        if normalizes and (made := await make_topics(settings)):
            say(f"made topics {', '.join(made)}")
        by_workers = serves and settings.serve.workers > 1
        roles = build(settings, normalizes=normalizes, serves=serves and not by_workers, records=records, routes=routes)
        if by_workers:
            await _run_workers(settings, roles, admin)
        elif (server := roles.server) is not None:
            listening = when_ready(server, lambda: say_where(settings.serve.host, server.port))
            await run_together(settings, roles, listening, admin=admin)
        else:
            say(f"normalizing {settings.normalized}")
            await run_together(settings, roles, admin=admin)


async def _run_workers(settings: Settings, roles: Roles, admin: Admin | None) -> None:
    """A gateway of several processes, the other roles in their parent."""
    from feed.run.workers import Workers

    workers = Workers(
        settings,
        lambda port: say_where(settings.serve.host, port),
        metrics=roles.metrics,
        checks=roles.checks,
    )
    await run_together(settings, roles, workers.run(), admin=admin, probed=workers, at_signal=False)
