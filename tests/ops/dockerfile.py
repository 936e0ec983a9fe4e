"""A Dockerfile as data: its stages, and their instructions with continued lines joined."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import NamedTuple


class Step(NamedTuple):
    """One instruction."""

    name: str
    rest: str

    @property
    def words(self) -> list[str]:
        """Its arguments: of a list in JSON, or as a shell splits them."""
        return json.loads(self.rest) if self.rest.startswith("[") else shlex.split(self.rest)


def stages(path: Path) -> list[list[Step]]:
    """Each stage, beginning with its FROM."""
    text = re.sub(r"^#.*\n", "", path.read_text("utf-8"), flags=re.MULTILINE)
    found: list[list[Step]] = []
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        if line.strip():
            name, _, rest = line.partition(" ")
            if name == "FROM":
                found.append([])
            found[-1].append(Step(name, rest.strip()))
    return found


def environment(stage: list[Step]) -> dict[str, str]:
    """What ENV sets."""
    return dict(word.split("=", 1) for step in stage if step.name == "ENV" for word in step.words)
