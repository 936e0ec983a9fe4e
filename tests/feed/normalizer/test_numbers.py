"""What a partition's numbers say of how it stands."""

from __future__ import annotations

import logging

import pytest

from feed.normalizer import numbers
from feed.normalizer.numbers import Numbers, PartitionNumbers
from feed.runtime.metrics import Metrics
from feed.runtime.throttle import ThrottledLog
from feed.venues.now import SourceCounts
from feed.venues.tick import Tick
from feed.wire.model import NO_SEQ


class Clock:
    """Monotonic time by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(numbers.time, "monotonic", found)
    return found


def partition() -> PartitionNumbers:
    found = PartitionNumbers("kraken", 0, ThrottledLog(logging.getLogger("feed.test")))
    found.begins()
    return found


def test_it_is_written_once_a_record_lies_there_and_while_more_follow(clock: Clock) -> None:
    one = partition()
    assert one.trouble == "nothing was written yet"
    one.wrote([])
    one.stands(10, 10, 0)
    assert (one.trouble, one.standstill, one.waits_s) == ("", "", 0.0)
    clock.now += 5.0
    assert one.trouble == ""
    clock.now += 0.5
    assert one.trouble == "nothing was written for 5.5 s"
    one.begins()  # it was another's for a while
    assert one.trouble == "nothing was written yet"


def test_what_is_tried_again_waits_though_its_log_still_says_so(clock: Clock) -> None:
    one = partition()
    one.wrote([])
    one.stands(10, 10, 0)
    one.retried("corruptlog", "partition 0 of ticks.kraken: no floor leads to its end; taking up again")
    for _ in range(30):
        clock.now += 0.5
        one.wrote([])  # that it is stuck
        one.retried("corruptlog", "partition 0 of ticks.kraken: no floor leads to its end; taking up again")
    assert one.trouble.startswith("partition 0 of ticks.kraken: no floor leads to its end")
    assert one.waits_s == pytest.approx(15.0, abs=0.1)
    assert one.retries == {"corruptlog": 31}
    one.stands(12, 12, 0)
    assert (one.trouble, one.waits_s) == ("", 0.0)


def test_ticks_that_wait_for_their_dead_letters_are_a_standstill(clock: Clock) -> None:
    one = partition()
    one.wrote([])
    one.stands(12, 10, 2001)
    assert (one.trouble, one.standstill) == ("", "ticks have waited for 2.0 s")
    clock.now += 3.0
    assert one.standstill == "ticks have waited for 5.0 s"


def test_what_is_no_longer_ours_counts_no_more_but_what_was_counted_stays(clock: Clock) -> None:
    all_, metrics = Numbers(), Metrics()
    all_.register(metrics)
    one = all_.of("kraken", 0)
    one.begins()
    one.ticks, one.updates = 7, 9
    assert b'feed_partitions_owned{venue="kraken"} 1.0' in metrics.export()
    one.owned = False
    text = metrics.export()
    assert b'feed_updates_total{partition="0",venue="kraken"} 9.0' in text
    assert b"feed_lag_seconds{" not in text
    assert b"feed_partitions_owned{" not in text


def test_odd_bars_are_named_once_a_minute_with_their_symbol(caplog: pytest.LogCaptureFixture) -> None:
    all_, metrics = Numbers(), Metrics()
    all_.register(metrics)
    one = all_.of("acme", 3)
    for _ in range(3):
        one.took([Tick(7, "X", b"", 5, 5)], 1, SourceCounts(copies=4, bars_untold=2, bars_of="ACME:X"))
    one.took([Tick(8, "Y", b"", 5, 5)], 1, SourceCounts(trades_late=1, bars_of="ACME:Y"))
    assert one.odd == {"copies": 12, "bars_untold": 6, "trades_late": 1}
    assert b'feed_oddities_total{partition="3",reason="bars_untold",venue="acme"} 6.0' in metrics.export()
    assert [record.getMessage() for record in caplog.records] == [
        "acme/3: ACME:X: a bar is not told: its volume has more than 20 digits before the point (2 times)",
        "acme/3: ACME:Y: a trade came too late for the bars that are kept",
    ]


def test_a_retention_that_may_not_be_known_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    all_of_them, metrics = Numbers(), Metrics()
    all_of_them.register(metrics)
    found = all_of_them.of("kraken", 0)
    for unknown in (["no right to DESCRIBE_CONFIGS on the topic ticks.kraken"], ["again"], []):
        found.retention(unknown)
        told = f'feed_retention_unknown{{partition="0",venue="kraken"}} {float(bool(unknown))}'
        assert told in metrics.export().decode()
    words = [record.getMessage() for record in caplog.records]
    assert words == ["kraken: retention unknown: no right to DESCRIBE_CONFIGS on the topic ticks.kraken"]


def test_where_a_partition_stood_is_not_known_when_it_comes_back() -> None:
    one = Numbers().of("kraken", 0)
    one.position = 7
    one.begins()
    assert one.position == NO_SEQ
