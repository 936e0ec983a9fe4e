"""`feed tail`: the client's rule, and what a person reads."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from feed.run.tail import Tail, TailRule, line_of

SYMBOL = "KRAKEN:BTC/USD"
SOURCE = "kraken/0@a"


def _update(prev: int, seq: int, **more: object) -> dict[str, object]:
    return {"type": "update", "channel": "book", "symbol": SYMBOL, "prev": prev, "seq": seq} | more


def _snapshot(seq: int, source: str = SOURCE, **more: object) -> dict[str, object]:
    return {"type": "snapshot", "channel": "book", "symbol": SYMBOL, "source": source, "seq": seq} | more


def _gap(seq: int, reason: str, *, lost: bool, source: str = SOURCE) -> dict[str, object]:
    more = {"source": source, "prev": 0, "seq": seq, "count": None, "reason": reason, "lost": lost}
    return {"type": "gap", "channel": "book", "symbol": SYMBOL} | more


@pytest.fixture
def rule() -> TailRule:
    made = TailRule()
    made.joined({"channel": "book", "symbol": SYMBOL, "mode": "snapshot", "source": SOURCE, "seq": 5})
    return made


def test_updates_count_once_after_the_snapshot(rule: TailRule) -> None:
    assert not rule.takes(_update(3, 4))
    assert rule.takes(_snapshot(5))
    assert not rule.takes(_snapshot(5))
    assert [rule.takes(_update(5, 8)), rule.takes(_update(5, 8)), rule.takes(_update(8, 9))] == [True, False, True]


def test_all_parts_of_a_message_count(rule: TailRule) -> None:
    assert rule.takes(_snapshot(5, part=[1, 2]))
    assert rule.takes(_snapshot(5, part=[2, 2]))
    assert rule.takes(_update(5, 8, part=[1, 2]))
    assert rule.takes(_update(5, 8, part=[2, 2]))
    assert not rule.takes(_update(5, 8, part=[2, 2]))


def test_a_hole_of_our_own_asks_for_a_snapshot_and_drops_until_it_comes(rule: TailRule) -> None:
    rule.takes(_snapshot(5))
    assert not rule.takes(_update(7, 9))
    assert rule.holes == [("book", SYMBOL)]
    assert not rule.takes(_update(9, 10))
    assert rule.takes(_snapshot(11))
    assert rule.takes(_update(11, 12))


def test_a_gap_with_loss_moves_on_and_one_without_waits_for_a_snapshot(rule: TailRule) -> None:
    rule.takes(_snapshot(5))
    assert rule.takes(_gap(20, "lag", lost=True))
    assert rule.takes(_update(20, 21))
    assert rule.takes(_gap(30, "lag", lost=False))
    assert not rule.takes(_update(30, 31))
    assert rule.takes(_snapshot(30))
    assert not rule.takes(_gap(30, "lag", lost=True))


def test_a_new_source_starts_anew(rule: TailRule) -> None:
    rule.takes(_snapshot(500))
    assert rule.takes(_gap(-1, "source", lost=False, source="kraken/0@b"))
    assert rule.takes(_snapshot(3, source="kraken/0@b"))
    assert rule.takes(_update(3, 4))


def test_a_venues_own_hole_is_told_and_moves_nothing(rule: TailRule) -> None:
    rule.takes(_snapshot(5))
    assert rule.takes(_gap(5, "venue", lost=True))
    assert rule.takes(_update(5, 6))


def test_marks_are_kept_for_the_resume(rule: TailRule) -> None:
    rule.takes(_snapshot(5))
    assert not rule.takes({"type": "heartbeat", "time": "1", "marks": {SOURCE: 9}, "lag_ms": 1})
    assert rule.marks == {SOURCE: 9}
    rule.joined({"channel": "book", "symbol": SYMBOL, "mode": "resumed", "source": SOURCE, "seq": 9})
    assert not rule.takes(_update(3, 5))
    assert rule.takes(_update(5, 12))


class Wire:
    """A connection that keeps what is sent, and gives what was put into it; then it is lost."""

    def __init__(self, *frames: list[dict[str, object]]) -> None:
        self.asked: list[dict[str, Any]] = []
        self.protocol = SimpleNamespace(close_rcvd=None, close_sent=None)
        self._frames = [json.dumps(frame) for frame in frames]

    async def send(self, text: str) -> None:
        self.asked.append(json.loads(text))

    def __aiter__(self) -> Wire:
        return self

    async def __anext__(self) -> str:
        if not self._frames:
            raise StopAsyncIteration
        return self._frames.pop(0)


async def followed(tail: Tail, *frames: list[dict[str, object]]) -> list[dict[str, Any]]:
    """What is asked for on one connection, after which it is lost."""
    wire = Wire(*frames)
    with pytest.raises(ConnectionClosed):
        await tail._follow(wire)  # type: ignore[arg-type]
    return wire.asked


def acked(mode: str, **more: object) -> dict[str, object]:
    told = {"channel": "book", "symbol": SYMBOL, "ok": True, "mode": mode, "source": SOURCE, "seq": 5}
    return {"type": "ack", "id": 1, "op": "subscribe", "ok": True, "results": [told | more]}


@pytest.mark.anyio
async def test_a_hole_in_a_view_is_mended_in_the_view() -> None:
    tail = Tail("ws://x", "book", [SYMBOL], out=lambda raw, message: None, every_ms=250, depth=10)
    asked = await followed(tail, [acked("snapshot"), _snapshot(5)], [_update(7, 9)])
    view = {"every_ms": 250, "depth": 10}
    assert [{name: request.get(name) for name in view} for request in asked] == [view, view]
    assert [request.get("from") for request in asked] == [None, "snapshot"]


@pytest.mark.anyio
@pytest.mark.parametrize("symbol", [SYMBOL, "KRAKEN:*"])
async def test_who_is_cut_before_any_marks_goes_on_from_his_own_position(symbol: str) -> None:
    tail = Tail("ws://x", "book", [symbol], out=lambda raw, message: None)
    joined = {"type": "joined", "channel": "book", "symbol": SYMBOL, "mode": "snapshot", "source": SOURCE, "seq": 5}
    pattern = acked("snapshot") | {"results": [{"channel": "book", "symbol": symbol, "ok": True, "matched": 1}]}
    first = [pattern, joined] if "*" in symbol else [acked("snapshot")]
    await followed(tail, [*first, _snapshot(5), _update(5, 8)])
    own, rest = await followed(tail, [{"type": "heartbeat", "time": "1", "marks": {SOURCE: 20}, "lag_ms": 0}])
    assert (own["symbols"], own["from"]) == ([SYMBOL], {"marks": {SOURCE: 8}})
    assert (rest["symbols"], rest.get("from")) == ([symbol], None)
    # not before its request has caught up does a heartbeat speak of it
    own, rest = await followed(
        tail,
        [{"type": "caught_up", "id": own["id"] + 1}],
        [{"type": "heartbeat", "time": "1", "marks": {SOURCE: 20}, "lag_ms": 0}],
    )
    assert own["from"] == {"marks": {SOURCE: 8}}
    (resumed,) = await followed(tail)
    assert (resumed["symbols"], resumed["from"]) == ([symbol], {"marks": {SOURCE: 20}})


@pytest.mark.parametrize(
    ("channel", "data", "line"),
    [
        ("trades", [{"side": "buy", "size": "0.5", "price": "9"}], "00:00:01.000 K:X buy  0.5 @ 9"),
        (
            "quotes",
            {"bid_price": "1", "bid_size": "2", "ask_price": "3", "ask_size": "4"},
            "00:00:01.000 K:X 2 @ 1 | 3 @ 4",
        ),
        ("trades", [{"side": None, "size": "1", "price": "-37.63"}], "00:00:01.000 K:X ?    1 @ -37.63"),
        (
            "quotes",
            {"bid_price": "-0.5", "bid_size": "2", "ask_price": "0", "ask_size": "4"},
            "00:00:01.000 K:X 2 @ -0.5 | 0 @ 4",
        ),
        ("book", {"bids": [["1", "2"]] * 5, "asks": []}, "00:00:01.000 K:X bids 1:2 1:2 1:2 (+2); asks -"),
        ("status", {"action": "halt", "reason": None}, "00:00:01.000 K:X action=halt"),
    ],
)
def test_a_message_is_one_readable_line(channel: str, data: object, line: str) -> None:
    message = {"type": "update", "channel": channel, "symbol": "K:X", "ts_event": "1000000000", "data": data}
    assert line_of(message) == line
