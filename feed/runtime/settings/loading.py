"""Where settings come from: flags win over the environment, that over the file, that over the defaults.

Owns the order, where each value came from, and what is said of one that cannot be.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from pydantic import ValidationError
from pydantic_settings import EnvSettingsSource

from feed.errors import ConfigError
from feed.runtime.settings.listing import described, is_secret, leaves_of
from feed.runtime.settings.tree import Settings

ENV_PREFIX: Final = "FEED_"
NESTED: Final = "__"
FILE_NAME: Final = "feed.toml"

Given = tuple[dict[str, Any], Callable[[str], str]]
"""What a source gives, and where it says that a value came from."""


class Loaded(NamedTuple):
    """Settings, and for each value that is not a default where it came from: dotted name to words."""

    settings: Settings
    origins: dict[str, str]


def load(flags: Mapping[str, object] | None = None, *, file: Path | None = None) -> Loaded:
    """The settings from flags (dotted name to value; None is not given), environment and file.

    Raises:
        ConfigError: a name is unknown, a value cannot be, or the file cannot be read.
    """
    merged: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for given, origin in (_from_file(file), _from_environment(), _from_flags(flags or {})):
        for name, value in leaves_of(given):
            _put(merged, name, value)
            origins[name] = origin(name)
    try:
        return Loaded(Settings(**merged), origins)
    except ValidationError as error:
        raise ConfigError("; ".join(_words(problem, origins) for problem in error.errors())) from error


def _from_flags(flags: Mapping[str, object]) -> Given:
    given: dict[str, Any] = {}
    for name, value in flags.items():
        if value is not None:
            _put(given, name, value)
    return given, lambda name: "flag"


def _from_environment() -> Given:
    for name in os.environ:
        _refuse_unknown_variable(name)
    source = EnvSettingsSource(Settings, env_prefix=ENV_PREFIX, env_nested_delimiter=NESTED)
    return source(), lambda name: f"environment {_variable(name)}"


def _refuse_unknown_variable(variable: str) -> None:
    """pydantic takes no notice of a variable whose section does not exist."""
    if not variable.startswith(ENV_PREFIX) or NESTED not in variable:
        return
    name = variable.removeprefix(ENV_PREFIX).lower().replace(NESTED, ".")
    if name.split(".")[0] not in Settings.model_fields:
        raise ConfigError(f"unknown setting {name} (environment {variable}){_did_you_mean(name)}")


def _variable(name: str) -> str:
    return ENV_PREFIX + name.upper().replace(".", NESTED)


def _from_file(file: Path | None) -> Given:
    path = file or Path(os.environ.get("FEED_CONFIG") or FILE_NAME)
    try:
        with path.open("rb") as opened:
            given = tomllib.load(opened)
    except FileNotFoundError:
        if file is not None or os.environ.get("FEED_CONFIG"):
            raise ConfigError(f"no settings file {path}") from None
        given = {}
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"settings file {path} cannot be read: {error}") from error
    return given, lambda name: str(path)


def _put(tree: dict[str, Any], name: str, value: object) -> None:
    *sections, last = name.split(".")
    for depth, section in enumerate(sections, 1):
        inner = tree.setdefault(section, {})
        if not isinstance(inner, dict):
            raise ConfigError(
                f"{name} is in {section}, which has the value {_shown('.'.join(sections[:depth]), inner)}"
            )
        tree = inner
    tree[last] = value


def _words(problem: Any, origins: Mapping[str, str]) -> str:
    name = ".".join(str(part) for part in problem["loc"])
    origin = next((f" ({origins[given]})" for given in origins if given == name or given.startswith(f"{name}.")), "")
    if problem["type"] == "extra_forbidden":
        return f"unknown setting {name}{origin}{_did_you_mean(name)}"
    said = problem["msg"].removeprefix("Value error, ")
    return f"{name}{origin}: {said[0].lower()}{said[1:]}, found {_shown(name, problem['input'])}" if name else said


def _shown(name: str, value: object) -> str:
    return "a secret" if is_secret(name) else repr(value)


def _did_you_mean(name: str) -> str:
    known = [known for known, _ in described()]
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f", did you mean {near[0]}?" if near else f", known are {', '.join(Settings.model_fields)}"
