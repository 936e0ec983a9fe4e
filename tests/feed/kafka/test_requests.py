"""Fetch and produce in bytes: what aiokafka's own codec says of the same fields."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import pytest
from aiokafka.errors import IncompatibleBrokerVersion
from aiokafka.protocol.fetch import FetchRequest as TheirFetch
from aiokafka.protocol.fetch import FetchResponse_v11
from aiokafka.protocol.produce import ProduceRequest as TheirProduce
from aiokafka.protocol.produce import ProduceResponse_v7
from hypothesis import given
from hypothesis import strategies as st

from feed.kafka.requests import READ_COMMITTED, Fetched, FetchRequest, Produced, ProduceRequest

FETCH, PRODUCE = {1: (4, 11)}, {0: (3, 7)}
numbers = st.integers(0, 2**31 - 1)
codes = st.integers(-1, 100)
offsets = st.integers(-1, 2**63 - 1)
names = st.text("abcé.-", min_size=1, max_size=20)
asked = st.lists(st.tuples(names, st.lists(st.tuples(numbers, offsets, numbers), max_size=4)), max_size=3)
aborted = st.none() | st.lists(st.tuples(offsets, offsets), max_size=3)
partition = st.tuples(numbers, codes, offsets, offsets, offsets, aborted, st.integers(-1, 9), st.binary(max_size=40))
fetched = st.lists(st.tuples(names, st.lists(partition, max_size=4)), max_size=3)
batches = st.lists(st.tuples(names, st.lists(st.tuples(numbers, st.binary(max_size=40)), max_size=4)), max_size=3)
landed = st.tuples(numbers, codes, offsets, offsets, offsets)
produced = st.lists(st.tuples(names, st.lists(landed, max_size=4)), max_size=3)


@given(numbers, numbers, asked)
def test_a_fetch_is_asked_in_the_bytes_of_aiokafka(wait_ms: int, size: int, topics: Any) -> None:
    ours = FetchRequest(wait_ms, size, READ_COMMITTED, topics).prepare(FETCH)
    theirs = TheirFetch(wait_ms, 1, size, READ_COMMITTED, topics).prepare(FETCH)
    assert ours.encode() == theirs.encode()
    assert ours.API_VERSION == theirs.API_VERSION == 11
    assert ours.build_request_header(7, "feed").encode() == theirs.build_request_header(7, "feed").encode()


@given(numbers, codes, numbers, fetched)
def test_an_answer_to_a_fetch_is_read_as_aiokafka_does(throttle: int, code: int, session: int, topics: Any) -> None:
    sent = FetchResponse_v11(throttle, code, session, topics).encode()
    ours, theirs = Fetched.decode(BytesIO(sent)), FetchResponse_v11.decode(sent)
    assert ours.topics == [
        (topic, [(*found[:5], found[5] or [], *found[6:]) for found in partitions])
        for topic, partitions in theirs.topics
    ]


@given(numbers, batches)
def test_batches_are_produced_in_the_bytes_of_aiokafka(timeout_ms: int, topics: Any) -> None:
    ours = ProduceRequest(-1, timeout_ms, topics).prepare(PRODUCE)
    theirs = TheirProduce(transactional_id=None, required_acks=-1, timeout=timeout_ms, topics=topics).prepare(PRODUCE)
    assert ours.encode() == theirs.encode()
    assert ours.API_VERSION == theirs.API_VERSION == 7


@given(numbers, produced)
def test_an_answer_to_batches_is_read_as_aiokafka_does(throttle: int, topics: Any) -> None:
    sent = ProduceResponse_v7(topics, throttle).encode()
    ours, theirs = Produced.decode(BytesIO(sent)), ProduceResponse_v7.decode(sent)
    assert ours.topics == theirs.topics


def test_an_answer_is_read_behind_its_header() -> None:
    request = FetchRequest(1, 2, 0, []).prepare(FETCH)
    body = FetchResponse_v11(5, 0, 0, [("log", [(0, 0, 9, 8, 7, None, -1, b"batch")])]).encode()
    data = BytesIO((42).to_bytes(4) + body)
    assert request.parse_response_header(data).correlation_id == 42
    assert request.RESPONSE_TYPE.decode(data).topics == [("log", [(0, 0, 9, 8, 7, [], -1, b"batch")])]


@pytest.mark.parametrize("size", [-1, 0])
def test_a_partition_without_records(size: int) -> None:
    sent = FetchResponse_v11(0, 0, 0, [("log", [(0, 3, -1, -1, -1, [], -1, None if size else b"")])]).encode()
    assert Fetched.decode(BytesIO(sent)).topics[0][1][0][-1] == (None if size else b"")


@pytest.mark.parametrize("request_", [FetchRequest(1, 2, 0, []), ProduceRequest(-1, 5, [("log", [(0, b"xyz")])])])
@pytest.mark.parametrize("versions", [{}, {0: (0, 2), 1: (0, 4)}, {0: (40, 50), 1: (40, 50)}])
def test_a_broker_that_speaks_another_version_is_named(request_: Any, versions: dict[int, tuple[int, int]]) -> None:
    with pytest.raises(IncompatibleBrokerVersion, match=r"Kafka 2\.3 or newer"):
        request_.prepare(versions)


def test_what_is_logged_of_a_request_holds_no_records() -> None:
    assert repr(ProduceRequest(-1, 5, [("log", [(0, b"xyz")])]).prepare(PRODUCE)) == (
        "ProduceRequest([('log', [(0, 3)])], acks=-1, timeout_ms=5)"
    )
    assert "'log'" in repr(FetchRequest(1, 2, 0, [("log", [(0, 1, 2)])]).prepare(FETCH))
