"""Which partitions are ours: shared with other normalizers through a consumer group, or simply all of them.

Owns nothing but that question. The group's consumer fetches nothing: its partitions stay paused, its one job is to be a
member. Correctness does not rest on it (aiokafka cannot fence a zombie): it only keeps the work from being done twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Final

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener
from aiokafka.errors import KafkaError

from feed.errors import FeedError, Unreachable
from feed.runtime.throttle import ThrottledLog

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aiokafka.structs import TopicPartition

    from feed.normalizer.role import Normalizer

_FOREVER_MS: Final = 2**31 - 1
_LOOK_AGAIN_S: Final = 2.0
log: Final = logging.getLogger("feed.normalizer")


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    def __init__(self, consumer: AIOKafkaConsumer, normalizer: Normalizer) -> None:
        self._consumer = consumer
        self._normalizer = normalizer

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Writing goes on until the new assignment is known: copies do no harm, a pause would."""

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Starts what is new, ends what is gone; what stays is not disturbed."""
        ours = set(assigned)
        self._consumer.pause(*ours)
        await self._normalizer.own(ours)


class GroupMember:
    """A member of the consumer group `group`; hands the partitions that it is given to a normalizer."""

    def __init__(self, bootstrap: str, group: str, *, session_timeout_ms: int, heartbeat_interval_ms: int) -> None:
        self._bootstrap = bootstrap
        self._group = group
        self._session_timeout_ms = session_timeout_ms
        self._heartbeat_interval_ms = heartbeat_interval_ms

    async def __call__(self, normalizer: Normalizer) -> None:
        """Stays a member until it is cancelled; of the venues that the normalizer takes part in at the moment.

        Raises:
            Unreachable: no broker answered at the start.
        """
        while True:
            normalizer.changed.clear()
            if normalizer.topics:
                await self._take_part(normalizer)
            else:
                # a member of nothing leaves its partitions to the others
                await normalizer.own(set())
                await normalizer.changed.wait()

    async def _take_part(self, normalizer: Normalizer) -> None:
        """A member as long as there is any venue to take part in."""
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._bootstrap,
            group_id=self._group,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            session_timeout_ms=self._session_timeout_ms,
            heartbeat_interval_ms=self._heartbeat_interval_ms,
            max_poll_interval_ms=_FOREVER_MS,
            metadata_max_age_ms=2000,
        )
        listener = _Listener(consumer, normalizer)
        consumer.subscribe(normalizer.topics, listener=listener)
        try:
            await consumer.start()
            while True:
                await normalizer.changed.wait()
                normalizer.changed.clear()
                if not normalizer.topics:
                    return
                consumer.subscribe(normalizer.topics, listener=listener)
        except (KafkaError, OSError) as error:
            raise Unreachable(f"no kafka broker answers at {self._bootstrap}") from error
        finally:
            await consumer.stop()


class AllPartitions:
    """Takes every partition, and those that are added later: for a process that is the only normalizer."""

    async def __call__(self, normalizer: Normalizer) -> None:
        """Looks for new partitions until it is cancelled; while no broker answers, those known stay."""
        told = ThrottledLog(log)
        while True:
            normalizer.changed.clear()
            try:
                found = await normalizer.all_partitions()
            except (KafkaError, OSError, FeedError) as error:
                told.say("partitions", f"partitions cannot be looked up: {error!r}")
            else:
                await normalizer.own(found)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_AGAIN_S):
                    await normalizer.changed.wait()
