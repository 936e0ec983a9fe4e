"""Ticks that are gone: what they did is taken from what the log says of them, each once, bars and all."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from feed.feedlog.writer import values_of
from feed.venues.source import Checkpoint, Source
from feed.venues.symbol import Rules, Tick
from feed.venues.table import venue
from feed.wire.model import Update
from tests.feed.venues.playing import T0, encode

SECOND = 1_000_000_000


def source(name: str = "a") -> Source:
    return Source(venue("acme"), f"acme/0@{name}", Rules())


def trade(random: Random, number: int, now: int) -> Any:
    late = random.choice((0, 0, 0, 1, 30)) * SECOND
    return {
        "price": str(random.randrange(10, 60)),
        "size": str(random.randrange(1, 5)),
        "side": "buy",
        "trade_id": random.choice((None, str(number))),
        "ts_event": str(now - late),
    }


def played(seed: int, count: int) -> list[Tick]:
    """Trades, some of them late, without ids or two in a tick, and quotes."""
    random, now, ticks = Random(seed), T0, []
    for seq in range(count):
        now += random.randrange(SECOND)
        quote = {"bid_price": str(seq + 1), "bid_size": "1", "ask_price": None, "ask_size": None}
        trades = [trade(random, 10 * seq + n, now) for n in range(random.choice((1, 1, 2)))]
        frame = random.choice(
            (
                {"channel": "quotes", "data": quote},
                {"channel": "trades", "data": trades},
                {"channel": "trades", "data": trades},
            )
        )
        ticks.append(Tick(seq, "X", encode(frame), now, now))
    return ticks


@pytest.mark.parametrize("seed", range(20))
def test_states_and_bars_are_those_of_the_ticks(seed: int) -> None:
    random = Random(seed)
    ticks = played(seed, 60)
    first, again, after = random.randrange(10, 40), random.randrange(5), 50
    truth = source()
    records: list[tuple[int, list[bytes]]] = []
    kept = Checkpoint(-1, [], b"")
    for tick in ticks[:after]:
        assert not truth.apply(tick)
        records.append((tick.seq - 1, values_of(truth.take())))
        if tick.seq == first:
            kept = Checkpoint(first, values_of(truth.keyframe("X")), truth.checkpoint("X"))
    found = source()
    found.restore([kept])
    for tick in ticks[first + 1 : first + 1 + again]:  # so many are still there
        found.apply(tick)
    found.wake_all()
    for before, values in records:
        for value in values:
            found.retell(value, before)
    found.cut(after - 1)
    found.take()
    assert encode(found.keyframe("X")) == encode(truth.keyframe("X"))
    for tick in ticks[after:]:
        found.apply(tick)
        truth.apply(tick)
    assert encode(found.take()) == encode(truth.take())
    assert encode(found.keyframe("X")) == encode(truth.keyframe("X"))


def test_parts_of_one_update_are_all_told_again() -> None:
    trades = [trade(Random(1), number, T0) for number in range(8000)]
    truth = source()
    truth.apply(Tick(0, "X", encode({"channel": "trades", "data": trades}), T0, T0))
    messages = truth.take()
    assert sum(isinstance(message, Update) and message.channel == "trades" for message in messages) > 1
    found = source()
    for value in values_of(messages):
        found.retell(value, -1)
    found.cut(0)
    assert encode(found.keyframe("X")) == encode(truth.keyframe("X"))
