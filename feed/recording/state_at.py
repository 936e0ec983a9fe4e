"""How each channel stands at a cut: its snapshot, and its state where that is not `ok`.

Owns which rows a state is made of: the last round of keyframes before the cut, and the rows after it. The folding is
the gateway's own (`feed.channels.state`), so a state that is found here has the bytes that a live client would get.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa

from feed.channels.channel import NOTHING
from feed.channels.state import Folded, FoldRules, fold
from feed.recording.filter import Filter
from feed.recording.footing import is_trimmed
from feed.recording.merge import order_of
from feed.recording.table_files import TO_END, BlockRef, RecordingCut, TableFiles
from feed.recording.tables import GAPS, STATES
from feed.recording.text import messages_of
from feed.wire.message import END, START
from feed.wire.model import NO_SEQ, Kind

_LAST_ROW_KINDS: Final = frozenset({"quotes", "status", "instruments"})
_HEAD_BYTES: Final = len(START)
Channel = tuple[str, str]
"""Kind and symbol."""


class ChannelState(NamedTuple):
    """A channel at a cut: its source, and whole messages, snapshot first; `received`: when its last update was."""

    source: str
    seq: int
    messages: list[bytes]
    received: int = 0


class _Rows(NamedTuple):
    """The rows of one channel of one source that its state is made of, the last snapshot first."""

    source: str
    parts: list[tuple[pa.RecordBatch, np.ndarray]]
    order: tuple[int, int]
    """Clock and tick of the last row."""
    snapshot: tuple[int, int]
    """Those of its last snapshot; before everything where there is none."""


def standing_at(
    files_by_table: Mapping[str, TableFiles], chosen: Filter, cut: RecordingCut, rules: FoldRules
) -> dict[Channel, ChannelState]:
    """All chosen channels that have begun and have a state, in the order of kinds, then of symbols.

    Raises:
        CorruptRecording: a batch is damaged.
        CorruptLog: a message cannot be folded.
    """
    found: dict[Channel, _Rows] = {}
    for kind in chosen.kinds:
        if kind in files_by_table:
            rows = _channels(files_by_table[kind], chosen, cut, rules)
            found |= {(kind, symbol): rows[symbol] for symbol in sorted(rows)}
    if not found:
        return {}
    begin = min(rows.snapshot[0] for rows in found.values())
    for channel, told in _holes(files_by_table[GAPS], chosen, cut, begin).items():
        stood = found.get(channel)
        if stood is not None and (stood.snapshot < told.waits or stood.order < told.lost):
            del found[channel]
    states = _states(files_by_table[STATES], chosen, cut)
    return {
        channel: _standing(channel, rows, states.get((*channel, rows.source)), rules) for channel, rows in found.items()
    }


def last_seqs(files_by_table: Mapping[str, TableFiles], kinds: Sequence[str]) -> dict[Channel, tuple[str, int]]:
    """The source and the last `seq` of every channel that is recorded.

    Raises:
        CorruptRecording: a batch is damaged.
    """
    found: dict[Channel, tuple[tuple[int, int], str, int]] = {}
    for kind in kinds:
        for source, batch, clock, at in _blocks(files_by_table[kind], Filter(), TO_END):
            codes = batch.column("symbol").indices.to_numpy()
            symbols = batch.column("symbol").dictionary
            seq = batch.column("seq").to_numpy()
            # the first of the reversed rows is the last one
            for code, back in zip(*np.unique(codes[::-1], return_index=True), strict=True):
                row = len(codes) - 1 - int(back)
                channel = kind, symbols[int(code)].as_py()
                new = (int(clock[row]), int(at[row])), source, int(seq[row])
                if channel not in found or found[channel][0] <= new[0]:
                    found[channel] = new
    return {channel: (source, seq) for channel, (_, source, seq) in found.items()}


def _standing(channel: Channel, rows: _Rows, state: bytes | None, rules: FoldRules) -> ChannelState:
    kind: Kind = channel[0]  # type: ignore[assignment]  # a table of a kind is called as it
    messages = [message for batch, places in rows.parts for message in _messages(kind, batch, places)]
    first = next((i for i, message in enumerate(messages) if not message.startswith(b"snapshot")), len(messages))
    start = Folded(NO_SEQ, messages[:first], None, NO_SEQ) if first else NOTHING
    folded = fold(kind, channel[1], rows.source, start, messages[first:], rules)
    told = [START + one + END for one in folded.messages]
    batch, places = rows.parts[-1]
    received = batch.column("ts_recv").cast(pa.int64())[int(places[-1])].as_py() or 0
    return ChannelState(rows.source, folded.seq, told if state is None else [*told, state], received)


def _messages(kind: str, batch: pa.RecordBatch, places: np.ndarray) -> list[bytes]:
    texts = messages_of(kind, batch.take(pa.array(places))).messages
    return [text[_HEAD_BYTES:-1] for text in texts.cast(pa.binary()).to_pylist()]


def _channels(table_files: TableFiles, chosen: Filter, cut: RecordingCut, rules: FoldRules) -> dict[str, _Rows]:
    """The rows for each symbol, of the source in which it was last."""
    found: dict[tuple[str, str], _Rows] = {}
    tells_all = table_files.table in _LAST_ROW_KINDS
    for source, batch, clock, at in _blocks(table_files, chosen, cut, founded=not tells_all):
        column = batch.column("symbol")
        codes = column.indices.to_numpy()
        grouped = np.argsort(codes, kind="stable")
        bounds = np.flatnonzero(np.diff(codes[grouped])) + 1
        for places in np.split(grouped, bounds):
            if len(places):
                symbol = column.dictionary[codes[places[0]].item()].as_py()
                _add(found, (symbol, source), batch, places, clock, at)
    newest: dict[str, _Rows] = {}
    for (symbol, _), rows in found.items():
        if symbol not in newest or newest[symbol].order < rows.order:
            newest[symbol] = rows
    if tells_all:
        return {symbol: _last_row(rows) for symbol, rows in newest.items()}
    if table_files.table == "trades":
        return {symbol: _last_trades(rows, rules.trades_kept) for symbol, rows in newest.items()}
    return newest


def _add(
    found: dict[tuple[str, str], _Rows],
    key: tuple[str, str],
    batch: pa.RecordBatch,
    places: np.ndarray,
    clock: np.ndarray,
    at: np.ndarray,
) -> None:
    last = places[-1]
    order = int(clock[last]), int(at[last])
    old = found.get(key)
    snapshots = places[batch.column("is_snapshot").to_numpy(zero_copy_only=False)[places]]
    if len(snapshots) and "item" in batch.schema.names:
        # a snapshot of several rows begins with its first item
        snapshots = snapshots[batch.column("item").fill_null(0).to_numpy()[snapshots] == 0]
    if len(snapshots):
        first = snapshots[-1]
        found[key] = _Rows(key[1], [(batch, places[places >= first])], order, (int(clock[first]), int(at[first])))
    elif old is None:
        found[key] = _Rows(key[1], [(batch, places)], order, (-1, NO_SEQ))
    else:
        old.parts.append((batch, places))
        found[key] = old._replace(order=order)


def _last_row(rows: _Rows) -> _Rows:
    batch, places = rows.parts[-1]
    return rows._replace(parts=[(batch, places[-1:])])


def _last_trades(rows: _Rows, kept: int) -> _Rows:
    """Only the last messages that hold so many trades; the others are in no snapshot."""
    parts: list[tuple[pa.RecordBatch, np.ndarray]] = []
    count = 0
    for batch, places in reversed(rows.parts):
        items = batch.column("item").fill_null(0).to_numpy()[places]
        starts = np.flatnonzero(items == 0)
        first = starts[max(0, int(np.searchsorted(starts, len(places) - (kept - count), "right")) - 1)]
        parts.insert(0, (batch, places[first:]))
        count += len(places) - int(first)
        if count >= kept:
            break
    return rows._replace(parts=parts)


def _blocks(
    table_files: TableFiles, chosen: Filter, cut: RecordingCut, *, founded: bool = False
) -> Iterator[tuple[str, pa.RecordBatch, np.ndarray, np.ndarray]]:
    """For each source the rows of its last round of keyframes before the cut, then all later ones before the cut.

    `founded`: nothing of a source that was recorded before and has no such round.
    """
    for source, refs in _refs(table_files, cut, founded=founded).items():
        for ref in refs:
            batch = table_files.rows(ref)
            mask = chosen.rows(table_files.table, batch)
            if mask is not None:
                batch = batch.filter(pa.array(mask))
            clock, at = order_of(batch)
            names = batch.column("source")
            mine = np.array([name == source for name in names.dictionary.to_pylist()], bool)
            keep = mine[names.indices.to_numpy()] if batch.num_rows else np.zeros(0, bool)
            tick = cut.ticks.get(source)
            keep &= clock <= cut.time if tick is None else at <= tick
            if not keep.all():
                batch, clock, at = batch.filter(pa.array(keep)), clock[keep], at[keep]
            if batch.num_rows:
                yield source, batch, clock, at


def _refs(table_files: TableFiles, cut: RecordingCut, *, founded: bool) -> dict[str, list[BlockRef]]:
    """For each source the blocks that its state at the cut is made of."""
    first = table_files.start(cut)
    while True:
        found: dict[str, list[BlockRef]] = {}
        rounds: set[str] = set()
        known: set[str] | None = None
        open_: list[BlockRef] = []
        for ref in table_files.refs(first):
            note = table_files.block(ref).note
            if known is None:
                known = set(note.sources)
            if note.keyframes:
                open_ = [*(before for before in open_ if table_files.block(before).note.commit == note.commit), ref]
                if not note.left:
                    # all that was recorded before must be before the cut, of every source: a channel may have moved
                    if all(cut.covers(source, span.clock, span.tick) for source, span in note.sources.items()):
                        found |= {source: list(open_) for source in note.keyframes}
                        rounds |= set(note.keyframes)
                    open_ = []
                continue
            for source, span in note.sources.items():
                if span.rows and cut.begins_before(source, span):
                    found.setdefault(source, []).append(ref)
        missing = (known or set()) - rounds
        if not missing:
            return found
        if first == 0:
            if founded and is_trimmed(table_files):
                # a few changes to a state that is not there: folded by themselves they would be told as all of it
                found = {source: refs for source, refs in found.items() if source not in missing}
            return found
        first -= 1  # a file that was left before its keyframes were written


class _Holes(NamedTuple):
    """Where the last gaps of a channel stand: those that a snapshot makes up for, and those that nothing does."""

    waits: tuple[int, int] = (-1, NO_SEQ)
    lost: tuple[int, int] = (-1, NO_SEQ)


def _holes(table_files: TableFiles, chosen: Filter, cut: RecordingCut, begin: int) -> dict[Channel, _Holes]:
    """Channels that gaps before the cut left without a state.

    Behind one that is `lost` there is none before the next update either: at the last one the channel stands no more.
    """
    found: dict[Channel, _Holes] = {}
    for ref in table_files.refs(table_files.start(RecordingCut(begin))):
        block = table_files.block(ref)
        if not any(span.rows and cut.begins_before(source, span) for source, span in block.note.sources.items()):
            continue
        batch, clock = _chosen_rows(table_files, ref, chosen)
        names = ("channel", "symbol", "source", "prev", "seq", "lost", "at")
        columns = (batch.column(name).to_pylist() for name in names)
        for kind, symbol, source, prev, seq, lost, at, time in zip(*columns, clock, strict=True):
            # one that ends where it begins moves nobody
            if cut.covers(source, time, at) and not (lost and prev == seq):
                old = found.get((kind, symbol), _Holes())
                waits, gone = ((-1, NO_SEQ), (time, at)) if lost else ((time, at), (-1, NO_SEQ))
                found[kind, symbol] = _Holes(max(old.waits, waits), max(old.lost, gone))
    return found


def _states(table_files: TableFiles, chosen: Filter, cut: RecordingCut) -> dict[tuple[str, str, str], bytes]:
    """The last state of each channel and source, where it is not `ok`."""
    found: dict[tuple[str, str, str], bytes] = {}
    for source, batch, _, _ in _blocks(table_files, chosen, cut):
        texts = messages_of(STATES, batch).messages.cast(pa.binary()).to_pylist()
        columns = (batch.column(name).to_pylist() for name in ("channel", "symbol", "state"))
        for channel, symbol, state, text in zip(*columns, texts, strict=True):
            if state == "ok":
                found.pop((channel, symbol, source), None)
            else:
                found[channel, symbol, source] = text
    return found


def _chosen_rows(table_files: TableFiles, ref: BlockRef, chosen: Filter) -> tuple[pa.RecordBatch, list[int]]:
    """The chosen rows of a block, and their clocks."""
    batch = table_files.rows(ref)
    mask = chosen.rows(table_files.table, batch)
    if mask is not None:
        batch = batch.filter(pa.array(mask))
    return batch, order_of(batch)[0].tolist()
