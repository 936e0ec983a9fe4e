"""What is allowed, and most likely not what was meant."""

from __future__ import annotations

from feed.runtime.settings.tree import Settings
from feed.runtime.settings.values import KNOWN_VENUES


def doubts(settings: Settings) -> list[str]:
    """Venues that are nearly a known one: a warning for each."""
    named = {
        "normalize.venues": settings.normalize.venues,
        "serve.venues": settings.serve.venues,
        "record.venues": settings.record.venues,
    }
    return [
        f"{setting} has {name}, a venue of your own; did you mean {near}?"
        for setting, names in named.items()
        for name in names
        if (near := near_venue(name))
    ]


def near_venue(name: str) -> str | None:
    """The known venue that a name is all but equal to: by one letter, or two that are swapped; None where it is one."""
    if name in KNOWN_VENUES:
        return None
    return next((known for known in KNOWN_VENUES if _nearly(name.lower(), known)), None)


def _nearly(one: str, other: str) -> bool:
    start = _same(one, other)
    one, other = one[start:][::-1], other[start:][::-1]
    end = _same(one, other)
    one, other = one[end:], other[end:]
    return max(len(one), len(other)) <= 1 or (len(one) == 2 and one == other[::-1])


def _same(one: str, other: str) -> int:
    """How many letters both begin with."""
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
