"""What `canonical_tick.json` takes, the code takes; what it refuses, the code refuses."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest

import schemas
from feed.errors import BadTick
from feed.venues.canonical import Canonical
from feed.venues.now import Now
from feed.venues.symbol import Rules, Symbol, Tick
from tests.schemas.validation import faults

NAMES = [name for name in schemas.examples() if name.startswith("tick_")]
WORDS = ["", "x", "NaN", "halt", "sell", "bars", "book", "trades", "XYZ", "i" * 101]
NUMBERS = ["1", "0", "0.0", "1.50", "01", "1e5", "-1", "+1", "9" * 19, "9" * 21]
LISTS: list[Any] = [[], [{}], [["1"]], [["1", "2"]], [["0", "1"]], [["1", "2", "3"]], [[1, 2]]]
OTHERS: list[Any] = [*WORDS, *NUMBERS, *LISTS, {}, None, True, False, 0, 1, 1.5, -1, 2**64]


def taken(tick: Any) -> bool:
    """Whether the code takes a tick."""
    now = Now("acme/0@c0de")
    now.seq = 0
    symbol = Symbol("ACME:XYZ", "XYZ", now, Rules())
    try:
        Canonical(symbol).apply(Tick(0, "XYZ", json.dumps(tick).encode(), 1, 1))
    except BadTick:
        return False
    return True


def changed(tick: Any) -> Iterator[Any]:
    """The tick with one of its values, at any depth, left out or replaced."""
    paths: list[list[Any]] = []

    def walk(node: Any, path: list[Any]) -> None:
        keys = list(node) if isinstance(node, dict) else list(range(len(node))) if isinstance(node, list) else []
        for key in keys:
            paths.append([*path, key])
            walk(node[key], [*path, key])

    walk(tick, [])
    for path in paths:
        for value in [..., *OTHERS]:
            other = copy.deepcopy(tick)
            parent = other
            for key in path[:-1]:
                parent = parent[key]
            if value is ...:
                del parent[path[-1]]
            else:
                parent[path[-1]] = value
            yield other


@pytest.mark.parametrize("name", NAMES)
def test_code_and_schema_take_the_same_ticks(name: str) -> None:
    tick = json.loads(schemas.example(name))
    assert taken(tick)
    for other in changed(tick):
        if other.get("symbol") not in (None, "XYZ"):
            continue  # of another symbol than the record's key
        if "9" * 19 in json.dumps(other):
            continue  # a time above 2^63 ns, which a pattern cannot say
        assert taken(other) is not bool(faults("canonical_tick", other)), other
