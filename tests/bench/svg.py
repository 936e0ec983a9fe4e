"""Two kinds of plots as SVG text: lines over two axes, and bars with their numbers. No dependency, no script, no font.

Owns the drawing. Leaves what is drawn to `plots`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Final, NamedTuple

COLOURS: Final = ("#1f6feb", "#d1495b", "#e09f3e", "#2a9d8f", "#6c757d", "#8338ec")
_WIDTH: Final = 720
_HEIGHT: Final = 400
_LEFT: Final = 70
_RIGHT: Final = 150
_TOP: Final = 50
_BOTTOM: Final = 50
_INK: Final = "#24292f"
_GRID: Final = "#d8dee4"
_BAR: Final = 22
_BAR_LABEL: Final = 170


class Line(NamedTuple):
    """A named series of points (x, y)."""

    name: str
    points: Sequence[tuple[float, float]]


class Axis(NamedTuple):
    """What an axis says; `ticks` are (value, text) where the numbers themselves would say little."""

    text: str
    log: bool = False
    ticks: Sequence[tuple[float, str]] = ()


class Bar(NamedTuple):
    """A value with its text."""

    name: str
    value: float
    text: str


def lines(title: str, x: Axis, y: Axis, series: Sequence[Line]) -> str:
    """Lines with a legend at the right, a dot at each point."""
    xs = [point[0] for line in series for point in line.points]
    ys = [point[1] for line in series for point in line.points]
    if not xs:
        return _document(_HEIGHT, title, [])
    across, down = _Scale(x, xs, _LEFT, _WIDTH - _RIGHT), _Scale(y, ys, _HEIGHT - _BOTTOM, _TOP)
    drawn = [
        *(_line(_LEFT, down.at(v), _WIDTH - _RIGHT, down.at(v)) for v, _ in down.ticks),
        *(_line(across.at(v), _TOP, across.at(v), _HEIGHT - _BOTTOM) for v, _ in across.ticks),
        *(_text(_LEFT - 8, down.at(v) + 4, text, "end") for v, text in down.ticks),
        *(_text(across.at(v), _HEIGHT - _BOTTOM + 18, text, "middle") for v, text in across.ticks),
        _text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 10, x.text, "middle"),
        _text(_LEFT, _TOP - 10, y.text, "start"),
    ]
    for number, line in enumerate(series):
        colour = COLOURS[number % len(COLOURS)]
        points = [(across.at(px), down.at(py)) for px, py in line.points]
        path = " ".join(f"{px:.1f},{py:.1f}" for px, py in points)
        drawn.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        if len(points) <= 50:
            drawn += [f'<circle cx="{px:.1f}" cy="{py:.1f}" r="3" fill="{colour}"/>' for px, py in points]
        at = _TOP + 10 + 20 * number
        drawn.append(f'<rect x="{_WIDTH - _RIGHT + 14}" y="{at - 9}" width="10" height="10" fill="{colour}"/>')
        drawn.append(_text(_WIDTH - _RIGHT + 30, at, line.name, "start"))
    return _document(_HEIGHT, title, drawn)


def bars(title: str, groups: Sequence[tuple[str, Sequence[Bar]]]) -> str:
    """Groups of bars on one scale, each bar with its number; from zero, as lengths are compared."""
    largest = max((bar.value for _, own in groups for bar in own), default=1.0) or 1.0
    room = _WIDTH - _BAR_LABEL - 110
    drawn, at = [], float(_TOP)
    for name, own in groups:
        drawn.append(_text(12, at + 12, name, "start", bold=True))
        at += _BAR
        for number, bar in enumerate(own):
            length = max(1.0, room * bar.value / largest)
            colour = COLOURS[number % len(COLOURS)]
            drawn.append(_text(_BAR_LABEL - 8, at + 13, bar.name, "end"))
            drawn.append(f'<rect x="{_BAR_LABEL}" y="{at}" width="{length:.1f}" height="{_BAR - 6}" fill="{colour}"/>')
            drawn.append(_text(_BAR_LABEL + length + 6, at + 13, bar.text, "start"))
            at += _BAR
        at += _BAR / 2
    return _document(round(at), title, drawn)


class _Scale:
    """Where a value lies between two pixels, and the ticks between."""

    def __init__(self, axis: Axis, values: Sequence[float], begin: float, end: float) -> None:
        self._log = axis.log
        low, high = min(values), max(values)
        low = 10 ** math.floor(math.log10(max(low, 1e-6))) if axis.log else min(low, 0.0)
        high = 10 ** math.ceil(math.log10(max(high, low * 10))) if axis.log else high * 1.05 or 1.0
        self._low, self._span = self._of(low), self._of(high) - self._of(low)
        self._begin, self._length = begin, end - begin
        self.ticks = list(axis.ticks) or [(value, _short(value)) for value in self._steps(low, high)]

    def at(self, value: float) -> float:
        return self._begin + self._length * (self._of(value) - self._low) / self._span

    def _of(self, value: float) -> float:
        return math.log10(max(value, 1e-6)) if self._log else value

    def _steps(self, low: float, high: float) -> list[float]:
        if self._log:
            return [10.0**power for power in range(round(math.log10(low)), round(math.log10(high)) + 1)]
        step = 10 ** math.floor(math.log10((high - low) / 2))
        step = next(step * k for k in (1, 2, 5, 10) if (high - low) / (step * k) <= 6)
        return [step * number for number in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _short(value: float) -> str:
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{_GRID}"/>'


def _text(x: float, y: float, text: str, anchor: str, *, bold: bool = False) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{_INK}"{weight}>{escape(text)}</text>'


def _document(height: int, title: str, drawn: Sequence[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}" '
        f'font-family="sans-serif" font-size="12"><title>{escape(title)}</title>'
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>'
    )
    heading = f'<text x="12" y="24" font-size="15" font-weight="bold" fill="{_INK}">{escape(title)}</text>'
    return "\n".join((head, heading, *drawn, "</svg>", ""))
