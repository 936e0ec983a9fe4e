"""Prices below zero and at zero, on their whole way: our own tick, snapshots and views of a gateway, recordings, files.

Random canonical ticks; the model is a dict of Decimals for each side. What a gateway folds is the normalizer's
keyframe, what a recording gives back is the live stream, byte for byte, and levels are in the order of their numbers.
"""

from __future__ import annotations

import csv
import io
import random
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import replay
from feed.channels.distributor import Distributor
from feed.channels.hub import Hub, HubSettings
from feed.channels.steps import whole
from feed.protocol.session import Session, SessionSettings
from feed.venues.source import Source
from feed.venues.symbol import Rules, Tick
from feed.venues.table import venue
from feed.wire.model import Book, Snapshot
from feed.wire.record import Record
from replay.exporting import export
from tests.feed.memory_log import Worker, updates_of
from tests.feed.recorder.tape import Log, Tape
from tests.feed.venues.playing import T0, Folded
from tests.reference_client import Client, payloads

NAME = "SPREAD"
SYMBOL = f"ACME:{NAME}"
DEPTHS = (1, 2, 3)
encode = msgspec.json.encode
EDGES = (
    "-37.63",
    "0",
    "-0.5",
    "0.5",
    "-0.000000000000000001",
    "-0.00000012",
    "0.00000012",
    "-" + "9" * 20,
    "-" + "9" * 20 + ".5",
    "-" + "9" * 19 + "8",
    "-100",
    "-10",
)
PRICES = st.one_of(
    st.sampled_from(EDGES),
    st.integers(-9, 9).map(str),
    st.decimals(-(10**20) + 1, 10**20 - 1, places=18, allow_nan=False).map(lambda number: format(number, "f")),
    st.decimals(-50, 50, places=2).map(lambda number: format(number, "f")),
)
SIZES = st.sampled_from(["0", "1", "2.50", "0.000000000000000001", "9" * 20])
LEVELS = st.lists(st.tuples(PRICES, SIZES), max_size=6)
BOOKS = st.tuples(st.just("book"), st.fixed_dictionaries({"bids": LEVELS, "asks": LEVELS}), st.booleans())
TRADES = st.tuples(
    st.just("trades"),
    st.lists(
        st.fixed_dictionaries(
            {
                "price": PRICES,
                "size": st.just("1"),
                "side": st.none(),
                "trade_id": st.none(),
                "ts_event": st.integers(0, 3 * 10**9).map(lambda later: str(T0 + later)),
            }
        ),
        min_size=1,
        max_size=3,
    ),
    st.none(),
)
QUOTES = st.tuples(
    st.just("quotes"),
    st.fixed_dictionaries({"bid_price": PRICES, "bid_size": SIZES, "ask_price": PRICES, "ask_size": SIZES}),
    st.none(),
)
STEPS = st.lists(st.one_of(BOOKS, BOOKS, TRADES, QUOTES), min_size=1, max_size=12)


def ticks_of(steps: list[tuple[str, Any, bool | None]]) -> list[Tick]:
    """Own ticks, 700 ms apart, so that bars close between them; the first book is a snapshot."""
    made = []
    for seq, (channel, data, snapshot) in enumerate(
        [
            ("book", {"bids": [["-1", "1"]], "asks": [["1", "1"]]}, True),
            *steps,
            ("quotes", {**dict.fromkeys(("bid_price", "bid_size", "ask_price", "ask_size"))}, None),
        ]
    ):
        time = T0 + 700_000_000 * seq
        body = {"channel": channel, "data": data} | ({} if snapshot is None else {"snapshot": snapshot})
        made.append(Tick(seq, NAME, encode(body), time, time))
    return made


class Gateway:
    """A hub with a client of the whole book and one of each depth."""

    def __init__(self) -> None:
        self.hub = Hub(HubSettings())
        self.distributor = Distributor(self.hub)
        self.pos = -1
        self.clients: dict[int, Client] = {}
        for depth in (0, *DEPTHS):
            session_settings = SessionSettings(requests_burst=100, depth=DEPTHS)
            client = self.clients[depth] = Client()
            session = Session(self.distributor, client, session_settings)
            self.take(client, session.open(1))
            request: dict[str, Any] = {
                "op": "subscribe",
                "channels": ["book", "trades", "quotes", "bars"],
                "symbols": ["*"],
            }
            if depth:
                request = {**request, "channels": ["book"], "depth": depth}
            self.take(client, session.receive(client.ask(request), 1))
            while session.under_way:
                self.take(client, session.wake(1))

    def take(self, client: Client, frames: bytes) -> None:
        for payload in payloads(frames):
            client.receive(payload)

    def read(self, last: int, messages: list[Any]) -> None:
        self.hub.data("acme/0@a", self.pos, last, encode(messages), last + 1)
        self.pos = last
        if self.distributor.flush(T0 + last):
            for buffer, readers in self.distributor.fan_out():
                for reader in readers:
                    self.take(reader.owner, buffer)  # type: ignore[arg-type]  # a client is the owner


def best(side: dict[Decimal, str], depth: int, *, highest: bool) -> dict[str, str]:
    prices = sorted(side, reverse=highest)[: depth or None]
    return {text(price): side[price] for price in prices}


def text(number: Decimal) -> str:
    plain = format(number, "f")
    return plain.rstrip("0").rstrip(".") if "." in plain else plain


@settings(max_examples=60)
@given(STEPS)
def test_a_gateway_holds_and_shows_what_the_numbers_say(steps: list[tuple[str, Any, bool | None]]) -> None:
    source, gateway, model = Source(venue("acme"), "acme/0@a", Rules()), Gateway(), Folded()
    for tick in ticks_of(steps):
        assert not source.apply(tick)
        messages = source.take()
        for message in messages:
            model.apply(message)  # type: ignore[arg-type]  # no snapshots are among them
        gateway.read(tick.seq, messages)
        for depth, client in gateway.clients.items():
            wanted = best(model.bids, depth, highest=True), best(model.asks, depth, highest=False)
            assert client.channel("book", SYMBOL).book() == wanted, depth
    for kept in source.keyframe(NAME):
        assert isinstance(kept, Snapshot)
        assert whole(gateway.hub.snapshot(kept.channel, SYMBOL)) == [encode(kept)]
        if isinstance(kept.data, Book):
            bids, asks = ([Decimal(price) for price, _ in side] for side in (kept.data.bids, kept.data.asks))
            assert bids == sorted(bids, reverse=True)
            assert asks == sorted(asks)
            assert all(size != "0" and price != "-0" for price, size in kept.data.bids + kept.data.asks)


def random_steps(chance: random.Random, count: int) -> list[tuple[str, Any, bool | None]]:
    def price() -> str:
        kind = chance.randrange(4)
        if kind == 0:
            return chance.choice(EDGES)
        return (
            format(Decimal(chance.randrange(-(10 ** chance.randrange(1, 38)), 10**37)).scaleb(-18), "f")
            if kind == 1
            else (f"{chance.randrange(-9, 9)}.{chance.randrange(100):02}")
        )

    def levels() -> list[list[str]]:
        return [[price(), chance.choice(("0", "1", "2.5"))] for _ in range(chance.randrange(5))]

    steps: list[tuple[str, Any, bool | None]] = []
    for number in range(count):
        kind = chance.randrange(4)
        if kind < 2:
            steps.append(("book", {"bids": levels(), "asks": levels()}, chance.random() < 0.1))
        elif kind == 2:
            trade = {"price": price(), "size": "1", "side": None, "trade_id": str(number), "ts_event": str(T0 + number)}
            steps.append(("trades", [trade], None))
        else:
            steps.append(
                ("quotes", {"bid_price": price(), "bid_size": "1", "ask_price": price(), "ask_size": None}, None)
            )
    return steps


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_a_recording_gives_back_the_stream_and_its_numbers(tmp_path: Path, seed: int) -> None:
    print("seed", seed)
    ticks = ticks_of(random_steps(random.Random(seed), 200))
    log: list[Record] = []
    Worker(venue("acme"), log, ticks, source="acme/0@a").run([7] * len(ticks))
    tape = Tape(tmp_path / "recordings", [Log("acme/0", log)])
    tape.play()
    tape.end()
    opened = replay.open(str(tmp_path / "recordings"))
    stream = updates_of(log)
    assert sorted(opened.messages()) == sorted(stream)
    told = [msgspec.json.decode(message) for message in stream]
    prices = [trade["price"] for m in told if m["channel"] == "trades" for trade in m["data"]]
    assert any(price.startswith("-") for price in prices)
    table = opened.trades()
    assert [text(number) for number in table.column("price").to_pylist()] == prices
    assert [float(price) for price in prices] == replay.floats(table).column("price").to_pylist()
    in_duckdb = duckdb.from_arrow(table).select("price").fetchall()
    assert [text(number) for (number,) in in_duckdb] == prices
    assert [text(number) for number in pl.from_arrow(table)["price"].to_list()] == prices  # type: ignore[union-attr,index]
    assert [text(number) for number in table.to_pandas()["price"]] == prices
    export(opened, "trades", tmp_path / "trades.csv", "csv")
    rows = list(csv.DictReader(io.StringIO((tmp_path / "trades.csv").read_text())))
    assert [row["price"] for row in rows] == prices
    model = Folded()
    source = Source(venue("acme"), "acme/0@a", Rules())
    for tick in ticks:
        source.apply(tick)
        for message in source.take():
            model.apply(message)  # type: ignore[arg-type]  # no snapshots are among them
    book = opened.book_at(SYMBOL, T0 + 10**15)
    assert [(text(price), text(size)) for price, size in book.bids] == model.sides()[0]
    assert [(text(price), text(size)) for price, size in book.asks] == model.sides()[1]
