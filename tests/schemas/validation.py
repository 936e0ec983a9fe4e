"""Is a value what a schema says? For every test that sees a message, a request or a frame."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

from jsonschema import Draft202012Validator
from referencing import Registry, Resource

import schemas

_REGISTRY: Final[Registry[Any]] = Registry().with_resources(
    [(f"{name}.json", Resource.from_contents(schemas.schema(name))) for name in schemas.names()]
)


@cache
def _validator(ref: str) -> Draft202012Validator:
    return Draft202012Validator({"$ref": ref}, registry=_REGISTRY)


def faults(name: str, value: object) -> list[str]:
    """What is wrong with the value by the schema of that name (`update`, or `common#/$defs/seq`)."""
    file, _, fragment = name.partition("#")
    found = _validator(f"{file}.json#{fragment}").iter_errors(value)
    return [f"{'/'.join(map(str, error.absolute_path))}: {error.message}" for error in found]


def check(name: str, value: object) -> None:
    """Fails the test when the value is not what the schema says."""
    assert not faults(name, value), f"{value} is no {name}"
