"""Which channels a recording has, and of which source each was last.

Owns what is remembered of files, so that a sealed one is looked into once. Only the columns of names are decoded, and
no checksum is compared: whoever reads rows compares it then.
"""

from __future__ import annotations

import threading
from typing import Final

import numpy as np
import pyarrow as pa

from feed.model import KINDS
from feed.recording.files import RecordedFile
from feed.recording.folder import Folder, Place
from feed.recording.recording import Recording
from feed.recording.tables import SCHEMAS

Channel = tuple[str, str]
"""Kind and symbol."""
_NAMES: Final = ("symbol", "source")


class Catalog:
    """What is known of the files of one folder; may be asked by several threads."""

    def __init__(self) -> None:
        self._known: dict[str, dict[str, str]] = {}
        self._open: dict[str, tuple[int, dict[str, str]]] = {}
        self._lock = threading.Lock()

    def channels(self, recording: Recording) -> dict[Channel, str]:
        """Every channel with the source in which it was last.

        Raises:
            CorruptRecording: a file cannot be read.
        """
        found: dict[Channel, str] = {}
        with self._lock:
            self._forget(recording)
            for kind in KINDS:
                shelf = recording.shelves[kind]
                for number, place in enumerate(shelf.places):
                    names = self._known.get(place.path) or self._look(recording.folder, place, shelf.file(number))
                    found.update({(kind, symbol): source for symbol, source in names.items()})
        return found

    def _forget(self, recording: Recording) -> None:
        """What is said of files that are gone."""
        there = {place.path for kind in KINDS for place in recording.shelves[kind].places}
        self._known = {path: names for path, names in self._known.items() if path in there}
        self._open = {path: names for path, names in self._open.items() if path in there}

    def _look(self, folder: Folder, place: Place, file: RecordedFile) -> dict[str, str]:
        count = len(file.blocks)
        seen, names = self._open.get(place.path, (0, {}))
        if seen < count or place.sealed:
            names = _names_in(folder, place, file, count)
        if place.sealed:
            self._known[place.path] = names
        else:
            self._open[place.path] = count, names
        return names


def _names_in(folder: Folder, place: Place, file: RecordedFile, count: int) -> dict[str, str]:
    names: dict[str, str] = {}
    schema = SCHEMAS[place.table]
    options = pa.ipc.IpcReadOptions(use_threads=False, included_fields=[schema.get_field_index(n) for n in _NAMES])
    try:
        with folder.fs.open_input_file(f"{folder.root}/{place.path}") as stream:
            if place.sealed:
                reader = pa.ipc.open_file(stream, options=options)
                batches = (reader.get_batch(number) for number in range(count))
            else:
                opened = pa.ipc.open_stream(stream, options=options)
                batches = (opened.read_next_batch() for _ in range(count))
            for batch in batches:
                _add(batch, names)
    except (pa.ArrowInvalid, OSError, EOFError, ValueError) as error:
        raise file.corrupt(f"names cannot be read: {error}") from error
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
