"""Where settings come from: which source wins, where a value came from, and what a wrong one is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from feed.errors import ConfigError
from feed.runtime.settings.loading import load


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


def test_a_list_may_be_written_with_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEED_NORMALIZE__VENUES", "kraken, coinbase")
    settings = load({"serve.venues": "kraken"}).settings
    assert settings.normalized == (("kraken", "coinbase"), True)
    assert settings.served == (("kraken",), True)
    assert settings.recorded == settings.normalized


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[kafka]\nbootstrp = 'x:1'", r"unknown setting kafka.bootstrp \(feed.toml\), did you mean kafka.bootstrap\?"),
        ("[kafak]\nbootstrap = 'x:1'", r"unknown setting kafak .*did you mean kafka\?"),
        ("[kafka]\npartitions = 0", r"kafka.partitions \(feed.toml\): input should be greater than 0, found 0"),
        ("[kafka]\nbootstrap = 'nowhere'", r"kafka.bootstrap \(feed.toml\)"),
        ("[venues.krakn]\nsilent_after_s = 5", "krakn, which is not among"),
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


def test_a_flag_in_what_is_no_section_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"log\.level\.x is in level, which has the value 'info'"):
        load({"log.level": "info", "log.level.x": 1})
