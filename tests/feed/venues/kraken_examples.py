"""What Kraken says: frames of both sockets, made up."""

from __future__ import annotations

import zlib
from typing import Any

import msgspec

from feed.venues.symbol import Tick
from tests.feed.venues.playing import Feeder

V1, V2 = "XBT/USD", "BTC/USD"


BOOK_V1, BOOK_V2 = "kraken/v1_5pairs_20210417.book", "kraken/v2_btcusd_d10_20260705"


ISO = "2026-07-05T10:37:39.090964Z"


BEGIN = 1_700_000_000


encode = msgspec.json.encode


def v1(*payloads: Any, channel: str = "book-10", pair: str = V1) -> list[Any]:
    return [336, *payloads, channel, pair]


def crc(asks: list[tuple[str, str]], bids: list[tuple[str, str]]) -> int:
    """The venue's own words: without the point and leading zeros, asks then bids, price then volume."""
    digits = [number.replace(".", "").lstrip("0") for level in [*asks[:10], *bids[:10]] for number in level]
    return zlib.crc32("".join(digits).encode())


def level(price: str, size: str) -> list[str]:
    return [price, size, "1618678142.557535"]


def v2(channel: str, *data: dict[str, Any], type_: str = "update") -> bytes:
    """An object whose numbers are written as the texts that stand for them."""
    text = encode({"channel": channel, "type": type_, "data": data})
    return text.replace(b'"#', b"").replace(b'#"', b"")


def raw(number: str) -> str:
    return f"#{number}#"


def book_v2(bids: dict[str, str], asks: dict[str, str], checksum: int, type_: str = "update") -> bytes:
    sides = {
        side: [{"price": raw(price), "qty": raw(size)} for price, size in levels.items()]
        for side, levels in (("bids", bids), ("asks", asks))
    }
    return v2("book", {"symbol": V2, **sides, "checksum": checksum, "timestamp": ISO}, type_=type_)


def best(asks: dict[str, str], bids: dict[str, str] | None = None) -> int:
    """The checksum of a book."""
    return crc(
        sorted(asks.items(), key=lambda level: float(level[0])),
        sorted((bids or {}).items(), key=lambda level: -float(level[0])),
    )


def answer(depth: int, method: str = "subscribe", **more: Any) -> dict[str, Any]:
    return {"method": method, "success": True, "result": {"channel": "book", "symbol": V2, "depth": depth}, **more}


TWELVE = [(f"100.{tenth}0000", "1.00000000") for tenth in range(1, 10)] + [
    (f"101.{tenth}0000", "1.00000000") for tenth in range(3)
]


BID = [("99.00000", "1.00000000")]


def all_v1(asks: list[tuple[str, str]], channel: str) -> list[Any]:
    return v1({"as": [level(*ask) for ask in asks], "bs": [level(*BID[0])]}, channel=channel)


def change_v1(price: str, size: str, now: list[tuple[str, str]], channel: str) -> list[Any]:
    return v1({"a": [level(price, size)], "c": str(crc(now, BID))}, channel=channel)


def at(second: int, frame: Any, seq: int) -> Tick:
    value = frame if isinstance(frame, bytes) else encode(frame)
    return Tick(seq, V1, value, (BEGIN + second) * 10**9, (BEGIN + second) * 10**9)


DEEP = {f"{price}.0": "1.0" for price in range(100, 120)}


SHALLOW = dict(list(DEEP.items())[:10])


def two_depths(*, deeper_first: bool = True) -> Feeder:
    """A pair whose answers told 25 and 10, and a snapshot of each."""
    begin = [book_v2({}, DEEP, best(DEEP), "snapshot"), book_v2({}, SHALLOW, best(DEEP), "snapshot")]
    told = [[answer(25), begin[0]], [answer(10), begin[1]]]
    return Feeder("kraken", V2)(*(frame for each in (told if deeper_first else told[::-1]) for frame in each))


def prices(feed: Feeder) -> list[int]:
    """Of the asks, best first; what clients were told is what a snapshot holds."""
    found = [int(price) for price in feed.book()[1]]
    assert sorted(feed.folded.asks) == found
    return found


def trade_v2(number: int, symbol: str = V2) -> dict[str, Any]:
    numbers = {"price": raw("10.50"), "qty": raw("2"), "trade_id": number}
    return {"symbol": symbol, "side": "buy", **numbers, "ord_type": "limit", "timestamp": ISO}


def pairs(*entries: dict[str, Any], type_: str = "update") -> bytes:
    text = encode({"channel": "instrument", "type": type_, "data": {"assets": [], "pairs": entries}})
    return text.replace(b'"#', b"").replace(b'#"', b"")


ODD_SNAPSHOTS = [
    (V1, v1({"as": [level("100.0", "1.0")]})),
    (V1, v1({"as": [level("100.0", "1.0")], "bs": None})),
    (V2, v2("book", {"symbol": V2, "asks": []}, type_="snapshot")),
    (V2, v2("book", {"symbol": V2, "bids": []}, type_="snapshot")),
    (V2, v2("book", {"symbol": V2, "bids": [], "asks": []}, type_="")),
    (V2, v2("book", {"symbol": V2, "bids": [], "asks": []}, type_="partial")),
]
