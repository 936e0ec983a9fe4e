"""How each client stands: what it was sent of all that it had coming, and what it has not taken yet.

Owns `/v1/clients` and the line that the log gets when a client that lost something is gone. Sums are exact and are kept
by `feed.channels.tally`; what they cost is paid here, by who asks: a walk over the channels of each client shown.
"""

from __future__ import annotations

import heapq
import logging
from operator import itemgetter
from typing import TYPE_CHECKING, Annotated, Any, Final

from fastapi import FastAPI, Query, Response

from feed.gateway.answers import ERROR_ANSWER, SharedAnswers, Slices, json_answer, told
from feed.gateway.sockets import socket_progress
from feed.protocol.session import Session

if TYPE_CHECKING:
    from feed.gateway.gateway import Gateway
    from feed.gateway.ws import StreamProtocol

_SHOWN: Final = 20
_SHOWN_MAX: Final = 200
_NS_PER_S: Final = 1_000_000_000
_logger = logging.getLogger("feed.gateway")


def add_clients(app: FastAPI, gateway: Gateway) -> None:
    """The route."""
    together = SharedAnswers()

    @app.get(
        "/v1/clients",
        responses={**told("How many there are, and those that stand worst", {"type": "object"}), "4XX": ERROR_ANSWER},
    )
    async def clients(
        limit: Annotated[int, Query(description="How many are shown", ge=0, le=_SHOWN_MAX)] = _SHOWN,
    ) -> Response:
        """The clients of the stream: those that are behind first, then those that lost most.

        Of each: `updates` = `delivered` + `merged` + `gapped` + `left` + `pending`, all of its channels since it has
        them.
        """
        return json_answer(await together.of(limit, lambda: _shown(gateway, limit)))


async def _shown(gateway: Gateway, limit: int) -> dict[str, Any]:
    if gateway.siblings is None:
        rows = await worst(gateway, limit)
        return {"total": len(gateway.connections), "clients": rows}
    reports = await gateway.siblings.reports(limit)
    total = sum(report.connections for report in reports)
    every = [{"worker": report.worker, **one} for report in reports for one in report.clients]
    rows = sorted(every, key=lambda one: (one.get("in_step", True), -one.get("gapped", 0)))[:limit]
    return {"total": total, "clients": rows}


async def worst(gateway: Gateway, limit: int) -> list[dict[str, Any]]:
    """So many clients of this process: those behind first, then those that lost most. In slices: each client is as it
    is at one moment, and not all at the same."""
    slices = Slices()
    standing: list[tuple[tuple[bool, int, int], StreamProtocol]] = []
    for connection in list(gateway.connections) if limit else ():
        standing.append((_badness(connection), connection))
        if slices.over:
            await slices.rest()
    rows: list[dict[str, Any]] = []
    for _, connection in heapq.nlargest(limit, standing, key=itemgetter(0)):
        if not connection.ended:
            rows.append(row(gateway, connection))
        if slices.over:
            await slices.rest()
    return rows


def row(gateway: Gateway, connection: StreamProtocol) -> dict[str, Any]:
    """One client as `/v1/clients` shows it; of a replay only what its socket tells."""
    peer = connection.transport.get_extra_info("socket")
    taken, unsent = (socket_progress(peer) if peer is not None else None) or (0, 0)
    shown: dict[str, Any] = {
        "id": connection.number,
        "since": str(gateway.now_ns() - int((connection.loop.time() - connection.joined_at) * _NS_PER_S)),
        "taken_bytes": taken,
        "waiting_bytes": unsent + connection.transport.get_write_buffer_size(),
    }
    if gateway.settings.client_addresses:
        shown["address"] = _address(connection)
    session = connection.session
    if isinstance(session, Session):
        account = session.subscribers.account()
        shown |= {
            "channels": session.subscribers.channels,
            "in_step": session.subscribers.in_step,
            "updates": account.all,
            **{name: getattr(account, name) for name in ("delivered", "merged", "gapped", "left", "pending", "gaps")},
        }
    return shown


def tell_of_losses(connection: StreamProtocol) -> None:
    """A client is gone, and its session closed: one line where it did not get all."""
    session = connection.session
    if not isinstance(session, Session):
        return
    account = session.subscribers.account()
    level = logging.INFO if connection.dropped or account.gapped or account.left else logging.DEBUG
    if _logger.isEnabledFor(level):
        _logger.log(
            level,
            "client %d at %s %s: of %d updates %d delivered, %d merged, %d in %d gaps, %d left",
            connection.number,
            _address(connection),
            f"was dropped, {connection.dropped}" if connection.dropped else "is gone",
            account.all,
            account.delivered,
            account.merged,
            account.gapped,
            account.gaps,
            account.left,
        )


def _badness(connection: StreamProtocol) -> tuple[bool, int, int]:
    session = connection.session
    if not isinstance(session, Session):
        return connection.full, 0, 0
    subscriber = session.subscribers
    return not subscriber.in_step, subscriber.gapped, -connection.number


def _address(connection: StreamProtocol) -> str:
    return f"{connection.client[0]}:{connection.client[1]}" if connection.client else "unknown"
