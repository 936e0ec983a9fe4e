"""All numbers of a process: counted as plain integers, turned into Prometheus text only when somebody asks.

Owns how a number is kept and exported. What is counted is said where it is counted. The hot path adds to an attribute
(`sent.value += n`: 30 ns; a Prometheus client's `inc()` takes a lock and 600 ns).
"""

from __future__ import annotations

import importlib.metadata
import platform
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final

from msgspec import Struct
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_LABELLED_MAX: Final = 1000
_OURS: Final = "feed_"
_ADDED: Final = ("counter", "histogram")

Sample = tuple[str, dict[str, str], float]
"""Name, labels, value."""


class Family(Struct, frozen=True):
    """One name with its samples, as another process can be told of it."""

    name: str
    kind: str
    text: str
    samples: list[Sample]

    @property
    def adds_up(self) -> bool:
        """Whether the numbers of several processes are one number: what we count, but no gauge."""
        return self.kind in _ADDED and self.name.startswith(_OURS)


class Counter:
    """A number that only rises."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0


class Histogram:
    """How often a measure fell under each bound, and its sum."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float] = SECONDS) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.total = 0.0

    def observe(self, measure: float) -> None:
        """Counts one measure."""
        self.counts[bisect_left(self.bounds, measure)] += 1
        self.total += measure


class LabelledCounter:
    """Counters of one name, told apart by a label; beyond `_LABELLED_MAX` values the rest is counted as `other`."""

    __slots__ = ("children", "label")

    def __init__(self, label: str) -> None:
        self.label = label
        self.children: dict[str, Counter] = {}

    def of(self, value: str) -> Counter:
        """The counter with this value of the label."""
        counter = self.children.get(value)
        if counter is None:
            if len(self.children) >= _LABELLED_MAX:
                value = "other"
            counter = self.children.setdefault(value, Counter())
        return counter


Labels = tuple[str, ...]
Read = Callable[
    [],
    float
    | Mapping[str, float]
    | Mapping[tuple[str], float]
    | Mapping[tuple[str, str], float]
    | Mapping[tuple[str, str, str], float],
]


class Metrics(Collector):
    """The numbers of one process, by name; a name may be asked for again and is then the same number."""

    def __init__(self) -> None:
        self._counters: dict[str, tuple[str, Counter | LabelledCounter]] = {}
        self._gauges: dict[str, _ReadOnDemand] = {}
        self._counted: dict[str, _ReadOnDemand] = {}
        self._histograms: dict[str, tuple[str, Histogram]] = {}
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)

    def counter(self, name: str, text: str) -> Counter:
        """A counter; exported as `<name>_total`."""
        counter = self._counters.setdefault(name, (text, Counter()))[1]
        assert isinstance(counter, Counter)
        return counter

    def labelled(self, name: str, text: str, label: str) -> LabelledCounter:
        """Counters told apart by `label`; exported as `<name>_total`."""
        counter = self._counters.setdefault(name, (text, LabelledCounter(label)))[1]
        assert isinstance(counter, LabelledCounter)
        return counter

    def gauge(self, name: str, text: str, read: Read, *, label: str = "", labels: Labels = ()) -> None:
        """A number that is read when somebody asks; with `label` (or several `labels`), a mapping of their values.

        Of several roles that tell it in one process the larger counts.
        """
        self._gauges.setdefault(name, _ReadOnDemand(text, labels or ((label,) if label else ()))).add(read)

    def counted(self, name: str, text: str, read: Read, *, label: str = "", labels: Labels = ()) -> None:
        """A counter that is kept elsewhere and read when somebody asks; exported as `<name>_total`.

        Of several roles that tell it in one process the larger counts: both have seen the same.
        """
        self._counted.setdefault(name, _ReadOnDemand(text, labels or ((label,) if label else ()))).add(read)

    def histogram(self, name: str, text: str, bounds: Sequence[float] = SECONDS) -> Histogram:
        """A distribution."""
        return self._histograms.setdefault(name, (text, Histogram(bounds)))[1]

    def export(self) -> bytes:
        """Everything, in Prometheus' text format."""
        return generate_latest(self._registry)

    def families(self) -> list[Family]:
        """Everything, for another process."""
        return [_family(metric) for metric in self._registry.collect()]

    def counted_families(self) -> list[Family]:
        """What must not go down when this process ends."""
        return [family for family in map(_family, self.collect()) if family.adds_up]

    def collect(self) -> Iterator[Metric]:
        """What Prometheus' client asks for at a scrape."""
        for name, (text, counter) in self._counters.items():
            yield _counter_family(name, text, counter)
        for name, on_demand in self._gauges.items():
            yield on_demand.family(GaugeMetricFamily, name)
        for name, on_demand in self._counted.items():
            yield on_demand.family(CounterMetricFamily, name)
        for name, (text, histogram) in self._histograms.items():
            family = HistogramMetricFamily(name, text)
            family.add_metric([], list(_buckets(histogram)), histogram.total)
            yield family

    def describe(self) -> Iterable[Metric]:
        """Nothing: names come later than the registration."""
        return ()


def add_build_info(metrics: Metrics, protocol: str) -> None:
    """Adds a number that says which code this is."""
    try:
        version = importlib.metadata.version("market-feed")
    except importlib.metadata.PackageNotFoundError:
        version = "unknown"
    labels = {(version, platform.python_version(), protocol): 1.0}
    metrics.gauge("feed_build_info", "Which code this is", lambda: labels, labels=("version", "python", "protocol"))


def merged_families(
    live: Mapping[str, Iterable[Family]], ended: Iterable[Iterable[Family]], label: str
) -> list[Family]:
    """The numbers of several processes as those of one: what adds up is added, all else has `label`.

    `live` by the label's value; of what has `ended` only what adds up counts.
    """
    merged: dict[str, Family] = {}
    totals: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]] = {}
    """Of each family that adds up the sum of every sample, by its name and labels."""
    for value, families in [*live.items(), *(("", families) for families in ended)]:
        for family in families:
            if family.adds_up:
                merged.setdefault(family.name, family)
                sums = totals.setdefault(family.name, {})
                for name, labels, number in family.samples:
                    key = name, tuple(labels.items())
                    sums[key] = sums.get(key, 0) + number
            elif value:
                known = merged.setdefault(family.name, Family(family.name, family.kind, family.text, []))
                known.samples.extend(
                    (name, {**labels, label: value}, number) for name, labels, number in family.samples
                )
    for name, sums in totals.items():
        samples = [(sample, dict(labels), number) for (sample, labels), number in sums.items()]
        merged[name] = Family(name, merged[name].kind, merged[name].text, samples)
    return list(merged.values())


def prometheus_text(families: Iterable[Family]) -> bytes:
    """Families in Prometheus' text format."""
    registry = CollectorRegistry()
    registry.register(_KnownFamilies(families))
    return generate_latest(registry)


class _KnownFamilies(Collector):
    def __init__(self, families: Iterable[Family]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        for family in self._families:
            metric = Metric(family.name, family.text, family.kind)
            for name, labels, value in family.samples:
                metric.add_sample(name, labels, value)
            yield metric

    def describe(self) -> Iterable[Metric]:
        return ()


def _family(metric: Metric) -> Family:
    samples = [(sample.name, dict(sample.labels), float(sample.value)) for sample in metric.samples]
    return Family(metric.name, metric.type, metric.documentation, samples)


def _counter_family(name: str, text: str, counter: Counter | LabelledCounter) -> Metric:
    if isinstance(counter, Counter):
        return CounterMetricFamily(name, text, value=counter.value)
    family = CounterMetricFamily(name, text, labels=[counter.label])
    for value, child in counter.children.items():
        family.add_metric([value], child.value)
    return family


class _ReadOnDemand:
    """What is read when somebody asks, under one name."""

    def __init__(self, text: str, labels: Labels) -> None:
        self._text = text
        self._labels = labels
        self._reads: list[Read] = []

    def add(self, read: Read) -> None:
        self._reads.append(read)

    def family(self, family_of: type[GaugeMetricFamily | CounterMetricFamily], name: str) -> Metric:
        largest: dict[tuple[str, ...], float] = {}
        for read in self._reads:
            reading = read()
            for value, number in reading.items() if isinstance(reading, Mapping) else [((), reading)]:
                labels: tuple[str, ...] = (value,) if isinstance(value, str) else value
                largest[labels] = max(number, largest.get(labels, number))
        family = family_of(name, self._text, labels=self._labels)
        for labels, number in largest.items():
            family.add_metric(labels, number)
        return family


def _buckets(histogram: Histogram) -> Iterator[tuple[str, float]]:
    below = 0
    for bound, count in zip((*map(str, histogram.bounds), "+Inf"), histogram.counts, strict=True):
        below += count
        yield bound, below
