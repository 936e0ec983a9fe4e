"""Work in steps: all of it at once, and a request that waits."""

from __future__ import annotations

import pytest

from feed.channels.steps import NotYet, Steps, whole


def steps(done: list[str], count: int) -> Steps[str]:
    for number in range(count):
        done.append(f"step {number}")
        yield number
    return "came of it"


@pytest.mark.parametrize("count", [0, 1, 3])
def test_all_steps_at_once_give_what_they_return(count: int) -> None:
    done: list[str] = []
    assert whole(steps(done, count)) == "came of it"
    assert done == [f"step {number}" for number in range(count)]


def test_what_waits_says_when_it_is_due_or_that_its_session_knows() -> None:
    assert NotYet(5).wake_at == 5
    assert NotYet().wake_at is None
