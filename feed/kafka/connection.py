"""aiokafka's connections as they must be under uvloop, for large answers, and with secrets.

Owns three corrections. uvloop raises `RuntimeError` for a write to a transport that is closed, where asyncio drops the
bytes: when a broker dies, that is often the first thing that is heard of it. aiokafka expects only `OSError`, and the
tasks that keep its metadata and send its batches end for good. Here it becomes what a broken connection is everywhere.

And aiokafka stops reading whenever 128 KiB lie there unread, so that an answer of some MiB comes in dozens of pieces,
each with two calls of the kernel and a turn of the loop. Answers are bounded by what we ask for.

And its log says of each request, at level `debug`, all that is in it: of one that logs in, the password or the token.
"""

from __future__ import annotations

from typing import Any, Final

import aiokafka.conn
from aiokafka.conn import AIOKafkaConnection, CloseReason
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.admin import SaslAuthenticateRequest_v0, SaslAuthenticateRequest_v1

_ANSWER_BYTES_MAX: Final = 64 << 20
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


def _without_secret(request: Any) -> str:
    return f"{type(request).__name__}(a secret)"


AIOKafkaConnection.send = send
SaslAuthenticateRequest_v0.__repr__ = SaslAuthenticateRequest_v1.__repr__ = _without_secret
aiokafka.conn.READER_LIMIT = _ANSWER_BYTES_MAX
