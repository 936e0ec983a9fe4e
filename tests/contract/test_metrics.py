"""Every number that the code tells stands in ops/metrics.md, by its name, type and labels, and no other does."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
KINDS = {"counter": "counter", "labelled": "counter", "counted": "counter", "gauge": "gauge", "histogram": "histogram"}
LABELS = ("label", "labels")
ROW = re.compile(r"^\| `(feed_\w+)` \| (\w+) \|([^|]*)\|([^|]+)\|$", re.MULTILINE)


class Number(NamedTuple):
    """A number as the code has it."""

    name: str
    kind: str
    labels: tuple[str, ...]


def numbers() -> Iterator[Number]:
    """Those that the code asks `Metrics` for: their names and labels must be written out there."""
    for path in sorted([*(ROOT / "feed").rglob("*.py"), *(ROOT / "replay").rglob("*.py")]):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in KINDS:
                name, kind = node.args[0], KINDS[node.func.attr]
                where = f"{path}:{node.lineno}"
                assert isinstance(name, ast.Constant), where
                assert str(name.value).startswith("feed_"), where
                yield Number(f"{name.value}_total" if kind == "counter" else str(name.value), kind, labels_of(node))


def labels_of(call: ast.Call) -> tuple[str, ...]:
    """The labels in a call."""
    assert isinstance(call.func, ast.Attribute)
    if call.func.attr == "labelled":
        return (ast.literal_eval(call.args[2]),)
    given = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords if keyword.arg in LABELS}
    return given.get("labels") or tuple(filter(None, [given.get("label")]))


FOUND = sorted(set(numbers()))
TEXT = (ROOT / "ops" / "metrics.md").read_text("utf-8")
TOLD = {row[0]: row for row in ROW.findall(TEXT)}


def test_there_are_numbers() -> None:
    assert len(FOUND) > 40


@pytest.mark.parametrize("number", FOUND, ids=lambda number: number.name)
def test_a_number_is_told_as_it_is(number: Number) -> None:
    name, kind, labels, meaning = TOLD[number.name]
    assert (name, kind) == number[:2]
    assert tuple(label.strip(" `") for label in labels.split(",") if label.strip()) == number.labels
    assert meaning.strip()


def test_nothing_is_told_that_is_not_there() -> None:
    assert TOLD.keys() == {number.name for number in FOUND}


def test_a_label_never_grows_for_ever() -> None:
    """Sources come and go: their names have no place in a label."""
    assert {label for number in FOUND for label in number.labels} <= {
        "venue",
        "partition",
        "reason",
        "state",
        "outcome",
        "code",
        "status",
        "version",
        "python",
        "protocol",
    }
