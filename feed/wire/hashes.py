"""One hash of a stream, whoever saw it: live, replayed, in pieces, with pieces twice.

Owns what counts: of each channel its updates, its gaps of reason `venue` and its states with a `seq`, each once by
(source, type, seq). A channel's hash is the SHA-256 over the SHA-256 of these messages in order of (seq, source, type);
the stream's is the SHA-256 over all lines `<hash> <channel> <symbol>\\n` in order of their names. Parts of a large
message count as the messages that they are.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterator
from typing import Final

TYPES: Final = ("gap", "update", "state")
_DIGEST_BYTES: Final = 32
_PLACES_MAX: Final = 1 << 16


class Hashes:
    """Takes messages in any order; 50 bytes of memory each."""

    def __init__(self) -> None:
        self._channels: dict[tuple[str, str], dict[str, _Seen]] = {}

    def take(self, kind: str, symbol: str, source: str, type_: str, seq: int, message: bytes, part: int = 0) -> None:
        """A message that counts; `seq` is its own, `part` its number where it is one of several."""
        seen = self._channels.setdefault((kind, symbol), {}).setdefault(source, _Seen())
        seen.places.append((seq + 1) * 4 + TYPES.index(type_))
        seen.parts.append(min(part, _PLACES_MAX - 1))
        seen.digests += hashlib.sha256(message).digest()

    def lines(self) -> Iterator[tuple[str, str, str]]:
        """Hash, kind and symbol of each channel, in order of their names."""
        for (kind, symbol), sources in sorted(self._channels.items()):
            yield _hash_of(sources), kind, symbol

    def total(self) -> str:
        """The hash of all of it."""
        whole = hashlib.sha256()
        for found, kind, symbol in self.lines():
            whole.update(f"{found} {kind} {symbol}\n".encode())
        return whole.hexdigest()


class _Seen:
    """Messages of one channel from one source: where each stands, and its digest."""

    __slots__ = ("digests", "parts", "places")

    def __init__(self) -> None:
        self.places = array("q")
        self.parts = array("H")
        self.digests = bytearray()

    def entries(self, source: str) -> Iterator[tuple[tuple[int, str, int, int], bytes]]:
        digests = self.digests
        for number, (place, part) in enumerate(zip(self.places, self.parts, strict=True)):
            digest = bytes(digests[_DIGEST_BYTES * number : _DIGEST_BYTES * (number + 1)])
            yield (place // 4, source, place % 4, part), digest


def _hash_of(sources: dict[str, _Seen]) -> str:
    entries = [entry for source, seen in sources.items() for entry in seen.entries(source)]
    entries.sort(key=lambda entry: entry[0])
    whole = hashlib.sha256()
    last: tuple[int, str, int, int] | None = None
    for place, digest in entries:
        if place != last:
            whole.update(digest)
        last = place
    return whole.hexdigest()
