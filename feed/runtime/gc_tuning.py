"""The garbage collector of a process that lives long and makes many small objects that live short.

What is there when a role starts is never looked at again, and the collector runs seldom: measured, it took a third
of the time of reading records.
"""

from __future__ import annotations

import gc
from typing import Final

_THRESHOLDS: Final = (50_000, 20, 20)


def settle() -> None:
    """Call once, when everything that lives long is there."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
