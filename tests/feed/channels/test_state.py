"""Folding: the bytes of the normalizer's keyframe, from any keyframe before and the updates since."""

from __future__ import annotations

import random
from typing import Any

import pytest

from feed.channels.channel import NOTHING
from feed.channels.state import Folded, FoldRules, empty, fold, folding
from feed.errors import CorruptLog
from feed.wire.message import JOINT, split, whole
from feed.wire.model import KINDS, Book, Instrument, Kind, Quote, Status, Trade
from tests.truth import TrueSource, some_data

RULES = FoldRules()


def folded(source: TrueSource, kind: Kind, start: Folded, entries: list[bytes], last: int = 0) -> list[bytes]:
    result = fold(kind, "X:A", source.source, start, entries, RULES, last)
    return [one for message in result.messages for one in whole(message)]


def keyframe(source: TrueSource, kind: Kind) -> Folded:
    messages = split(b"[" + b",".join(source.snapshot(kind, "X:A")) + b"]")
    return Folded(source.truths[kind, "X:A"].seq, messages, None, source.truths[kind, "X:A"].seq)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(5))
def test_a_fold_from_anywhere_has_the_bytes_of_the_keyframe(kind: Kind, seed: int) -> None:
    chooser = random.Random(seed)
    source = TrueSource("x/0@a")
    starts = [(NOTHING, 0)]
    entries: list[bytes] = []
    for number in range(60):
        source.tick([(kind, "X:A", some_data(kind, number + chooser.randrange(3)))], parts=number % 7 == 0)
        _, _, value = source.record()
        entries.append(b'},{"type":"'.join(split(value)))
        starts.append((keyframe(source, kind), len(entries)))
        start, done = chooser.choice(starts)
        assert folded(source, kind, start, entries[done:]) == source.snapshot(kind, "X:A")


def test_a_book_is_sorted_by_exact_price_best_first() -> None:
    prices = ["9", "10", "9.5", "100000000000000000.2", "100000000000000000.1", "0.000000000000000001", "99"]
    source = TrueSource("x/0@a")
    source.tick([("book", "X:A", Book([(price, "1") for price in prices], [(price, "1") for price in prices]))])
    _, _, value = source.record()
    assert folded(source, "book", NOTHING, split(value)) == source.snapshot("book", "X:A")


def test_a_large_book_is_folded_into_the_same_parts() -> None:
    source = TrueSource("x/0@a")
    levels = [(f"{number}.{number % 9 + 1}", f"{number}.123456789") for number in range(1, 20_000)]
    source.tick([("book", "X:A", Book(levels, []))])
    _, _, value = source.record()
    start = fold("book", "X:A", source.source, NOTHING, [b'},{"type":"'.join(split(value))], RULES)
    assert len(start.messages) > 1
    source.tick([("book", "X:A", Book([("5.6", "0")], [("30000", "1")]))])
    _, _, value = source.record()
    assert folded(source, "book", start, split(value)) == source.snapshot("book", "X:A")


def test_history_ends_with_the_first_live_trade() -> None:
    source = TrueSource("x/0@a")
    source.history("X:A", [Trade("1", "1", None, "old", None)])
    start = keyframe(source, "trades")
    assert start.seq == -1
    assert folded(source, "trades", start, []) == source.snapshot("trades", "X:A")
    source.tick([("trades", "X:A", [Trade("2", "1", None, "new", None)])])
    _, _, value = source.record()
    (snapshot,) = folded(source, "trades", start, split(value))
    assert b"new" in snapshot
    assert b"old" not in snapshot


def test_the_last_trades_and_the_last_bars_of_each_interval() -> None:
    source = TrueSource("x/0@a")
    for number in range(12):
        source.tick([("trades", "X:A", some_data("trades", number)), ("bars", "X:A", some_data("bars", number))])
    _, _, value = source.record()
    messages = split(value)
    (trades,) = folded(source, "trades", NOTHING, [m for m in messages if b'"trades","symbol"' in m], last=3)
    assert trades.count(b'"trade_id"') == 3
    (bars,) = folded(source, "bars", NOTHING, [m for m in messages if b'"bars","symbol"' in m], last=2)
    assert bars.count(b'"1s"') == bars.count(b'"1m"') == 2


def test_a_state_that_is_not_ok_stays_until_it_is() -> None:
    source = TrueSource("x/0@a")
    source.tick([("book", "X:A", Book([("1", "1")], []))])
    source.stale("X:A", "checksum", skip=0)
    source.stale("X:A", "gap")
    _, _, value = source.record()
    stale = fold("book", "X:A", source.source, NOTHING, split(value), RULES)
    assert stale.state is not None
    assert b'"gap"' in stale.state
    assert (stale.seq, stale.covers) == (0, 1)
    source.stale("X:A", None)
    _, _, value = source.record()
    ok = fold("book", "X:A", source.source, stale, split(value), RULES)
    assert ok.state is None
    assert (ok.seq, ok.covers) == (0, 2)


def test_what_cannot_be_read_is_our_own_fault_and_loud() -> None:
    with pytest.raises(CorruptLog):
        fold("book", "X:A", "x/0@a", NOTHING, [b'update","seq":5,"data":{"bids":7}'], RULES)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(8))
def test_many_entries_fold_as_one_after_the_other(kind: Kind, seed: int) -> None:
    chooser = random.Random(seed)
    source, rules = TrueSource("x/0@a"), FoldRules(trades_kept=5)
    entries: list[bytes] = []
    for number in range(40):
        if chooser.random() < 0.2:
            source.stale("X:A", chooser.choice(["gap", "checksum", None]))
        else:
            source.tick([(kind, "X:A", some_data(kind, number))])
        if chooser.random() < 0.8:
            _, _, value = source.record()
            # only books are stale so far: nothing depends on it
            messages = split(value.replace(b'"channel":"book"', b'"channel":"%b"' % kind.encode()))
            entries += [b'},{"type":"'.join(messages)] if messages and chooser.random() < 0.2 else messages
    step = NOTHING
    for entry in entries:
        step = fold(kind, "X:A", source.source, step, [entry], rules)
    assert fold(kind, "X:A", source.source, NOTHING, entries, rules) == step
    cut = chooser.randrange(len(entries))
    begun = fold(kind, "X:A", source.source, NOTHING, entries[:cut], rules)
    assert fold(kind, "X:A", source.source, begun, entries[cut:], rules) == step


def test_updates_without_trades_do_not_hide_older_trades() -> None:
    source, rules = TrueSource("x/0@a"), FoldRules(trades_kept=1)
    for number in range(5):
        source.tick([("trades", "X:A", some_data("trades", number))])
    _, _, value = source.record()
    entries = split(value)
    entries[-1] = entries[-1][: entries[-1].index(b'"data":')] + b'"data":[]'
    (found,) = fold("trades", "X:A", source.source, NOTHING, entries, rules).messages
    assert found.count(b'"trade_id"') == 1


@pytest.mark.parametrize("seed", range(4))
def test_a_large_book_is_folded_in_steps_whatever_changes(seed: int) -> None:
    """Levels that go, change and come, a few and very many, at exact prices of any length and sign."""
    chooser = random.Random(seed)
    prices = [f"{number / 16:.4f}".rstrip("0").rstrip(".") for number in range(-20_000, 20_000)]
    prices = [price for price in prices if price != "-0"]
    if seed % 2:
        prices += [f"{number}.000000000000000{digit}" for number in range(2_000) for digit in (1, 2)]
    source = TrueSource("x/0@a")
    source.tick([("book", "X:A", Book([(p, "1") for p in chooser.sample(prices, 30_000)], []))])
    _, _, value = source.record()
    start = fold("book", "X:A", source.source, NOTHING, [b'},{"type":"'.join(split(value))], RULES)
    for count in (3, 300, 20_000):
        sizes = [chooser.choice(["0", "2"]) for _ in range(count)]
        source.tick([("book", "X:A", Book(list(zip(chooser.sample(prices, count), sizes, strict=True)), []))])
        _, _, value = source.record()
        entries = [b'},{"type":"'.join(split(value))]
        steps = folding("book", "X:A", source.source, start, entries, RULES)
        assert sum(1 for _ in steps) > 5
        start = fold("book", "X:A", source.source, start, entries, RULES)
        assert [one for message in start.messages for one in whole(message)] == source.snapshot("book", "X:A")


@pytest.mark.parametrize(
    ("kind", "nothing"),
    [
        ("trades", []),
        ("bars", []),
        ("quotes", Quote(None, None, None, None)),
        ("book", Book([], [])),
        ("status", Status("unknown", None)),
        ("instruments", Instrument("x", "A", None, None, None, None, None, [])),
    ],
)
def test_of_what_nothing_is_known_there_is_a_snapshot_too(kind: Kind, nothing: Any) -> None:
    assert empty(kind, "X:A") == nothing


def test_a_hole_that_goes_out_with_an_update_changes_no_state() -> None:
    source = TrueSource("x/0@a")
    for number in range(2):
        source.tick([("trades", "X:A", some_data("trades", number))], hole=True)
    _, _, value = source.record()
    messages = split(value)
    assert len(messages) == 4
    assert folded(source, "trades", NOTHING, [JOINT.join(messages[:2]), JOINT.join(messages[2:])]) == source.snapshot(
        "trades", "X:A"
    )
