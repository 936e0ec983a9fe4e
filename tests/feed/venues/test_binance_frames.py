"""The frames of Binance: what they are, and the symbol that they speak of."""

from __future__ import annotations

from typing import Any

import pytest

from feed.errors import BadTick
from feed.venues import binance
from feed.wire.model import Trade
from tests.feed.venues.binance_examples import NAME, NOTHING, aggregate, combined, encode, future, futures, ns, trade
from tests.feed.venues.playing import Feeder


def test_tickers_of_all_symbols_are_those_of_one() -> None:
    data = {"u": 5, "s": NAME, "b": "1", "B": "1", "a": "2", "A": "1"}
    feed = futures("binance")({"stream": "!bookTicker", "data": data}, data, combined("bookTicker", {**data, "u": 6}))
    assert len(feed.folded.quotes) == 2


def test_raw_streams_and_other_orders_of_keys_say_the_same() -> None:
    frames = [future(1, 10, 0, [["1.0", "1"]]), trade(1), aggregate(7, 2, 2)]
    turned = [{"data": dict(reversed(frame["data"].items())), "stream": frame["stream"]} for frame in frames]
    raw = [frame["data"] for frame in frames]
    spaced = [encode(frame).replace(b":", b" : ").replace(b",", b" , ") for frame in frames]
    made = []
    for form in (frames, turned, raw, spaced):
        feed = futures().rest(5, [["2", "2"]], [])(*form)
        assert feed.played.bad == []
        assert feed.played.symbols[NAME].updates["book"] == 2
        made.append((feed.folded.trades, feed.folded.sides()))
    assert made[1:] == made[:1] * 3
    assert made[0][0][0] == Trade("10.5", "2", "sell", "1", ns(5))


def test_microseconds_are_told_by_their_size() -> None:
    feed = futures()(trade(1, T=1_723_161_255_342_123), trade(2, T=1_723_161_255_342))
    assert [item.ts_event for item in feed.folded.trades] == ["1723161255342123000", "1723161255342000000"]


@pytest.mark.parametrize(
    ("frame", "wanted"),
    [
        (trade(1), [NAME]),
        (trade(1)["data"], [NAME]),
        (combined("kline_1m", {"e": "kline", "s": NAME, "k": {}}), [NAME]),
        (combined("depth20", {"lastUpdateId": 1, "bids": [], "asks": []}), [NAME]),
        ({"stream": "!bookTicker", "data": {"u": 5, "s": NAME, "b": "1", "B": "1", "a": "2", "A": "1"}}, [NAME]),
        ({"e": "forceOrder", "E": 1, "o": {"s": NAME}}, [NAME]),
        ({"stream": "!ticker@arr", "data": [{"e": "24hrTicker", "s": NAME}]}, []),
        ([{"e": "24hrMiniTicker", "s": NAME}], []),
        ({"e": "serverShutdown", "E": 1}, []),
        ({"lastUpdateId": 1, "bids": [], "asks": []}, []),
        ({"result": None, "id": 1}, []),
        ({"error": {"code": 2, "msg": "no"}}, []),
        ({"code": -1121, "msg": "no"}, []),
    ],
)
def test_keys(frame: dict[str, Any], wanted: list[str]) -> None:
    assert binance.keys(encode(frame)) == wanted
    assert binance.venue_status(encode(frame)) is None


@pytest.mark.parametrize("frame", [b"", b"{", b"[]", b"[1]", b"[{}]", b"{}", b"1", b"\xff"])
def test_frames_of_which_nothing_says_what_they_are_are_refused(frame: bytes) -> None:
    for read in (binance.keys, binance.venue_status):
        with pytest.raises(BadTick):
            read(frame)
    feed = futures()(frame)
    assert len(feed.played.bad) == 1


@pytest.mark.parametrize("key", [NAME, ""])
@pytest.mark.parametrize("frame", NOTHING)
@pytest.mark.parametrize("venue", ["binance", "binance-usdm", "binance-coinm"])
def test_frames_of_other_kinds_mean_nothing(venue: str, frame: Any, key: str) -> None:
    feed = Feeder(venue, key)(frame)
    assert feed.played.bad == []
    assert feed.played.symbols == {}
    binance.keys(encode(frame))
