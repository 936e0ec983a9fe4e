"""Dictionaries of columns that only grow, so that an index means the same in every batch that was made with them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pyarrow as pa


class Words:
    """The distinct values of a dictionary column, in the order in which they came."""

    def __init__(self, values: Iterable[str] = ()) -> None:
        self._index = {value: index for index, value in enumerate(values)}
        self._array: pa.Array | None = None

    def __len__(self) -> int:
        return len(self._index)

    def index(self, value: str) -> int:
        """The index of a value; added where it is new."""
        found = self._index.get(value)
        if found is None:
            found = self._index[value] = len(self._index)
            self._array = None
        return found

    @property
    def values(self) -> list[str]:
        """All of them, by their index."""
        return list(self._index)

    def column(self, indices: np.ndarray | pa.Array) -> pa.DictionaryArray:
        """A column of these indices."""
        if self._array is None:
            self._array = pa.array(list(self._index), pa.string())
        return pa.DictionaryArray.from_arrays(pa.array(indices, pa.int32()), self._array)

    def encoded(self, texts: pa.Array) -> pa.DictionaryArray:
        """A column of these texts, of which null stays null."""
        found = texts.dictionary_encode()
        indices = pa.array([self.index(value) for value in found.dictionary.to_pylist()], pa.int32())
        return self.column(indices.take(found.indices))
