"""What every part is given: the broker, how large and how long things are, and where what was seen is kept."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, NamedTuple

from tests.bench.figures import QUIET_CORES
from tests.bench.machine import busy_seconds

_GLANCE_S: Final = 0.4
_LOOK_S: Final = 2.0


class Scale(NamedTuple):
    """How long runs are and how many; `share` of the clients, symbols and connections that a workload names."""

    name: str
    warmup_s: float
    measure_s: float
    tries: int
    """Rates that a search may try."""
    rounds: int
    """Runs of which the best counts, and turns of what alternates."""
    share: float = 1.0

    def of(self, count: int, least: int = 1) -> int:
        """So many of a workload's clients, symbols or connections."""
        return max(least, round(count * self.share))


FULL: Final = Scale("full", 2.0, 4.0, 6, 3)
QUICK: Final = Scale("quick", 1.0, 2.0, 2, 1)
SMALLEST: Final = Scale("smallest", 0.2, 0.5, 1, 1, 0.02)
"""For tests of the suite itself: its figures mean nothing."""


class Stage:
    """One run of the suite. `details` is everything that parts saw, for the JSON; `slowness` is the yardstick's."""

    def __init__(
        self, kafka: str, folder: Path, scale: Scale, *, patience_s: float = 0.0, soak_s: float = 60.0, nats: str = ""
    ) -> None:
        self.kafka = kafka
        self.folder = folder
        self.log = folder / "log"
        self.scale = scale
        self.soak_s = soak_s
        self.nats = nats
        self.slowness = 1.0
        self.details: dict[str, Any] = {}
        self._patience_s = patience_s
        self._names = 0

    def say(self, text: str) -> None:
        """A line for whoever waits."""
        print(text, file=sys.stderr, flush=True)

    def fresh(self, stem: str) -> str:
        """A name for topics and groups that no other run has."""
        self._names += 1
        return f"{stem}.{self._names}"

    def keep(self, name: str, seen: Any) -> None:
        """Keeps what was seen of `name`, in order."""
        self.details.setdefault(name, []).append(seen)

    def patient(self) -> bool:
        """Whether a run that others disturbed may be done again; each time costs patience."""
        self._patience_s -= self.scale.warmup_s + self.scale.measure_s
        return self._patience_s > 0

    def quiet(self) -> float:
        """Waits, as long as the patience of the whole run lasts, until others leave the machine alone.

        Returns how many cores they use even so.
        """
        used = _others_use(_GLANCE_S)
        while used > QUIET_CORES and self._patience_s > 0:
            self._patience_s -= _LOOK_S
            used = _others_use(_LOOK_S)
        return used


def _others_use(seconds: float) -> float:
    """Cores that are busy while nothing of ours runs."""
    began, busy = time.monotonic(), busy_seconds()
    time.sleep(seconds)
    return (busy_seconds() - busy) / (time.monotonic() - began)


def best(runs: Iterable[dict[str, Any]], key: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    """The best of several runs: on a shared machine the others tell about the neighbours."""
    return max(runs, key=key)
