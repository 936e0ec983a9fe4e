"""Which rights are missing, as brokers tell it, and how that is said."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import (
    CoordinatorLoadInProgressError,
    IncompatibleBrokerVersion,
    KafkaError,
    TopicAuthorizationFailedError,
)

from feed.kafka.rights import Right, is_denied, missing, no_right

pytestmark = pytest.mark.anyio
READ, WRITE, DESCRIBE = 1 << 3, 1 << 4, 1 << 8
TICKS, LOG, GROUP = Right("READ", "topic", "ticks"), Right("WRITE", "topic", "log"), Right("READ", "group", "group")
NO_TOPIC_RIGHT, NO_GROUP_RIGHT, UNKNOWN_TOPIC = 29, 30, 3


class Client:
    """A cluster that answers what each request is to be told."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers

    def get_random_node(self) -> int:
        return 1

    async def send(self, node: int, request: Any) -> Any:
        answer = self.answers[type(request).__name__.strip("_")]
        if isinstance(answer, Exception):
            raise answer
        return answer


def topics(**told: tuple[int, int]) -> Any:
    return SimpleNamespace(topics=[(code, name, False, [], bits) for name, (code, bits) in told.items()])


def group(code: int, bits: int) -> Any:
    return SimpleNamespace(groups=[(code, "group", "Stable", "consumer", "range", [], bits)])


def coordinator(code: int = 0) -> Any:
    return SimpleNamespace(error_code=code, coordinator_id=2)


async def test_what_is_held_is_not_missing() -> None:
    client = Client(
        TopicRights=topics(ticks=(0, READ | DESCRIBE), log=(0, WRITE)),
        FindCoordinatorRequest=coordinator(),
        GroupRights=group(0, READ),
    )
    assert await missing(client, [TICKS, LOG, GROUP]) == []


async def test_what_is_not_held_is() -> None:
    client = Client(
        TopicRights=topics(ticks=(NO_TOPIC_RIGHT, 0), log=(0, READ | DESCRIBE)),
        FindCoordinatorRequest=coordinator(NO_GROUP_RIGHT),
    )
    assert await missing(client, [TICKS, LOG, GROUP]) == [TICKS, LOG, GROUP]
    client.answers |= {"FindCoordinatorRequest": coordinator(), "GroupRights": group(0, DESCRIBE)}
    assert await missing(client, [GROUP]) == [GROUP]


async def test_what_is_not_told_is_not_missing() -> None:
    """A topic that is not there yet, a coordinator that is away, brokers that are too old, or tell nobody."""
    client = Client(TopicRights=topics(ticks=(UNKNOWN_TOPIC, 0)), FindCoordinatorRequest=coordinator(15))
    assert await missing(client, [TICKS, GROUP]) == []
    client.answers |= {"FindCoordinatorRequest": coordinator(), "GroupRights": CoordinatorLoadInProgressError()}
    assert await missing(client, [GROUP]) == []
    client.answers |= {"TopicRights": IncompatibleBrokerVersion("old"), "GroupRights": IncompatibleBrokerVersion("old")}
    assert await missing(client, [TICKS]) == []
    assert await missing(client, [GROUP]) == []
    client.answers |= {"TopicRights": topics(ticks=(0, 0)), "GroupRights": group(0, 0)}
    assert await missing(client, [TICKS, GROUP]) == []


def test_it_is_said_with_operation_and_name() -> None:
    assert str(no_right(TICKS, GROUP)) == "no right to READ on the topic ticks, READ on the group group"
    many = [Right("READ", "topic", str(number)) for number in range(30)]
    assert str(no_right(*many)).endswith("READ on the topic 5 and 24 others")


def test_a_missing_right_is_told_from_other_errors() -> None:
    assert is_denied(TopicAuthorizationFailedError("log"))
    assert is_denied(TopicAuthorizationFailedError)
    assert not is_denied(KafkaError())
    assert not is_denied(None)
