"""What Binance says: frames of spot and futures, made up."""

from __future__ import annotations

from typing import Any

import msgspec

from tests.feed.venues.playing import Feeder

NAME = "BTCUSDT"


MS = 1_723_161_255_000


encode = msgspec.json.encode


def ns(ms: int) -> str:
    return f"{MS + ms}000000"


def futures(venue: str = "binance-usdm") -> Feeder:
    return Feeder(venue, NAME)


def combined(stream: str, data: dict[str, Any]) -> dict[str, Any]:
    return {"stream": f"btcusdt@{stream}", "data": data}


def future(first: int, last: int, before: int, bids: Any = (), asks: Any = ()) -> dict[str, Any]:
    data = {
        "e": "depthUpdate",
        "E": MS,
        "T": MS + last,
        "s": NAME,
        "U": first,
        "u": last,
        "pu": before,
        "b": bids,
        "a": asks,
    }
    return combined("depth@0ms", data)


def spot(first: int, last: int, bids: Any = (), asks: Any = ()) -> dict[str, Any]:
    return combined(
        "depth", {"e": "depthUpdate", "E": MS + last, "s": NAME, "U": first, "u": last, "b": bids, "a": asks}
    )


def trade(number: int, **more: Any) -> dict[str, Any]:
    data = {
        "e": "trade",
        "E": MS + 6,
        "T": MS + 5,
        "s": NAME,
        "t": number,
        "p": "10.50",
        "q": "2.0",
        "X": "MARKET",
        "m": True,
    }
    return combined("trade", {**data, **more})


def aggregate(number: int, first: int, last: int) -> dict[str, Any]:
    data = {
        "e": "aggTrade",
        "E": MS + 6,
        "s": NAME,
        "a": number,
        "p": "10",
        "q": "1",
        "f": first,
        "l": last,
        "T": MS + 5,
        "m": False,
    }
    return combined("aggTrade", data)


def diffs(venue: str, *ends: int) -> list[dict[str, Any]]:
    """Diffs that follow each other, each of ten ids, setting the price of its end."""
    if venue == "binance":
        return [spot(end - 9, end, [[str(end), "1"]]) for end in ends]
    return [future(end - 9, end, end - 10, [[str(end), "1"]]) for end in ends]


EVENT = {"E": MS, "s": NAME}


NOTHING = [
    combined("kline_1m", {"e": "kline", **EVENT, "k": {}}),
    combined("kline_1d@+08:00", {"e": "kline", **EVENT, "k": {}}),
    combined("continuousKline_1m", {"e": "continuous_kline", "E": MS, "ps": NAME, "ct": "PERPETUAL", "k": {}}),
    combined("depth20", {"lastUpdateId": 1, "bids": [], "asks": []}),
    combined("miniTicker", {"e": "24hrMiniTicker", **EVENT, "c": "1.1", "o": "1"}),
    combined("ticker", {"e": "24hrTicker", **EVENT, "c": "1.1", "o": "1"}),
    combined("ticker_1h", {"e": "1hTicker", **EVENT, "o": "1"}),
    combined("avgPrice", {"e": "avgPrice", **EVENT, "i": "5m", "w": "1", "T": MS}),
    combined("markPrice@1s", {"e": "markPriceUpdate", **EVENT, "p": "1", "i": "1", "P": "1", "r": "0", "T": MS}),
    combined("forceOrder", {"e": "forceOrder", "E": MS, "o": {"s": NAME, "S": "SELL", "q": "0.014", "p": "9910"}}),
    combined("compositeIndex", {"e": "compositeIndex", **EVENT, "p": "1", "c": []}),
    combined("indexPrice", {"e": "indexPriceUpdate", "E": MS, "i": "BTCUSD", "p": "1"}),
    {"stream": "!ticker@arr", "data": [{"e": "24hrTicker", **EVENT}]},
    {"stream": "!markPrice@arr@1s", "data": [{"e": "markPriceUpdate", **EVENT}]},
    {"stream": "!contractInfo", "data": {"e": "contractInfo", **EVENT, "ps": NAME, "ct": "PERPETUAL"}},
    {"stream": "!assetIndex@arr", "data": [{"e": "assetIndexUpdate", **EVENT}]},
    {"stream": "!forceOrder@arr", "data": {"e": "forceOrder", "E": MS, "o": {"s": NAME}}},
    [{"e": "24hrMiniTicker", **EVENT, "c": "1.1"}, {"e": "24hrMiniTicker", "E": MS, "s": "ETHUSDT", "c": "1"}],
    {"e": "forceOrder", "E": MS, "o": {"s": NAME, "S": "SELL", "q": "0.014", "p": "9910"}},
    {"e": "serverShutdown", "E": MS},
    {"e": "kline", **EVENT, "k": {}},
    {"e": "ACCOUNT_UPDATE", "E": MS, "T": MS, "a": {}},
    {"lastUpdateId": 160, "bids": [["0.0024", "10"]], "asks": [["0.0026", "100"]]},
    {"result": None, "id": 1},
    {"error": {"code": 2, "msg": "no"}, "id": 3},
    {"code": -1121, "msg": "no"},
    {"id": "x", "status": 200, "result": {}, "rateLimits": []},
    {"timezone": "UTC", "serverTime": MS, "rateLimits": [], "symbols": []},
]


ODD_IDS = [1, 109, 110, 2**62, "x", None]
