"""The demo's broker: librdkafka's mock cluster, which speaks Kafka's protocol from memory, in a thread of its own.

Owns that thread. What it lacks, measured: topics appear on the first look-up and always have four partitions; a group
has one member; a waiting fetch is not woken, so readers must ask often (`fetch_max_wait_ms` 10); a partition keeps
5 MiB.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from types import TracebackType
from typing import Final, Self

from feed.errors import ConfigError, Unreachable

PARTITIONS: Final = 4
_TIMEOUT_S: Final = 10.0
_POLL_S: Final = 0.01


class DemoBroker:
    """A broker for as long as the context lasts. `address` is `HOST:PORT`, on loopback, a port of its own choice."""

    def __init__(self) -> None:
        try:
            from confluent_kafka import Producer
        except ImportError as error:
            raise ConfigError("the demo needs the extra: pip install 'market-feed[demo]'") from error
        self._producer = Producer({"test.mock.num.brokers": 1, "log_level": 0})
        self.address = ""

    def __enter__(self) -> Self:
        brokers = self._producer.list_topics(timeout=_TIMEOUT_S).brokers.values()
        if not brokers:
            raise Unreachable("the demo's broker did not start")
        self.address = next(f"{broker.host}:{broker.port}" for broker in brokers)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        del self._producer  # ends its thread

    def make_topics(self, names: Iterable[str]) -> None:
        """Makes topics, by asking for them; returns when each has its partitions."""
        deadline = time.monotonic() + _TIMEOUT_S
        for name in names:
            while len(self._producer.list_topics(name, timeout=_TIMEOUT_S).topics[name].partitions) < PARTITIONS:
                if time.monotonic() > deadline:
                    raise Unreachable(f"the demo's broker did not make {name}")
                time.sleep(_POLL_S)
