"""Dead letters: ticks that cannot be used, on their way into their topic.

Owns a producer of its own, so that what goes wrong with this topic stops no partition but the one whose letters wait:
a letter is written before the tick counts as read, and is tried again until it is. Who waits is told here once a
minute a reason, with how many.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from feed.errors import FeedError
from feed.kafka.access import Entrance
from feed.kafka.append import Appender

if TYPE_CHECKING:
    from collections.abc import Sequence

    from feed.feedlog.writer import Dead

_RETRY_S: Final = 0.5
_TIMEOUT_MS: Final = 5_000
_VALUE_BYTES: Final = 64 * 1024
_REASON_BYTES: Final = 4096


class DeadLetters:
    """The topic of dead letters, for all partitions of a process. `failed` is awaited after each failure: the topic may
    be missing."""

    def __init__(self, broker: Entrance | str, topic: str, failed: Callable[[], Awaitable[None]]) -> None:
        self._broker = broker
        self._where = TopicPartition(topic, 0)
        self._failed = failed
        self._appender: Appender | None = None
        self._lock = asyncio.Lock()

    async def bury(self, source: str, dead: Sequence[Dead], retried: Callable[[str], object]) -> None:
        """Returns when the letters lie in their topic, however often that has to be tried; `retried` hears why."""
        letters = [_letter(source, one) for one in dead]
        while (failure := await self._write(letters)) is not None:
            retried(f"dead letters cannot be written, and are tried again: {failure}")
            await asyncio.sleep(_RETRY_S)

    async def stop(self) -> None:
        """Closes the producer."""
        if self._appender is not None:
            await self._appender.stop()
            self._appender = None

    async def _write(self, letters: list[tuple[bytes | None, bytes, list[tuple[str, bytes]]]]) -> Exception | None:
        """What went wrong, if anything did."""
        async with self._lock:
            try:
                if self._appender is None:
                    appender = Appender(self._broker, timeout_ms=_TIMEOUT_MS)
                    await appender.start()
                    self._appender = appender
                await self._appender.append(self._where, letters)
            except (FeedError, KafkaError, OSError) as error:
                await self.stop()  # after a failure nothing more goes through it
                await self._failed()
                return error
        return None


def _letter(source: str, one: Dead) -> tuple[bytes | None, bytes, list[tuple[str, bytes]]]:
    tick = one.tick
    headers = [
        ("reason", one.reason.encode(errors="backslashreplace")[:_REASON_BYTES]),
        ("source", source.encode()),
        ("offset", b"%d" % tick.seq),
        ("length", b"%d" % len(tick.value)),
        ("ts_recv", b"%d" % tick.ts_recv),
    ]
    return tick.key.encode(errors="backslashreplace"), tick.value[:_VALUE_BYTES], headers
