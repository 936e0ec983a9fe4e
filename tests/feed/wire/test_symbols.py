"""The one grammar of patterns, and that nothing else is read as one."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import replay
from feed.backfill.past import Symbols
from feed.errors import BadTick, ConfigError
from feed.recording.filter import Filter
from feed.runtime.settings import load
from feed.venues.source import Source
from feed.venues.symbol import Rules, Tick
from feed.venues.table import venue
from feed.wire.symbols import is_name, is_pattern, prefix_of
from tests.feed.channels.desk import Desk
from tests.feed.recorder.made_up import MadeUp
from tests.feed.recorder.tape import Tape

NOW = 1_795_953_600_000_000_000
PATTERNS = ["*", "KRAKEN:*", "BINANCE-USDM:*", "MY_VENUE.2:*"]
NAMES = ["KRAKEN:XBT/USD", "KRAKEN:X*", "A:B:*", "NASDAQ:ABC*", "X:**", "X:*Y", "X::*"]
NEITHER = ["", "K*", "*:*", "**", ":", ":*", "kraken:*", "KRAKEN:", "KRAKEN", "kraken:XBT", ":XBT", "\u212a:*", "*\n"]


@pytest.mark.parametrize("text", PATTERNS)
def test_patterns(text: str) -> None:
    assert is_pattern(text)
    assert not is_name(text)
    assert prefix_of(text) == text[:-1]


@pytest.mark.parametrize("text", [*NAMES, *NEITHER])
def test_no_patterns(text: str) -> None:
    assert not is_pattern(text)
    assert is_name(text) == (text in NAMES)


def test_a_star_in_a_name_is_read_as_a_pattern_nowhere(tmp_path: Path) -> None:
    """A name that ends with a star was a prefix in recordings, and a name in requests."""
    assert Filter(symbols=["X:A*"]).names == Symbols(["X:A*"]).names == {"X:A*"}
    assert not Filter(symbols=["X:A*"]).symbol("X:AB")
    assert Filter(symbols=["X:*"]).symbol("X:AB")
    desk = Desk()
    desk.tick("trades", "X:AB")
    desk.step("trades", "X:A*")
    link = desk.link()
    asked = link.subscribe("trades", "X:A* X:B*")["results"]
    assert [(one.get("mode"), one.get("code")) for one in asked] == [("snapshot", None), (None, "unknown_symbol")]
    assert list(link.client.channels) == [("trades", "X:A*")]
    log = MadeUp("x/0", ["X:A", "X:A*"], random.Random(3))
    log.grow(60)
    log.record()
    tape = Tape(tmp_path, [log.log])
    tape.play()
    tape.end()
    with replay.open(str(tmp_path)) as opened:
        assert {row["symbol"] for row in opened.trades("X:A*").to_pylist()} == {"X:A*"}


@pytest.mark.parametrize("names", ["X:*", "*", "X:A,Y:*"])
def test_a_recorder_takes_names_and_patterns(names: str) -> None:
    assert load({"record.symbols": names}).settings.record.symbols == tuple(names.split(","))


@pytest.mark.parametrize("names", ["X:A*", "x:*", "X:A,K*", "XBT/USD", "*:*"])
def test_a_recorder_refuses_what_would_match_nothing(names: str) -> None:
    with pytest.raises(ConfigError, match=r"record.symbols.*none of VENUE:NAME"):
        load({"record.symbols": names})


@pytest.mark.parametrize("key", ["*", "ACME:*"])
def test_a_tick_of_a_symbol_that_reads_as_a_pattern_is_bad(key: str) -> None:
    source = Source(venue("acme"), "acme/0@a", Rules())
    with pytest.raises(BadTick, match="is a pattern, wanted a symbol"):
        source.apply(tick_of(key))
    assert not list(source)
    source.apply(tick_of("A*"))
    assert source.name_of("A*") == "ACME:A*"


def tick_of(key: str) -> Tick:
    """A trade of it in our own JSON."""
    trade = {"price": "1", "size": "1", "side": None, "trade_id": None, "ts_event": None}
    value = json.dumps({"channel": "trades", "ts_event": None, "data": [trade]}).encode()
    return Tick(0, key, value, NOW, NOW)


@given(st.text(alphabet="AB:*.x", max_size=6))
def test_no_name_that_can_be_ticked_is_a_pattern(key: str) -> None:
    if not is_pattern(key):
        assert not is_pattern(f"ACME:{key}")
