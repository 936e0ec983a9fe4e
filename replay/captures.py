"""Captures of venues: files of others, read as frames in the order in which they were received.

Owns the formats and the merging of several files on receive time. Leaves what a frame means to `feed.venues`, and pace
to `pacing`. Reads line by line, so a capture of any length takes the memory of its longest line.

A line is one of these, whatever the file is called, gzip or not:

| line | what |
|---|---|
| `1618677817.0618958: {…}` | cryptofeed: seconds, a frame of the socket |
| `https://…?symbol=BTCUSDT -> 1618677817.06: {…}` | cryptofeed: the answer to a request |
| `wss://… <- …`, `wss://… <-> …`, `configuration: …` | cryptofeed: sent by the client, connects, settings: skipped |
| `1723161253937085768 {…}` | hftbacktest: nanoseconds (or micro-, milliseconds, seconds, told by their size), a frame |
| `{"rx_ns":1723161253937085768,"frame":…}` | nanoseconds, a frame as JSON or as text |
| `{…}` or `[…]` | a frame without a time |

A frame that starts with `{"lastUpdateId"` is the answer to a request: Binance's depth snapshot, which in most files
does not name its symbol. Where a line says itself that it was of the socket it is a partial book, which looks the same.
"""

from __future__ import annotations

import gzip
import heapq
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple
from urllib.parse import unquote

import msgspec

from feed.errors import BadCapture, shown
from feed.wire.frames import UNREADABLE

LINE_BYTES_MAX: Final = 64 << 20
_GZIP: Final = b"\x1f\x8b"
_SOCKET: Final = re.compile(rb"(\d{9,10})(?:\.(\d+))?: (.*)", re.DOTALL).fullmatch
_ANSWER: Final = re.compile(rb"(\S+) -> (\d{9,10})(?:\.(\d+))?: (.*)", re.DOTALL).fullmatch
_SKIPPED: Final = re.compile(rb"configuration: |\S+ <->? ").match
_TIMED: Final = re.compile(rb"(\d{9,19}) (.*)", re.DOTALL).fullmatch
_SYMBOL: Final = re.compile(r"[?&]symbol=([^&\s]+)").search
_DEPTH: Final = b'{"lastUpdateId"'
_DEPTH_REQUEST: Final = "depth"
_WANTED: Final = "a frame, or a line of cryptofeed's or hftbacktest's collector"


class Captured(NamedTuple):
    """One frame: when it was received (ns), the request that it answers, the symbol where only the file knows it."""

    ts_recv: int | None
    frame: bytes
    request: str | None = None
    symbol: str | None = None


class _Wrapped(msgspec.Struct):
    rx_ns: int
    frame: msgspec.Raw


class _Depth(msgspec.Struct):
    symbol: str | None = None


_WRAPPED: Final = msgspec.json.Decoder(_Wrapped)
_NAMED: Final = msgspec.json.Decoder(_Depth)
_TEXT: Final = msgspec.json.Decoder(str)


def read(files: Sequence[Path], *, symbol: str | None = None) -> Iterator[Captured]:
    """The frames of all files by receive time; at the same time answers come first, then the files as they are given.

    A frame without a time keeps its place after the one before it; a file without times comes first. `symbol` is that
    of depth snapshots that do not name it.

    Raises:
        BadCapture: a line is none of the above, or a depth snapshot's symbol is not known.
    """
    if len(files) == 1:
        return _frames(files[0], symbol)
    return (
        captured
        for _, _, _, captured in heapq.merge(
            *(_ordered(_frames(file, symbol), number) for number, file in enumerate(files)), key=lambda entry: entry[:3]
        )
    )


def _ordered(frames: Iterable[Captured], number: int) -> Iterator[tuple[int, bool, int, Captured]]:
    time, of_socket = 0, False
    for captured in frames:
        if captured.ts_recv is not None and captured.ts_recv > time:
            time, of_socket = captured.ts_recv, False
        # within a file nothing overtakes, also not an answer of the same time
        of_socket = of_socket or captured.request is None
        yield time, of_socket, number, captured


def _frames(file: Path, symbol: str | None) -> Iterator[Captured]:
    for number, line in _lines(file):
        try:
            captured = _captured(line, symbol)
        except BadCapture as error:
            raise BadCapture(f"{file} line {number}: {error}") from error
        if captured is not None:
            yield captured


def _captured(line: bytes, symbol: str | None) -> Captured | None:
    if line[:1] in (b"{", b"["):
        return _wrapped(line, symbol) if line.startswith(b'{"rx_ns"') else _frame(None, line, symbol)
    if found := _SOCKET(line):
        return Captured(_seconds(found[1], found[2]), found[3])
    if found := _TIMED(line):
        return _frame(_ns(int(found[1])), found[2], symbol)
    if found := _ANSWER(line):
        url = found[1].decode(errors="replace")
        named = _SYMBOL(url)
        return Captured(_seconds(found[2], found[3]), found[4], url, unquote(named[1]) if named else symbol)
    if _SKIPPED(line):
        return None
    raise BadCapture(f"found {shown(line, 60)}, wanted {_WANTED}")


def _wrapped(line: bytes, symbol: str | None) -> Captured:
    try:
        wrapped = _WRAPPED.decode(line)
        frame = bytes(wrapped.frame)
        if frame.startswith(b'"'):
            frame = _TEXT.decode(frame).encode()
    except UNREADABLE as error:
        raise BadCapture(f"found {shown(line, 60)}, wanted rx_ns and frame: {error}") from error
    return _frame(wrapped.rx_ns, frame, symbol)


def _frame(ts_recv: int | None, frame: bytes, symbol: str | None) -> Captured:
    if not frame.startswith(_DEPTH):
        return Captured(ts_recv, frame)
    try:
        symbol = _NAMED.decode(frame).symbol or symbol
    except UNREADABLE as error:
        raise BadCapture(f"found {shown(frame, 60)}, wanted a depth snapshot: {error}") from error
    if symbol is None:
        raise BadCapture("found a depth snapshot without a symbol, wanted the option --symbol")
    return Captured(ts_recv, frame, _DEPTH_REQUEST, symbol)


def _seconds(whole: bytes, fraction: bytes | None) -> int:
    """Nanoseconds, exactly as the digits say."""
    return int(whole) * 1_000_000_000 + int((fraction or b"0")[:9].ljust(9, b"0"))


def _ns(time: int) -> int:
    """Nanoseconds of a time since 1970 whose unit is told by its size: good for the years 1973 to 2286."""
    for factor in (1_000_000_000, 1_000_000, 1_000):
        if time * factor < 10**19:
            return time * factor
    return time


def _lines(file: Path) -> Iterator[tuple[int, bytes]]:
    """The lines that are not blank, with their numbers from 1, without their end."""
    number = 0
    try:
        with _opened(file) as stream:
            while line := stream.readline(LINE_BYTES_MAX + 1):
                number += 1
                if len(line) > LINE_BYTES_MAX:
                    raise BadCapture(f"{file} line {number}: longer than {LINE_BYTES_MAX} bytes")
                if line := line.strip():
                    yield number, line
    except (OSError, EOFError, zlib.error) as error:
        raise BadCapture(f"{file} after line {number}: cannot be read: {error}") from error


@contextmanager
def _opened(file: Path) -> Iterator[BinaryIO]:
    with file.open("rb") as raw:
        if raw.peek(len(_GZIP))[: len(_GZIP)] == _GZIP:
            with gzip.GzipFile(fileobj=raw) as unzipped, BufferedReader(unzipped, 1 << 17) as lines:
                yield lines
        else:
            yield raw
