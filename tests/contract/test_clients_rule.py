"""Our own client keeps the client's rule: the scenarios of `schemas/examples` through `feed tail`."""

from __future__ import annotations

import json
from typing import Any

import pytest

import schemas
from feed.tail import Rule

NOT_YET = {
    "rule_gap_seek": "tail drops a seek backwards; there is no replay to follow yet",
    "rule_state_snapshot": "tail drops the state that follows a snapshot when it is older than the snapshot",
}
TAKEN = {"apply", "replace", "note", "part", "stale", "ok"}


def _scenarios() -> list[Any]:
    names = [name for name in schemas.examples() if name.startswith("rule_")]
    return [
        pytest.param(name, marks=pytest.mark.xfail(reason=NOT_YET[name])) if name in NOT_YET else name for name in names
    ]


@pytest.mark.parametrize("name", _scenarios())
def test_tail_takes_what_the_rule_takes(name: str) -> None:
    scenario: dict[str, Any] = json.loads(schemas.example(name))
    start, steps = scenario["start"], scenario["steps"]
    channel = {field: value for field, value in steps[0]["message"].items() if field in ("channel", "symbol")}
    rule = Rule()
    if channel:
        rule.joined({**channel, "mode": "live", "source": start["source"], "seq": start["pos"]})
    if start["waiting"]:
        rule.joined({**channel, "mode": "snapshot", "source": start["source"], "seq": start["pos"]})
    for step in steps:
        assert rule.takes(step["message"]) is (step["then"]["do"] in TAKEN), step
        if channel:
            assert bool(rule.waiting) is step["then"]["waiting"], step
