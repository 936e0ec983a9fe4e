"""Looking things up at a partition's leader: who asks again, after what, and how often; on a scripted client."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import KafkaError, NodeNotReadyError
from aiokafka.structs import TopicPartition

from feed.errors import NotLetIn, Unreachable
from feed.kafka import cluster
from feed.kafka.cluster import Cluster, OutOfRange
from tests.feed.kafka.test_batches import batch_at

pytestmark = pytest.mark.anyio
LOG = TopicPartition("log", 3)
NOT_LEADER, OUT_OF_RANGE, NO_RIGHT = 6, 1, 29


class Client:
    """What a cluster has of aiokafka: a leader, and answers that were written before; one of them may be an error."""

    def __init__(self, *answers: Any) -> None:
        self.cluster = self
        self.answers = list(answers)
        self.leaders: list[int | None] = []
        """Who leads at each look; node 7 when there are none left."""
        self.unauthorized_topics: set[str] = set()
        self.updates = 0
        self.sent = 0

    def add_topic(self, _: str) -> None: ...

    def leader_for_partition(self, _: TopicPartition) -> int | None:
        return self.leaders.pop(0) if self.leaders else 7

    async def force_metadata_update(self) -> None:
        self.updates += 1

    async def send(self, node: int, request: Any, group: Any) -> Any:
        self.sent += 1
        assert node == 7
        answer = self.answers.pop(0) if self.answers else NodeNotReadyError()
        if isinstance(answer, Exception):
            raise answer
        return answer


def offset(code: int, found: int = -1) -> Any:
    return SimpleNamespace(topics=[("log", [(3, code, 0, found)])])


def fetched(code: int, end: int = 0, records: bytes = b"") -> Any:
    return SimpleNamespace(topics=[("log", [(3, code, end, end, 0, [], -1, records)])])


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that were made, which take no time."""
    made: list[float] = []

    async def sleep(seconds: float) -> None:
        made.append(seconds)

    monkeypatch.setattr(cluster.asyncio, "sleep", sleep)
    return made


async def asked(client: Client) -> Cluster:
    made = Cluster("127.0.0.1:1")
    await made.client.close()
    made.client = client
    return made


async def test_a_leader_is_waited_for(pauses: list[float]) -> None:
    client = Client()
    client.leaders = [None, None, -1, 7]
    assert await (await asked(client)).leader(LOG) == 7
    assert (client.updates, len(pauses)) == (2, 1)


async def test_nobody_leads(pauses: list[float]) -> None:
    client = Client()
    client.leaders = [None] * 6
    with pytest.raises(Unreachable, match="no leader for partition 3 of log"):
        await (await asked(client)).leader(LOG, tries=3)
    assert (client.updates, len(pauses)) == (3, 3)


async def test_offsets_are_asked_for_until_they_are_told(pauses: list[float]) -> None:
    client = Client(NodeNotReadyError(), offset(NOT_LEADER), offset(0, 5), offset(0, 9))
    assert await (await asked(client)).offsets(LOG) == (5, 9)
    # a node that does not answer is asked again; after one that does not lead, it is looked who does
    assert (client.sent, client.updates, len(pauses)) == (4, 1, 2)


async def test_a_time_after_everything_has_no_offset(pauses: list[float]) -> None:
    assert await (await asked(Client(offset(0, -1)))).offset_at(LOG, 5) is None
    assert await (await asked(Client(offset(0, 4)))).offset_at(LOG, 5) == 4


async def test_offsets_that_nobody_tells(pauses: list[float]) -> None:
    client = Client()
    with pytest.raises(Unreachable, match="no answer on the offsets of partition 3 of log"):
        await (await asked(client)).offsets(LOG)
    assert client.sent == len(pauses) == 40


async def test_records_that_were_not_ready_are_asked_for_again_at_once(pauses: list[float]) -> None:
    client = Client(fetched(0, end=5), fetched(NOT_LEADER), fetched(0, end=5, records=batch_at(4, [b"four"])))
    records, after = await (await asked(client)).page(LOG, 4, 1 << 20)
    assert [record.offset for record in records] == [4]
    assert after == 5
    # the broker has waited already; only after the second answer there is a pause
    assert (client.sent, client.updates, len(pauses)) == (3, 1, 1)


async def test_at_the_end_of_a_log_there_is_nothing(pauses: list[float]) -> None:
    cluster_ = await asked(Client(*[fetched(0, end=5)] * 2))
    assert await cluster_.pages(LOG, 5) == []
    assert [page async for page in cluster_.read(LOG, 5, 9)] == []


async def test_an_offset_that_is_not_there_is_said_at_once(pauses: list[float]) -> None:
    client = Client(fetched(OUT_OF_RANGE))
    with pytest.raises(OutOfRange, match="offset 2 of partition 3 of log"):
        await (await asked(client)).pages(LOG, 2)
    assert client.sent == 1


async def test_a_log_that_nobody_reads_out(pauses: list[float]) -> None:
    client = Client(*[fetched(NOT_LEADER)] * 40)
    with pytest.raises(Unreachable, match="no answer on partition 3 of log"):
        await (await asked(client)).pages(LOG, 2)
    assert client.sent == client.updates == 40


async def test_a_right_that_is_missing_is_said_at_once(pauses: list[float]) -> None:
    client = Client(offset(NO_RIGHT), fetched(NO_RIGHT))
    made = await asked(client)
    with pytest.raises(NotLetIn, match=r"^no right to DESCRIBE on the topic log$"):
        await made.offsets(LOG)
    with pytest.raises(NotLetIn, match=r"^no right to READ on the topic log$"):
        await made.pages(LOG, 2)
    client.leaders, client.unauthorized_topics = [None], {"log"}
    with pytest.raises(NotLetIn, match=r"^no right to DESCRIBE on the topic log$"):
        await made.leader(LOG)
    assert (client.sent, pauses) == (2, [])


async def test_who_is_not_let_in_any_more_hears_why_once_in_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client()
    made = await asked(client)
    refusals: list[NotLetIn | None] = [NotLetIn("the password is wrong"), None]

    async def refusal() -> NotLetIn | None:
        return refusals.pop(0)

    async def fails() -> None:
        raise KafkaError("none of the brokers")

    monkeypatch.setattr(made._entrance, "refusal", refusal)
    monkeypatch.setattr(client, "fetch_all_metadata", fails, raising=False)
    with pytest.raises(NotLetIn, match="the password is wrong"):
        await made.topics()
    with pytest.raises(KafkaError, match="none of the brokers"):
        await made.topics()
