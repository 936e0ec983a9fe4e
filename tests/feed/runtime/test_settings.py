"""Settings: which source wins, where a value came from, and what an unknown name is told."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

import feed
from feed.channels.hub import HubSettings
from feed.channels.state import FoldRules
from feed.errors import ConfigError
from feed.gateway.gateway import told_settings
from feed.protocol.session import SessionSettings
from feed.runtime.settings import (
    KNOWN_VENUES,
    LimitSettings,
    RequestSettings,
    ServeSettings,
    described,
    doubts,
    leaves,
    load,
)
from feed.venues.tick import Rules


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


def _file(text: str) -> None:
    Path("feed.toml").write_text(text)


def test_without_anything_the_defaults_hold_and_have_no_origin() -> None:
    settings, origins = load()
    assert settings.kafka.bootstrap == "127.0.0.1:9092"
    assert settings.ticks_topic("kraken") == "ticks.kraken"
    assert origins == {}


def test_a_flag_beats_the_environment_beats_the_file_beats_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    _file('[kafka]\nbootstrap = "file:1"\npartitions = 2\nfetch_max_wait_ms = 7\n')
    monkeypatch.setenv("FEED_KAFKA__BOOTSTRAP", "environment:1")
    monkeypatch.setenv("FEED_KAFKA__PARTITIONS", "3")
    settings, origins = load({"kafka.bootstrap": "flag:1", "serve.port": None})
    assert (settings.kafka.bootstrap, settings.kafka.partitions, settings.kafka.fetch_max_wait_ms) == ("flag:1", 3, 7)
    assert origins == {
        "kafka.bootstrap": "flag",
        "kafka.partitions": "environment FEED_KAFKA__PARTITIONS",
        "kafka.fetch_max_wait_ms": "feed.toml",
    }


def test_settings_of_one_venue_are_merged_over_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    _file('[normalize.venue.coinbase]\nquotes_from = "book"\n')
    monkeypatch.setenv("FEED_NORMALIZE__VENUE__COINBASE__SILENT_AFTER_S", "5")
    settings = load().settings
    assert settings.rules("coinbase").quotes_from == "book"
    assert settings.rules("kraken").quotes_from == "stream"
    assert settings.silent_after_s("coinbase", 10) == 5
    assert settings.silent_after_s("kraken", 10) == 10


def test_a_list_may_be_written_with_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEED_NORMALIZE__VENUES", "kraken, coinbase")
    settings = load({"serve.venues": "kraken"}).settings
    assert settings.normalized == (("kraken", "coinbase"), True)
    assert settings.served == (("kraken",), True)
    assert settings.recorded == settings.normalized


def test_venues_that_nobody_named_are_the_known_ones_also_in_child_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEED_RECORD__VENUES", "desk")
    settings = load().settings
    for given in (settings, load(dict(leaves(settings))).settings):
        assert given.normalized == given.served == (KNOWN_VENUES, False)
        assert given.recorded == (("desk",), True)
        assert str(given.recorded) == "desk"
        assert "whose topics are there" in str(given.served)


@pytest.mark.parametrize("section", ["normalize", "serve", "record"])
@pytest.mark.parametrize("name", ["KRAKEN:*", "kra/ken", "", " ", "krakén", "k" * 101, "a b"])
def test_what_cannot_be_a_venue_is_refused(section: str, name: str) -> None:
    _file(f'[{section}]\nvenues = ["kraken", "{name}"]')
    with pytest.raises(ConfigError, match=rf"{section}.venues .*cannot be a venue"):
        load()


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


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[kafka]\nbootstrp = 'x:1'", r"unknown setting kafka.bootstrp \(feed.toml\), did you mean kafka.bootstrap\?"),
        ("[kafak]\nbootstrap = 'x:1'", r"unknown setting kafak .*did you mean kafka\?"),
        ("[kafka]\npartitions = 0", r"kafka.partitions \(feed.toml\): input should be greater than 0, found 0"),
        ("[kafka]\nbootstrap = 'nowhere'", r"kafka.bootstrap \(feed.toml\)"),
        ("[normalize.venue.krakn]\nsilent_after_s = 5", "krakn, which is not among"),
        ("[kafka\n", "settings file feed.toml cannot be read"),
        ("kafka = 3", r"kafka \(feed.toml\)"),
    ],
)
def test_a_wrong_file_is_told_what_and_where(text: str, said: str) -> None:
    _file(text)
    with pytest.raises(ConfigError, match=said):
        load()


@pytest.mark.parametrize(
    ("variable", "said"),
    [
        ("FEED_KAFKA__BOOTSTRP", "did you mean kafka.bootstrap"),
        (
            "FEED_KAFAK__BOOTSTRAP",
            r"unknown setting kafak.bootstrap \(environment FEED_KAFAK__BOOTSTRAP\), did you mean",
        ),
    ],
)
def test_an_unknown_variable_is_told(monkeypatch: pytest.MonkeyPatch, variable: str, said: str) -> None:
    monkeypatch.setenv(variable, "x:1")
    with pytest.raises(ConfigError, match=said):
        load()


def test_variables_of_tests_are_no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEED_TEST_KAFKA", "x:1")
    load()


def test_a_file_that_was_asked_for_must_be_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="no settings file"):
        load(file=tmp_path / "none.toml")
    monkeypatch.setenv("FEED_CONFIG", str(tmp_path / "none.toml"))
    with pytest.raises(ConfigError, match="no settings file"):
        load()


def test_every_value_is_listed_once_and_described() -> None:
    names = [name for name, _ in leaves(load().settings)]
    assert len(names) == len(set(names))
    words = dict(described())
    assert set(names) <= set(words)
    assert [name for name in names if not words[name]] == []


def test_every_value_is_used() -> None:
    package = Path(feed.__file__).parent
    own = (package / "runtime" / "settings" / "tree.py").read_text().partition("class Settings(BaseSettings)")[2]
    code = [*package.rglob("*.py"), *(package.parent / "replay").rglob("*.py")]
    text = own + "".join(path.read_text() for path in code if path.name != "tree.py")
    for name, _ in leaves(load().settings):
        assert re.search(rf"\.{name.rpartition('.')[2]}\b", text), name


def test_a_session_is_told_what_is_set() -> None:
    requests = RequestSettings(requests_burst=7, depth=(3,))
    serve = ServeSettings(
        server="gw-7", heartbeat_ms=700, requests=requests, limits=LimitSettings(message_bytes_max=70)
    )
    told = told_settings(serve)
    assert (told.server, told.heartbeat_ms, told.message_bytes_max) == ("gw-7", 700, 70)
    assert (told.requests_burst, told.depth) == (7, (3,))


def test_without_settings_the_core_has_the_same_defaults() -> None:
    settings = load().settings
    assert settings.rules("kraken") == Rules()
    assert settings.fold_rules == FoldRules()
    assert settings.hub == HubSettings()
    told = told_settings(ServeSettings(server=SessionSettings().server))
    assert msgspec.convert(told, SessionSettings, from_attributes=True) == SessionSettings()
