"""The tree as a list: each value by its dotted name, what each means, and a settings file with all of it.

Owns what `feed config show` and `feed config init` say of a setting, and what a child process is given of all of them.
A secret is shown as stars, and given whole.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from pydantic import BaseModel, SecretStr

from feed.runtime.settings.sections import Section
from feed.runtime.settings.tree import Settings


def leaves(settings: Settings) -> Iterator[tuple[str, object]]:
    """Each value with its dotted name, in the order of the tree; of a secret only whether there is one."""
    yield from leaves_of(settings.model_dump(mode="json"))


def given(settings: Settings) -> dict[str, object]:
    """Each value with its dotted name, secrets whole: as flags they make the same settings in a child process."""
    whole = leaves_of(settings.model_dump())
    secrets = {name: value.get_secret_value() for name, value in whole if isinstance(value, SecretStr)}
    return {**dict(leaves(settings)), **secrets}


def is_secret(name: str) -> bool:
    """Whether the value of this dotted name is never shown."""
    return name in _SECRETS


def described() -> Iterator[tuple[str, str]]:
    """Each section or value with its description, in the order of the tree."""
    yield from _described(Settings, "")


def template() -> str:
    """A settings file with everything in it: each value's default, commented out, under its meaning."""
    values = dict(leaves(Settings()))
    lines = ["# Settings of the feed. Flags win over the environment (FEED_KAFKA__BOOTSTRAP), that over this file."]
    for name, words in described():
        last = name.rpartition(".")[2]
        if name in values and not isinstance(values[name], dict):
            lines += [f"# {' '.join(words.split())}"] if words else []
            lines += [f"# {last} = {json.dumps(values[name])}", ""]
        elif name in values:
            lines += ["# [venues.coinbase]", f"# {' '.join(words.split())}", '# quotes_from = "book"', ""]
        else:
            lines += [f"# {words}", f"[{name}]", ""]
    return "\n".join(lines)


def leaves_of(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Each value of nested sections with its dotted name; an empty section is a value."""
    for name, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from leaves_of(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _described(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, str]]:
    for name, field in model.model_fields.items():
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, Section):
            yield f"{prefix}{name}", (annotation.__doc__ or "").strip()
            yield from _described(annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field.description or ""


def _secrets(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        if field.annotation is SecretStr:
            yield f"{prefix}{name}"
        elif isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from _secrets(field.annotation, f"{prefix}{name}.")


_SECRETS: Final = frozenset(_secrets(Settings))
