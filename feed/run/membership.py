"""Which partitions are ours: shared with other normalizers through a consumer group, or simply all of them.

Owns nothing but that question, and that a group's lag can be seen. The group's consumer fetches nothing: its partitions
stay paused, its one job is to be a member. Correctness does not rest on it (aiokafka cannot fence a zombie): it only
keeps the work from being done twice. Nor does anything rest on the positions that it commits: where a source stands is
in its feed log.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Final

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener
from aiokafka.errors import GroupAuthorizationFailedError, KafkaError, TopicAuthorizationFailedError

from feed.errors import FeedError, Unreachable
from feed.kafka.access import Entrance, entrance_to
from feed.kafka.rights import Right, no_right, no_topic_right
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

    def __init__(
        self, broker: Entrance | str, group: str, *, session_timeout_ms: int, heartbeat_interval_ms: int
    ) -> None:
        self._entrance = entrance_to(broker)
        self._group = group
        self._session_timeout_ms = session_timeout_ms
        self._heartbeat_interval_ms = heartbeat_interval_ms
        self._was_member = False
        self._shown: dict[TopicPartition, int] = {}
        self._told = ThrottledLog(log)

    async def __call__(self, normalizer: Normalizer) -> None:
        """Stays a member until it is cancelled; of the venues that the normalizer takes part in at the moment.

        Who was a member and is none any more keeps its partitions, and tries again: writing goes on.

        Raises:
            Unreachable: no broker answered at the start; NotLetIn where we are not let in, or into the group.
        """
        self._was_member = False
        while True:
            normalizer.changed.clear()
            if not normalizer.topics:
                # a member of nothing leaves its partitions to the others
                await normalizer.own(set())
                await normalizer.changed.wait()
                continue
            try:
                await self._take_part(normalizer)
            except (KafkaError, OSError) as error:
                why = await self._reason(error)
                if not self._was_member:
                    raise why from error
                normalizer.left_out = str(why)
                self._told.say("left out", f"no member of the group {self._group}: {why}")
                await asyncio.sleep(_LOOK_AGAIN_S)

    async def _reason(self, error: Exception) -> FeedError:
        if isinstance(error, GroupAuthorizationFailedError):
            return no_right(Right("READ", "group", self._group))
        if isinstance(error, TopicAuthorizationFailedError):
            return no_topic_right("READ", str(error.args[0] if error.args else error))
        return await self._entrance.reason() if not self._was_member else Unreachable(repr(error))

    async def _take_part(self, normalizer: Normalizer) -> None:
        """A member as long as there is any venue to take part in.

        Raises:
            KafkaError: it cannot be one, or not any more.
        """
        consumer = AIOKafkaConsumer(
            **self._entrance.options(),
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
            self._was_member, normalizer.left_out = True, ""
            while True:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK_AGAIN_S):
                        await normalizer.changed.wait()
                if not normalizer.changed.is_set():
                    await consumer.getmany()  # nothing comes, all is paused: what went wrong in the group is raised
                    await self._show(consumer, normalizer)
                    continue
                normalizer.changed.clear()
                if not normalizer.topics:
                    return
                consumer.subscribe(normalizer.topics, listener=listener)
        finally:
            await consumer.stop()

    async def _show(self, consumer: AIOKafkaConsumer, normalizer: Normalizer) -> None:
        """Commits how far each partition is, for whoever looks at the group's lag."""
        ours = consumer.assignment()
        # what was others' meanwhile is shown anew
        self._shown = {one: at for one, at in self._shown.items() if one in ours}
        positions = {one: at for one, at in normalizer.positions.items() if one in ours and self._shown.get(one) != at}
        if not positions:
            return
        try:
            async with asyncio.timeout(_LOOK_AGAIN_S):
                await consumer.commit(positions)
        except (KafkaError, TimeoutError) as error:
            # the group is shared out anew, or its broker is away: the next ones are shown in time
            self._told.say(
                ("positions", type(error)), f"positions of the group {self._group} cannot be shown: {error!r}"
            )
        else:
            self._shown.update(positions)


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
