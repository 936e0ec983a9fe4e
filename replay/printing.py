"""The messages of a recording on stdout, or their hashes.

Owns the lines. Leaves order to `feed.recording.merge`, pace to `pacing`, what counts for a hash to `feed.wire.hashes`.
"""

from __future__ import annotations

import time
from typing import BinaryIO, Final, TextIO

import numpy as np

from feed.recording.filter import Filter
from feed.recording.merge import RANKS, RowPage
from feed.recording.recording import RecordingFiles
from feed.recording.table_files import FROM_BEGIN, RecordingCut
from feed.recording.tables import GAPS, STATES
from feed.wire.hashes import Hashes
from replay.pacing import Pacing, Speed, seconds

_VENUE: Final = b'"reason":"venue"'
_PART: Final = b',"part":['
_KIND: Final = b'"channel":"'


def print_messages(
    recording: RecordingFiles, chosen: Filter, start: RecordingCut, end: RecordingCut, *, speed: Speed, out: BinaryIO
) -> None:
    """A line a message; after a start within the recording first how each channel stood."""
    if start.time > FROM_BEGIN.time:
        for standing in recording.standing(chosen, start).values():
            out.writelines(message + b"\n" for message in standing.messages)
    pacing = Pacing(speed)
    for page in recording.pages(chosen, start, end):
        if speed == "max":
            out.write(page.text())
        else:
            _paced(page, pacing, out)
    out.flush()


def _paced(page: RowPage, pacing: Pacing, out: BinaryIO) -> None:
    done = 0
    while done < len(page):
        now = time.monotonic_ns()
        wait = pacing.wait_ns(int(page.clock[done]), now)
        if wait:
            out.flush()
            time.sleep(seconds(wait))
            continue
        due = int(np.searchsorted(page.clock, pacing.reached_ns(now), "right"))
        upto = max(done + 1, due)
        out.write(page.slice(done, upto).text())
        done = upto


def print_hashes(
    recording: RecordingFiles, chosen: Filter, start: RecordingCut, end: RecordingCut, *, out: TextIO
) -> None:
    """A line a channel, `<hash> <channel> <symbol>`, then `<hash>` of all."""
    hashes = Hashes()
    for page in recording.pages(chosen, start, end, separator=""):
        _hash(page, hashes)
    out.writelines(f"{found} {kind} {symbol}\n" for found, kind, symbol in hashes.lines())
    out.write(f"{hashes.total()}\n")


def _hash(page: RowPage, hashes: Hashes) -> None:
    kinds = {rank: name for name, rank in RANKS.items()}
    messages = page.messages.to_pylist()
    columns = (page.at.tolist(), page.source.tolist(), page.symbol.tolist(), page.rank.tolist(), messages)
    for at, source, symbol, rank, text in zip(*columns, strict=True):
        message = text.encode()
        table = kinds[rank]
        where = page.symbols[symbol], page.sources[source]
        if table == GAPS:
            if _VENUE in message:
                hashes.take(_kind_of(message), *where, "gap", _seq_of(message), message)
        elif table == STATES:
            hashes.take(_kind_of(message), *where, "state", at, message)
        elif message.startswith(b'{"type":"update"'):
            hashes.take(table, *where, "update", _seq_of(message), message, _part_of(message))


def _kind_of(message: bytes) -> str:
    at = message.index(_KIND) + len(_KIND)
    return message[at : message.index(b'"', at)].decode()


def _seq_of(message: bytes) -> int:
    at = message.index(b',"seq":') + len(b',"seq":')
    return int(message[at : message.index(b",", at)])


def _part_of(message: bytes) -> int:
    if not message.endswith(b"]}"):
        return 0
    at = message.rfind(_PART)
    return int(message[at + len(_PART) : message.index(b",", at + len(_PART))]) if at >= 0 else 0
