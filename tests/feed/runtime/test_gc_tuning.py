"""The garbage collector of a process that lives long."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from feed.runtime.gc_tuning import settle


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before = gc.get_threshold()
    gc.set_threshold(700, 10, 10)  # an earlier test may have settled this process
    yield
    gc.unfreeze()
    gc.set_threshold(*before)


def test_what_is_there_is_never_looked_at_again_and_the_collector_runs_seldom() -> None:
    before = gc.get_threshold()
    settle()
    assert gc.get_freeze_count() > 1000
    assert gc.get_threshold()[0] > before[0]
