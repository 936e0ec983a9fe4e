"""Small inputs that went wrong once, as they were kept: each is played, and what is wanted stands here.

A file of the folder that no test plays fails: whoever adds one writes what must come of it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.structs import TopicPartition

from feed.errors import BadRequest
from feed.kafka.cluster import Cluster
from feed.kafka.fetch import Fetcher
from feed.protocol.request import Subscribe, request_of, start_of
from feed.venues.symbol import Tick
from feed.venues.table import venue
from feed.wire.model import Bar, Status
from replay.captures import Captured
from replay.sinks import TickTopic
from tests.feed.venues.playing import T0, Folded, Played

Json = dict[str, Any]
BY_KAFKA: Final = "kafka-aborted-transaction-is-published"


class Case(NamedTuple):
    """A case as it was played: its text, the source after it, and what a client holds of its first symbol."""

    text: Json
    played: Played
    folded: Folded

    @property
    def other(self) -> list[Any]:
        """Data of what is neither trade nor quote nor book, in order."""
        return [update.data for update in self.folded.other]

    def book(self) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
        return self.folded.sides()


@pytest.fixture(scope="module")
def cases(data_dir: Path) -> Path:
    """The folder of cases, beside that of the captures."""
    folder = data_dir.parent / "cases"
    if not folder.is_dir():
        pytest.skip(f"NO CASES in {folder}")
    return folder


def read(folder: Path, name: str) -> Json:
    text: Json = json.loads((folder / f"{name}.json").read_text())
    return text


def played(folder: Path, name: str) -> Case:
    text = read(folder, name)
    of = Played(text["venue"])
    for seq, tick in enumerate(text["ticks"]):
        ts_recv = int(tick["ts_recv"])
        of.play([Tick(seq, tick["key"], tick["value"].encode(), ts_recv, ts_recv, tick.get("request"))])
    keys = [tick["key"] for tick in text["ticks"] if tick["key"]]
    return Case(text, of, of.symbols[keys[0]])


def late_trade(case: Case) -> None:
    bars: list[Bar] = [bar for data in case.other for bar in data if isinstance(bar, Bar) and bar.interval == "1s"]
    told = [bar for bar in bars if bar.open_time == "1700000000000000000" and bar.closed]
    assert [(bar.open, bar.close, bar.volume, bar.trades) for bar in told] == [
        ("102", "105", "2", 2),
        ("102", "105", "3", 3),
    ]


def frames_that_mean_nothing(case: Case) -> None:
    assert case.played.bad == []
    assert case.played.said == []


def third_element(case: Case) -> None:
    assert case.played.bad == []
    assert case.book() == ([("10", "1"), ("9", "2")], [("11", "1")])
    assert case.folded.states == []


def update_ids(case: Case) -> None:
    assert case.book() == ([("9.1", "1"), ("9", "1")], [("11", "1")])
    assert [(state.state, state.reason) for state in case.folded.states] == [("stale", "gap"), ("ok", None)]
    assert [quote.bid_price for quote, _ in case.folded.quotes] == ["10", "9", "9.1"]


def ticker_batch(case: Case) -> None:
    assert [(quote.bid_price, quote.ask_price) for quote, _ in case.folded.quotes] == [("10", "10.1")]


def less_of_an_instrument(case: Case) -> None:
    newest = case.played.snapshot("ABC/USD", "instruments")
    assert (newest.base, newest.quote, newest.tick_size, newest.lot_size) == ("ABC", "USD", "0.01", "0.001")
    assert case.played.snapshot("ABC/USD", "status") == Status("halt", "cancel_only")


def system_status(case: Case) -> None:
    assert case.played.snapshot("ABC/USD", "status") == Status("halt", "cancel_only")


def two_depths(case: Case) -> None:
    asks = case.book()[1]
    assert len(asks) == 12
    assert asks[0] == ("100.1", "2")


def depth_answer(case: Case) -> None:
    assert len(case.book()[1]) == 11
    assert case.folded.states == []


def odd_entry(case: Case) -> None:
    assert case.other == [Status("trading", None)]
    assert [trade.price for trade in case.folded.trades] == ["10"]
    assert all("NEW-USD" in words for _, words in case.played.bad)


def ids_begin_anew(case: Case) -> None:
    assert [trade.price for trade in case.folded.trades] == ["10", "10.1", "10.2", "20", "20.1"]


def partial_depth(case: Case) -> None:
    assert case.book()[0] == [("10", "7")]
    assert case.folded.states == []


WANTED: Final[dict[str, Callable[[Case], None]]] = {
    "bar-late-trade-takes-the-close": late_trade,
    "binance-frames-that-mean-nothing-are-dead-letters": frames_that_mean_nothing,
    "binance-levels-with-a-third-element": third_element,
    "binance-update-ids-begin-anew": update_ids,
    "coinbase-ticker-batch-blanks-the-quote": ticker_batch,
    "kraken-instrument-update-with-less": less_of_an_instrument,
    "kraken-system-status-overrides-the-pairs": system_status,
    "kraken-v1-two-depths-of-one-pair": two_depths,
    "kraken-v2-depth-answer-after-the-snapshot": depth_answer,
    "one-odd-entry-refuses-all-of-a-frame": odd_entry,
    "trade-ids-begin-anew": ids_begin_anew,
    "usdm-partial-depth-taken-as-diff": partial_depth,
}
OTHERS: Final = {"client-from-time-in-seconds", "coinbase-status-is-copied-for-each-product", BY_KAFKA}
"""Not ticks for a source: each has a test of its own below."""


@pytest.mark.parametrize("name", WANTED)
def test_what_is_wanted_comes_of_it(cases: Path, name: str) -> None:
    WANTED[name](played(cases, name))


def test_each_case_is_played(cases: Path) -> None:
    assert {path.stem for path in cases.glob("*.json")} == WANTED.keys() | OTHERS


def test_a_time_in_seconds_is_refused_by_its_unit(cases: Path) -> None:
    request = request_of(json.dumps(read(cases, "client-from-time-in-seconds")["request"]).encode())
    assert isinstance(request, Subscribe)
    with pytest.raises(BadRequest, match="seconds") as refused:
        start_of(request)
    assert refused.value.code == "bad_position"


class Appender:
    """Keeps what would be appended, numbered."""

    def __init__(self) -> None:
        self.ticks: list[tuple[int, Any]] = []

    async def append(self, partition: TopicPartition, entries: list[Any]) -> list[int]:
        self.ticks += enumerate(entries, len(self.ticks))
        return []


@pytest.mark.anyio
async def test_a_frame_of_many_products_is_one_tick_a_partition(cases: Path) -> None:
    text = read(cases, "coinbase-status-is-copied-for-each-product")
    frame = text["ticks"][0]["value"].encode()
    appender = Appender()
    topic = TickTopic(appender, "ticks.coinbase", 2, venue("coinbase").keys)  # type: ignore[arg-type]
    topic.add(Captured(T0, frame))
    await topic.flush()
    assert 1 <= len(appender.ticks) <= 2
    of = Played("coinbase")
    of.play(Tick(seq, "", value, T0, T0, None, dict(headers)["symbols"]) for seq, (_, value, headers) in appender.ticks)
    assert of.symbols.keys() == {"A00-USD", "A01-USD", "A02-USD"}
    for folded in of.symbols.values():
        assert [update.data for update in folded.other if update.channel == "status"] == [Status("trading", None)]


@pytest.mark.kafka
@pytest.mark.anyio
async def test_what_was_aborted_is_no_tick(cases: Path, kafka: str, fresh: Callable[[str], str]) -> None:
    text = read(cases, BY_KAFKA)
    topic = fresh("ticks")
    transactions: dict[str, list[Json]] = {}
    for tick in text["ticks"]:
        transactions.setdefault(tick["transaction"], []).append(tick)
    of = Played(text["venue"])
    quotes = of.symbols["TXNUSDT"].quotes
    async with Cluster(kafka) as cluster:
        await cluster.make_topics({topic: 1}, {})
        async with AIOKafkaProducer(bootstrap_servers=kafka, transactional_id=fresh("collector")) as collector:
            for name, ticks in transactions.items():
                await collector.begin_transaction()
                for tick in ticks:
                    await collector.send_and_wait(topic, tick["value"].encode(), key=tick["key"].encode(), partition=0)
                await (collector.abort_transaction() if "aborted" in name else collector.commit_transaction())
        fetcher = Fetcher(cluster, wait_ms=50, ticks=True)
        stream = fetcher.follow(TopicPartition(topic, 0), 0)

        while len(quotes) < 2:
            assert await stream.wait(10)
            of.play([Tick(raw.offset, "TXNUSDT", bytes(raw.value or b""), T0, T0, None) for raw in stream.take()])
        await fetcher.stop()
    assert [quote.bid_price for quote, _ in quotes] == ["10", "12"]
