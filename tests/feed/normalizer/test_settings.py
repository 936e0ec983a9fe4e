"""What a normalizer is told, the version of its bytes, and in what the settings of two differ."""

from __future__ import annotations

import msgspec
import pytest

from feed.normalizer.settings import _SETTINGS, _flat, code_of, differences, settings_text, version_of
from feed.runtime.settings import described
from feed.venues.bars import BarRules
from feed.venues.tick import Rules
from feed.venues.venue import CODE_VERSION

OURS = Rules()


def test_the_version_is_the_codes_and_a_hash_of_what_changes_bytes() -> None:
    version = version_of(OURS)
    assert version == f"{CODE_VERSION}.8686e599"
    assert code_of(version) == CODE_VERSION
    assert version_of(Rules(bars=BarRules(closed_kept=6))) != version


@pytest.mark.parametrize("version", ["", "x", "x.1", "²"])
def test_a_version_that_is_none_has_no_code(version: str) -> None:
    assert code_of(version) == 0


def test_rules_are_called_as_people_set_them() -> None:
    known = {name for name, _ in described()} | {
        "venues.<name>.quotes_from",
        "venues.<name>.mapping (the hash of what it says)",
    }
    assert set(_SETTINGS) == set(_flat(msgspec.to_builtins(Rules(mapping="5f3c8a90"))))
    assert [name for name in _SETTINGS.values() if name.removesuffix(" (in ns)") not in known] == []


def test_differences_are_named_and_both_values_told() -> None:
    theirs = Rules(quotes_from="book", bars=BarRules(intervals=("1m",)))
    assert differences(OURS, settings_text(OURS)) == ""
    assert differences(OURS, settings_text(theirs)) == (
        "normalize.bar_intervals ('1m',) there and ('1s', '1m') here, "
        "venues.<name>.quotes_from 'book' there and 'stream' here"
    )
    assert "normalize.bar_grace_ms (in ns) None there and 1000000000 here" in differences(OURS, '{"new": 1}')
    assert "new 1 there and None here" in differences(OURS, '{"new": 1}')


@pytest.mark.parametrize("theirs", ["", "{", "[" * 100_000])
def test_what_cannot_be_read_differs_in_nothing_that_can_be_told(theirs: str) -> None:
    assert differences(OURS, theirs) == ""
