"""What has to be so of a process for others to rely on it, and how that is told.

Owns the form of a check and of the answer of `/readyz`. What is looked at is each role's own.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct


class Check(Struct, frozen=True):
    """One thing that has to be so; `found` says in words how it is.

    `counts`: whether the process is ready hangs on it; else it is only told, as one bad source of several is.
    """

    name: str
    ok: bool
    found: str
    counts: bool = True


def is_ready(checks: Iterable[Check]) -> bool:
    """Whether everything that counts is so."""
    return all(check.ok for check in checks if check.counts)


def failing(checks: Iterable[Check]) -> list[Check]:
    """What counts and is not so."""
    return [check for check in checks if check.counts and not check.ok]


def in_one_line(checks: Iterable[Check]) -> str:
    """What all of them found."""
    return "; ".join(f"{check.name}: {check.found}" for check in checks)


def readyz_text(checks: list[Check], *, verbose: bool) -> str:
    """The answer of `/readyz`: what is in the way, or, `verbose`, each check. `!`: not well, and no reason to stop."""
    lines = [
        f"[{'+' if check.ok else '-' if check.counts else '!'}] {check.name}: {check.found}"
        for check in (checks if verbose else failing(checks))
    ]
    return "\n".join([*lines, "ok" if is_ready(checks) else "not ready"]) + "\n"
