"""The roles of a server command, and what stands beside them: a recorder, workers, the admin port.

Owns what runs in which process, and in which order it starts. Leaves what a role is made of to `feed.run.up`, and
options to `feed.cli`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any

from feed.run.recorder_process import RecorderProcess
from feed.run.up import build, make_topics, refuse_used_port, run_together, say_where, when_ready
from feed.runtime.command import say

if TYPE_CHECKING:
    from feed.gateway.app import Routes
    from feed.run.admin import Admin
    from feed.runtime.checks import Check
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
        if not serves:
            await _normalize(settings, admin)
        elif settings.serve.workers > 1:
            await _serve_by_workers(settings, admin, normalizes=normalizes, records=records)
        else:
            await _serve(settings, admin, routes, normalizes=normalizes, records=records)


def admin_of(settings: Settings) -> contextlib.AbstractContextManager[Admin | None]:
    """The port for those who look after this process, where it has one; it listens at once.

    Raises:
        FeedError: it cannot be listened on.
    """
    if not settings.admin.port:
        return contextlib.nullcontext()
    from feed.run.admin import opened  # it brings a web server, which normalizers and recorders have no other use for

    return opened(settings.admin, settings.serve.hosts)


async def _normalize(settings: Settings, admin: Admin | None) -> None:
    roles = build(settings, normalizes=True, serves=False)
    assert roles.normalizer is not None
    say(f"normalizing {settings.normalized}")
    working: list[Coroutine[Any, Any, object]] = []
    if admin is not None:
        from feed.run.admin import Watched

        working.append(admin.run(Watched(roles.normalizer.checks, roles.metrics), roles.metrics))
    await run_together(settings, roles, *working)


async def _serve(
    settings: Settings, admin: Admin | None, routes: Sequence[Routes], *, normalizes: bool, records: bool
) -> None:
    roles = build(settings, normalizes=normalizes, serves=True, routes=routes)
    assert roles.server is not None
    server, metrics = roles.server, roles.metrics
    working: list[Coroutine[Any, Any, object]] = [
        when_ready(server, lambda: say_where(settings.serve.host, server.port))
    ]
    if records:
        beside = RecorderProcess(settings, metrics)
        server.gateway.health.others.append(beside.check)
        working.append(beside.run())
    if admin is not None:
        working.append(admin.run(server.gateway, metrics))
    await run_together(settings, roles, *working)


async def _serve_by_workers(settings: Settings, admin: Admin | None, *, normalizes: bool, records: bool) -> None:
    """A gateway of several processes, the other roles in their parent."""
    from feed.run.workers import Workers

    roles = build(settings, normalizes=normalizes, serves=False)
    checks: list[Callable[[], Check]] = [] if roles.normalizer is None else [roles.normalizer.check]
    working: list[Coroutine[Any, Any, object]] = []
    if records:
        beside = RecorderProcess(settings, roles.metrics)
        checks.append(beside.check)
        working.append(beside.run())
    workers = Workers(settings, lambda port: say_where(settings.serve.host, port), metrics=roles.metrics, checks=checks)
    working.append(workers.run())
    if admin is not None:
        working.append(admin.run(workers, roles.metrics))
    await run_together(settings, roles, *working, at_signal=False)
