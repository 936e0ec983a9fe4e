"""The two requests that a role sends all day, fetch and produce, and their answers, in bytes.

Owns one version of each: fetch 11 and produce 7, which every broker from 2.3 on speaks; all others are aiokafka's. They
look like aiokafka's own and are sent by its client. Measured: its general way, field by field, took a tenth of the time
of a normalizer at 3,000 ticks a second, and 6 % of that of a gateway at 30,000 updates.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple

from aiokafka.errors import IncompatibleBrokerVersion
from aiokafka.protocol.api import Request, RequestStruct
from aiokafka.protocol.fetch import FetchRequest_v11, FetchResponse_v11
from aiokafka.protocol.produce import ProduceRequest_v7, ProduceResponse_v7

if TYPE_CHECKING:
    from collections.abc import Sequence
    from io import BytesIO

READ_WRITTEN: Final = 0
READ_COMMITTED: Final = 1
"""Isolation levels."""
_BROKER_MIN: Final = "2.3"
_CONSUMER: Final = -1
_NO_SESSION: Final = (0, -1)
_UNKNOWN: Final = -1
_COUNT: Final = Struct(">i")
_HEADER: Final = Struct(">hhih")
_FETCH: Final = Struct(">iiiibiii")
_FETCH_PARTITION: Final = Struct(">iiqqi")
_FETCHED: Final = Struct(">ihii")
_FETCHED_PARTITION: Final = Struct(">ihqqqi")
_ABORTED: Final = Struct(">qq")
_FETCHED_RECORDS: Final = Struct(">ii")
_PRODUCE: Final = Struct(">hhii")
_PRODUCE_PARTITION: Final = Struct(">ii")
_PRODUCED_PARTITION: Final = Struct(">ihqqq")
_SHORT: Final = Struct(">h")


class _RequestHeader(NamedTuple):
    key: int
    version: int
    correlation_id: int
    client_id: str

    def encode(self) -> bytes:
        client = self.client_id.encode()
        return _HEADER.pack(self.key, self.version, self.correlation_id, len(client)) + client


class _ResponseHeader(NamedTuple):
    correlation_id: int


class _InBytes:
    """The headers of both."""

    API_KEY: ClassVar[int]
    API_VERSION: ClassVar[int]

    def build_request_header(self, correlation_id: int, client_id: str) -> Any:
        """As aiokafka's."""
        return _RequestHeader(self.API_KEY, self.API_VERSION, correlation_id, client_id)

    def parse_response_header(self, read_buffer: Any) -> Any:
        """As aiokafka's."""
        return _ResponseHeader(*_COUNT.unpack(read_buffer.read(_COUNT.size)))


class Fetched(FetchResponse_v11):  # type: ignore[misc]  # aiokafka has no types
    """Fields as aiokafka has them: `topics` is [(topic, [(partition, error_code, highwater_offset, last_stable_offset,
    log_start_offset, aborted_transactions, preferred_read_replica, message_set)])]."""

    @classmethod
    def decode(cls, data: BytesIO | bytes) -> Fetched:
        """Reads an answer behind its header."""
        buffer, at = _rest(data)
        *head, topics_count = _FETCHED.unpack_from(buffer, at)
        at += _FETCHED.size
        topics = []
        for _ in range(topics_count):
            topic, at = _text(buffer, at)
            (count,) = _COUNT.unpack_from(buffer, at)
            at += _COUNT.size
            partitions = []
            for _ in range(count):
                *found, aborted_count = _FETCHED_PARTITION.unpack_from(buffer, at)
                at += _FETCHED_PARTITION.size
                end = at + max(aborted_count, 0) * _ABORTED.size
                aborted = list(_ABORTED.iter_unpack(buffer[at:end]))
                at = end
                replica, size = _FETCHED_RECORDS.unpack_from(buffer, at)
                at += _FETCHED_RECORDS.size
                records = None if size < 0 else buffer[at : at + size]
                at += max(size, 0)
                partitions.append((*found, aborted, replica, records))
            topics.append((topic, partitions))
        return cls(*head, topics)


class _Fetch(_InBytes, RequestStruct):  # type: ignore[misc]  # aiokafka has no types
    API_KEY = FetchRequest_v11.API_KEY
    API_VERSION = FetchRequest_v11.API_VERSION
    RESPONSE_TYPE = Fetched
    SCHEMA = FetchRequest_v11.SCHEMA

    def __init__(self, request: FetchRequest) -> None:
        self._request = request

    def encode(self) -> bytes:
        """The body."""
        asked = self._request
        parts = [
            _FETCH.pack(_CONSUMER, asked.wait_ms, 1, asked.bytes_max, asked.isolation, *_NO_SESSION, len(asked.topics))
        ]
        for topic, partitions in asked.topics:
            parts += (_in_bytes(topic), _COUNT.pack(len(partitions)))
            parts += [
                _FETCH_PARTITION.pack(number, _UNKNOWN, offset, _UNKNOWN, bytes_max)
                for number, offset, bytes_max in partitions
            ]
        parts += (_COUNT.pack(0), _in_bytes(asked.rack))
        return b"".join(parts)

    def __repr__(self) -> str:
        return repr(self._request)


class FetchRequest(Request[_Fetch]):  # type: ignore[misc]  # aiokafka has no types
    """A fetch of [(topic, [(partition, offset, bytes_max)])]. `rack`: where we are, for the nearest replica."""

    API_KEY = _Fetch.API_KEY

    def __init__(
        self,
        wait_ms: int,
        bytes_max: int,
        isolation: int,
        topics: Sequence[tuple[str, Sequence[tuple[int, int, int]]]],
        rack: str = "",
    ) -> None:
        self.wait_ms, self.bytes_max, self.isolation = wait_ms, bytes_max, isolation
        self.topics, self.rack = topics, rack

    def prepare(self, versions: dict[int, tuple[int, int]]) -> _Fetch:
        """As aiokafka's.

        Raises:
            IncompatibleBrokerVersion: the broker is too old, or too new.
        """
        _must_speak(self, _Fetch.API_VERSION, versions)
        return self.build(_Fetch)

    def build(self, request_struct_class: type[_Fetch]) -> _Fetch:
        """As aiokafka's."""
        return request_struct_class(self)

    def __repr__(self) -> str:
        return f"FetchRequest({self.topics}, isolation={self.isolation}, wait_ms={self.wait_ms})"


class Produced(ProduceResponse_v7):  # type: ignore[misc]  # aiokafka has no types
    """Fields as aiokafka has them: `topics` is [(topic, [(partition, error_code, offset, timestamp,
    log_start_offset)])]."""

    @classmethod
    def decode(cls, data: BytesIO | bytes) -> Produced:
        """Reads an answer behind its header."""
        buffer, at = _rest(data)
        (topics_count,) = _COUNT.unpack_from(buffer, at)
        at += _COUNT.size
        topics = []
        for _ in range(topics_count):
            topic, at = _text(buffer, at)
            (count,) = _COUNT.unpack_from(buffer, at)
            at += _COUNT.size
            partitions = [
                _PRODUCED_PARTITION.unpack_from(buffer, at + n * _PRODUCED_PARTITION.size) for n in range(count)
            ]
            at += count * _PRODUCED_PARTITION.size
            topics.append((topic, partitions))
        return cls(topics, *_COUNT.unpack_from(buffer, at))


class _Produce(_InBytes, RequestStruct):  # type: ignore[misc]  # aiokafka has no types
    API_KEY = ProduceRequest_v7.API_KEY
    API_VERSION = ProduceRequest_v7.API_VERSION
    RESPONSE_TYPE = Produced
    SCHEMA = ProduceRequest_v7.SCHEMA

    def __init__(self, request: ProduceRequest) -> None:
        self._request = request

    def encode(self) -> bytes:
        """The body."""
        asked = self._request
        # no transaction
        parts: list[bytes | bytearray] = [_PRODUCE.pack(_UNKNOWN, asked.acks, asked.timeout_ms, len(asked.topics))]
        for topic, partitions in asked.topics:
            parts += (_in_bytes(topic), _COUNT.pack(len(partitions)))
            for number, records in partitions:
                parts += (_PRODUCE_PARTITION.pack(number, len(records)), records)
        return b"".join(parts)

    def __repr__(self) -> str:
        return repr(self._request)


class ProduceRequest(Request[_Produce]):  # type: ignore[misc]  # aiokafka has no types
    """Batches for [(topic, [(partition, records)])]."""

    API_KEY = _Produce.API_KEY

    def __init__(
        self, acks: int, timeout_ms: int, topics: Sequence[tuple[str, Sequence[tuple[int, bytes | bytearray]]]]
    ) -> None:
        self.acks, self.timeout_ms, self.topics = acks, timeout_ms, topics

    def prepare(self, versions: dict[int, tuple[int, int]]) -> _Produce:
        """As aiokafka's.

        Raises:
            IncompatibleBrokerVersion: the broker is too old, or too new.
        """
        _must_speak(self, _Produce.API_VERSION, versions)
        return self.build(_Produce)

    def build(self, request_struct_class: type[_Produce]) -> _Produce:
        """As aiokafka's."""
        return request_struct_class(self)

    def __repr__(self) -> str:
        sizes = [(topic, [(number, len(records)) for number, records in found]) for topic, found in self.topics]
        return f"ProduceRequest({sizes}, acks={self.acks}, timeout_ms={self.timeout_ms})"


def _must_speak(request: Request[Any], version: int, versions: dict[int, tuple[int, int]]) -> None:
    least, most = versions.get(request.API_KEY, (_UNKNOWN, _UNKNOWN))
    if not least <= version <= most:
        raise IncompatibleBrokerVersion(
            f"the broker speaks versions {least} to {most} of {type(request).__name__}, wanted {version}: Kafka "
            f"{_BROKER_MIN} or newer"
        )


def _rest(data: BytesIO | bytes) -> tuple[bytes, int]:
    """All bytes, without a copy, and where the unread ones begin."""
    return (data, 0) if isinstance(data, bytes) else (data.getvalue(), data.tell())


def _text(buffer: bytes, at: int) -> tuple[str, int]:
    (size,) = _SHORT.unpack_from(buffer, at)
    at += _SHORT.size
    return buffer[at : at + size].decode(), at + size


def _in_bytes(text: str) -> bytes:
    found = text.encode()
    return _SHORT.pack(len(found)) + found
