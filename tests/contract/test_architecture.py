"""The map in ARCHITECTURE.md is that of the tree: packages and modules, tests and links that it names exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
PLACED = {path.stem for path in (ROOT / "feed").iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}


@pytest.mark.parametrize("name", sorted(PLACED - {"__init__"}))
def test_every_part_of_the_service_is_on_the_map(name: str) -> None:
    block = TEXT[TEXT.index("schemas/        what is said") : TEXT.index("Where a tick goes through")]
    assert re.search(rf"\b{name}\b", block)


@pytest.mark.parametrize("test", sorted(set(re.findall(r"`([a-z]+/test_\w+\.py(?:::\w+)?)`", TEXT))))
def test_every_test_that_holds_an_invariant_exists(test: str) -> None:
    file, _, name = test.partition("::")
    text = (ROOT / "tests" / file).read_text("utf-8")
    assert not name or re.search(rf"def {name}\(", text)


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)#]+)[^)]*\)", TEXT))))
def test_every_link_leads_somewhere(link: str) -> None:
    assert (ROOT / link).exists()
