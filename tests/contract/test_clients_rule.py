"""Our own client keeps the client's rule: the scenarios of `schemas/examples` through `feed tail`."""

from __future__ import annotations

import json
from typing import Any

import pytest

import schemas
from feed.run.tail import TailRule

TAKEN = {"apply", "replace", "note", "part", "stale", "ok"}


@pytest.mark.parametrize("name", [name for name in schemas.examples() if name.startswith("rule_")])
def test_tail_takes_what_the_rule_takes(name: str) -> None:
    scenario: dict[str, Any] = json.loads(schemas.example(name))
    start, steps = scenario["start"], scenario["steps"]
    channel = {field: value for field, value in steps[0]["message"].items() if field in ("channel", "symbol")}
    rule = TailRule()
    if channel:
        rule.joined({**channel, "mode": "live", "source": start["source"], "seq": start["pos"]})
    if start["waiting"]:
        rule.joined({**channel, "mode": "snapshot", "source": start["source"], "seq": start["pos"]})
    for step in steps:
        assert rule.takes(step["message"]) is (step["then"]["do"] in TAKEN), step
        if channel:
            assert bool(rule.waiting) is step["then"]["waiting"], step
