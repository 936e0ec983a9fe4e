"""Records of a feed log for programs that know nothing of it: each update's symbol and its text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec
from msgspec import Struct


class _Head(Struct, gc=False):
    symbol: str


_HEADS: Final = msgspec.json.Decoder(list[_Head]).decode
_RAWS: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode
_DATA: Final = ("kind", b"data")


def updates_of(record: Any) -> Iterator[tuple[str, str]]:
    """The updates of a consumed record, in order; nothing of keyframes."""
    if _DATA in record.headers:
        for head, raw in zip(_HEADS(record.value), _RAWS(record.value), strict=True):
            yield head.symbol, bytes(raw).decode()
