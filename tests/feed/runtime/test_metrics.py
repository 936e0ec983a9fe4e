"""Numbers and their export."""

from __future__ import annotations

import importlib.metadata
import platform

import pytest
from prometheus_client.parser import text_string_to_metric_families

from feed.runtime.metrics import Metrics, add_build_info, merged_families, prometheus_text


def exported(metrics: Metrics) -> dict[str, dict[str, float]]:
    """Samples by name and label value."""
    found: dict[str, dict[str, float]] = {}
    for family in text_string_to_metric_families(metrics.export().decode()):
        for sample in family.samples:
            found.setdefault(sample.name, {})[",".join(sample.labels.values())] = sample.value
    return found


def test_each_kind_is_exported() -> None:
    metrics = Metrics()
    metrics.counter("sent", "Things sent").value += 3
    metrics.labelled("closed", "Connections closed", "code").of("1000").value += 2
    metrics.labelled("closed", "Connections closed", "code").of("1012").value += 1
    metrics.gauge("open", "Connections", lambda: 7)
    metrics.gauge("lag", "Ticks behind", lambda: {"a/0": 1, "b/0": 2}, label="source")
    metrics.counted("seen", "Things seen", lambda: 11)
    metrics.counted("ended", "Things ended", lambda: {"well": 3, "badly": 4}, label="how")
    histogram = metrics.histogram("took_seconds", "Time", (0.1, 1.0))
    for measure in (0.05, 0.1, 0.5, 3.0):
        histogram.observe(measure)
    found = exported(metrics)
    assert found["sent_total"] == {"": 3}
    assert found["closed_total"] == {"1000": 2, "1012": 1}
    assert found["open"] == {"": 7}
    assert found["lag"] == {"a/0": 1, "b/0": 2}
    assert found["seen_total"] == {"": 11}
    assert found["ended_total"] == {"well": 3, "badly": 4}
    assert found["took_seconds_bucket"] == {"0.1": 2, "1.0": 3, "+Inf": 4}
    assert found["took_seconds_sum"] == {"": 3.65}
    assert found["took_seconds_count"] == {"": 4}
    assert "process_resident_memory_bytes" in found


def test_of_two_roles_that_tell_the_same_the_larger_number_counts() -> None:
    metrics = Metrics()
    metrics.gauge(
        "feed_lag", "Lag", lambda: {("kraken", "0"): 1.0, ("kraken", "1"): 5.0}, labels=("venue", "partition")
    )
    metrics.gauge("feed_lag", "Lag", lambda: {("kraken", "0"): 3.0, ("desk", "0"): -1.0}, labels=("venue", "partition"))
    metrics.counted("feed_seen", "Seen", lambda: 4)
    metrics.counted("feed_seen", "Seen", lambda: 2)
    found = exported(metrics)
    assert found["feed_lag"] == {"0,kraken": 3.0, "1,kraken": 5.0, "0,desk": -1.0}
    assert found["feed_seen_total"] == {"": 4}


def test_which_code_it_is() -> None:
    metrics = Metrics()
    add_build_info(metrics, "feed.v1")
    [(labels, value)] = exported(metrics)["feed_build_info"].items()
    assert labels.split(",") == ["feed.v1", platform.python_version(), importlib.metadata.version("market-feed")]
    assert value == 1


def test_a_label_has_so_many_values() -> None:
    metrics = Metrics()
    found = metrics.labelled("seen", "Seen", "name")
    for index in range(2000):
        found.of(str(index)).value += 1
    assert len(found.children) <= 1001
    assert found.of("other").value == 1000


def test_of_several_processes_what_adds_up_is_added_and_all_else_has_a_label() -> None:
    one, other, ended = Metrics(), Metrics(), Metrics()
    for metrics, sent in ((one, 1), (other, 20), (ended, 300)):
        metrics.counter("feed_sent", "Sent").value += sent
        metrics.labelled("feed_closed", "Closed", "code").of("1000").value += sent
        metrics.gauge("feed_open", "Open", lambda sent=sent: sent)
        metrics.histogram("feed_took_seconds", "Took", (0.1,)).observe(0.05)
    families = merged_families(
        {"1": one.families(), "2": other.families()}, [ended.families(), ended.counted_families()], "worker"
    )
    found: dict[str, dict[str, float]] = {}
    for family in text_string_to_metric_families(prometheus_text(families).decode()):
        for sample in family.samples:
            found.setdefault(sample.name, {})[",".join(sample.labels.values())] = sample.value
    assert found["feed_sent_total"] == {"": 621}
    assert found["feed_closed_total"] == {"1000": 621}
    assert found["feed_open"] == {"1": 1, "2": 20}
    assert found["feed_took_seconds_bucket"] == {"0.1": 4, "+Inf": 4}
    assert set(found["process_resident_memory_bytes"]) == {"1", "2"}


def test_what_must_not_go_down_are_our_counters() -> None:
    metrics = Metrics()
    metrics.counter("feed_sent", "Sent")
    metrics.counted("feed_seen", "Seen", lambda: 2)
    metrics.counter("sent", "Not ours")
    metrics.gauge("feed_open", "Open", lambda: 7)
    assert [family.name for family in metrics.counted_families()] == ["feed_sent", "feed_seen"]


def test_code_that_is_not_installed_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    metrics = Metrics()
    add_build_info(metrics, "feed.v1")
    assert [labels.split(",")[-1] for labels in exported(metrics)["feed_build_info"]] == ["unknown"]
