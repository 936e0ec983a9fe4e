"""Small oracles that several kinds of tests share."""

from __future__ import annotations

import json


def without_source(message: bytes) -> bytes:
    """A message without its source's name, which is random."""
    found = json.loads(message)
    found.pop("source", None)
    return json.dumps(found).encode()
