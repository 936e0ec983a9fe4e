"""What is measured, against what: a figure, a result, and the table of a run.

A figure is named by the part that measures it (`PART` of its module); `parts.PARTS` is the registry of all. A result
reaches its target at a ratio of 1 or more. Targets that were set on a faster or slower machine are shown with a second
ratio, corrected by the yardstick (`yardstick.py`): what the ratio would be if this machine ran Python as fast as that
one. Ratios of two servers of one run, memory and counts are never corrected.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from rich.table import Table

if TYPE_CHECKING:
    from tests.bench.stage import Stage

QUIET_CORES: Final = 0.3
"""What others may use without disturbing."""


class Figure(NamedTuple):
    """One row. `target` is a lower bound, or an upper one where less is better; None: only told."""

    name: str
    unit: str
    target: float | None = None
    less_is_better: bool = False
    of_python: bool = False
    """Whether it goes with the speed at which the machine runs Python, so that the yardstick can correct it."""


class Result(NamedTuple):
    """What was measured."""

    figure: Figure
    value: float
    note: str = ""
    valid: bool = True
    """Whether the workload was what it is called; without that the value says nothing about the target."""
    others_cores: float = 0.0
    """What other processes used meanwhile: times on the clock are then the machine's more than the service's."""

    @property
    def ratio(self) -> float | None:
        """1 or more: reached. None where there is no target."""
        target = self.figure.target
        if target is None:
            return None
        if self.figure.less_is_better:
            return target / self.value if self.value > 0 else float("inf")
        return self.value / target

    def corrected(self, slowness: float) -> float | None:
        """The ratio on a machine that runs Python `slowness` times as fast as this one."""
        return self.ratio * slowness if self.ratio is not None and self.figure.of_python else None

    @property
    def doubt(self) -> str:
        """Why the value is not to be believed, or nothing."""
        if not self.valid:
            return "INVALID"
        return "DISTURBED" if self.others_cores > QUIET_CORES else ""


class Part(NamedTuple):
    """What one module measures; `measure` yields results as they come, so that a failure costs only the rest."""

    name: str
    about: str
    figures: Sequence[Figure]
    measure: Callable[[Stage], Iterator[Result]]


def table(results: Sequence[Result], slowness: float) -> Table:
    """The results with their targets."""
    made = Table(title="bench")
    columns = ("figure", "value", "target", "ratio", f"corrected x{slowness:.2f}", "")
    for number, name in enumerate(columns):
        made.add_column(name, justify="right" if 0 < number < len(columns) - 1 else "left")
    for result in results:
        made.add_row(
            result.figure.name,
            f"{number_text(result.value)} {result.figure.unit}".rstrip(),
            target_text(result.figure),
            _coloured(result, result.ratio),
            _coloured(result, result.corrected(slowness)),
            " ".join(filter(None, (result.doubt, result.note))),
        )
    return made


def number_text(value: float) -> str:
    """A number for a reader: three digits or so."""
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def target_text(figure: Figure) -> str:
    """The target with its direction."""
    if figure.target is None:
        return ""
    return f"{'≤' if figure.less_is_better else '≥'} {number_text(figure.target)}"


def _coloured(result: Result, ratio: float | None) -> str:
    if ratio is None:
        return ""
    colour = "yellow" if result.doubt else "green" if ratio >= 1 else "red"
    return f"[{colour}]{ratio:.2f}[/]"
