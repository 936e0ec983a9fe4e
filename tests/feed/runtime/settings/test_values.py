"""What single values may be."""

from __future__ import annotations

import pytest

from feed.errors import ConfigError
from feed.runtime.settings.loading import load
from feed.runtime.settings.values import KNOWN_VENUES, Venues, named_or_known


@pytest.mark.parametrize("section", ["normalize", "serve", "record"])
@pytest.mark.parametrize("name", ["KRAKEN:*", "kra/ken", "", " ", "krakén", "k" * 101, "a b"])
def test_what_cannot_be_a_venue_is_refused(section: str, name: str) -> None:
    with pytest.raises(ConfigError, match=rf"{section}.venues .*cannot be a venue"):
        load({f"{section}.venues": ["kraken", name]})


@pytest.mark.parametrize("symbols", ["kraken", "kraken:*", "KRAKEN:", "*:*"])
def test_what_is_no_symbol_and_no_pattern_is_refused(symbols: str) -> None:
    with pytest.raises(ConfigError, match=r"record.symbols .*is none of VENUE:NAME, VENUE:\* and \*"):
        load({"record.symbols": f"KRAKEN:XBT/USD,{symbols}"})


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("a,b", ("a", "b")), (" a , b ,", ("a", "b")), ("", ()), (["a", "b"], ("a", "b"))],
)
def test_a_list_may_be_a_text(text: object, wanted: tuple[str, ...]) -> None:
    assert load({"serve.origins": text}).settings.serve.origins == wanted


def test_venues_that_nobody_named_are_the_known_ones() -> None:
    assert named_or_known(("desk",)) == Venues(("desk",), True)
    assert named_or_known(()) == Venues(KNOWN_VENUES, False)
    assert str(named_or_known(())) == f"those of {', '.join(KNOWN_VENUES)} whose topics are there"
