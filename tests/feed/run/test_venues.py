"""The venue of a name as the settings have it, with the files of its mapping."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec import UNSET

from feed.errors import ConfigError
from feed.normalizer.settings import version_of
from feed.run.up import normalizer_settings
from feed.run.venues import venue_of
from feed.runtime.settings import load
from feed.runtime.settings.loading import Loaded
from feed.venues.table import venue

RULE = '[[records]]\nkind = "trades"\nfields = { price = "p", size = "s" }\n'
AVRO = f'format = "avro"\n{RULE}[avro]\nschema = "trade.avsc"\n'


def loaded(tmp_path: Path, text: str | None) -> Loaded:
    settings, file = tmp_path / "feed.toml", tmp_path / "desk.toml"
    settings.write_text(
        f'[normalize]\nvenues = ["desk", "kraken"]\n[venues.desk]\nformat = "mapped"\nmapping = "{file}"\n'
    )
    if text is not None:
        file.write_text(text)
    return load(file=settings)


def test_a_mapping_and_the_schemas_beside_it(tmp_path: Path) -> None:
    (tmp_path / "trade.avsc").write_text('{"type":"record","name":"a","fields":[]}')
    settings = loaded(tmp_path, AVRO).settings
    desk = venue_of(settings, "desk")
    assert (desk.name, desk.prefix) == ("desk", "DESK")
    assert venue_of(settings, "kraken") == venue("kraken")
    (tmp_path / "trade.avsc").write_text('{"type":"record","name":"b","fields":[]}')
    assert venue_of(settings, "desk").version != desk.version


def test_its_hash_is_part_of_the_version(tmp_path: Path) -> None:
    settings = loaded(tmp_path, f'format = "json"\n{RULE}').settings
    desk = venue_of(settings, "desk")
    rules = normalizer_settings(settings, desk).rules
    assert rules.mapping == desk.version
    assert normalizer_settings(settings, venue("kraken")).rules.mapping is UNSET
    assert version_of(rules) != version_of(settings.rules("desk"))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (None, r"mapping .*desk\.toml cannot be read"),
        ("format = 1", r"desk\.toml: mapping cannot be read"),
        (AVRO, r"schema of .*desk\.toml cannot be read: .*trade\.avsc"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, text: str | None, found: str) -> None:
    with pytest.raises(ConfigError, match=found):
        venue_of(loaded(tmp_path, text).settings, "desk")


@pytest.mark.parametrize("one", ['format = "mapped"', 'mapping = "x"'])
def test_a_mapping_and_its_format_go_together(tmp_path: Path, one: str) -> None:
    (tmp_path / "feed.toml").write_text(f"[venues.kraken]\n{one}\n")
    with pytest.raises(ConfigError, match="wanted both or neither"):
        load(file=tmp_path / "feed.toml")


def test_a_mapping_that_needs_a_registry_needs_its_address(tmp_path: Path) -> None:
    text = f'format = "avro"\n{RULE}[avro]\nframing = "confluent"\nregistry = true\n'
    settings = loaded(tmp_path, text).settings
    with pytest.raises(ConfigError, match=r"wanted venues\.desk\.schema_registry too"):
        venue_of(settings, "desk")
    with (tmp_path / "feed.toml").open("a") as file:
        file.write('schema_registry = "http://127.0.0.1:8081"\n')
    settings = load(file=tmp_path / "feed.toml").settings
    desk = venue_of(settings, "desk")
    assert desk.schemas is not None
    assert normalizer_settings(settings, desk).schema_registry == "http://127.0.0.1:8081"
