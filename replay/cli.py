"""The command `replay`: what was recorded becomes live again.

Owns the command line and what it prints: data on stdout, words on stderr. Exit codes: 0 ok, 1 failed, 2 usage,
3 unreachable. Imports what a command needs when it runs, so that `replay --help` is quick. Over 400 lines: one command
after the other, most of each is its flags and their help.
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

from feed.runtime.command import run, say, version

if TYPE_CHECKING:
    from collections.abc import Callable

    from feed.recording.filter import Filter
    from feed.recording.table_files import RecordingCut
    from feed.runtime.settings import Settings
    from replay.opened import Recording
    from replay.pacing import Speed
    from replay.publish import Progress

PLAIN_EVERY_S: Final = 5.0
_CHUNK_BYTES: Final = 1 << 20

app = App(
    name="replay",
    help="Plays recorded market data as if it were live.",
    help_format="plaintext",
    version=version,
    version_flags=["--version"],
)


Place = Annotated[str, Parameter(help="A recording's folder, or any URI that pyarrow knows.")]
Channels = Annotated[str | None, Parameter(help="Kinds, separated by commas; all if not given.")]
Symbols = Annotated[str | None, Parameter(help="Symbols or patterns (KRAKEN:*), separated by commas.")]
Start = Annotated[str | None, Parameter(help="From this time on: 2026-11-20, 2026-11-20T14:30:00Z or nanoseconds.")]
End = Annotated[str | None, Parameter(help="Up to this time.")]
Host = Annotated[str | None, Parameter(help="Address to listen on (serve.host).")]
Port = Annotated[int | None, Parameter(help="Port to listen on; 0 is any free one (serve.port).")]
Json = Annotated[bool, Parameter(help="As JSON on stdout.", negative=())]


@app.command
def info(recording: Place, /, *, json: Json = False) -> int:
    """Tell what is in a recording: symbols, kinds, times, counts, gaps.

    Examples:
        replay info recordings/
        replay info s3://bucket/recordings --json | jq .channels
    """
    from replay.progress import told
    from replay.summary import lines_of, summary_of

    opened = _opened(recording)
    with opened, told(f"reading {recording}", opened.recording.bytes) as tell:
        summary = summary_of(opened.recording, tell)
    if json:
        _print_json(summary)
    else:
        sys.stdout.write("".join(f"{line}\n" for line in lines_of(summary)))
    return 0


@app.command
def verify(recording: Place, /, *, json: Json = False) -> int:
    """Check every byte of a recording, the order of its rows and the chains of its channels; exit code 1 with a fault.

    Examples:
        replay verify recordings/
    """
    from feed.errors import FeedError
    from feed.recording.folder import Folder
    from replay.checking import Checked, file_faults
    from replay.progress import told

    folder = Folder(recording)
    places = folder.places()
    if not places:
        raise FeedError(f"nothing is recorded in {recording}")
    size = sum(place.size for place in places)
    with told("checksums", size) as tell:
        faults = list(file_faults(folder, tell))
    crossed: dict[str, int] = {}
    if not faults:
        opened = _opened(recording)
        with opened, told("order and chains", size) as tell:
            checked = Checked(opened.recording).run(tell)
        faults, crossed = checked.faults, checked.crossed
    if json:
        _print_json({"ok": not faults, "bytes": size, "faults": faults, "crossed": crossed})
    else:
        sys.stdout.write("".join(f"{fault}\n" for fault in faults))
        say(
            f"{size:,} bytes of {recording}: "
            + (f"{len(faults)} faults" if faults else "every batch is whole, in order, unbroken")
        )
        if any(crossed.values()):
            say(f"crossed: {crossed['quotes']:,} quotes, {crossed['book']:,} whole books (bid at or above offer)")
    return 1 if faults else 0


@app.command
def repair(recording: Path, /) -> int:
    """Keep every whole batch of damaged files; what they were is kept beside them, as `….damaged`.

    Examples:
        replay repair recordings/
    """
    from replay.repairing import repair as mend

    count = 0
    for found in mend(recording):
        count += 1
        what = f"{found.kept} batches kept in {found.mended}" if found.mended else "nothing of it is whole"
        say(f"{found.path}: {'clocks set right, ' * found.clocks}{what}, {found.lost} lost")
    say(f"{count} files were damaged; `replay verify` tells what is missing" if count else "no file is damaged")
    return 0


@app.command
def export(
    recording: Place,
    /,
    *,
    table: str,
    to: Path,
    symbols: Symbols = None,
    start: Start = None,
    end: End = None,
) -> int:
    """Write a table of a recording as a Parquet or CSV file.

    Examples:
        replay export recordings/ --table trades --to trades.parquet --symbols COINBASE:BTC-USD
        replay export recordings/ --table book --to book.csv --start 2026-11-20 --end 2026-11-21

    Parameters
    ----------
    table: str
        trades, quotes, book, bars, status, instruments, gaps or states.
    to: Path
        The file; its ending says the format: .parquet or .csv.
    """
    from feed.errors import ConfigError
    from feed.recording.filter import Filter
    from feed.recording.tables import TABLES
    from replay.exporting import FORMATS
    from replay.exporting import export as write
    from replay.progress import counted

    if table not in TABLES:
        raise ConfigError(f"table {table!r} is none of {', '.join(TABLES)}")
    form = to.suffix.removeprefix(".")
    if form not in FORMATS:
        raise ConfigError(f"file {to} ends with none of .parquet, .csv")
    with _opened(recording) as opened, counted(f"{table} to {to}", "rows") as tell:
        _refuse_unknown(opened, Filter(symbols=_listed(symbols) or ("*",)))
        rows = write(opened, table, to, form, symbols=_listed(symbols), start=start, end=end, tell=tell)
    say(f"wrote {rows:,} rows to {to}")
    return 0


@app.command(name="print")
def print_(
    recording: Place,
    /,
    *,
    channels: Channels = None,
    symbols: Symbols = None,
    start: Start = None,
    end: End = None,
    speed: str = "max",
    hash: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Print the messages of a recording, a line each, byte for byte as they were live.

    Examples:
        replay print recordings/ --channels trades --symbols 'KRAKEN:*' | jq .data
        replay print recordings/ --speed 10
        replay print recordings/ --hash

    Parameters
    ----------
    speed: str
        1 is the recorded pace, 10 ten times that, max as fast as it goes.
    hash: bool
        Instead of the messages a hash of each channel, and one of all: the same as `feed tail --hash` prints live.
    """
    from replay.printing import print_hashes, print_messages

    with _opened(recording) as opened:
        chosen = _chosen(channels, symbols)
        _refuse_unknown(opened, chosen)
        if hash:
            print_hashes(opened.recording, chosen, *_cuts(start, end), out=sys.stdout)
        else:
            print_messages(opened.recording, chosen, *_cuts(start, end), speed=_speed(speed), out=sys.stdout.buffer)
    return 0


@app.command
def serve(recording: Place, /, *, host: Host = None, port: Port = None) -> int:
    """Serve a recording to WebSocket clients, on /v1/replay: no Kafka, no live stream, the same protocol.

    Examples:
        replay serve recordings/
        replay serve s3://bucket/recordings --port 9000
    """
    import uvloop

    from feed.runtime.logs import set_up
    from feed.runtime.settings import load
    from replay.alone import run_alone

    settings = load({"serve.host": host, "serve.port": port, "serve.recordings": recording}).settings
    set_up(settings.log.level, settings.log.form)
    with suppress(KeyboardInterrupt):
        uvloop.run(run_alone(settings))
    return 0


@app.command
def publish(
    files: Annotated[list[Path], Parameter(negative=())],
    /,
    *,
    venue: str | None = None,
    kafka: str | None = None,
    speed: str = "1",
    symbol: str | None = None,
    partitions: int | None = None,
    channels: Channels = None,
    symbols: Symbols = None,
    start: Start = None,
    end: End = None,
    raw: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Publish captures of a venue as ticks to Kafka, or a recording as feed logs, or its ticks.

    Examples:
        replay publish trades.log.gz --venue binance-usdm --symbol BTCUSDT --kafka 127.0.0.1:9092 --speed max
        replay publish kraken.ws.cf.gz --venue kraken --speed 10
        replay publish recordings/ --kafka 127.0.0.1:9092 --speed 10 --start 2026-11-20T14:30:00Z
        replay publish recordings/ --raw --speed max

    Parameters
    ----------
    files: list[Path]
        Captures, gzip or not; several files of one capture (socket and REST) are merged on receive time. Or the folder
        of a recording: its updates go into the feed logs of their venues, which must be empty.
    raw: bool
        Of a recording with ticks: write these back into their topics, to be normalized again.
    venue: str
        Whose format captures have: binance, binance-usdm, binance-coinm, coinbase, kraken; any other name has JSON
        ticks.
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
    from feed.runtime.settings import load, near_venue

    factor = _speed(speed)
    settings = load({"kafka.bootstrap": kafka, "kafka.partitions": partitions, "normalize.venues": venue}).settings
    if raw:
        return _publish_ticks(settings, str(files[0]), factor)
    if len(files) == 1 and files[0].is_dir():
        return _republish(settings, str(files[0]), _chosen(channels, symbols), *_cuts(start, end), factor)
    if lost := [str(file) for file in files if not file.is_file()]:
        raise ConfigError(f"no such file {', '.join(lost)}")
    if venue is None:
        raise ConfigError("captures need the option --venue: whose format they have")
    if settings.normalize.venues != (venue,):
        raise ConfigError(f"found the venue {venue!r}, wanted one")
    if near := near_venue(venue):
        say(f"warning: {venue} is a venue of your own, with JSON ticks; did you mean {near}?")
    from feed.kafka.access import entrance_of
    from feed.run.venues import venue_of
    from replay.captures import read
    from replay.publish import Target
    from replay.publish import publish as play

    target = Target(
        entrance_of(settings.kafka),
        settings.ticks_topic(venue),
        settings.kafka.partitions,
        settings.topic_settings,
        settings.kafka.compression,
    )
    with _told(f"{venue} to {target.topic}", files) as tell:
        done = asyncio.run(
            play(read(files, symbol=symbol), venue_of(settings, venue), target, speed=factor, symbol=symbol, tell=tell)
        )
    say(
        f"published {done.frames:,} frames as {done.ticks:,} ticks to {target.topic} in {done.elapsed_s:.1f} s "
        f"({done.ticks / max(done.elapsed_s, 1e-9):,.0f} ticks/s, {done.recorded_s:.1f} s recorded)"
        + (f"; {done.unreadable} could not be read and will be dead letters" if done.unreadable else "")
    )
    return 0


def _republish(
    settings: Settings, path: str, chosen: Filter, start: RecordingCut, end: RecordingCut, speed: Speed
) -> int:
    from feed.kafka.access import entrance_of
    from replay.progress import counted
    from replay.republish import republish

    with _opened(path) as opened, counted(f"publishing {path}", "messages") as tell:
        _refuse_unknown(opened, chosen)
        done = asyncio.run(
            republish(
                opened.recording,
                entrance_of(settings.kafka),
                settings.feed_topic,
                settings.log_settings,
                settings.kafka.compression,
                chosen=chosen,
                start=start,
                end=end,
                speed=speed,
                tell=lambda done: tell(done.messages),
            )
        )
    say(
        f"published {done.messages:,} messages in {done.elapsed_s:.1f} s "
        f"({done.messages / max(done.elapsed_s, 1e-9):,.0f} a second, {done.recorded_s:.1f} s recorded)"
    )
    return 0


def _publish_ticks(settings: Settings, path: str, speed: Speed) -> int:
    from feed.kafka.access import entrance_of
    from replay.progress import counted
    from replay.ticks import opened_ticks, publish_ticks

    kafka = settings.kafka
    recording = opened_ticks(path)
    with counted(f"publishing {path}", "ticks") as tell:
        work = publish_ticks(
            recording, entrance_of(kafka), settings.topic_settings, kafka.compression, speed=speed, tell=tell
        )
        done = asyncio.run(work)
    say(f"published {done:,} ticks")
    return 0


def _opened(path: str) -> Recording:
    from replay.opened import Recording

    return Recording(path)


def _listed(text: str | None) -> list[str] | None:
    return [part.strip() for part in text.split(",") if part.strip()] if text is not None else None


def _chosen(channels: str | None, symbols: str | None) -> Filter:
    from feed.recording.filter import Filter
    from feed.wire.model import KINDS

    return Filter(_listed(channels) or KINDS, _listed(symbols) or ("*",))


def _refuse_unknown(opened: Recording, chosen: Filter) -> None:
    """A symbol by name that was never recorded is misspelt; a pattern may match nothing."""
    if not chosen.names:
        return
    from feed.errors import ConfigError
    from feed.gateway.catalog import Catalog
    from feed.recording.filter import unknown_words

    known = {symbol for _, symbol in Catalog().channels(opened.recording)}
    if unknown := chosen.names - known:
        raise ConfigError(f"nothing is recorded of {unknown_words(unknown)}; `replay info` tells what is")


def _cuts(start: str | None, end: str | None) -> tuple[RecordingCut, RecordingCut]:
    from feed.recording.table_files import NEVER, RecordingCut
    from replay.times import ns_of

    first = -1 if start is None else ns_of(start) - 1
    return RecordingCut(first), RecordingCut(NEVER if end is None else ns_of(end) - 1)


def _speed(text: str) -> Speed:
    from feed.errors import ConfigError
    from replay.pacing import speed_of

    try:
        return speed_of(text)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _print_json(value: object) -> None:
    import msgspec

    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value)).decode() + "\n")


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
