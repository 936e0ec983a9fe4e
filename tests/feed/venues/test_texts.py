"""Texts of venues are bounded: a longer one is an odd entry, and nothing of it is told."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from feed.wire.model import Instrument, Status
from tests.feed.venues.playing import Feeder

LONG = "x" * 1_000_000


def product(**said: Any) -> dict[str, Any]:
    return {"type": "status", "products": [{"id": "A", **said}]}


def pair(**said: Any) -> dict[str, Any]:
    return {"channel": "instrument", "type": "update", "data": {"pairs": [{"symbol": "A", **said}]}}


@pytest.mark.parametrize(
    ("venue", "frame"),
    [
        ("coinbase", product(status=LONG)),
        ("coinbase", product(status_message=LONG)),
        ("coinbase", product(base_currency=LONG)),
        ("coinbase", product(quote_currency=LONG)),
        ("coinbase", product(display_name=LONG)),
        ("coinbase", product(product_type=LONG)),
        ("coinbase", {"channel": "status", "events": [{"products": product(status_message=LONG)["products"]}]}),
        ("kraken", pair(status=LONG)),
        ("kraken", pair(base=LONG)),
        ("kraken", pair(quote=LONG)),
    ],
)
def test_a_text_that_is_too_long_is_an_odd_entry(venue: str, frame: dict[str, Any]) -> None:
    good = product(status="online", status_message="m" * 1000, base_currency="b" * 64, display_name="d" * 64)
    feed = Feeder(venue, "A")(good if venue == "coinbase" else pair(status="w" * 1000, base="b" * 64, quote="q" * 64))
    assert feed.played.bad == []
    told = len(feed.played.said)
    status, instrument = (feed.played.snapshot("A", kind) for kind in ("status", "instruments"))
    assert isinstance(status, Status)
    assert isinstance(instrument, Instrument)
    feed(frame)
    assert [reason.startswith("entry of A: ") for _, reason in feed.played.bad] == [True]
    assert len(feed.played.said) == told
    assert len(msgspec.json.encode(feed.played.source.keyframe("A"))) < 10_000
    feed(product(status="offline") if venue == "coinbase" else pair(status="maintenance"))
    assert feed.played.snapshot("A", "status").action == "halt"


def test_the_word_of_a_whole_venue_is_bounded() -> None:
    for frame in (
        {"event": "systemStatus", "status": LONG},
        {"channel": "status", "type": "update", "data": [{"system": LONG}]},
    ):
        feed = Feeder("kraken", "")(frame)
        assert len(feed.played.bad) == 1
        assert list(feed.played.source) == []
