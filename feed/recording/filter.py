"""Which channels are asked for, and the rows of a batch that are theirs.

Owns the words of a choice (kinds, symbols, patterns; or channels one by one) and the filtering of rows by it.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from feed.errors import ConfigError, shown
from feed.recording.tables import GAPS, STATES
from feed.wire.model import KINDS
from feed.wire.symbols import is_pattern, prefix_of


class Filter:
    """Kinds, and symbols by name or by pattern (`KRAKEN:*`, `*`).

    Raises:
        ConfigError: a kind is none.
    """

    def __init__(self, kinds: Iterable[str] = KINDS, symbols: Iterable[str] = ("*",)) -> None:
        self.kinds = tuple(kind for kind in KINDS if kind in set(kinds))
        if unknown := set(kinds) - set(KINDS):
            raise ConfigError(f"channel {min(unknown)!r} is none of {', '.join(KINDS)}")
        names = tuple(symbols)
        self.names = frozenset(name for name in names if not is_pattern(name))
        self.prefixes = tuple(prefix_of(name) for name in names if is_pattern(name))

    @property
    def tables(self) -> tuple[str, ...]:
        """The tables that hold them."""
        return (*self.kinds, GAPS, STATES)

    @property
    def every_symbol(self) -> bool:
        """Whether no symbol is left out."""
        return "" in self.prefixes

    def symbol(self, name: str) -> bool:
        """Whether a symbol is chosen."""
        return name in self.names or name.startswith(self.prefixes)

    def rows(self, table: str, batch: pa.RecordBatch) -> np.ndarray | None:
        """The rows of a batch that are of chosen channels, as a mask; None: all of them."""
        masks = []
        if not self.every_symbol:
            masks.append(_mask(batch.column("symbol"), self.symbol))
        if table in (GAPS, STATES) and len(self.kinds) < len(KINDS):
            masks.append(_mask(batch.column("channel"), set(self.kinds).__contains__))
        return np.logical_and.reduce(masks) if masks else None


class ChannelFilter(Filter):
    """Channels one by one, (kind, symbol). `whole`: kinds of which every symbol that is recorded is picked."""

    def __init__(self, channels: Iterable[tuple[str, str]], whole: Iterable[str] = ()) -> None:
        self._symbols: dict[str, set[str]] = {}
        for kind, symbol in channels:
            self._symbols.setdefault(kind, set()).add(symbol)
        super().__init__(self._symbols, set().union(*self._symbols.values()))
        self._whole = frozenset(whole)

    def rows(self, table: str, batch: pa.RecordBatch) -> np.ndarray | None:
        """As of any choice."""
        if table in self._whole or len(self._whole) == len(KINDS):
            return None
        if table not in (GAPS, STATES):
            mask = _mask(batch.column("symbol"), self._symbols.get(table, frozenset()).__contains__)
        else:
            mask = np.zeros(batch.num_rows, bool)
            for kind, symbols in self._symbols.items():
                of_kind = _mask(batch.column("channel"), kind.__eq__)
                mask |= of_kind & _mask(batch.column("symbol"), symbols.__contains__)
        return None if mask.all() else mask


def unknown_words(names: Iterable[str]) -> str:
    """The first of some symbols that are not known, for people; what looks like a pattern and is none is told so."""
    name = min(names)
    return shown(name, 80) + (", patterns are VENUE:* and *" if "*" in name else "")


def _mask(column: pa.DictionaryArray, wanted: object) -> np.ndarray:
    assert callable(wanted)
    wanted_values = np.array([wanted(value) for value in column.dictionary.to_pylist()], bool)
    return wanted_values[column.indices.to_numpy()] if len(wanted_values) else np.zeros(len(column), bool)
