"""`feed map sample`: the newest records of a venue's tick topic as lines, for `feed map init` and `check`.

Owns how a record becomes a line, so that it can be read back (`map_check.sample`).
"""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator

from aiokafka.structs import TopicPartition

from feed.errors import ConfigError
from feed.kafka.access import Entrance
from feed.kafka.cluster import Cluster


async def newest(broker: Entrance, topic: str, records: int, *, binary: bool) -> AsyncIterator[bytes]:
    """The last records of each partition, at most so many of all, as lines: the key, a tab, the record.

    Raises:
        Unreachable: no broker answers, or it does not let us in.
        ConfigError: there is no such topic.
    """
    async with Cluster(broker, client_id="feed-map") as cluster:
        topics = await cluster.topics()
        if topic not in topics:
            raise ConfigError(f"there is no topic {topic}")
        share = -(-records // topics[topic])
        for number in range(topics[topic]):
            partition = TopicPartition(topic, number)
            begin, end = await cluster.offsets(partition, ticks=True)
            async for page in cluster.read(partition, max(begin, end - share), end, ticks=True):
                for raw in page:
                    yield line(raw.key, raw.value, binary=binary)


def line(key: bytes | None, value: bytes | None, *, binary: bool) -> bytes:
    """A record as a line. Line ends and tabs of a key, and line ends of a record that is text, become blanks."""
    named = b" ".join((key or b"").split())
    # a blank for a blank: JSON means the same
    text = base64.b64encode(value or b"") if binary else (value or b"").replace(b"\r", b" ").replace(b"\n", b" ")
    return named + b"\t" + text + b"\n"
