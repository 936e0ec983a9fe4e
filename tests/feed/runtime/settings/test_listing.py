"""The tree as a list and as a file; each value is described, and used."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import feed
from feed.runtime.settings.listing import described, leaves, template
from feed.runtime.settings.loading import load


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


def test_the_file_to_fill_in_has_every_value_with_its_default(tmp_path: Path) -> None:
    text = template()
    assert tomllib.loads(text).keys() == {"kafka", "normalize", "serve", "record", "admin", "log"}
    given = [line.removeprefix("# ") if re.match(r"# (\w+ = |\[)", line) else line for line in text.splitlines()]
    (tmp_path / "whole.toml").write_text("\n".join(given))
    settings, origins = load(file=tmp_path / "whole.toml")
    found, wanted = dict(leaves(settings)), dict(leaves(load().settings))
    assert found.pop("venues.coinbase.quotes_from") == "book"
    assert found.pop("venues.coinbase.silent_after_s") is None
    assert found.pop("venues.coinbase.format") is None
    for name in ("topic", "feed_topic", "mapping"):
        assert found.pop(f"venues.coinbase.{name}") == ""
    assert found.pop("venues.coinbase.schema_registry") == ""
    assert wanted.pop("venues") == {}
    assert found == wanted
    assert set(found) <= set(origins)
    assert "# The consumer group in which normalizers share the partitions." in text
