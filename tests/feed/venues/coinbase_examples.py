"""What Coinbase says: frames of both sockets, made up."""

from __future__ import annotations

from typing import Any

import msgspec

from tests.feed.venues.playing import Feeder

NAME = "BTC-USD"


ISO, NS = "2021-04-17T16:43:30.244075Z", "1618677810244075000"


ISO_NS = "2026-08-24T22:34:13.793075885Z"


EXCHANGE = "coinbase/exchange_5products_20210417"


encode = msgspec.json.encode


def product() -> Feeder:
    return Feeder("coinbase", NAME)


def match(number: int, type_: str = "match", **more: Any) -> dict[str, Any]:
    data = {"trade_id": number, "side": "sell", "size": "0.040", "price": "14.7775", "product_id": NAME, "time": ISO}
    return {"type": type_, "maker_order_id": "a", "taker_order_id": "b", **data, "sequence": 1, **more}


def advanced(channel: str, *events: dict[str, Any]) -> dict[str, Any]:
    return {"channel": channel, "client_id": "", "timestamp": ISO_NS, "sequence_num": 3, "events": events}


def l2_event(type_: str, *updates: tuple[str, str, str], name: str = NAME) -> dict[str, Any]:
    fields = ("side", "price_level", "new_quantity")
    levels = [{**dict(zip(fields, update, strict=True)), "event_time": ISO} for update in updates]
    return {"type": type_, "product_id": name, "updates": levels}


def traded(number: int, side: str = "BUY", name: str = NAME) -> dict[str, Any]:
    return {"trade_id": str(number), "product_id": name, "price": "10.0", "size": "2", "side": side, "time": ISO_NS}


def changed(*changes: list[Any], **more: Any) -> dict[str, Any]:
    return {"type": "l2update", "product_id": NAME, "time": ISO, "changes": changes, **more}
