"""aiokafka's connections as they must be under uvloop.

Owns one correction. uvloop raises `RuntimeError` for a write to a transport that is closed, where asyncio drops the
bytes: when a broker dies, that is often the first thing that is heard of it. aiokafka expects only `OSError`, and the
tasks that keep its metadata and send its batches end for good. Here it becomes what a broken connection is everywhere.
"""

from __future__ import annotations

from typing import Any, Final

from aiokafka.conn import AIOKafkaConnection, CloseReason
from aiokafka.errors import KafkaConnectionError

_send: Final = AIOKafkaConnection.send


def send(connection: Any, request: Any, expect_response: bool = True) -> Any:
    """Sends a request, like the original.

    Raises:
        KafkaConnectionError: the connection is closed or breaks.
    """
    try:
        return _send(connection, request, expect_response)
    except RuntimeError as error:
        connection.close(reason=CloseReason.CONNECTION_BROKEN, exc=error)
        raise KafkaConnectionError(f"connection at {connection.host}:{connection.port} is closed: {error}") from error


AIOKafkaConnection.send = send
