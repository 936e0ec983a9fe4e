"""Rows of a frame that have more elements than are known: `[price, size, []]`, as Binance sent them until 2019.

Owns one reading of a Struct: as its type says, but for what stands at the end of its rows, which is left alone. It is
for frames that the type itself has refused: reading rows of any length costs several times as much.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Struct


def longer(type_: type[Struct], elements: int, *names: str) -> Callable[[bytes], Any]:
    """Reads such a Struct whose fields of these names are rows of at least so many elements.

    What it gives raises as a decoder does.
    """
    fields = {field.name: field for field in msgspec.structs.fields(type_)}
    rows = [(name, list[list[Any]], msgspec.field(name=fields[name].encode_name)) for name in names]
    loose = msgspec.defstruct(type_.__name__, rows, bases=(type_,), kw_only=True, gc=False)
    decode = msgspec.json.Decoder(loose).decode

    def read(frame: bytes) -> Any:
        found = decode(frame)
        for name in names:
            cut = [row[:elements] for row in getattr(found, name)]
            setattr(found, name, msgspec.convert(cut, fields[name].type))
        return found

    return read
