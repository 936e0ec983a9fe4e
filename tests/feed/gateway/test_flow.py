"""What operators are told of sources: over HTTP, as readiness, and as numbers."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from typing import Any, Final

import pytest
from prometheus_client.parser import text_string_to_metric_families

from feed.follow.followed import LogStanding
from feed.gateway.flow import Flow, Reason, flow_of, only, together
from feed.gateway.gateway import Gateway
from tests.gateways import Running
from tests.integration.test_gateway import get

NS: Final = 1_000_000_000


class Logs:
    """Logs that stand as they are told to; `standings` are (venue, partition, source, reason, seconds ago, words)."""

    def __init__(
        self, *standings: tuple[str, int, str, Any, float, str], absent: dict[str, bool] | None = None
    ) -> None:
        now = time.monotonic()
        self.standings = [LogStanding(v, p, s, r, now - ago, words, 0.25) for v, p, s, r, ago, words in standings]
        self._absent = absent or {}
        self.delay_s = 0.0
        self.foreign = {("kraken", "0"): 3}

    @property
    def venues(self) -> list[str]:
        return sorted({one.venue for one in self.standings} | self._absent.keys())

    def absent(self, venues: Iterable[str] = ()) -> dict[str, float]:
        return {venue: time.monotonic() - 7 for venue, named in self._absent.items() if named or venue in venues}


GOOD: Final = ("kraken", 0, "kraken/0@a", None, 0.0, "well")
QUIET: Final = ("kraken", 1, "kraken/1@b", "silent", 11.0, "no tick came for 11.0 s")
STALLED: Final = ("kraken", 2, "kraken/2@c", "stalled", 12.0, "what came waits for 12.0 s")
GONE: Final = ("coinbase", 0, "coinbase/0@d", "disconnected", 3.0, "its normalizer has said nothing for 3.0 s")
MIRRORED: Final = ("coinbase", 1, "", "unreadable", 5.0, "cannot be read on: floor 9 of the record at offset 4")


@pytest.fixture
def running() -> Iterator[Running]:
    """A gateway that follows nothing yet."""
    with Running() as running:
        yield running


def follow(running: Running, logs: Logs) -> None:
    running.do(lambda: running.gateway.follow(logs))


def health(running: Running, query: str = "") -> tuple[int, Any]:
    status, body = get(running, f"/v1/health{query}")
    return status, json.loads(body)


def test_data_flows_where_every_source_is_well_or_only_silent(running: Running) -> None:
    follow(running, Logs(GOOD, QUIET))
    status, body = health(running)
    assert status == 200
    assert body["ok"] is True
    assert body["reasons"] == []
    [silent] = body["silent"]
    assert silent | {"since": ""} == {
        "venue": "kraken",
        "partition": 1,
        "source": "kraken/1@b",
        "reason": "silent",
        "since": "",
        "found": "no tick came for 11.0 s",
    }
    assert abs(time.time_ns() - 11 * NS - int(silent["since"])) < 5 * NS
    status, body = health(running, "?silent=fail")
    assert status == 503
    assert (body["ok"], [one | {"since": ""} for one in body["reasons"]]) == (False, [silent | {"since": ""}])


def test_data_does_not_flow_while_a_source_stands_still_or_a_named_venue_has_no_topic(running: Running) -> None:
    follow(running, Logs(GOOD, QUIET, STALLED, GONE, MIRRORED, absent={"krakn": True, "binance": False}))
    status, body = health(running)
    assert status == 503
    assert body["ok"] is False
    assert [(one["venue"], one["partition"], one["source"], one["reason"]) for one in body["reasons"]] == [
        ("coinbase", 0, "coinbase/0@d", "disconnected"),
        ("coinbase", 1, None, "unreadable"),
        ("kraken", 2, "kraken/2@c", "stalled"),
        ("krakn", None, None, "no_topic"),
    ]
    assert all(int(one["since"]) < time.time_ns() for one in body["reasons"])


@pytest.mark.parametrize(
    ("query", "status", "reasons"),
    [
        ("?venue=kraken", 503, ["stalled"]),
        ("?venue=binance-usdm", 200, []),
        ("?venue=binance", 503, ["no_topic"]),  # who asks for it by name has named it
        ("?venue=kraken&venue=coinbase", 503, ["disconnected", "stalled"]),
        ("?venue=kraken&silent=fail", 503, ["stalled", "silent"]),
    ],
)
def test_one_venue_is_asked_for(running: Running, query: str, status: int, reasons: list[str]) -> None:
    fine = ("binance-usdm", 0, "binance-usdm/0@e", None, 0.0, "well")
    follow(running, Logs(GOOD, QUIET, STALLED, GONE, fine, absent={"binance": False}))
    found = health(running, query)
    assert (found[0], [one["reason"] for one in found[1]["reasons"]]) == (status, reasons)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("?venue=krakn", "found the venue 'krakn', wanted one of coinbase, kraken"),
        ("?venu=kraken", "found the parameter 'venu', wanted one of venue, silent"),
        ("?silent=yes", "found silent='yes', wanted fail"),
        ("?venue=kraken&x=1", "found the parameter 'x'"),
        ("?venue=kraken&venue=coinbase&silent=fail&silent=fail", "found the parameter 'silent' twice"),
    ],
)
def test_what_is_not_known_is_refused_by_its_name(running: Running, query: str, words: str) -> None:
    follow(running, Logs(GOOD, GONE))
    status, body = health(running, query)
    assert (status, body["type"], body["code"]) == (400, "error", "bad_message")
    assert words in body["message"]


def test_one_bad_source_of_several_is_named_and_no_reason_to_send_nobody(running: Running) -> None:
    follow(running, Logs(GOOD, STALLED, MIRRORED, absent={"krakn": True, "binance": False}))
    assert get(running, "/readyz") == (200, "ok\n")
    status, body = get(running, "/readyz?verbose")
    assert status == 200
    assert body.splitlines()[3:] == [
        "[+] sources: 1 of 3 can be served",
        "[!] krakn: no_topic: it has no feed log",
        "[!] kraken/2: stalled: what came waits for 12.0 s",
        "[!] coinbase/1: unreadable: cannot be read on: floor 9 of the record at offset 4",
        "[+] lag: 0 ticks at most, kraken/0@a",
        "ok",
    ]


@pytest.mark.parametrize("standings", [(), (STALLED,), (GONE, MIRRORED), (STALLED, GONE)])
def test_not_ready_while_no_source_can_be_served(running: Running, standings: tuple[Any, ...]) -> None:
    follow(running, Logs(*standings))
    status, body = get(running, "/readyz")
    assert status == 503
    assert body.splitlines()[0] == (
        f"[-] sources: 0 of {len(standings)} can be served" if standings else "[-] sources: there are none"
    )
    assert json.loads(get(running, "/v1/status")[1])["ready"] is False
    assert samples(running)["feed_ready", ()] == 0


def test_a_quiet_market_is_served(running: Running) -> None:
    follow(running, Logs(QUIET))
    assert get(running, "/readyz") == (200, "ok\n")


def test_many_bad_sources_are_not_all_named() -> None:
    with Running() as running:
        follow(
            running, Logs(GOOD, *(("kraken", number, f"kraken/{number}@a", *STALLED[3:]) for number in range(1, 40)))
        )
        body = get(running, "/readyz?verbose")[1]
    assert body.count("[!] kraken/") == 20
    assert "[!] more: 19 others" in body


def test_a_source_lags_by_the_ticks_that_were_not_taken(running: Running) -> None:
    running.do(lambda: running.gateway.hub.stands("kraken/0@a", 10, 8, 0))
    running.do(lambda: running.gateway.hub.stands("kraken/0@ended", 1000, 8, 0))
    follow(running, Logs(GOOD, QUIET))
    assert "[+] lag: 2 ticks at most, kraken/0@a" in get(running, "/readyz?verbose")[1]


def samples(running: Running) -> dict[tuple[str, tuple[str, ...]], float]:
    families = text_string_to_metric_families(get(running, "/metrics")[1])
    return {
        (sample.name, tuple(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def test_numbers_of_sources(running: Running) -> None:
    follow(running, Logs(GOOD, QUIET, MIRRORED))
    found = samples(running)
    states = {labels: value for (name, labels), value in found.items() if name == "feed_source_state" and value}
    assert states.keys() == {("0", "ok", "kraken"), ("1", "silent", "kraken"), ("1", "stalled", "coinbase")}
    assert len([name for name, _ in found if name == "feed_source_state"]) == 12
    assert found["feed_lag_seconds", ("0", "kraken")] == 0.25
    assert found["feed_foreign_records_total", ("0", "kraken")] == 3
    assert found["feed_ready", ()] == 1


def reason(venue: str, source: str | None, since: int, word: str = "stalled") -> Reason:
    return Reason(venue, 0, source, word, str(since), "")


def test_of_several_workers_a_source_is_at_fault_that_is_for_any() -> None:
    one = Flow([reason("kraken", "kraken/0@a", 7)], [reason("desk", "desk/0@a", 9, "silent")])
    two = Flow([reason("kraken", "kraken/0@a", 5), reason("coinbase", None, 6)])
    assert together([one, two, Flow()]) == Flow(
        [reason("kraken", "kraken/0@a", 5), reason("coinbase", None, 6)], [reason("desk", "desk/0@a", 9, "silent")]
    )
    assert only(two, ["coinbase"]) == Flow([reason("coinbase", None, 6)])
    assert only(two, []) == two


def test_nothing_is_told_of_logs_where_none_are_followed() -> None:
    assert flow_of(Logs()) == Flow()
    with Running() as running:
        gateway: Gateway = running.gateway
        assert gateway.flow() == Flow()
        assert health(running) == (200, {"ok": True, "reasons": [], "silent": []})
