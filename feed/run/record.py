"""`feed record` put together: what a recorder is made of, and how it ends.

Owns the way from settings to a running recorder. Leaves options and words to `feed.cli`, and the process beside
other roles to `feed.run.recorder_process`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from feed.backfill.past import LogCut
from feed.errors import ConfigError, shown
from feed.follow.floors import EARLIEST
from feed.kafka.access import entrance_of
from feed.recorder.health import RecorderHealth, register
from feed.recorder.raw import RawRecorder
from feed.recorder.role import Recorder
from feed.recording.filter import Filter
from feed.run.child import tell, until_parent_ends
from feed.run.watched import Watched, admin_of
from feed.runtime.gc_tuning import settle
from feed.runtime.metrics import Metrics, add_build_info
from feed.runtime.settings import Settings
from feed.runtime.tasks import together, until_signal
from feed.wire.model import PROTOCOL
from feed.wire.times import ns_of

if TYPE_CHECKING:
    from feed.run.admin import Admin

_STATUS_S: Final = 0.25


def recorder(
    settings: Settings, health: RecorderHealth, begins: LogCut | None = EARLIEST, *, must_be_new: bool = False
) -> Recorder:
    """A recorder as the settings say; nothing runs yet.

    Raises:
        ConfigError: the folder cannot be made.
    """
    chosen = settings.record
    root = Path(chosen.to)
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"folder {root} cannot be made: {error.strerror}") from error
    return Recorder(
        entrance_of(settings.kafka),
        {settings.feed_topic(name): name for name in settings.recorded.names},
        root,
        named=settings.recorded.named,
        chosen=Filter(chosen.kinds, chosen.symbols),
        rules=settings.fold_rules,
        settings=chosen,
        health=health,
        fetch_wait_ms=settings.kafka.fetch_max_wait_ms,
        begins=begins,
        must_be_new=must_be_new,
    )


def raw_recorder(settings: Settings, health: RecorderHealth, begins: LogCut | None = EARLIEST) -> RawRecorder:
    """A recorder of the tick topics of the same venues, into the same folder."""
    return RawRecorder(
        entrance_of(settings.kafka),
        [settings.ticks_topic(name) for name in settings.recorded.names],
        Path(settings.record.to),
        settings=settings.record,
        health=health,
        fetch_wait_ms=settings.kafka.fetch_max_wait_ms,
        named=settings.recorded.named,
        begins=begins,
    )


def begin_of(text: str) -> LogCut | None:
    """Where a new recording begins: `earliest`, `latest` (None), or a time.

    Raises:
        ConfigError: it is none of them.
    """
    if text == "latest":
        return None
    try:
        return EARLIEST if text == "earliest" else LogCut(time=ns_of(text))
    except ValueError as error:
        raise ConfigError(f"--from {shown(text)}: wanted earliest, latest or a time: {error}") from error


async def record(settings: Settings, *, tells: bool, child: bool, begin: str | None = None) -> None:
    """Records until a signal (or, as a child, until stdin ends); `tells`: its status on stdout, line by line.

    `begin`: where the recording begins, which must be a new one then.

    Raises:
        ConfigError: `begin` is none, or there is a recording.
        Unreachable: no broker answered at the start.
        FeedError: somebody else records into the folder, a file there is damaged, or the admin port is in use.
    """
    health = RecorderHealth()
    begins = begin_of(begin or "earliest")
    # as a child it has no port: its parent tells how it stands
    with contextlib.nullcontext() if child else admin_of(settings) as admin:
        main = recorder(settings, health, begins, must_be_new=begin is not None)
        working: list[Coroutine[Any, Any, object]] = [main.run(), until_signal()]
        if settings.record.raw:
            working.append(raw_recorder(settings, health, begins).run(main.locked))
        if tells:
            working.append(_tell(health))
        if child:
            working.append(until_parent_ends())
        if admin is not None:
            working.append(_watch(admin, health))
        settle()
        await together(working)


async def _watch(admin: Admin, health: RecorderHealth) -> None:
    metrics = Metrics()
    add_build_info(metrics, PROTOCOL)
    register(metrics, health.status)
    await admin.run(Watched(health.checks, metrics), metrics)


async def _tell(health: RecorderHealth) -> None:
    while True:
        tell(msgspec.json.encode(health.status()))
        await asyncio.sleep(_STATUS_S)
