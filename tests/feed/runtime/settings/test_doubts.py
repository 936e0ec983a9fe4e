"""Names of venues that are most likely a slip."""

from __future__ import annotations

import pytest

from feed.runtime.settings.doubts import doubts
from feed.runtime.settings.loading import load


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("krakn", "kraken"),
        ("karken", "kraken"),
        ("krakenn", "kraken"),
        ("Kraken", "kraken"),
        ("binance_usdm", "binance-usdm"),
        ("binance-usd", "binance-usdm"),
        ("coinbase", None),
        ("desk", None),
        ("binance-us", None),
        ("binanceus", None),
        ("k", None),
    ],
)
def test_a_venue_that_is_all_but_a_known_one_is_doubted(name: str, near: str | None) -> None:
    said = doubts(load({"normalize.venues": f"coinbase,{name}", "serve.venues": name}).settings)
    wanted = [
        f"{where}.venues has {name}, a venue of your own; did you mean {near}?" for where in ("normalize", "serve")
    ]
    assert said == (wanted if near else [])
