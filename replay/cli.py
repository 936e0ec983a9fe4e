"""The command `replay`: what was recorded becomes live again.

Owns the command line and what it prints: words on stderr, nothing on stdout. Exit codes: 0 ok, 1 failed, 2 usage,
3 unreachable. Imports what a command needs when it runs, so that `replay --help` is quick.
"""

from __future__ import annotations

import asyncio
import gzip
import sys
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Annotated, Any, Final

from cyclopts import App, Parameter

from feed.command import run, say

if TYPE_CHECKING:
    from collections.abc import Callable

    from replay.publish import Progress

PLAIN_EVERY_S: Final = 5.0
_CHUNK_BYTES: Final = 1 << 20

app = App(
    name="replay",
    help="Plays recorded market data as if it were live.",
    help_format="plaintext",
    version_flags=[],
)


@app.command
def publish(
    files: Annotated[list[Path], Parameter(negative=())],
    /,
    *,
    venue: str,
    kafka: str | None = None,
    speed: str = "1",
    symbol: str | None = None,
    partitions: int | None = None,
) -> int:
    """Publish captures of a venue as ticks to Kafka.

    Examples:
        replay publish trades.log.gz --venue binance-usdm --symbol BTCUSDT --kafka 127.0.0.1:9092 --speed max
        replay publish kraken.ws.cf.gz --venue kraken --speed 10

    Parameters
    ----------
    files: list[Path]
        Captures, gzip or not. Several files of one capture (socket and REST) are merged on receive time.
    venue: str
        Whose format it is: binance, binance-usdm, binance-coinm, coinbase, kraken; any other name has JSON ticks.
    kafka: str
        Brokers, HOST:PORT[,HOST:PORT] (from the settings if not given: 127.0.0.1:9092).
    speed: str
        1 is the recorded pace, 10 ten times that, max as fast as it goes.
    symbol: str
        The symbol of frames that do not name it (a REST depth snapshot).
    partitions: int
        Partitions of the topic when it has to be made (from the settings if not given: 4).
    """
    from feed.errors import ConfigError
    from feed.settings import load
    from replay.pacing import speed_of

    try:
        factor = speed_of(speed)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    if lost := [str(file) for file in files if not file.is_file()]:
        raise ConfigError(f"no such file {', '.join(lost)}")
    settings = load({"kafka.bootstrap": kafka, "kafka.partitions": partitions}).settings
    from feed.venues.table import venue as venue_named
    from replay.captures import read
    from replay.publish import Target
    from replay.publish import publish as play

    target = Target(
        settings.kafka.bootstrap,
        settings.ticks_topic(venue),
        settings.kafka.partitions,
        settings.topic_settings,
        settings.kafka.compression,
    )
    with _told(f"{venue} to {target.topic}", files) as tell:
        done = asyncio.run(
            play(read(files, symbol=symbol), venue_named(venue), target, speed=factor, symbol=symbol, tell=tell)
        )
    say(
        f"published {done.frames:,} frames as {done.ticks:,} ticks to {target.topic} in {done.elapsed_s:.1f} s "
        f"({done.ticks / max(done.elapsed_s, 1e-9):,.0f} ticks/s, {done.recorded_s:.1f} s recorded)"
        + (f"; {done.unreadable} could not be read and will be dead letters" if done.unreadable else "")
    )
    return 0


@contextmanager
def _told(what: str, files: Sequence[Path]) -> Iterator[Callable[[Progress], None]]:
    """Progress as a bar on a terminal, as a line now and then elsewhere.

    How much there is, is counted beside the playing: the bar only swings until it is known.
    """
    if not sys.stderr.isatty():
        yield _lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns: tuple[Any, ...] = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[words]}"),
        TimeElapsedColumn(),
    )
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None, words="")
        counting = Thread(target=lambda: bar.update(task, total=_lines_of(files)), name="count lines", daemon=True)
        counting.start()

        def tell(progress: Progress) -> None:
            bar.update(task, completed=progress.frames, words=_words(progress))

        yield tell


def _lines_of(files: Sequence[Path]) -> int:
    lines = 0
    for file in files:
        with suppress(OSError, EOFError, zlib.error), file.open("rb") as raw:
            is_gzip = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            stream = gzip.GzipFile(fileobj=raw) if is_gzip else raw
            while chunk := stream.read(_CHUNK_BYTES):
                lines += chunk.count(b"\n")
    return lines


def _lines() -> Callable[[Progress], None]:
    said = 0.0

    def tell(progress: Progress) -> None:
        nonlocal said
        if progress.elapsed_s - said >= PLAIN_EVERY_S:
            said = progress.elapsed_s
            say(_words(progress))

    return tell


def _words(progress: Progress) -> str:
    late = f", {progress.late_s:.1f} s behind" if progress.late_s > 1 else ""
    return f"{progress.ticks:,} ticks, {progress.recorded_s:,.0f} s recorded{late}"


def main() -> None:
    """The entry point of the command."""
    sys.exit(run(app))
