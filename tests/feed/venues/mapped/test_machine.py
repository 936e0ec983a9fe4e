"""A venue by a mapping: what comes out, restarted after every tick, sent twice, and spoiled."""

from __future__ import annotations

import contextlib
import json
import random
from typing import Any

import msgspec
import pytest

from feed.errors import BadTick
from feed.venues.mapped.machine import mapped_venue
from feed.venues.source import Source
from feed.venues.symbol import Rules, Tick
from feed.wire.model import State, Update
from feed.wire.record import Record
from tests.feed.memory_log import Worker, updates_of
from tests.feed.venues.playing import restarted

encode = msgspec.json.encode
T0 = 1_795_467_600_131_000_000
MAPPING = """
format = "json"
symbol = { field = "sym" }

[[records]]
kind = "trades"
when = { type = "T" }
fields = { price = "px", size = "qty", side = "sd", trade_id = "id" }

[[records]]
kind = "snapshot"
when = { type = "S" }
bids = { each = "b", price = "[0]", size = "[1]" }
asks = { each = "a", price = "[0]", size = "[1]" }

[[records]]
kind = "changes"
when = { type = "C" }
each = "levels"
fields = { side = "side", price = "p", size = "s" }

[[records]]
kind = "quotes"
has = ["bid"]
fields = { bid_price = "bid", bid_size = "bidsz", ask_price = "ask" }
"""
BY_KEY = MAPPING.replace('symbol = { field = "sym" }', "")
VENUE = mapped_venue("desk", MAPPING, {})


def trade(symbol: str, number: int, **more: Any) -> dict[str, Any]:
    return {"type": "T", "sym": symbol, "px": 100 + number, "qty": 1.5, "sd": "B", "id": number, **more}


def book(symbol: str, *bids: Any) -> dict[str, Any]:
    return {"type": "S", "sym": symbol, "b": bids, "a": [[200, 1]]}


def change(*levels: tuple[str, str, Any, Any]) -> dict[str, Any]:
    named = [dict(zip(("sym", "side", "p", "s"), level, strict=True)) for level in levels]
    return {"type": "C", "levels": named}


def tick(seq: int, record: Any, key: str = "some-order") -> Tick:
    value = record if isinstance(record, bytes) else json.dumps(record).encode()
    return Tick(seq, key, value, T0 + seq * 1_000_000, T0 + seq * 1_000_000)


class Desk:
    """A source, and another one that is restarted after each of its ticks: both must say the same."""

    def __init__(self, text: str = MAPPING) -> None:
        self.venue = mapped_venue("desk", text, {})
        self.source = Source(self.venue, "desk/0@a", Rules(), is_own=lambda name: False)
        self.broken = Source(self.venue, "desk/0@a", Rules(), is_own=lambda name: False)
        self.bad: list[str] = []
        self.said: list[Any] = []
        self.seq = 0

    def __call__(self, *records: Any, key: str = "some-order") -> Desk:
        for record in records:
            one = tick(self.seq, record, key)
            try:
                self.bad += map(str, self.source.apply(one))
            except BadTick as error:
                self.bad.append(str(error))
            said = self.source.take()
            with contextlib.suppress(BadTick):
                self.broken.apply(one)
            assert encode(self.broken.take()) == encode(said)
            self.broken = restarted(self.broken, self.venue, self.seq)
            self.said += said
            self.seq += 1
        return self

    def told(self, channel: str) -> list[tuple[str, Any]]:
        return [
            (message.symbol, msgspec.json.decode(encode(message.data)))
            for message in self.said
            if isinstance(message, Update) and message.channel == channel
        ]

    def stale(self) -> list[str]:
        return [str(message.symbol) for message in self.said if isinstance(message, State) and message.state == "stale"]


def test_records_of_any_key_are_of_the_symbols_that_they_name() -> None:
    desk = Desk()(trade("A", 1), book("A", [1, 2]), book("B"), change(("A", "bid", 1, 0), ("B", "b", 5, 6)))
    assert desk.bad == []
    wanted = {"price": "101", "size": "1.5", "side": "buy", "trade_id": "1", "ts_event": None}
    assert desk.told("trades") == [("DESK:A", [wanted])]
    assert desk.told("book")[2:] == [
        ("DESK:A", {"bids": [["1", "0"]], "asks": []}),
        ("DESK:B", {"bids": [["5", "6"]], "asks": []}),
    ]


def test_a_trade_sent_twice_is_known_by_its_id() -> None:
    desk = Desk()(trade("A", 1), trade("A", 1), trade("A", 2), trade("A", 1))
    assert [data[0]["trade_id"] for _, data in desk.told("trades")] == ["1", "2"]


def test_a_record_may_speak_by_its_key() -> None:
    desk = Desk(BY_KEY)(trade("?", 1), {"bid": 5, "ask": None}, key="K")
    assert {name for name, _ in desk.told("quotes") + desk.told("trades")} == {"DESK:K"}
    desk(trade("?", 2), key="")
    assert "without a symbol" in desk.bad[0]
    with pytest.raises(BadTick, match="without a key"):
        desk.venue.keys(b"{}")
    assert VENUE.keys(json.dumps(trade("A", 1)).encode()) == ["A"]


def test_an_odd_entry_costs_its_channel_of_its_symbol() -> None:
    desk = Desk()(book("A"), book("B"), change(("A", "x", 1, 1), ("B", "bid", 1, 1)))
    assert desk.stale() == ["DESK:A"]
    assert "wanted bid or ask" in desk.bad[0]
    assert desk.told("book")[-1] == ("DESK:B", {"bids": [["1", "1"]], "asks": []})
    desk(book("A"), change(("A", "bid", 1, 1), ("A", "y", 1, 1), ("A", "z", 1, 1)))
    assert desk.bad[1].count("wanted bid or ask") == 2
    desk(book("A", [3, 1], [4, 1]), {"bid": 1, "sym": "A"}, {"bid": "x", "sym": "A"})
    assert desk.bad[2].startswith("entry of A: ")


def test_a_record_that_cannot_be_read_puts_all_in_doubt_of_which_it_may_be() -> None:
    desk = Desk()(book("A"), book("B"), trade("A", 1), b"{", trade("A", 2), book("A"))
    assert desk.stale() == ["DESK:A", "DESK:B"]
    assert len(desk.bad) == 1
    by_key = Desk(BY_KEY)(book("A"), key="A")(book("B"), key="B")
    by_key(b"{", key="B")
    assert by_key.stale() == ["DESK:B"]


def test_a_restart_after_every_tick_and_spoiled_records_change_no_byte() -> None:
    chance = random.Random(7)
    for _ in range(3):
        desk = Desk()
        for number in range(60):
            symbol = chance.choice("ABC")
            made = chance.choice(
                [
                    trade(symbol, chance.randrange(20)),
                    book(symbol, [chance.randrange(9), 1]),
                    change((symbol, chance.choice(["bid", "ask", "x"]), number, 1), ("A", "ask", number, 0)),
                    {"bid": chance.choice([None, 1, "x"]), "sym": symbol},
                    {"type": "?"},
                ]
            )
            value = json.dumps(made).encode()
            desk(value if chance.random() < 0.9 else value[: chance.randrange(len(value))])


def test_keyframes_of_different_ages_change_no_byte() -> None:
    chance = random.Random(11)
    records = [
        chance.choice(
            [
                trade(chance.choice("ABC"), number),
                book(chance.choice("ABC"), [number, 1]),
                change((chance.choice("ABC"), "bid", number, 1)),
                {"type": "?"},
            ]
        )
        for number in range(150)
    ]
    played = [tick(seq, record) for seq, record in enumerate(records)]
    unbroken: list[Record] = []
    Worker(VENUE, unbroken, played, source="desk/0@a").run([len(played)])
    log: list[Record] = []
    for number, _ in enumerate(played):
        Worker(VENUE, log, played, source="desk/0@a", ratio=0.05 if number % 40 < 20 else 1.0).run([1])
    assert updates_of(log) == updates_of(unbroken)
    assert any(b'"stale"' in record.value for record in unbroken)


def test_bad_records_in_a_row_look_at_a_symbol_once() -> None:
    desk = Desk()(book("A"), book("B"))
    looked: list[str] = []
    for name in "AB":
        machine = desk.source._symbols[name][1]
        machine.refused = lambda tick, name=name: looked.append(name)  # type: ignore[method-assign, misc]
    for seq in range(2, 6):
        with pytest.raises(BadTick):
            desk.source.apply(tick(seq, b"{"))
    assert looked == ["A", "B"]
    desk.source.apply(tick(6, trade("B", 1)))
    with pytest.raises(BadTick):
        desk.source.apply(tick(7, b"{"))
    assert looked == ["A", "B", "B"]


def test_the_venue_has_the_version_of_its_mapping() -> None:
    assert VENUE.version
    assert VENUE.version != mapped_venue("desk", BY_KEY, {}).version
    assert VENUE.venue_status(b"") is None
