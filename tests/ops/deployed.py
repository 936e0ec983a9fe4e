"""What ops/ deploys, as data: the environment and the command of every process in it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import yaml

from tests.ops.dockerfile import environment, stages

OPS: Final = Path(__file__).resolve().parents[2] / "ops"
UNIT: Final = OPS / "systemd" / "feed@.service"
ROLES: Final = ("normalize", "serve", "record")


class Process(NamedTuple):
    """One that is started: where it is said, its whole environment, its command."""

    where: str
    env: dict[str, str]
    command: list[str]


def env_file(path: Path) -> dict[str, str]:
    """The lines NAME=VALUE of a file."""
    lines = [line for line in path.read_text("utf-8").splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def image_env() -> dict[str, str]:
    """What the image itself sets of ours."""
    found = environment(stages(OPS / "docker" / "Dockerfile")[-1])
    return {name: value for name, value in found.items() if name.startswith("FEED_")}


def compose() -> dict[str, Any]:
    """The services of the composition."""
    found: dict[str, Any] = yaml.safe_load((OPS / "docker" / "compose.yaml").read_text("utf-8"))
    return found


def objects(folder: Path = OPS / "kubernetes" / "base") -> list[dict[str, Any]]:
    """What a folder has for Kubernetes."""
    paths = [path for path in sorted(folder.glob("*.yaml")) if path.name != "kustomization.yaml"]
    return [one for path in paths for one in yaml.safe_load_all(path.read_text("utf-8"))]


def pods() -> dict[str, dict[str, Any]]:
    """The templates of pods, by the name of what makes them."""
    return {
        one["metadata"]["name"]: one["spec"]["template"]["spec"]
        for one in objects()
        if "template" in one.get("spec", {})
    }


def unit() -> dict[str, list[str]]:
    """The lines of the unit, by name."""
    found: dict[str, list[str]] = {}
    for name, value in re.findall(r"^(\w+)=(.*)$", UNIT.read_text("utf-8"), re.MULTILINE):
        found.setdefault(name, []).append(value)
    return found


def processes() -> Iterator[Process]:
    """All that are started, anywhere in ops/."""
    entry = stages(OPS / "docker" / "Dockerfile")[-1]
    feed = next(step.words for step in entry if step.name == "ENTRYPOINT")
    for name, service in compose()["services"].items():
        if service["image"] == "market-feed":
            yield Process(f"compose {name}", image_env() | service["environment"], [*feed, *service["command"]])
    settings = env_file(OPS / "kubernetes" / "base" / "settings.env")
    for name, pod in pods().items():
        [container] = pod["containers"]
        yield Process(f"kubernetes {name}", image_env() | settings, [*feed, *container["args"]])
    for role in ROLES:
        env = env_file(OPS / "systemd" / "feed.env") | env_file(OPS / "systemd" / f"{role}.env")
        yield Process(f"systemd {role}", env, ["feed", *shlex.split(unit()["ExecStart"][0].replace("%i", role))[1:]])
