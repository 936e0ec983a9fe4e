"""The real broker of the tests: starts, keeps its data over kill -9, says what is missing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from broker import Broker, NoBroker, free_port, java

pytestmark = pytest.mark.anyio


async def _topic(address: str, name: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=address)
    await admin.start()
    await admin.create_topics([NewTopic(name, 1, 1)])
    await admin.close()


async def _last_value(address: str, topic: str) -> bytes:
    consumer = AIOKafkaConsumer(bootstrap_servers=address, auto_offset_reset="earliest")
    await consumer.start()
    consumer.assign([TopicPartition(topic, 0)])
    try:
        return (await consumer.getone()).value
    finally:
        await consumer.stop()


async def test_the_sessions_broker_takes_and_gives_a_record(kafka: str, fresh: Callable[[str], str]) -> None:
    topic = fresh("ticks")
    await _topic(kafka, topic)
    async with AIOKafkaProducer(bootstrap_servers=kafka, enable_idempotence=True) as producer:
        await producer.send_and_wait(topic, b"hello")
    assert await _last_value(kafka, topic) == b"hello"


@pytest.mark.slow
async def test_what_it_acknowledged_survives_a_kill(
    own_broker: Callable[..., Broker], fresh: Callable[[str], str]
) -> None:
    broker, topic = own_broker(), fresh("ticks")
    await _topic(broker.address, topic)
    async with AIOKafkaProducer(bootstrap_servers=broker.address, acks="all") as producer:
        await producer.send_and_wait(topic, b"kept")
    broker.kill()
    assert not broker.running
    broker.start()
    assert await _last_value(broker.address, topic) == b"kept"


def test_a_machine_without_java_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.raises(NoBroker, match="install a JDK"):
        java()


def test_ports_stay_clear_of_those_of_outgoing_connections() -> None:
    assert all(port < 32_768 for port in (free_port() for _ in range(20)))
