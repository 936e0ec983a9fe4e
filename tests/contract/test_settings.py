"""A setting is declared once: nothing else in the code repeats its default or its sentence.

Read from the source. A field or a parameter repeats a setting if it has its name and its default, whatever their units:
`resume_window_ms = 60_000` is `resume_window_s = 60`. Where a section takes a default from the core
(`_RULES.trades_kept`) the core's name counts, too, and the figure must stand there once. Defaults that say "nothing"
(0, false, none, empty) are no figure to repeat, and neither is all there is (`*`).
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from difflib import SequenceMatcher
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from feed.runtime.settings import sections, values

ROOT = Path(__file__).resolve().parents[2]
SECTIONS = ROOT / "feed" / "runtime" / "settings" / "sections.py"
CODE = sorted([*(ROOT / "feed").rglob("*.py"), *(ROOT / "replay").rglob("*.py")])
CORE = ("_RULES", "_HUB", "_SESSION")
UNITS = {"ns": 1e-9, "ms": 1e-3, "s": 1.0, "seconds": 1.0}
NOTHING = (None, False, 0, "", (), {}, "none", ("*",))
ALIKE = 0.7


class Declaration(NamedTuple):
    """A name and its default.

    `value`: None where it is no literal. `words`: what is said of it. `taken`: the field of the core where its default
    is taken from. `owner`: its class; empty for a constant of a module.
    """

    path: Path
    name: str
    value: Any
    words: str = ""
    taken: str = ""
    owner: str = ""


def declarations(path: Path, text: str) -> Iterator[Declaration]:
    """Class fields, parameters and constants."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ClassDef | ast.Module):
            owner = node.name if isinstance(node, ast.ClassDef) else ""
            for index, line in enumerate(node.body):
                if (found := named(line)) is not None:
                    name, default = found
                    yield Declaration(path, name, literal(default), said(node.body, index + 1), taken(default), owner)
        elif isinstance(node, ast.arguments):
            by_place = [*node.posonlyargs, *node.args][-len(node.defaults) :] if node.defaults else []
            pairs = [*zip(by_place, node.defaults, strict=True), *zip(node.kwonlyargs, node.kw_defaults, strict=True)]
            for argument, given in pairs:
                if given is not None:
                    yield Declaration(path, argument.arg, literal(given), owner="parameter")


def named(line: ast.stmt) -> tuple[str, ast.expr] | None:
    """What a line gives a default to."""
    if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name) and line.value is not None:
        return line.target.id, line.value
    if isinstance(line, ast.Assign) and isinstance(line.targets[0], ast.Name):
        return line.targets[0].id, line.value
    return None


def said(body: list[ast.stmt], index: int) -> str:
    """The text that stands at a place of a body; empty where there is none."""
    match body[index : index + 1]:
        case [ast.Expr(ast.Constant(str() as words))]:
            return " ".join(words.split())
    return ""


def taken(default: ast.expr) -> str:
    """The field of the core in a default like `_RULES.bars.grace_ns // NS_PER_MS`."""
    for node in ast.walk(default):
        if isinstance(node, ast.Attribute) and ast.unparse(node).startswith(CORE):
            return node.attr
    return ""


def literal(default: ast.expr) -> Any:
    """Its value, where it is made of literals and units."""
    known = {name: value for name, value in vars(values).items() if name.isupper() and isinstance(value, int)}
    kinds = (ast.Constant, ast.Tuple, ast.BinOp, ast.UnaryOp, ast.operator, ast.unaryop, ast.Load)
    if not all(isinstance(node, kinds) or getattr(node, "id", "") in known for node in ast.walk(default)):
        return None
    return eval(ast.unparse(default), known)


@lru_cache(maxsize=None, typed=True)
def plain(name: str, value: Any) -> tuple[str, Any]:
    """A name without its unit, and the value in seconds where it is a time: equal for equal settings."""
    words = name.lower().strip("_").split("_")
    unit = next((UNITS[word] for word in words if word in UNITS), None)
    if unit is not None and isinstance(value, int | float):
        value = round(value * unit, 9)
    return "_".join(word for word in words if word not in UNITS), (type(value) is bool, value)


def same(one: Declaration, setting: Declaration, value: Any) -> bool:
    """Whether it is called as a setting, or as what that takes its default from, and has this default."""
    names = {plain(name, 0)[0] for name in (setting.name, setting.taken) if name}
    return plain(one.name, one.value)[0] in names and plain(one.name, one.value)[1] == plain(setting.name, value)[1]


def repeats(setting: Declaration, value: Any, code: list[Declaration]) -> list[Declaration]:
    """Where else a setting's default is written; of one that the core declares one place is right.

    A constant is a module's own figure, but in `feed.wire`: what packages of the core share stands there.
    """
    found = [
        one
        for one in code
        if one.path != SECTIONS
        and one.value is not None
        and (one.owner or (setting.taken and one.path.parent.name == "wire"))
        and same(one, setting, value)
    ]
    return found[1:] if setting.taken else found


def retold(setting: Declaration, code: list[Declaration]) -> list[Declaration]:
    """Where else nearly the same is said of a name."""
    names = {plain(name, 0)[0] for name in (setting.name, setting.taken) if name}
    return [
        one
        for one in code
        if one.path != SECTIONS
        and one.words
        and plain(one.name, 0)[0] in names
        and SequenceMatcher(None, one.words.lower(), setting.words.lower()).ratio() > ALIKE
    ]


SETTINGS = [one for one in declarations(SECTIONS, SECTIONS.read_text("utf-8")) if one.owner and one.words]
ALL = [one for path in CODE for one in declarations(path, path.read_text("utf-8"))]
"""All that there is."""


def default_of(setting: Declaration) -> Any:
    """As a process has it."""
    return getattr(getattr(sections, setting.owner)(), setting.name)


def test_there_are_settings() -> None:
    assert len(SETTINGS) > 100
    assert len({one.taken for one in SETTINGS if one.taken}) > 15


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda one: f"{one.owner}.{one.name}")
def test_a_setting_is_declared_once(setting: Declaration) -> None:
    value = default_of(setting)
    assert value in NOTHING or repeats(setting, value, ALL) == []
    assert not setting.taken or any(same(one, setting, value) for one in ALL if one.value is not None)
    assert retold(setting, ALL) == []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("drain_ms", "class Other:\n    drain_ms: int = 8000"),
        ("drain_ms", "class Other:\n    drain_seconds: float = 2 * 4.0"),
        ("drain_ms", "def other(first: int, *, drain_ms: int = 8_000) -> None: ..."),
        ("trades_in_snapshot", "class Other:\n    trades_kept: int = 100"),
        ("every_ms", "def other(every_ms: tuple[int, ...] = (50, 100, 250, 1000)) -> None: ..."),
        ("deflate", "class Other:\n    deflate: bool = True"),
        (
            "drain_ms",
            'class Other:\n    drain_ms: int = 1\n    """From the signal until the last connection closed."""',
        ),
    ],
)
def test_what_is_written_twice_is_found(name: str, text: str) -> None:
    (setting,) = [one for one in SETTINGS if one.name == name]
    planted = list(declarations(Path("other.py"), text))
    assert repeats(setting, default_of(setting), [*ALL, *planted]) or retold(setting, [*ALL, *planted])


@pytest.mark.parametrize("text", ["class Other:\n    drain_ms: int = 7000", "class Other:\n    close_ms: int = 8000"])
def test_another_figure_or_another_name_is_no_repetition(text: str) -> None:
    (setting,) = [one for one in SETTINGS if one.name == "drain_ms"]
    assert repeats(setting, 8000, list(declarations(Path("other.py"), text))) == []
