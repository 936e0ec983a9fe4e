"""What we may do on a cluster: which rights a role needs, which of them are missing, and how that is said.

Owns the two requests by which brokers tell what we may do (KIP-430); the client library has older ones. Brokers that do
not know them (before Kafka 2.3) are not asked: what is missing there is heard at the first use, in the same words.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    IncompatibleBrokerVersion,
    KafkaError,
    TopicAuthorizationFailedError,
    for_code,
)
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.coordination import FindCoordinatorRequest
from aiokafka.protocol.types import Array, Boolean, Bytes, Int16, Int32, Schema, String

from feed.errors import NotLetIn

if TYPE_CHECKING:
    from aiokafka.client import AIOKafkaClient

Operation = Literal["READ", "WRITE", "CREATE", "ALTER", "DESCRIBE", "DESCRIBE_CONFIGS"]
_BITS: Final[dict[Operation, int]] = {
    "READ": 3,
    "WRITE": 4,
    "CREATE": 5,
    "ALTER": 7,
    "DESCRIBE": 8,
    "DESCRIBE_CONFIGS": 10,
}
_NAMED_MAX: Final = 6
_NOT_TOLD: Final = -(1 << 31)
_OF_A_GROUP: Final = 0
_DENIED: Final = (TopicAuthorizationFailedError, GroupAuthorizationFailedError, ClusterAuthorizationFailedError)


class Right(NamedTuple):
    """That we may do something with a topic or a group."""

    operation: Operation
    kind: Literal["topic", "group"]
    name: str

    def __str__(self) -> str:
        return f"{self.operation} on the {self.kind} {self.name}"


def no_right(*lacking: Right) -> NotLetIn:
    """What is said where rights are missing."""
    others = f" and {len(lacking) - _NAMED_MAX} others" if len(lacking) > _NAMED_MAX else ""
    return NotLetIn(f"no right to {', '.join(str(right) for right in lacking[:_NAMED_MAX])}{others}")


def no_topic_right(operation: Operation, topic: str) -> NotLetIn:
    """The same of one topic."""
    return no_right(Right(operation, "topic", topic))


def is_denied(error: object) -> bool:
    """Whether an error of the client library, or its kind, says that a right is missing."""
    kind = error if isinstance(error, type) else type(error)
    return issubclass(kind, _DENIED)


async def missing(client: AIOKafkaClient, wanted: Iterable[Right]) -> list[Right]:
    """Those of the rights that we do not have; a topic that is not there and that we may know of is not among them.

    Raises:
        KafkaError: no broker answered.
    """
    wanted = list(wanted)
    topics = {right.name for right in wanted if right.kind == "topic"}
    groups = {right.name for right in wanted if right.kind == "group"}
    try:
        has = {("topic", name): bits for name, bits in (await _of_topics(client, sorted(topics))).items()}
        for group in groups:
            has["group", group] = await _of_group(client, group)
    except (IncompatibleBrokerVersion, NotImplementedError):
        return []
    return [right for right in wanted if not _holds(has.get((right.kind, right.name), _NOT_TOLD), right.operation)]


def _holds(bits: int, operation: Operation) -> bool:
    return bits == _NOT_TOLD or bool(bits >> _BITS[operation] & 1)


async def _of_topics(client: AIOKafkaClient, topics: list[str]) -> dict[str, int]:
    if not topics:
        return {}
    answer = await client.send(client.get_random_node(), _TopicRights(topics))
    return {name: _told(code, bits) for code, name, _, _, bits in answer.topics}


async def _of_group(client: AIOKafkaClient, group: str) -> int:
    answer = await client.send(client.get_random_node(), FindCoordinatorRequest(group, _OF_A_GROUP))
    if answer.error_code:
        return _told(answer.error_code, _NOT_TOLD)
    try:
        described = await client.send(answer.coordinator_id, _GroupRights(group))
    except KafkaError as error:
        if isinstance(error, IncompatibleBrokerVersion):
            raise
        return _NOT_TOLD  # it moves just now, or its broker is away: the group's member will hear what there is
    code, *_, bits = described.groups[0]
    return _told(code, bits)


def _told(code: int, bits: int) -> int:
    if not code:
        return bits or _NOT_TOLD  # who sees it may at least describe it: this broker tells nobody's rights
    return 0 if is_denied(for_code(code)) else _NOT_TOLD


class _TopicRightsResponse(Response):  # type: ignore[misc]  # aiokafka has no types
    """Metadata, version 8."""

    API_KEY = 3
    API_VERSION = 8
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            Array(("node_id", Int32), ("host", String("utf-8")), ("port", Int32), ("rack", String("utf-8"))),
        ),
        ("cluster_id", String("utf-8")),
        ("controller_id", Int32),
        (
            "topics",
            Array(
                ("error_code", Int16),
                ("topic", String("utf-8")),
                ("is_internal", Boolean),
                (
                    "partitions",
                    Array(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", Array(Int32)),
                        ("isr", Array(Int32)),
                        ("offline_replicas", Array(Int32)),
                    ),
                ),
                ("authorized_operations", Int32),
            ),
        ),
        ("cluster_authorized_operations", Int32),
    )


class _TopicRightsStruct(RequestStruct):  # type: ignore[misc]  # as above
    API_KEY = 3
    API_VERSION = 8
    RESPONSE_TYPE = _TopicRightsResponse
    SCHEMA = Schema(
        ("topics", Array(String("utf-8"))),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
    )


class _TopicRights(Request[_TopicRightsStruct]):  # type: ignore[misc]  # as above
    API_KEY = 3

    def __init__(self, topics: list[str]) -> None:
        self._topics = topics

    def build(self, request_struct_class: type[Any]) -> Any:
        return request_struct_class(self._topics, False, False, True)


class _GroupRightsResponse(Response):  # type: ignore[misc]  # as above
    """DescribeGroups, version 3."""

    API_KEY = 15
    API_VERSION = 3
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "groups",
            Array(
                ("error_code", Int16),
                ("group", String("utf-8")),
                ("state", String("utf-8")),
                ("protocol_type", String("utf-8")),
                ("protocol", String("utf-8")),
                (
                    "members",
                    Array(
                        ("member_id", String("utf-8")),
                        ("client_id", String("utf-8")),
                        ("client_host", String("utf-8")),
                        ("member_metadata", Bytes),
                        ("member_assignment", Bytes),
                    ),
                ),
                ("authorized_operations", Int32),
            ),
        ),
    )


class _GroupRightsStruct(RequestStruct):  # type: ignore[misc]  # as above
    API_KEY = 15
    API_VERSION = 3
    RESPONSE_TYPE = _GroupRightsResponse
    SCHEMA = Schema(("groups", Array(String("utf-8"))), ("include_authorized_operations", Boolean))


class _GroupRights(Request[_GroupRightsStruct]):  # type: ignore[misc]  # as above
    API_KEY = 15

    def __init__(self, group: str) -> None:
        self._group = group

    def build(self, request_struct_class: type[Any]) -> Any:
        return request_struct_class([self._group], True)
