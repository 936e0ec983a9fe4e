"""A channel's state: updates folded into a snapshot, a kind at a time.

Owns what a snapshot of each kind holds after some updates, and its bytes: those of the keyframe that the normalizer
would write at the same tick (same order of keys, levels by exact price best first, the last trades, the open bars and
the last closed ones). Leaves when to fold to `channel`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

import msgspec
from msgspec import Struct

from feed.channels import books
from feed.channels.steps import Steps, whole
from feed.errors import CorruptLog
from feed.wire.message import END, JOINT, START, bare
from feed.wire.model import (
    BARS_CLOSED_KEPT,
    NO_SEQ,
    TRADES_KEPT,
    Bar,
    Book,
    Data,
    Instrument,
    Kind,
    Quote,
    Snapshot,
    Status,
    Trade,
)
from feed.wire.parts import part_of, pieces_of


class FoldRules(Struct, frozen=True):
    """How much the lists of a snapshot hold."""

    trades_kept: int = TRADES_KEPT
    bars_closed_kept: int = BARS_CLOSED_KEPT


class Body(Struct, frozen=True, gc=False):
    """A snapshot or an update, its data unread."""

    type: str
    source: str = ""
    seq: int = NO_SEQ
    ts_event: str | None = None
    ts_recv: str | None = None
    data: msgspec.Raw = msgspec.Raw(b"")
    part: tuple[int, int] | None = None
    state: str | None = None


class Folded(NamedTuple):
    """A channel's whole state: its snapshot in bare messages (several where it is large), and where it stands."""

    seq: int
    messages: list[bytes]
    state: bytes | None
    """The last `state` message, where it is not `ok`."""
    covers: int
    """The highest `seq` of an update or a state that is in it."""


_SUMS: Final = frozenset({"book", "bars"})
"""Kinds of which every update counts."""
_UPDATE: Final = b'update"'
_NO_ITEMS: Final = b'"data":[]'
_BODIES: Final = msgspec.json.Decoder(Body)
_TRADES: Final = msgspec.json.Decoder(list[Trade])
_QUOTES: Final = msgspec.json.Decoder(Quote)
_BARS: Final = msgspec.json.Decoder(list[Bar])
_STATUS: Final = msgspec.json.Decoder(Status)
_INSTRUMENTS: Final = msgspec.json.Decoder(Instrument)


def empty(kind: Kind, symbol: str) -> Data:
    """What a snapshot holds of a channel of which nothing is known."""
    if kind == "quotes":
        return Quote(None, None, None, None)
    if kind == "book":
        return Book([], [])
    if kind == "status":
        return Status("unknown", None)
    if kind == "instruments":
        venue, _, name = symbol.partition(":")
        return Instrument(venue.lower(), name, None, None, None, None, None, [])
    return []


def fold(
    kind: Kind, symbol: str, source: str, start: Folded, entries: Iterable[bytes], rules: FoldRules, last: int = 0
) -> Folded:
    """The state after `entries` (bare messages of one channel, in order) on top of `start`.

    `last`: only so many trades, or bars of each interval, the newest (0: all that are kept).

    Raises:
        CorruptLog: a message cannot be read.
    """
    return whole(folding(kind, symbol, source, start, entries, rules, last))


def folding(
    kind: Kind, symbol: str, source: str, start: Folded, entries: Iterable[bytes], rules: FoldRules, last: int = 0
) -> Steps[Folded]:
    """The steps to the same: more than one for a book of a megabyte.

    Raises:
        CorruptLog: a message cannot be read.
    """
    try:
        return (yield from _folding(kind, symbol, source, start, entries, rules, last))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CorruptLog(f"{kind} of {symbol} cannot be folded: {error}") from error


def _folding(
    kind: Kind, symbol: str, source: str, start: Folded, entries: Iterable[bytes], rules: FoldRules, last: int
) -> Steps[Folded]:
    snapshot = [body_of(message) for message in start.messages]
    updates: list[Body] = []
    state, covers = start.state, start.covers
    for entry in _that_count(kind, list(entries), rules):
        for message in entry.split(JOINT):
            body = body_of(message)
            if body.type == "update":
                updates.append(body)
            elif body.type == "state":
                state = None if body.state == "ok" else message
            else:
                continue
            covers = max(covers, body.seq)
    newest = updates[-1] if updates else snapshot[-1] if snapshot else None
    if newest is None:
        return Folded(NO_SEQ, [], state, covers)
    if kind == "book":
        data: Data = yield from books.folded([body.data for body in snapshot], [body.data for body in updates])
    else:
        data = _FOLDS[kind](snapshot, updates, rules)
    if last and isinstance(data, list):
        data = _newest(data, last)
    folded = Snapshot(kind, symbol, source, newest.seq, newest.ts_event, newest.ts_recv, data)
    pieces: list[Data] = []
    for piece in pieces_of(data):
        pieces.append(piece)
        if len(pieces) > 1:
            yield books.STEP
    if len(pieces) == 1:
        return Folded(newest.seq, [bare(folded)], state, covers)
    messages: list[bytes] = []
    for number in range(len(pieces)):
        messages.append(bare(part_of(folded, pieces, number)))
        yield books.STEP
    return Folded(newest.seq, messages, state, covers)


def _that_count(kind: Kind, entries: list[bytes], rules: FoldRules) -> list[bytes]:
    """Without updates that newer ones replace: most of them where a channel was not folded for long."""
    kept = rules.trades_kept if kind == "trades" else 1
    newest = entries[-kept:]
    if kind in _SUMS or len(entries) <= kept or any(_NO_ITEMS in entry for entry in newest):
        return entries
    older = [entry for entry in entries[:-kept] if not entry.startswith(_UPDATE) or JOINT in entry]
    # a state among the newest is no update
    found = sum(entry.startswith(_UPDATE) for entry in newest)
    return [*older, *newest] if found == kept else entries


def _newest(items: list[Trade] | list[Bar], count: int) -> list[Trade] | list[Bar]:
    """The last trades, or the last bars of each interval."""
    if not items or isinstance(items[0], Trade):
        return items[-count:]
    intervals: dict[str, list[Bar]] = {}
    for bar in items:
        assert isinstance(bar, Bar)
        intervals.setdefault(bar.interval, []).append(bar)
    return [bar for bars in intervals.values() for bar in bars[-count:]]


def body_of(message: bytes) -> Body:
    """A single bare message of a channel, its data unread."""
    return _BODIES.decode(START + message + END)


def _trades(snapshot: Sequence[Body], updates: Sequence[Body], rules: FoldRules) -> list[Trade]:
    # a snapshot before the first update holds what the venue sent again at subscription; it ends with the first trade
    history = not (updates and snapshot and snapshot[0].seq == NO_SEQ)
    bodies = [*(snapshot if history else ()), *updates]
    kept: list[Trade] = []
    for body in reversed(bodies):
        kept = _TRADES.decode(body.data) + kept
        if len(kept) >= rules.trades_kept:
            break
    return kept[-rules.trades_kept :]


def _bars(snapshot: Sequence[Body], updates: Sequence[Body], rules: FoldRules) -> list[Bar]:
    bars: dict[tuple[str, int], Bar] = {}
    for body in (*snapshot, *updates):
        for bar in _BARS.decode(body.data):
            bars[bar.interval, int(bar.open_time)] = bar
    out: list[Bar] = []
    for interval in sorted({key[0] for key in bars}):
        keys = sorted(key for key in bars if key[0] == interval)
        closed = [key for key in keys if bars[key].closed]
        dropped = set(closed[: max(0, len(closed) - rules.bars_closed_kept)])
        out += [bars[key] for key in keys if key not in dropped]
    return out


def _last_quote(snapshot: Sequence[Body], updates: Sequence[Body], rules: FoldRules) -> Quote:
    return _QUOTES.decode((updates or snapshot)[-1].data)


def _last_status(snapshot: Sequence[Body], updates: Sequence[Body], rules: FoldRules) -> Status:
    return _STATUS.decode((updates or snapshot)[-1].data)


def _last_instrument(snapshot: Sequence[Body], updates: Sequence[Body], rules: FoldRules) -> Instrument:
    return _INSTRUMENTS.decode((updates or snapshot)[-1].data)


_FOLDS: Final[dict[Kind, Callable[[Sequence[Body], Sequence[Body], FoldRules], Data]]] = {
    "trades": _trades,
    "quotes": _last_quote,
    "bars": _bars,
    "status": _last_status,
    "instruments": _last_instrument,
}
