"""Whether data flows: what is to be thought of each source, for those who look after the service.

Owns the forms in which that is told: the path `/v1/health`, what `/readyz` says of sources, and the numbers. Who
follows the logs judges them (`Follows`); of several workers a source is at fault that is for any.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Final, Protocol

from fastapi import FastAPI, Query, Response
from msgspec import Struct

from feed.errors import shown
from feed.follow.followed import LogStanding
from feed.gateway.answers import ERROR_ANSWER, Told, error_answer, json_answer
from feed.runtime.checks import Check

if TYPE_CHECKING:
    from feed.gateway.gateway import Gateway

STATES: Final = ("ok", "silent", "disconnected", "stalled")
_TOLD_MAX: Final = 20
_OBJECT: Final = {"application/json": {"schema": {"type": "object"}}}
_ANSWERS: Final[Told] = {
    200: {"description": "Data flows: `ok`, and `reasons` is empty", "content": _OBJECT},
    400: ERROR_ANSWER,
    503: {"description": "It does not: `reasons` says of which sources, and since when", "content": _OBJECT},
}


class Follows(Protocol):
    """The logs that feed a hub, as their follower sees them."""

    @property
    def venues(self) -> list[str]:
        """Whose logs are followed where they are there."""
        ...

    @property
    def standings(self) -> list[LogStanding]:
        """How each partition stands that is there, or was."""
        ...

    @property
    def delay_s(self) -> float:
        """For how long the oldest record has waited that was not taken."""
        ...

    @property
    def foreign(self) -> Mapping[tuple[str, str], int]:
        """Records that were none of ours, by venue and partition."""
        ...

    def absent(self, venues: Iterable[str] = ()) -> Mapping[str, float]:
        """Venues without a topic, and since when by the monotonic clock: those that were named, or are among these."""
        ...


class Reason(Struct, frozen=True):
    """Why data of a venue does not flow, or does not come. `since` is nanoseconds since 1970; `source` is null where
    none is known, `partition` where it is all of them."""

    venue: str
    partition: int | None
    source: str | None
    reason: str
    since: str
    found: str


class Flow(Struct, frozen=True):
    """What is at fault, and which sources are only silent."""

    reasons: list[Reason] = []
    silent: list[Reason] = []


def flow_of(logs: Follows, venues: Sequence[str] = ()) -> Flow:
    """How all stand, or those of these venues."""
    reasons = [
        Reason(venue, None, None, "no_topic", _ns(since), "it has no feed log")
        for venue, since in logs.absent(venues).items()
        if not venues or venue in venues
    ]
    silent: list[Reason] = []
    for one in logs.standings:
        if one.reason is not None and (not venues or one.venue in venues):
            told = Reason(one.venue, one.partition, one.source or None, one.reason, _ns(one.since), one.found)
            (silent if one.reason == "silent" else reasons).append(told)
    return Flow(reasons, silent)


def together(flows: Sequence[Flow]) -> Flow:
    """Of several processes: what is so for any, since it was for the first."""
    return Flow(
        _first([one for flow in flows for one in flow.reasons]), _first([one for flow in flows for one in flow.silent])
    )


def only(flow: Flow, venues: Sequence[str]) -> Flow:
    """What is so of these venues; of all where there are none."""
    if not venues:
        return flow
    return Flow(
        [one for one in flow.reasons if one.venue in venues], [one for one in flow.silent if one.venue in venues]
    )


def checks_of(logs: Follows, behind: Callable[[str], int]) -> list[Check]:
    """What `/readyz` says of sources: some can be served. What is wrong with others is told, and counts for nothing.

    `behind`: how many ticks a source is behind its tick log.
    """
    standings, absent = logs.standings, logs.absent()
    served = sum(one.is_served for one in standings)
    ticks = {one.source: behind(one.source) for one in standings if one.source}
    worst = max(ticks, key=ticks.__getitem__, default="")
    bad = [
        *(Check(venue, False, "no_topic: it has no feed log", counts=False) for venue in absent),
        *(
            Check(f"{one.venue}/{one.partition}", False, f"{one.reason}: {one.found}", counts=False)
            for one in standings
            if one.reason is not None and not one.is_served
        ),
    ]
    return [
        Check("sources", served > 0, f"{served} of {len(standings)} can be served" if standings else "there are none"),
        *bad[:_TOLD_MAX],
        *([Check("more", False, f"{len(bad) - _TOLD_MAX} others", counts=False)] if len(bad) > _TOLD_MAX else ()),
        Check("lag", True, f"{ticks[worst]} ticks at most, {worst}" if worst else "no source yet"),
    ]


def state_of(logs: Follows) -> dict[tuple[str, str, str], float]:
    """1 for the state that holds, by venue, partition and state."""
    found: dict[tuple[str, str, str], float] = {}
    for one in logs.standings:
        holds = "stalled" if one.reason == "unreadable" else one.reason or "ok"
        found |= {(one.venue, str(one.partition), state): float(state == holds) for state in STATES}
    return found


def lag_of(logs: Follows, delay_s: float) -> dict[tuple[str, str], float]:
    """How long the oldest of each partition has waited, and what was read to be sent."""
    return {(one.venue, str(one.partition)): one.waits_s + delay_s for one in logs.standings}


def add_health(app: FastAPI, gateway: Gateway) -> None:
    """Adds the path `/v1/health`."""

    @app.get("/v1/health", responses=_ANSWERS)
    async def health(
        venue: Annotated[list[str] | None, Query(description="Only of this venue; may be given again")] = None,
        silent: Annotated[
            str | None, Query(description="`fail`: to be quiet is a fault, too", json_schema_extra={"enum": ["fail"]})
        ] = None,
    ) -> Response:
        """Whether data flows; of several workers a source is at fault that is for any.

        503 while a source is `stalled` or `disconnected`, a feed log cannot be read (`unreadable`, where its source is
        not known), or a venue that was named has no topic (`no_topic`). A quiet market is no fault: `silent` sources
        are told beside it.
        """
        if silent not in (None, "fail"):
            return error_answer(400, "bad_message", f"found silent={shown(silent, 40)}, wanted fail")
        known = [] if gateway.logs is None else gateway.logs.venues
        venues = venue or []
        for name in venues:
            if name not in known:
                wanted = ", ".join(known) or "none: no feed log is followed"
                return error_answer(400, "bad_message", f"found the venue {shown(name, 40)}, wanted one of {wanted}")
        flow = gateway.flow(venues)
        if gateway.siblings is not None:
            reports = await gateway.siblings.reports()
            flow = together([flow, *(only(report.flow, venues) for report in reports)])
        reasons, quiet = _in_order(flow.reasons), _in_order(flow.silent)
        reasons += quiet if silent else []
        return json_answer({"ok": not reasons, "reasons": reasons, "silent": quiet}, 503 if reasons else 200)


def _in_order(reasons: list[Reason]) -> list[Reason]:
    return sorted(reasons, key=lambda one: (one.venue, -1 if one.partition is None else one.partition, one.reason))


def _first(reasons: list[Reason]) -> list[Reason]:
    found: dict[tuple[str, int | None, str | None, str], Reason] = {}
    for one in reasons:
        key = one.venue, one.partition, one.source, one.reason
        if key not in found or int(one.since) < int(found[key].since):
            found[key] = one
    return list(found.values())


def _ns(since: float) -> str:
    return str(time.time_ns() - int((time.monotonic() - since) * 1e9))
