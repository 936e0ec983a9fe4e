"""Which channels a recording has, and of which source each was last.

Owns what is remembered of files, so that a sealed one is looked into once. Only the columns of names are decoded, and
no checksum is compared: whoever reads rows compares it then.
"""

from __future__ import annotations

import threading
from typing import Final

import numpy as np
import pyarrow as pa

from feed.recording.notes import Gone
from feed.recording.recording import RecordingFiles
from feed.recording.table_files import TableFiles
from feed.wire.model import KINDS

Channel = tuple[str, str]
"""Kind and symbol."""
_NAMES: Final = ("symbol", "source")


class Catalog:
    """What is known of the files of one folder; may be asked by several threads."""

    def __init__(self) -> None:
        self._known: dict[str, dict[str, str]] = {}
        self._open: dict[str, tuple[int, dict[str, str]]] = {}
        self._lock = threading.Lock()

    def channels(self, recording: RecordingFiles) -> dict[Channel, str]:
        """Every channel with the source in which it was last.

        Raises:
            CorruptRecording: a file cannot be read.
        """
        found: dict[Channel, str] = {}
        with self._lock:
            self._forget(recording)
            for kind in KINDS:
                table_files = recording.files_by_table[kind]
                for number in range(len(table_files)):
                    names = self._names(table_files, number)
                    found.update({(kind, symbol): source for symbol, source in names.items()})
        return found

    def _forget(self, recording: RecordingFiles) -> None:
        """What is said of files that are gone."""
        there = {place.path for kind in KINDS for place in recording.files_by_table[kind].places}
        self._known = {path: names for path, names in self._known.items() if path in there}
        self._open = {path: names for path, names in self._open.items() if path in there}

    def _names(self, table_files: TableFiles, number: int) -> dict[str, str]:
        path = table_files.places[number].path
        if (names := self._known.get(path)) is not None:
            return names
        try:
            file = table_files.file(number)
        except Gone:
            return {}
        # of a file that grows only what is new is read
        seen, names = self._open.get(path, (0, {}))
        if seen < len(file.blocks) or file.place.sealed:
            names = names.copy()
            for batch in file.columns_from(seen, _NAMES):
                _add(batch, names)
        if file.place.sealed:
            self._known[path] = names
        else:
            self._open[path] = len(file.blocks), names
        return names


def _add(batch: pa.RecordBatch, names: dict[str, str]) -> None:
    symbols, sources = batch.column("symbol"), batch.column("source")
    codes = symbols.indices.to_numpy()
    last = np.full(len(symbols.dictionary), -1, np.int64)
    last[codes] = np.arange(len(codes))  # of equal codes the last row stays
    rows = last[last >= 0]
    if len(rows):
        where = pa.array(rows)
        names.update(zip(symbols.take(where).to_pylist(), sources.take(where).to_pylist(), strict=True))
