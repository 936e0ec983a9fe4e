"""A client that hashes what it is sent, as `feed tail --hash` does: live, or in a replay."""

from __future__ import annotations

import msgspec

from feed.run.tail import Hashing
from tests.reference_client import Client


class HashedClient(Client):
    """Takes what counts for a hash; of an update, which has no source, the source of its channel."""

    def __init__(self) -> None:
        super().__init__()
        self.hashing = Hashing()

    def take(self, raw: bytes) -> None:
        """One message."""
        super().take(raw)
        message = msgspec.json.decode(raw)
        if message["type"] == "update":
            message["source"] = self.channels[message["channel"], message["symbol"]].source
        self.hashing.take(raw, message)
