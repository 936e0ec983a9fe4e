"""Where something is in a record: `order.legs[0].price`, and what stands there.

Owns the grammar of paths and the difference between what is absent and what is null. Names are separated by dots, `[0]`
is an element of a list, `["a.b"]` a name with any characters. `$` is the record itself: a path that begins with it is
looked for in the whole record, any other in the entry in hand.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from feed.errors import ConfigError, shown

_STEP: Final = re.compile(r'\.([A-Za-z_@][\w@-]*)|\[(\d{1,6})\]|\["([^"\]]+)"\]')


class Absent:
    """Nothing stands there; null is something else."""

    def __repr__(self) -> str:
        return "nothing"


ABSENT: Final = Absent()


class Path(NamedTuple):
    """Names and places to follow, from the whole record or from the entry in hand."""

    text: str
    steps: tuple[str | int, ...]
    of_record: bool

    def look(self, record: object, entry: object) -> object:
        """What stands there; `ABSENT` where a name or a place is missing, None behind a null."""
        found = record if self.of_record else entry
        for step in self.steps:
            if found is None:
                return None
            if isinstance(step, int):
                if not isinstance(found, list) or step >= len(found):
                    return ABSENT
                found = found[step]
            elif isinstance(found, dict) and step in found:
                found = found[step]
            else:
                return ABSENT
        return found


def path(text: str) -> Path:
    """The path that a text says.

    Raises:
        ConfigError: it is none.
    """
    of_record = text.startswith("$")
    # so that every name has a point before it
    rest = text[1:] if of_record else text if text.startswith("[") else f".{text}"
    steps: list[str | int] = []
    at = 0
    while at < len(rest):
        found = _STEP.match(rest, at)
        if found is None:
            raise ConfigError(f"path {shown(text)}, wanted names and places as in a.b[0].c")
        name, place, quoted = found.groups()
        steps.append(int(place) if place is not None else name or quoted)
        at = found.end()
    return Path(text, tuple(steps), of_record)
