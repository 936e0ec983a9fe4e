"""Requests in steps: work that is done some channels at a time, so that nobody waits for the whole of it.

Owns the form alone. Whoever drives a request decides when it goes on; nothing of it is seen before it has returned.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Final, TypeVar

Done = TypeVar("Done")
Steps = Generator[int, None, Done]
"""Yields where it can be left for a while, and how many channels it has looked at since; returns what came of it."""
STEP_CHANNELS: Final = 200
"""After so many channels others have their turn: one to two milliseconds."""
STRIDE: Final = 25
"""So many channels are done between two places where a request can be left."""


class NotYet(Exception):
    """A request waits for something that its session has asked for; it is done, from its begin, by the next `work`.

    `wake_at`: when that is due at the latest; None: the session knows when.
    """

    def __init__(self, wake_at: int | None = None) -> None:
        super().__init__()
        self.wake_at = wake_at


def whole(steps: Steps[Done]) -> Done:
    """All of it at once, for who waits for it alone."""
    while True:
        try:
            next(steps)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]  # that of the generator
