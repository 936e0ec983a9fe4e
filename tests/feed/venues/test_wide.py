"""Frames without a key: of several symbols, taken apart; and of the venue as a whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from feed.errors import BadTick
from feed.venues import coinbase_exchange
from feed.venues.now import ALL
from feed.venues.source import Checkpoint, Source
from feed.venues.symbol import Rules, Tick
from feed.venues.table import venue
from feed.wire.model import Status
from tests.feed.venues.playing import Feeder

T0 = 1_700_000_000_000_000_000
encode = msgspec.json.encode


def written(source: Source, at: int, *names: str) -> list[Checkpoint]:
    """What a normalizer has written down of these after tick `at`."""
    return [Checkpoint(at, [encode([m]) for m in source.keyframe(name)], source.checkpoint(name)) for name in names]


def products(*entries: Any) -> dict[str, Any]:
    named = [{"id": entry, "status": "online"} if isinstance(entry, str) else entry for entry in entries]
    return {"type": "status", "currencies": [], "products": named}


def coinbase(is_own: Callable[[str], bool] = lambda name: True, rules: Rules = Rules()) -> Source:
    return Source(venue("coinbase"), "coinbase/0@a", rules, is_own=is_own)


def tick(frame: Any, *, key: str = "", symbols: bytes | None = None, seq: int = 0) -> Tick:
    value = frame if isinstance(frame, bytes) else encode(frame)
    return Tick(seq, key, value, T0 + seq, T0 + seq, None, symbols)


def told(source: Source) -> list[tuple[str, str]]:
    """The symbols and actions of status updates since the last look."""
    return [
        (message.symbol.partition(":")[2], message.data.action)  # type: ignore[union-attr]
        for message in source.take()
        if getattr(message, "channel", None) == "status"
    ]


def test_a_frame_without_a_key_speaks_of_all_its_symbols() -> None:
    source = coinbase()
    assert list(source.apply(tick(products("B-USD", "A-USD")))) == []
    assert told(source) == [("B-USD", "trading"), ("A-USD", "trading")]
    assert source.born == [("B-USD", -1), ("A-USD", -1)]
    source.apply(tick(products({"id": "A-USD", "status": "offline"}, "C-USD"), seq=1))
    assert told(source) == [("A-USD", "halt"), ("C-USD", "trading")]


def test_the_header_says_which_of_them_are_meant() -> None:
    source = coinbase(lambda name: False)
    source.apply(tick(products("A-USD", "B-USD", "C-USD"), symbols=b'["C-USD","A-USD","Z-USD"]'))
    assert told(source) == [("A-USD", "trading"), ("C-USD", "trading")]
    assert sorted(source) == ["A-USD", "C-USD"]
    source.apply(tick(products("B-USD"), symbols=b"[]", seq=1))
    assert sorted(source) == ["A-USD", "C-USD"]


def test_without_the_header_those_that_are_known_or_of_this_partition_are_meant() -> None:
    source = coinbase(lambda name: name == "B-USD")
    source.apply(tick({"type": "heartbeat", "product_id": "A-USD"}, key="A-USD"))
    source.apply(tick(products("A-USD", "B-USD", "C-USD"), seq=1))
    assert told(source) == [("A-USD", "trading"), ("B-USD", "trading")]


def test_a_key_says_that_its_symbol_alone_is_meant() -> None:
    source = coinbase()
    source.apply(tick(products("A-USD", "B-USD"), key="B-USD"))
    assert told(source) == [("B-USD", "trading")]


@pytest.mark.parametrize("header", [b"", b"A-USD", b"{}", b"[1]", b'["A-USD"', b"\xff", b"[" * 100_000, b'["\\ud800"]'])
def test_a_header_that_cannot_be_read_makes_the_tick_bad(header: bytes) -> None:
    source = coinbase()
    with pytest.raises(BadTick, match="symbols"):
        source.apply(tick(products("A-USD", "B-USD"), symbols=header))
    assert list(source) == source.take() == []


def test_a_frame_of_one_symbol_that_is_not_ours_is_not_lost_without_a_word() -> None:
    frame = {"type": "ticker", "product_id": "A-USD", "sequence": 5, "best_bid": "1", "best_ask": "2"}
    other = coinbase(lambda name: False)
    with pytest.raises(BadTick, match="A-USD"):
        other.apply(tick(frame))
    source = coinbase()
    source.apply(tick(frame))
    assert [message.symbol for message in source.take()] == ["COINBASE:A-USD"]  # type: ignore[union-attr]


def test_an_answer_without_a_key_is_not_lost_without_a_word() -> None:
    source = Source(venue("binance"), "binance/0@a", Rules())
    depth = tick({"lastUpdateId": 5, "bids": [], "asks": []})
    source.apply(depth)  # a partial book means nothing
    with pytest.raises(BadTick, match="without a key"):
        source.apply(msgspec.structs.replace(depth, request="https://x/api/v3/depth?symbol=A"))


def test_an_odd_entry_is_skipped_alone_and_named() -> None:
    source = coinbase()
    book = {"channel": "l2_data", "events": [{"type": "snapshot", "product_id": name, "updates": []} for name in "AB"]}
    source.apply(tick(book))
    odd = [{"type": "update", "product_id": "A", "updates": []}, {"type": "odd", "product_id": "B", "updates": []}]
    bad = source.apply(tick({"channel": "l2_data", "events": [*odd, {**odd[1], "product_id": "NEW"}]}, seq=1))
    assert [str(error).partition(":")[0] for error in bad] == ["entry of B", "entry of NEW"]
    states = [(m.symbol, m.state, m.reason) for m in source.take() if hasattr(m, "state")]
    assert states == [("COINBASE:B", "stale", "gap")]
    assert sorted(source) == ["A", "B"]
    assert source.counts.bad_entries == 2


def test_names_that_cannot_be_symbols_are_odd_entries() -> None:
    source = coinbase(rules=Rules(symbols_max=2))
    bad = source.apply(tick(products("A", "*", "x" * 65, "a\nb", "B", "C")))
    assert sorted(source) == ["A", "B"]
    assert [str(error)[:40] for error in bad] == [
        "entry of '*': key '*' is a pattern, want",
        f"entry of '{'x' * 30}",
        "entry of 'a\\nb': key of 3 characters, wa",
        "entry of 'C': symbol C is one more than ",
    ]
    for key in ("*", "C"):
        with pytest.raises(BadTick):
            source.apply(tick(products(key), key=key, seq=1))


def test_a_frame_of_many_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """700 products: what is read is one frame, not one for each of them."""
    read: list[int] = []
    outer = coinbase_exchange._RAW_STATUS

    def counted(frame: bytes) -> Any:
        read.append(len(frame))
        return outer(frame)

    monkeypatch.setattr(coinbase_exchange, "_RAW_STATUS", counted)
    source = coinbase()
    frame = products(*(f"A{number}-USD" for number in range(700)))
    source.apply(tick(frame))
    source.apply(tick(frame, seq=1))
    assert len(read) == 2
    assert len(list(source)) == 700


@pytest.mark.parametrize(
    ("ts_recv", "found"),
    [
        (0, "looks like seconds"),
        (1_700_000_000, "looks like seconds"),
        (1_700_000_000_000, "looks like milliseconds"),
        (1_700_000_000_000_000, "looks like microseconds"),
        (631_151_999_999_999_999, "looks like nanoseconds before 1990"),
        (-1, "cannot be read"),
        (T0 + 61_000_000_000, "wanted at most a little after"),
    ],
)
def test_a_time_of_receiving_of_another_unit_is_refused_by_its_name(ts_recv: int, found: str) -> None:
    source = coinbase()
    odd = msgspec.structs.replace(tick(products("A")), ts_recv=ts_recv)
    with pytest.raises(BadTick, match=f"ts_recv .*{found}"):
        source.apply(odd)
    source.apply(msgspec.structs.replace(odd, ts_recv=631_152_000_000_000_000, seq=1))
    assert told(source) == [("A", "trading")]


def system_v2(system: str) -> dict[str, Any]:
    return {
        "channel": "status",
        "type": "update",
        "data": [{"version": "2.0.9", "system": system, "api_version": "v2"}],
    }


def pair_v2(name: str, status: str) -> bytes:
    pair = {"symbol": name, "base": "A", "quote": "USD", "status": status}
    return encode({"channel": "instrument", "type": "update", "data": {"assets": [], "pairs": [pair]}})


class Everything(Feeder):
    """Feeds frames with and without a key, each restarted from what was written down."""

    def __init__(self, venue_name: str) -> None:
        super().__init__(venue_name, "")

    def status(self, name: str) -> Any:
        return self.played.snapshot(name, "status")


def test_a_pair_trades_only_where_the_system_and_the_pair_say_so() -> None:
    feed = Everything("kraken")(pair_v2("A/USD", "cancel_only"), pair_v2("B/USD", "online"))
    feed(system_v2("online"))
    assert (feed.status("A/USD"), feed.status("B/USD")) == (Status("halt", "cancel_only"), Status("trading", None))
    feed({"event": "systemStatus", "status": "maintenance"})
    assert (feed.status("A/USD"), feed.status("B/USD")) == (
        Status("halt", "cancel_only"),
        Status("halt", "maintenance"),
    )
    feed(pair_v2("A/USD", "online"))
    assert feed.status("A/USD") == Status("halt", "maintenance")
    feed(system_v2("post_only"), pair_v2("B/USD", "limit_only"))
    assert (feed.status("A/USD"), feed.status("B/USD")) == (
        Status("pre-open", "post_only"),
        Status("pre-open", "post_only"),
    )
    feed(system_v2("online"))
    assert (feed.status("A/USD"), feed.status("B/USD")) == (Status("trading", None), Status("trading", "limit_only"))
    feed(pair_v2("B/USD", "delisted"), system_v2("maintenance"))
    assert feed.status("B/USD") == Status("close", "delisted")


def test_a_symbol_that_is_born_finds_what_the_venue_has_said_before() -> None:
    feed = Everything("kraken")(system_v2("maintenance"))
    assert list(feed.played.source) == [ALL]
    feed([1, {"a": ["1.2", 1, "3.0"], "b": ["1.1", 1, "2.0"]}, "ticker", "A/USD"])
    assert feed.status("A/USD") == Status("halt", "maintenance")
    feed(pair_v2("B/USD", "online"), system_v2("online"), pair_v2("C/USD", "online"))
    assert [feed.status(f"{name}/USD") for name in "ABC"] == [Status("trading", None)] * 3


def test_the_status_of_our_own_ticks_venue_counts_for_all_its_symbols() -> None:
    def said(action: str, **more: Any) -> dict[str, Any]:
        return {"channel": "status", "data": {"action": action, "reason": None}, **more}

    feed = Everything("acme")(said("trading", symbol="A"), said("halt", symbol="B"), said("halt"))
    feed(said("trading", symbol="C"))
    assert [feed.status(name) for name in "ABC"] == [Status("halt", None)] * 3
    feed(said("trading"))
    assert [feed.status(name).action for name in "ABC"] == ["trading", "halt", "trading"]


@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_symbol_that_is_born_again_finds_the_word_of_then_not_of_later(at: int) -> None:
    """B has no checkpoint when the normalizer starts again; A and what is known of the venue have one of later."""
    frames: list[Any] = [
        pair_v2("A/USD", "online"),
        system_v2("maintenance"),
        pair_v2("B/USD", "online"),
        system_v2("online"),
        system_v2("post_only"),
    ]
    ticks = [tick(frame, seq=seq) for seq, frame in enumerate(frames)]
    unbroken, reborn = (Source(venue("kraken"), "source", Rules()) for _ in range(2))
    for one in ticks:
        unbroken.take()
        unbroken.apply(one)
        if one.seq == at:
            reborn.restore(written(unbroken, at, "A/USD", ALL))
    for one in ticks[2:-1]:
        reborn.apply(one)
        reborn.take()
    reborn.wake_all()
    reborn.apply(ticks[-1])
    assert encode(reborn.take()) == encode(unbroken.take()) != b"[]"
    for name in sorted(unbroken):
        assert encode(reborn.keyframe(name)) == encode(unbroken.keyframe(name))
        assert reborn.checkpoint(name) == unbroken.checkpoint(name)
