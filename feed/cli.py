"""The command `feed`: where settings, roles and words for a person are put together.

Owns the command line. Data goes to stdout, words to stderr; exit codes: 0 ok, 1 failed, 2 usage, 3 unreachable. Imports
what a command needs when it runs, so that `feed --help` is quick. Longer than most modules: it is options and their
words, one command after the other.
"""

from __future__ import annotations

import sys
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from feed.runtime.command import run, say, version

if TYPE_CHECKING:
    from feed.gateway.app import Routes
    from feed.runtime.settings import Loaded, Settings

Kafka = Annotated[str | None, Parameter(help="Brokers, HOST:PORT[,HOST:PORT] (kafka.bootstrap).")]
Venues = Annotated[str | None, Parameter(help="Venues, separated by commas (normalize.venues).")]
Host = Annotated[str | None, Parameter(help="Address to listen on (serve.host).")]
Port = Annotated[int | None, Parameter(help="Port to listen on; 0 is any free one (serve.port).")]
Recordings = Annotated[str | None, Parameter(help="Serve the recordings in this folder too (serve.recordings).")]
Workers = Annotated[int | None, Parameter(help="Processes that share the port (serve.workers).")]
Record = Annotated[str | None, Parameter(help="Record into this folder, in a process beside (record.to).")]
AdminPort = Annotated[
    int | None, Parameter(help="Port of /livez, /readyz and /metrics for this process; 0 is none (admin.port).")
]
File = Annotated[Path | None, Parameter(help="Settings file (default: feed.toml, where there is one).")]

app = App(
    name="feed",
    help="Market data from Kafka to WebSocket clients: snapshot on join, exact resume.",
    help_format="plaintext",
    version=version,
    version_flags=["--version"],
)
config = App(name="config", help="Show, check or write the settings.", help_format="plaintext")
app.command(config)
map_ = App(name="map", help="Write or check the mapping of a firm's own records.", help_format="plaintext")
app.command(map_)


@app.command
def demo(
    *,
    host: Host = None,
    port: Port = None,
    admin_port: AdminPort = None,
    record: Record = None,
    seconds: float | None = None,
    seed: int = 1,
) -> int:
    """Run the whole service with a broker in memory and simulated venues.

    Examples:
        feed demo
        feed demo --port 9000 --seconds 30
        feed demo --record recordings

    Parameters
    ----------
    seconds: float
        End by itself after so long; otherwise at Ctrl-C.
    seed: int
        Of the simulated markets: the same seed, the same prices.
    """
    from feed.errors import ConfigError
    from feed.run.demo_run import run_demo
    from replay.sinks import TickTopic

    if seconds is not None and not seconds > 0:
        raise ConfigError(f"found {seconds:g} seconds, wanted more than 0")
    flags = {
        "serve.host": host,
        "serve.port": port,
        "admin.port": admin_port,
        "record.to": record,
        "serve.recordings": record,
    }
    return _loop(run_demo(flags, TickTopic, _routes, records=record is not None, seconds=seconds, seed=seed))


@app.command
def up(
    *,
    kafka: Kafka = None,
    venues: Venues = None,
    host: Host = None,
    port: Port = None,
    admin_port: AdminPort = None,
    record: Record = None,
    workers: Workers = None,
    file: File = None,
) -> int:
    """Run all roles: normalizer and gateway, and with `--record` a recorder beside them. Topics that are missing are
    made on brokers of this machine.

    Examples:
        feed up --kafka 127.0.0.1:9092 --port 8000
        feed up --record recordings
    """
    flags = {
        "admin.port": admin_port,
        "record.to": record,
        "serve.recordings": record,
        "serve.workers": workers,
    }
    settings = _server_settings(kafka, venues, host, port, file, flags)
    return _serve(settings, normalizes=True, serves=True, records=record is not None)


@app.command
def record(
    *,
    kafka: Kafka = None,
    venues: Venues = None,
    to: Annotated[str | None, Parameter(help="The folder (record.to).")] = None,
    raw: Annotated[bool | None, Parameter(negative=())] = None,
    begin: Annotated[str | None, Parameter(name="--from")] = None,
    json: Annotated[bool, Parameter(negative=())] = False,
    admin_port: AdminPort = None,
    file: File = None,
    child: Annotated[bool, Parameter(show=False, negative=())] = False,
) -> int:
    """Record feed logs as Arrow files. One recorder a folder; what was not written Kafka holds.

    Examples:
        feed record --kafka 127.0.0.1:9092 --to recordings
        feed record --venues kraken --json
        feed record --from 2026-11-20T14:30:00Z

    Parameters
    ----------
    raw: bool
        Also the ticks as they lie in Kafka (record.raw).
    begin: str
        Where a new recording begins: earliest (all that the logs hold; so it is when this is left out), latest, or a
        time. Refused where there is a recording: it goes on where it ends.
    json: bool
        How it stands, as objects on stdout, four a second.
    child: bool
        Run beside a parent: settings come from stdin, and it ends when that does.
    """
    from feed.run.child import given_task
    from feed.run.record import record as run_recorder
    from feed.runtime.logs import set_up

    if child:
        settings = _loaded(given_task(dict), None).settings
    else:
        flags = {
            "kafka.bootstrap": kafka,
            "record.venues": venues,
            "record.to": to,
            "record.raw": raw,
            "admin.port": admin_port,
        }
        settings = _loaded(flags, file).settings
        _say_doubts(settings)
        say(f"recording {settings.recorded} to {settings.record.to}")
    set_up(settings.log.level, settings.log.form)
    return _loop(run_recorder(settings, tells=json or child, child=child, begin=begin))


@app.command
def normalize(*, kafka: Kafka = None, venues: Venues = None, admin_port: AdminPort = None, file: File = None) -> int:
    """Run a normalizer: ticks in, feed logs out. Several share the partitions.

    Examples:
        feed normalize --kafka 127.0.0.1:9092 --venues kraken,coinbase
        feed normalize --admin-port 9100
    """
    settings = _server_settings(kafka, venues, None, None, file, {"admin.port": admin_port})
    return _serve(settings, normalizes=True, serves=False)


@app.command
def serve(
    *,
    kafka: Kafka = None,
    venues: Venues = None,
    host: Host = None,
    port: Port = None,
    admin_port: AdminPort = None,
    recordings: Recordings = None,
    workers: Workers = None,
    file: File = None,
    child: Annotated[bool, Parameter(show=False, negative=())] = False,
) -> int:
    """Run a gateway: feed logs in, WebSocket clients out. Any number may run.

    Examples:
        feed serve --kafka 127.0.0.1:9092 --port 8000
        feed serve --workers 4
        feed serve --recordings recordings

    Parameters
    ----------
    child: bool
        Be one of several workers: what it is to do comes from stdin, and it ends when that does.
    """
    if child:
        return _work()
    flags = {"admin.port": admin_port, "serve.recordings": recordings, "serve.workers": workers}
    settings = _server_settings(kafka, venues, host, port, file, flags)
    return _serve(settings, normalizes=False, serves=True)


@app.command
def topics(
    *,
    kafka: Kafka = None,
    venues: Venues = None,
    commands: Annotated[bool, Parameter(negative=())] = False,
    principal: str = "User:feed",
    json: Annotated[bool, Parameter(negative=())] = False,
    file: File = None,
) -> int:
    """Print the topics and the rights that these settings need of a cluster. No broker is asked: that is feed doctor.

    Examples:
        feed topics --venues kraken,coinbase
        feed topics --kafka broker:9092 --commands --principal User:feed > prepare.sh

    Parameters
    ----------
    commands: bool
        As commands of Kafka's own tools, kafka-topics.sh and kafka-acls.sh.
    principal: str
        Who is allowed what is needed, in those commands.
    json: bool
        One object instead of a table.
    """
    from feed.run.topics_shown import run

    settings, _ = _loaded({"kafka.bootstrap": kafka, "normalize.venues": venues}, file)
    return run(settings, commands=commands, principal=principal, as_json=json)


@app.command
def takeover(
    venue: str,
    /,
    *,
    kafka: Kafka = None,
    yes: Annotated[bool, Parameter(negative=())] = False,
    json: Annotated[bool, Parameter(negative=())] = False,
    file: File = None,
) -> int:
    """Have a venue's feed logs written by this version and these settings: a lower one than the last, or at once.

    Start the normalizer first that is to go on (it stands by until then), and with the same settings. The others leave
    the logs alone as long as it writes. Every client of the venue is told a gap and gets snapshots.

    Examples:
        feed takeover kraken --kafka 127.0.0.1:9092
        feed takeover kraken --yes --json

    Parameters
    ----------
    venue: str
        Whose logs.
    yes: bool
        Do not ask.
    json: bool
        One object a partition instead of the names of the new sources.
    """
    from feed.errors import ConfigError
    from feed.run.takeover import run

    settings, _ = _loaded({"kafka.bootstrap": kafka, "normalize.venues": venue}, file)
    if len(settings.normalize.venues) != 1:
        raise ConfigError(f"found {venue!r}, wanted one venue")
    if not yes and not sys.stdin.isatty():
        raise ConfigError("nobody can be asked here: --yes does it without")
    return _loop(run(settings, settings.normalize.venues[0], asks=not yes, as_json=json))


@app.command
def doctor(
    *,
    kafka: Kafka = None,
    venues: Venues = None,
    json: Annotated[bool, Parameter(negative=())] = False,
    file: File = None,
) -> int:
    """Say what roles would find here: disk, open files, brokers, topics, versions, the clock. Changes nothing.

    Exit codes are 0 without a fault, 1 with one, 3 where no broker answers.

    Examples:
        feed doctor --kafka 127.0.0.1:9092
        feed doctor --json | jq '.findings[] | select(.state != "ok")'

    Parameters
    ----------
    json: bool
        One object instead of words.
    """
    from feed.run.doctor import run

    return _loop(run(_loaded({"kafka.bootstrap": kafka, "normalize.venues": venues}, file).settings, as_json=json))


@app.command
def tail(
    channel: str,
    symbols: Annotated[list[str], Parameter(negative=())],
    /,
    *,
    url: str = "ws://127.0.0.1:8000/v1/stream",
    start: Annotated[str | None, Parameter(name="--from")] = None,
    json: Annotated[bool, Parameter(negative=())] = False,
    hash: Annotated[bool, Parameter(negative=())] = False,
    every: int | None = None,
    depth: int | None = None,
    wait: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Follow a channel of some symbols, over reconnections, until Ctrl-C.

    Examples:
        feed tail trades COINBASE:BTC-USD
        feed tail book COINBASE:BTC-USD --every 250 --depth 10
        feed tail quotes '*' --url ws://desk:8000/v1/stream --json | jq .data
        feed tail book KRAKEN:XBT/USD --from 2026-11-20T14:30:00Z

    Parameters
    ----------
    channel: str
        trades, quotes, book, bars, status or instruments.
    symbols: list[str]
        Symbols (KRAKEN:BTC/USD) or patterns (KRAKEN:*, *).
    url: str
        Address of the stream.
    start: str
        A time to begin from, 2026-11-20, 2026-11-20T14:30:00Z or nanoseconds; then on into the live stream.
    json: bool
        One message a line as it was sent, instead of words.
    hash: bool
        Nothing but, at the end, a hash of each channel and one of all: as `replay print --hash` says of a recording.
    every: int | None
        Changes merged: an update every so many milliseconds, one of those that the gateway offers.
    depth: int | None
        Of books only so many of the best levels, a number that the gateway offers.
    wait: bool
        Wait for symbols that the gateway does not know yet, instead of refusing them.
    """
    from feed.run.tail import Hashing, Tail, as_json, as_text
    from feed.runtime.tasks import together, until_signal

    hashing = Hashing()
    out = hashing.take if hash else as_json if json else as_text
    followed = Tail(url, channel, symbols, out=out, start=start, every_ms=every, depth=depth, wait=wait)
    # a cancellation alone may be lost in what the task is waiting for; `together` goes on until the task has ended
    code = _loop(together([followed.run(), until_signal()]))
    if hash:
        hashing.say()
    return code


@config.command
def show(*, json: Annotated[bool, Parameter(negative=())] = False, file: File = None) -> int:
    """Print each setting, its value and where it came from.

    Parameters
    ----------
    json: bool
        One object instead of a table.
    """
    from feed.runtime.settings import leaves

    settings, origins = _loaded({}, file)
    rows = [(name, value, origins.get(name, "default")) for name, value in leaves(settings)]
    if json:
        _print_json({name: {"value": value, "origin": origin} for name, value, origin in rows})
        return 0
    width = max(len(name) for name, _, _ in rows)
    for name, value, origin in rows:
        sys.stdout.write(f"{name:{width}} = {_toml(value)}  # {origin}\n")
    return 0


@config.command
def check(*, file: File = None) -> int:
    """Check the settings, and the files that they name of certificates and passwords; exit code 2 and what is wrong
    where they cannot work."""
    from feed.kafka.access import entrance_of

    settings, origins = _loaded({}, file)
    entrance_of(settings.kafka)
    _say_doubts(settings)
    say(f"the settings are good: {len(origins)} given, the rest are defaults")
    return 0


@config.command
def init(*, file: Path = Path("feed.toml"), force: Annotated[bool, Parameter(negative=())] = False) -> int:
    """Write a settings file with every setting, its default and its meaning, all commented out.

    Parameters
    ----------
    file: Path
        Where to.
    force: bool
        Also over a file that is there.
    """
    from feed.errors import ConfigError
    from feed.runtime.settings import template

    if file.exists() and not force:
        raise ConfigError(f"{file} is there already; --force writes over it")
    file.write_text(template())
    say(f"wrote {file}")
    return 0


@map_.command(name="init")
def map_init(
    sample: Path,
    /,
    *,
    format: str | None = None,
    schema: str | None = None,
    message: str = "",
    framed: Annotated[bool, Parameter(negative=())] = False,
    keys: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Propose a mapping from a look at the records of a file; it goes to stdout, to be read and mended.

    Examples:
        feed map init desk.jsonl > desk.toml
        feed map init desk.base64 --format avro --schema trade.avsc --framed > desk.toml

    Parameters
    ----------
    sample: Path
        A record a line; of Avro and Protobuf as base64.
    format: str
        json, csv, avro or protobuf; without it JSON where the first line is some, else CSV.
    schema: str
        Of Avro the schema's file, of Protobuf that of the descriptor set.
    message: str
        Of Protobuf the message's full name.
    framed: bool
        Each record begins with the id of its schema, as Confluent's serializers write it.
    keys: bool
        Each line begins with the record's key and a tab.
    """
    from feed.run.map_check import proposed

    sys.stdout.write(proposed(sample, format=format, schema=schema, message=message, framed=framed, keyed=keys))
    return 0


@map_.command(name="check")
def map_check(
    mapping: Path,
    sample: Path,
    /,
    *,
    keys: Annotated[bool, Parameter(negative=())] = False,
    registry: str | None = None,
) -> int:
    """Show line by line what becomes of the records of a file; exit code 1 where any is refused.

    Examples:
        feed map check desk.toml desk.jsonl
        feed map sample desk --kafka HOST:PORT > desk.sample; feed map check desk.toml desk.sample --keys

    Parameters
    ----------
    mapping: Path
        The mapping's file.
    sample: Path
        A record a line; of Avro and Protobuf as base64.
    keys: bool
        Each line begins with the record's key and a tab.
    registry: str
        Address of the schema registry, where the mapping leaves schemas to one.
    """
    from feed.run.map_check import check, fetch_schemas
    from feed.run.map_check import sample as sampled
    from feed.run.venues import mapped
    from feed.venues.mapped.shape import mapping_file

    venue = mapped(mapping.stem, mapping)
    binary = mapping_file(mapping.read_text()).format in ("avro", "protobuf")
    records = sampled(sample, keyed=keys, binary=binary)
    fetch_schemas(venue, records, registry)
    refused = 0
    for line, said, why in check(venue, records):
        refused += bool(why)
        for words in [*said, *(f"refused: {words}" for words in why)] or ["means nothing"]:
            sys.stdout.write(f"{line}: {words}\n")
    say(f"{len(records)} records, {refused} of them refused, at least in part")
    return 1 if refused else 0


@map_.command(name="sample")
def map_sample(
    venue: str,
    /,
    *,
    kafka: Kafka = None,
    records: int = 100,
    base64: Annotated[bool, Parameter(negative=())] = False,
    file: File = None,
) -> int:
    """Write the newest records of a venue's tick topic to stdout, each a line behind its key and a tab.

    Examples:
        feed map sample desk --kafka 127.0.0.1:9092 > desk.sample
        feed map check desk.toml desk.sample --keys

    Parameters
    ----------
    venue: str
        Whose records; its topic is ticks.VENUE, where the settings do not say otherwise.
    records: int
        So many at most, as many of each partition.
    base64: bool
        As Avro and Protobuf need it.
    """
    from feed.kafka.access import entrance_of
    from feed.run.map_sample import newest

    settings, _ = _loaded({"kafka.bootstrap": kafka}, file)

    async def write() -> None:
        topic = settings.ticks_topic(venue)
        async for line in newest(entrance_of(settings.kafka), topic, records, binary=base64):
            sys.stdout.buffer.write(line)
        sys.stdout.buffer.flush()

    return _loop(write())


def _server_settings(
    kafka: str | None,
    venues: str | None,
    host: str | None,
    port: int | None,
    file: Path | None,
    more: Mapping[str, object] | None = None,
) -> Settings:
    flags = {"kafka.bootstrap": kafka, "normalize.venues": venues, "serve.host": host, "serve.port": port}
    return _loaded({**flags, **(more or {})}, file).settings


def _serve(settings: Settings, *, normalizes: bool, serves: bool, records: bool = False) -> int:
    from feed.run.roles import run_roles
    from feed.runtime.logs import set_up

    set_up(settings.log.level, settings.log.form)
    _say_doubts(settings)
    at = settings.serve.recordings
    if serves and at and not records and "://" not in at and not Path(at).is_dir():
        say(f"there is no folder {at} yet: no history and no replays until something is recorded there")
    routes = _routes(settings)
    return _loop(run_roles(settings, routes, normalizes=normalizes, serves=serves, records=records))


def _work() -> int:
    from feed.run.child import given_task
    from feed.run.worker import Task, work
    from feed.runtime.logs import set_up

    task = given_task(Task)
    settings = _loaded(task.settings, None).settings
    set_up(settings.log.level, settings.log.form)
    return _loop(work(task, settings, _routes(settings)))


def _routes(settings: Settings) -> list[Routes]:
    """What a gateway answers besides."""
    if not settings.serve.recordings:
        return []
    from replay.routes import add_routes

    return [add_routes]


def _say_doubts(settings: Settings) -> None:
    from feed.runtime.settings import doubts

    for words in doubts(settings):
        say(f"warning: {words}")


def _loaded(flags: Mapping[str, object], file: Path | None) -> Loaded:
    from feed.runtime.settings import load

    return load(flags, file=file)


def _loop(role: Coroutine[Any, Any, object]) -> int:
    """Runs a role to its end, whose number is the exit code; Ctrl-C is one of the ways to end it."""
    import contextlib

    import uvloop

    with contextlib.suppress(KeyboardInterrupt):
        code = uvloop.run(role)
        return code if isinstance(code, int) else 0
    return 0


def _toml(value: object) -> str:
    import json

    return json.dumps(value, ensure_ascii=False)


def _print_json(value: object) -> None:
    import json

    json.dump(value, sys.stdout, indent=2, ensure_ascii=False)
    sys.stdout.write("\n")


def main() -> None:
    """The entry point of the command."""
    sys.exit(run(app))
