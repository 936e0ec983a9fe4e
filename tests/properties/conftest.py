"""Requests in the smallest steps, so the market goes on between all of them; and what is shared in small blocks, of
few plans."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from feed.channels import cursor, hub, readers, selection, shared, subscription, views
from feed.channels import interest as wanted
from feed.protocol import line


@pytest.fixture(autouse=True, scope="module")
def smallest_steps() -> Iterator[None]:
    """A step is one channel."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(line, "STEP_CHANNELS", 1)
        for module in (cursor, shared):
            patch.setattr(module, "BLOCK_SYMBOLS", 2)
        patch.setattr(hub, "_PLANS_MAX", 2)
        for name in ("_SWEEP_NAMES", "_SWEEP_SYMBOLS"):
            patch.setattr(views, name, 1)
        patch.setattr(selection, "_WIDE", 2)
        for module in (readers, subscription, views, wanted):
            patch.setattr(module, "STRIDE", 1)
        yield
