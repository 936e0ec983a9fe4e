"""The map in ARCHITECTURE.md is that of the tree: packages and modules, tests and links that it names exist.

A package's own map is the docstring of its `__init__`, with a line for each of its modules.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
MAP = TEXT[TEXT.index("\nschemas/        what is said") : TEXT.index("\n## The way of a tick")]
PACKAGES = {path.parent.name for path in (ROOT / "feed").glob("*/__init__.py")}
PLACED = PACKAGES | {path.stem for path in (ROOT / "feed").glob("*.py")} - {"__init__"}
GUIDES = (
    "README.md",
    "ARCHITECTURE.md",
    "DECISIONS.md",
    "CONTRIBUTING.md",
    "ops/README.md",
    "ops/runbook.md",
    "feed/venues/README.md",
)
DOTTED = re.compile(rf"`((?:{'|'.join(sorted(PACKAGES))}|replay)\.[a-z_]+)")


def modules(package: str) -> set[str]:
    return {path.stem for path in (ROOT / package).glob("*.py")} - {"__init__"}


def text_of(guide: str) -> str:
    return (ROOT / guide).read_text("utf-8")


def anchors(text: str) -> set[str]:
    heads = re.findall(r"^#+ (.*)", text, re.MULTILINE)
    return {re.sub(r"[^a-z0-9_ -]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("name", sorted(PLACED))
def test_every_part_of_the_service_is_on_the_map(name: str) -> None:
    assert re.search(rf"^  {name}\b", MAP, re.MULTILINE)


@pytest.mark.parametrize("package", sorted(PACKAGES))
def test_every_module_is_in_the_docstring_of_its_package(package: str) -> None:
    said = ast.get_docstring(ast.parse((ROOT / "feed" / package / "__init__.py").read_text("utf-8"))) or ""
    assert [name for name in sorted(modules(f"feed/{package}")) if f"`{name}`" not in said] == []


def test_every_module_of_replay_is_on_the_map() -> None:
    part = MAP[MAP.index("\nreplay/") : MAP.index("\ntests/")]
    assert [name for name in sorted(modules("replay")) if not re.search(rf"\b{name}\b", part)] == []


def test_every_folder_at_the_top_is_on_the_map() -> None:
    folders = {path.parent.name for path in ROOT.glob("*/*.py")} | {"ops"}
    folders -= {path.name for path in ROOT.iterdir() if path.name.startswith(".")} | {"build"}
    assert {name for name in folders if f"\n{name}/" not in MAP} == set()


@pytest.mark.parametrize("guide", ["ARCHITECTURE.md", "CONTRIBUTING.md", "DECISIONS.md"])
def test_every_module_that_is_named_exists(guide: str) -> None:
    for name in sorted(set(DOTTED.findall(text_of(guide)))):
        package, _, module = name.partition(".")
        where = ROOT / package if package == "replay" else ROOT / "feed" / package
        assert (where / f"{module}.py").is_file() or (where / module).is_dir(), name


@pytest.mark.parametrize("test", sorted(set(re.findall(r"`([a-z]+/[a-z/]*test_\w+\.py(?:::\w+)*)`", TEXT))))
def test_every_test_that_holds_an_invariant_exists(test: str) -> None:
    file, *names = test.split("::")
    text = (ROOT / "tests" / file).read_text("utf-8")
    for name in names:
        assert re.search(rf"(def|class) {name}\b", text)


@pytest.mark.parametrize("guide", GUIDES)
def test_every_link_leads_somewhere(guide: str) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", text_of(guide)):
        file, _, anchor = link.partition("#")
        if file.startswith("http"):
            continue
        aim = (ROOT / guide).parent / file if file else ROOT / guide
        assert aim.exists(), link
        if anchor and aim.suffix == ".md":
            assert anchor in anchors(aim.read_text("utf-8")), link
