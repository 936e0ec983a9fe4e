"""No word of an error and no close code in the code that the table does not have."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.frames import CloseCode

import schemas

FEED = Path(__file__).resolve().parents[2] / "feed"
FILES = sorted(path.relative_to(FEED).as_posix() for path in FEED.rglob("*.py"))
CALLS_WITH_A_CODE = {"BadRequest": 0, "Close": 0, "_error": 1}


def _codes(tree: ast.AST) -> Iterator[str | int]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "CloseCode":
            yield int(CloseCode[node.attr])
        if not isinstance(node, ast.Call):
            continue
        name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        arguments = [keyword.value for keyword in node.keywords if keyword.arg == "code"]
        if name in CALLS_WITH_A_CODE and len(node.args) > CALLS_WITH_A_CODE[name]:
            arguments.append(node.args[CALLS_WITH_A_CODE[name]])
        for argument in arguments:
            if isinstance(argument, ast.Constant) and isinstance(argument.value, str | int):
                yield argument.value


def unknown(text: str) -> list[str | int]:
    """The codes in a module's text that the table does not have."""
    return [code for code in _codes(ast.parse(text)) if code not in schemas.errors() and code not in schemas.closes()]


@pytest.mark.parametrize("file", FILES)
def test_every_code_in_the_code_is_in_the_table(file: str) -> None:
    assert not unknown((FEED / file).read_text("utf-8"))


PLANTED = [
    'raise BadRequest("nonesuch", "x")',
    'Result("a", "b", ok=False, code="nope")',
    "Close(4999)",
    "CloseCode.TLS_HANDSHAKE",
]


@pytest.mark.parametrize("text", PLANTED)
def test_a_planted_code_is_seen(text: str) -> None:
    assert unknown(text)
