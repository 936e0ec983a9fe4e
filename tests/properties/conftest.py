"""Requests in the smallest steps, so the market goes on between all of them; and what is shared in small blocks, of
few plans."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from feed.channels import hub, interest, selection, shared, subscriber, subscribers, subscription, views
from feed.protocol import line


@pytest.fixture(autouse=True, scope="module")
def smallest_steps() -> Iterator[None]:
    """A step is one channel."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(line, "STEP_CHANNELS", 1)
        for module in (subscriber, shared):
            patch.setattr(module, "BLOCK_SYMBOLS", 2)
        patch.setattr(hub, "_PLANS_MAX", 2)
        for name in ("_SWEEP_NAMES", "_SWEEP_SYMBOLS"):
            patch.setattr(views, name, 1)
        patch.setattr(selection, "_WIDE", 2)
        for module in (subscribers, subscription, views, interest):
            patch.setattr(module, "STRIDE", 1)
        yield
