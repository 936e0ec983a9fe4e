"""The pace of recorded ticks that are published again."""

from __future__ import annotations

import time

import pytest
from aiokafka.structs import TopicPartition

from replay.pacing import Pacing
from replay.ticks import RecordedTick, _due

WHERE = TopicPartition("ticks.toy", 0)
S = 1_000_000_000


@pytest.mark.parametrize("times", [(-1_000_000, 10 * S, -1_000_000, 11 * S), (-1_000_000, -1_000_000)])
def test_a_tick_that_was_written_without_a_time_is_due_with_the_one_before_it(
    times: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0]
    monkeypatch.setattr(time, "monotonic_ns", lambda: now[0])
    played: list[tuple[int, int]] = []
    for due in _due([RecordedTick(WHERE, n, at, (None, b"", [])) for n, at in enumerate(times)], Pacing(1.0)):
        if isinstance(due, float):
            assert due <= 1.0
            now[0] += int(due * S)
        else:
            played += [(tick.offset, now[0] // S) for tick in due]
    assert played == [(0, 0), (1, 0), (2, 0), (3, 1)][: len(times)]
