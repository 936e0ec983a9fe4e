"""All sections together, and what the core is given of them."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from feed.channels.hub import HubSettings
from feed.channels.state import FoldRules
from feed.errors import ConfigError
from feed.runtime.settings.listing import leaves
from feed.runtime.settings.loading import load
from feed.runtime.settings.values import KNOWN_VENUES
from feed.venues.bars import BarRules
from feed.venues.tick import Rules


def test_settings_of_one_venue_are_merged_over_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("feed.toml").write_text('[venues.coinbase]\nquotes_from = "book"\n')
    monkeypatch.setenv("FEED_VENUES__COINBASE__SILENT_AFTER_S", "5")
    settings = load().settings
    assert settings.rules("coinbase").quotes_from == "book"
    assert settings.rules("kraken").quotes_from == "stream"
    assert settings.silent_after_s("coinbase", 10) == 5
    assert settings.silent_after_s("kraken", 10) == 10


def test_venues_that_nobody_named_are_the_known_ones_also_in_child_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEED_RECORD__VENUES", "desk")
    settings = load().settings
    for given in (settings, load(dict(leaves(settings))).settings):
        assert given.normalized == given.served == (KNOWN_VENUES, False)
        assert given.recorded == (("desk",), True)
        assert str(given.recorded) == "desk"
        assert "whose topics are there" in str(given.served)


def test_the_core_is_given_what_is_set() -> None:
    flags = {
        "normalize.trades_in_snapshot": 7,
        "normalize.trade_id_runs_max": 8,
        "normalize.symbols_max": 9,
        "normalize.ts_recv_ahead_max_s": 2,
        "normalize.bar_intervals": "1m",
        "normalize.bar_grace_ms": 3,
        "normalize.bar_interval_min_ms": 4,
        "normalize.bars_closed_kept": 5,
        "serve.resume_window_s": 6,
        "serve.resume_window_bytes_max": 10,
        "serve.page_bytes": 11,
    }
    settings = load(flags).settings
    bars = BarRules(intervals=("1m",), grace_ns=3_000_000, every_ns=4_000_000, closed_kept=5)
    rules = Rules(trades_kept=7, trade_id_runs_max=8, symbols_max=9, ts_recv_ahead_max_ns=2_000_000_000, bars=bars)
    assert settings.rules("kraken") == rules
    fold = FoldRules(trades_kept=7, bars_closed_kept=5)
    assert settings.fold_rules == fold
    assert settings.hub == HubSettings(resume_window_ms=6000, resume_window_bytes_max=10, page_bytes=11, rules=fold)


def test_without_settings_the_core_has_the_same_defaults() -> None:
    settings = load().settings
    assert settings.rules("kraken") == Rules()
    assert settings.fold_rules == FoldRules()
    assert settings.hub == HubSettings()


def test_the_version_of_the_defaults_stands() -> None:
    """With other bytes of `Rules` every feed log would begin anew."""
    assert msgspec.json.encode(load().settings.rules("kraken")) == (
        b'{"trades_kept":100,"trade_id_runs_max":256,"quotes_from":"stream","symbols_max":20000,'
        b'"ts_recv_ahead_max_ns":60000000000,'
        b'"bars":{"intervals":["1s","1m"],"grace_ns":1000000000,"every_ns":1000000000,"closed_kept":5}}'
    )


def test_topics_are_called_and_made_as_is_set() -> None:
    flags = {"kafka.ticks_prefix": "t-", "kafka.feed_prefix": "f-", "kafka.record_bytes_max": 5}
    settings = load(flags).settings
    assert (settings.ticks_topic("kraken"), settings.feed_topic("kraken")) == ("t-kraken", "f-kraken")
    assert settings.topic_settings == {"max.message.bytes": "5"}
    of_logs = {"message.timestamp.type": "LogAppendTime", "cleanup.policy": "delete"}
    assert settings.log_settings == {"max.message.bytes": "5", **of_logs}
    kept = load({**flags, "kafka.feed_retention_h": 2, "kafka.min_insync_replicas": 2}).settings
    assert kept.topic_settings == {"max.message.bytes": "5", "min.insync.replicas": "2"}
    assert kept.log_settings == {**kept.topic_settings, **of_logs, "retention.ms": "7200000"}


def test_a_venue_may_have_topics_and_a_format_of_its_own() -> None:
    own = load({"venues.kraken.topic": "mkt.kraken.v2", "venues.kraken.feed_topic": "out"}).settings
    assert (own.ticks_topic("kraken"), own.feed_topic("kraken")) == ("mkt.kraken.v2", "out")
    assert own.ticks_topic("coinbase") == "ticks.coinbase"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (
            {"venues.kraken.topic": "ticks.coinbase"},
            "topic ticks.coinbase is that of the ticks of coinbase and of ",
        ),
        ({"venues.kraken.feed_topic": "feed.dead"}, "topic feed.dead is that of kafka.dead_topic and of the feed log "),
        ({"venues.kraken.topic": "a b"}, "venues.kraken.topic"),
        ({"venues.desk.format": "krakn", "normalize.venues": "desk"}, "'krakn' is no format; there are binance, "),
        ({"venues.nobody.format": "kraken"}, "venues has nobody, which is not among normalize.venues"),
    ],
)
def test_topics_and_formats_that_cannot_be_are_refused(flags: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(words)):
        load(flags)


@pytest.mark.parametrize(
    ("brokers", "here"),
    [
        ("127.0.0.1:9092", True),
        ("localhost:9092,[::1]:9093", True),
        ("127.0.0.1:9092,kafka.example:9092", False),
        ("10.0.0.1:9092", False),
        ("[fe80::1%eth0]:9092", False),
    ],
)
def test_topics_are_made_on_this_machine(brokers: str, here: bool) -> None:
    assert load({"kafka.bootstrap": brokers}).settings.creates_topics is here
    assert load({"kafka.bootstrap": brokers, "kafka.create_topics": not here}).settings.creates_topics is not here
