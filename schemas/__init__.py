"""What the protocol says, as files: JSON Schemas, error table, Arrow types, examples and AsyncAPI, and their loader.

Owns nothing but reading: the files are the contract, README.md explains them. Code that needs a word or a close code
takes it from here; whether messages keep to the schemas is the tests' business.
"""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any, Final, NamedTuple

_FILES: Final = files(__name__)
_NOT_SCHEMAS: Final = frozenset({"errors", "arrow"})

Json = dict[str, Any]  # a JSON Schema: its form is JSON Schema's business


class ErrorCode(NamedTuple):
    """A word of the protocol's `error` messages and failed results; `retry`: the same request may succeed later."""

    code: str
    meaning: str
    cause: str
    remedy: str
    retry: bool


class CloseCode(NamedTuple):
    """A WebSocket close code; `resume`: the client may come back by itself and resume from its marks."""

    code: int
    name: str
    cause: str
    remedy: str
    resume: bool


def names() -> list[str]:
    """The names of all schemas, sorted."""
    found = (file.name for file in _FILES.iterdir())
    return sorted(
        name.removesuffix(".json") for name in found if name.endswith(".json") and name[:-5] not in _NOT_SCHEMAS
    )


def schema(name: str) -> Json:
    """The JSON Schema of that name, `update` or `common`; its references are relative to its own folder.

    Raises:
        FileNotFoundError: there is no such schema.
    """
    return _object(f"{name}.json")


def examples() -> list[str]:
    """The names of all examples, sorted."""
    found = (file.name for file in (_FILES / "examples").iterdir())
    return sorted(name.removesuffix(".json") for name in found if name.endswith(".json"))


def example(name: str) -> bytes:
    """The example of that name. A message or request is as it is on the wire: compact, in field order.

    Those with `steps` are lists of frames (`session_…`) or of messages and what a client does with them (`rule_…`).

    Raises:
        FileNotFoundError: there is no such example.
    """
    return (_FILES / "examples" / f"{name}.json").read_bytes().rstrip(b"\n")


@cache
def errors() -> dict[str, ErrorCode]:
    """Every error code by its word, in the order of the table."""
    return {row["code"]: ErrorCode(**row) for row in _object("errors.json")["errors"]}


@cache
def closes() -> dict[int, CloseCode]:
    """Every close code by its number, in the order of the table."""
    return {row["code"]: CloseCode(**row) for row in _object("errors.json")["closes"]}


def arrow() -> Json:
    """The tables and typed columns that a recording has."""
    return _object("arrow.json")


def asyncapi(*, files_at: str = "./") -> str:
    """The AsyncAPI document, YAML, with its references to these files pointing to `files_at`."""
    return (_FILES / "asyncapi.yaml").read_text("utf-8").replace("$ref: ./", f"$ref: {files_at}")


def _object(path: str) -> Json:
    found: Json = json.loads((_FILES / path).read_text("utf-8"))
    return found
