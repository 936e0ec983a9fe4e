"""The arithmetic of the benchmark: histograms, the search for a top rate, ratios, the market that is played."""

from __future__ import annotations

import json
import random
from itertools import chain

import pytest

from tests.bench.dialects import frame
from tests.bench.figures import Figure, Result
from tests.bench.latency import histogram_of, merged, told
from tests.bench.market import PARTITIONS, Corpus, stamped
from tests.bench.parts import PARTS
from tests.bench.search import TopRate
from tests.bench.yardstick import REFERENCE_ENCODE_US, slowness

# ---- latencies


def test_percentiles_are_those_of_the_times() -> None:
    found = told(histogram_of(range(1_000_000, 101_000_000, 100_000)))
    assert found is not None
    assert found["samples"] == 1000
    assert found["p50_ms"] == pytest.approx(51, rel=0.01)
    assert found["p99_ms"] == pytest.approx(100, rel=0.01)
    assert found["max_ms"] == pytest.approx(100.9, rel=0.01)


def test_times_out_of_range_count_at_its_ends() -> None:
    found = told(histogram_of([-5, 0, 10**15]))
    assert found is not None
    assert found["samples"] == 3
    assert found["max_ms"] == pytest.approx(60_000, rel=0.01)


def test_no_times_say_nothing() -> None:
    assert told(histogram_of([])) is None


def test_merged_histograms_are_the_histogram_of_all_times() -> None:
    chooser = random.Random(1)
    times = [[int(chooser.expovariate(1) * 5_000_000) for _ in range(size)] for size in (10, 1000, 333)]
    apart = [told(histogram_of(some)) for some in times]
    together = told(histogram_of(chain(*times)))
    assert told(merged(one["hdr"] for one in apart if one)) == together


# ---- the search for a top rate


class Server:
    """Carries rates up to its capacity; the more it has, the less each update costs, as with shared writes."""

    def __init__(self, capacity: float) -> None:
        self.capacity = capacity
        self.tried: list[float] = []

    def search(self, first: float, tries: int) -> TopRate:
        top = TopRate(first, tries=tries)
        while (rate := top.next) is not None:
            self.tried.append(rate)
            share = min(1.0, (rate / self.capacity) ** 0.8)
            carried = rate <= self.capacity
            top.told(rate, carried=carried, share=share, delivered=1.0 if carried else self.capacity / rate)
        return top


@pytest.mark.parametrize("capacity", [700, 5_000, 10_000, 11_000, 28_000, 60_000])
def test_a_search_comes_near_the_capacity_in_few_tries(capacity: float) -> None:
    server = Server(capacity)
    best = server.search(10_000, 6).best
    assert best is not None
    assert 0.85 * capacity <= best <= capacity
    assert len(server.tried) <= 6


def test_a_search_without_any_good_try_has_no_best() -> None:
    assert Server(1).search(1_000_000_000, 1).best is None


def test_a_search_ends_where_a_server_does_not_do_again_what_it_did() -> None:
    top = TopRate(100, tries=9)
    top.told(100, carried=True, share=0.5, delivered=1)
    top.told(90, carried=False, share=0.5, delivered=0.5)
    assert top.next is None
    assert top.best == 100


def test_a_server_that_brings_nothing_is_still_asked_for_something() -> None:
    top = TopRate(100, tries=9)
    top.told(100, carried=False, share=1, delivered=0.05)
    assert top.next == pytest.approx(4.5)


# ---- ratios


def test_a_ratio_of_one_reaches_the_target_whichever_way_is_better() -> None:
    assert Result(Figure("rate", "/s", 100), 150).ratio == 1.5
    assert Result(Figure("time", "ms", 100, less_is_better=True), 50).ratio == 2
    assert Result(Figure("lost", "", 0, less_is_better=True), 0).ratio == float("inf")
    assert Result(Figure("told", "s"), 7).ratio is None


def test_only_what_goes_with_the_speed_of_python_is_corrected() -> None:
    slow = slowness(2 * REFERENCE_ENCODE_US)
    assert slow == 2
    assert Result(Figure("rate", "/CPU-s", 100, of_python=True), 60).corrected(slow) == pytest.approx(1.2)
    assert Result(Figure("time", "ms", 5, less_is_better=True, of_python=True), 8).corrected(slow) == 1.25
    assert Result(Figure("memory", "KiB", 24, less_is_better=True), 30).corrected(slow) is None


def test_doubts_are_named() -> None:
    figure = Figure("rate", "/s", 1)
    assert Result(figure, 1).doubt == ""
    assert Result(figure, 1, others_cores=0.9).doubt == "DISTURBED"
    assert Result(figure, 1, valid=False, others_cores=0.9).doubt == "INVALID"


def test_every_figure_and_every_part_has_a_name_of_its_own() -> None:
    figures = [figure.name for part in PARTS for figure in part.figures]
    assert len(set(figures)) == len(figures)
    assert len({part.name for part in PARTS}) == len(PARTS)


# ---- what is played


def test_updates_have_150_to_230_bytes_and_their_times() -> None:
    lots = Corpus(100, 25).lots(2000)
    values = [stamped(value, 7, 8) for lot in lots for _, value, headers in lot.entries if ("kind", b"data") in headers]
    updates = [update for value in values for update in json.loads(value)]
    assert len(updates) == sum(lot.updates for lot in lots) == 2000
    assert {(update["ts_event"], update["ts_recv"]) for update in updates} == {("7", "8")}
    sizes = [len(value) + 36 * len(json.loads(value)) for value in values]  # times of a digit are 18 bytes short each
    assert 150 <= sum(sizes) / len(updates) <= 230


def test_a_longer_play_begins_as_a_shorter_one() -> None:
    corpus = Corpus(8, 4)
    short = corpus.lots(40)
    assert corpus.lots(80)[: len(short)] == short
    assert Corpus(8, 4).lots(40) == short
    assert [lot.partition for lot in short[:5]] == [0, 1, 2, 3, 0]
    assert {lot.partition for lot in corpus.opening} == set(range(PARTITIONS))


@pytest.mark.parametrize(("size", "head"), [(125, 2), (126, 4), (65535, 4), (65536, 10)])
def test_a_clients_frame_is_masked_with_zeros(size: int, head: int) -> None:
    made = frame(b"x" * size)
    assert len(made) == head + 4 + size
    assert made[1] & 0x80
    assert made.endswith(bytes(4) + b"x" * size)
