"""`feed doctor`: what roles would find on this machine and in its Kafka, with a remedy for each thing; changes nothing.

Owns the findings and their words. A doubt is what works otherwise than most want it, or will not for long; a fault is
what cannot work. Leaves what is well while roles run to their own `/readyz` and `/v1/health`.
"""

from __future__ import annotations

import asyncio
import os
import resource
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from feed.errors import FeedError, NotLetIn, Unreachable
from feed.gateway.descriptors import beside_clients
from feed.kafka.access import entrance_of
from feed.kafka.cluster import Cluster
from feed.normalizer.settings import version_of
from feed.normalizer.takeover import written
from feed.run.up import normalizer_settings
from feed.run.venues import venue_of
from feed.runtime.command import FAILED, OK, UNREACHABLE, say
from feed.runtime.settings import Settings, doubts

if TYPE_CHECKING:
    from collections.abc import Mapping

State = Literal["ok", "doubt", "fault"]
_MARKS: Final = {"ok": "+", "doubt": "!", "fault": "-"}
_BROKERS: Final = "brokers"
_MIB: Final = 20
_BEHIND_S: Final = 1.0
_AHEAD_S: Final = 5.0
"""A normalizer writes once a second: what is older than this, where it writes, is old by this machine's clock alone."""
_ALTER: Final = "kafka-configs.sh --alter --topic {} --add-config {}"


class Finding(msgspec.Struct, frozen=True):
    """One thing that was looked at: how it is in words, and what to do where it is not well."""

    name: str
    state: State
    found: str
    remedy: str = ""


async def run(settings: Settings, *, as_json: bool) -> int:
    """Looks at everything and tells it on stdout; the exit code: 0 without a fault, 1 with one, 3 without a broker."""
    findings: list[Finding] = []
    async for finding in examined(settings):
        findings.append(finding)
        if not as_json:
            sys.stdout.write(text_of(finding))
            sys.stdout.flush()
    faults, doubted = ([one for one in findings if one.state == state] for state in ("fault", "doubt"))
    if as_json:
        sys.stdout.write(msgspec.json.encode({"ok": not faults, "findings": findings}).decode() + "\n")
    say(f"looked at {len(findings)}; faults: {len(faults)}, doubts: {len(doubted)}")
    if any(one.name == _BROKERS for one in faults):
        return UNREACHABLE
    return FAILED if faults else OK


def text_of(finding: Finding) -> str:
    """A finding for a person, as `/readyz?verbose` tells a check; its remedy on a line below."""
    remedy = f"    {finding.remedy}\n" if finding.remedy else ""
    return f"[{_MARKS[finding.state]}] {finding.name}: {finding.found}\n{remedy}"


async def examined(settings: Settings) -> AsyncIterator[Finding]:
    """What is found, of this machine first."""
    for words in doubts(settings):
        yield Finding("settings", "doubt", words, "name the venue as its collector does")
    yield disk(settings)
    yield open_files(settings)
    try:
        async with Cluster(entrance_of(settings.kafka), client_id="feed-doctor") as cluster:
            async for finding in _of_kafka(settings, cluster):
                yield finding
    except NotLetIn as error:
        yield Finding(_BROKERS, "fault", str(error), "ops/README.md, into a Kafka that asks who you are")
    except Unreachable as error:
        yield Finding(_BROKERS, "fault", str(error), "start one, or name the brokers: --kafka, kafka.bootstrap")
    except (FeedError, KafkaError, OSError) as error:
        yield Finding("kafka", "fault", f"cannot be asked: {error or error!r}", "the right to describe topics")


# ---- this machine


def disk(settings: Settings) -> Finding:
    """Whether a recorder could write into its folder, and for how long; a doubt where nothing is recorded yet."""
    folder = Path(settings.record.to)
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    found = os.statvfs(there)
    free, floor = found.f_bavail * found.f_frsize, settings.record.free_bytes_min
    words = f"{free >> _MIB} MiB free at {there}, of which {floor >> _MIB} must stay free"
    state: State = "fault" if _is_used(folder) else "doubt"
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        what = f"{there} cannot be written by user {os.geteuid()}"
        return Finding("recordings", state, what, "give the right, or another folder to a recorder: --to, record.to")
    if free < floor:
        return Finding("recordings", state, words, "make room, or set record.keep_bytes; a recorder pauses until then")
    if free < 2 * floor:
        return Finding("recordings", "doubt", words, "make room, or set record.keep_bytes, before a recorder pauses")
    return Finding("recordings", "ok", words)


def _is_used(folder: Path) -> bool:
    """Whether there is a recording: whoever has none may not want one on this machine."""
    try:
        return any(folder.iterdir())
    except OSError:
        return False


def open_files(settings: Settings) -> Finding:
    """Whether a gateway may have a file descriptor for each client."""
    limits, readers = settings.serve.limits, 0
    if settings.serve.recordings:
        from feed.gateway.recordings import FILES_A_READER  # it brings pyarrow, a third of a second

        readers = FILES_A_READER
    wanted = limits.connections_max + beside_clients(limits, readers)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY or hard >= wanted:
        return Finding("open files", "ok", f"{wanted} are wanted at most, and allowed")
    words = f"{hard} are allowed, {wanted} wanted for serve.limits.connections_max of {limits.connections_max}"
    return Finding("open files", "doubt", words, f"ulimit -n {wanted}, LimitNOFILE={wanted}, or a lower limit")


# ---- Kafka


async def _of_kafka(settings: Settings, cluster: Cluster) -> AsyncIterator[Finding]:
    brokers = sorted(cluster.client.cluster.brokers(), key=lambda one: one.nodeId)
    answer = [broker for broker in brokers if await cluster.client.ready(broker.nodeId)]
    for broker in brokers:
        if broker not in answer:
            words = f"does not answer at {broker.host}:{broker.port}, which is the address that it tells"
            yield Finding(f"broker {broker.nodeId}", "fault", words, "start it, or mend its advertised.listeners")
    if not answer:
        raise Unreachable(f"none answers at the address that {settings.kafka.bootstrap} tells")
    began = time.monotonic()
    topics = await cluster.topics()
    took_ms = (time.monotonic() - began) * 1000
    yield Finding(_BROKERS, "ok", f"{len(answer)} of {len(brokers)} answer; {len(topics)} topics in {took_ms:.0f} ms")
    venues = _venues(settings, topics)
    if not venues:
        yield Finding(
            "topics", "doubt", "of no known venue are there any", "start collectors, or name venues: --venues"
        )
    for venue in venues:
        for finding in _presence(settings, venue, topics):
            yield finding
        if (topic := settings.feed_topic(venue)) in topics:
            for finding in log_settings(settings, topic, await cluster.settings(topic)):
                yield finding
            if settings.ticks_topic(venue) in topics:
                async for finding in _version(settings, venue):
                    yield finding
    if settings.kafka.dead_topic not in topics:
        words = "is not there: a bad tick would hold its partition up"
        yield Finding(settings.kafka.dead_topic, "doubt", words, _made(settings))
    logs = [
        TopicPartition(topic, n)
        for one in venues
        for topic in [settings.feed_topic(one)]
        for n in range(topics.get(topic, 0))
    ]
    yield await clock(lambda: _newest(cluster, logs), settings.normalize.alive_ms / 1000)


def _venues(settings: Settings, topics: Mapping[str, int]) -> list[str]:
    """Those that a role here has: by name, or known ones of which there is any topic."""
    found: dict[str, None] = {}
    for names, named in (settings.normalized, settings.served, settings.recorded):
        found.update((name, None) for name in names if named or _any_topic(settings, name, topics))
    return list(found)


def _any_topic(settings: Settings, venue: str, topics: Mapping[str, int]) -> bool:
    return settings.ticks_topic(venue) in topics or settings.feed_topic(venue) in topics


def _presence(settings: Settings, venue: str, topics: Mapping[str, int]) -> Iterator[Finding]:
    ticks, log = settings.ticks_topic(venue), settings.feed_topic(venue)
    for topic, use in ((ticks, "ticks"), (log, "its feed log")):
        if topic not in topics:
            remedy = f"is {venue} spelt as its collector spells it? {_made(settings)}"
            yield Finding(topic, "doubt", f"is not there: no {use}", remedy)
    if ticks in topics and log in topics:
        if topics[log] < topics[ticks]:
            words = f"has {topics[log]} partitions, its ticks have {topics[ticks]}"
            yield Finding(log, "doubt", words, "start feed normalize, which adds them")
        else:
            yield Finding(venue, "ok", f"{ticks} and {log} are there, with {topics[ticks]} partitions")


def _made(settings: Settings) -> str:
    """How a topic comes to be."""
    if settings.creates_topics:
        return "start feed normalize, which makes it"
    return "make it, as feed topics --commands prints it, or set kafka.create_topics"


def log_settings(settings: Settings, topic: str, found: Mapping[str, str]) -> Iterator[Finding]:
    """What of a feed log's own settings does harm; nothing where its broker does not tell them."""
    if "compact" in found.get("cleanup.policy", ""):
        words = "is compacted: records that gateways need go"
        yield Finding(topic, "fault", words, _ALTER.format(topic, "cleanup.policy=delete"))
    if found.get("message.timestamp.type", "LogAppendTime") != "LogAppendTime":
        words = "has its writers' time: a broker may refuse records of a clock that is wrong"
        yield Finding(topic, "doubt", words, _ALTER.format(topic, "message.timestamp.type=LogAppendTime"))
    wanted = settings.kafka.record_bytes_max
    if int(found.get("max.message.bytes", wanted)) < wanted:
        words = f"takes records of {found['max.message.bytes']} bytes, kafka.record_bytes_max is {wanted}"
        yield Finding(topic, "doubt", words, _ALTER.format(topic, f"max.message.bytes={wanted}"))


async def _version(settings: Settings, venue: str) -> AsyncIterator[Finding]:
    """Whether a normalizer with these settings would go on with a venue's logs, or stand by."""
    own = normalizer_settings(settings, venue_of(settings, venue))
    version = version_of(own.rules)
    try:
        others = {one.version for one in await written(entrance_of(settings.kafka), own)} - {version, ""}
    except (FeedError, KafkaError) as error:
        yield Finding(own.feed_topic, "fault", f"cannot be read: {error}", "the right to read it; ops/README.md")
        return
    if others:
        words = f"was written last by version {', '.join(sorted(others))}; with these settings it is {version}"
        remedy = f"a normalizer from here stands by while that one writes; feed takeover {venue} goes on at once"
        yield Finding(own.feed_topic, "doubt", words, remedy)


async def _newest(cluster: Cluster, logs: list[TopicPartition]) -> float | None:
    """When the newest record was written, by its broker's clock; seconds, None where that cannot be known."""
    newest: list[float] = []
    for log in logs:
        try:
            begin, end = await cluster.offsets(log)
            async for page in cluster.read(log, max(begin, end - 1), end):
                newest += [raw.timestamp / 1000 for raw in page if raw.timestamp_type == 1]
        except (FeedError, KafkaError):
            continue  # told elsewhere
    return max(newest, default=None)


async def clock(newest: Callable[[], Any], alive_s: float, *, now: Callable[[], float] = time.time) -> Finding:
    """This machine's clock beside the broker's, as far as a record that was just written tells it."""
    at = await newest()
    if at is None:
        return Finding("clock", "ok", "not compared: no feed log has a record with its broker's time")
    age = now() - at
    if age > _AHEAD_S:
        # old by which clock? A second look tells whether anybody writes
        await asyncio.sleep(1.5 * alive_s)
        again = await newest()
        if again is None or again <= at:
            return Finding("clock", "ok", f"not compared: nothing was written for {age:.0f} s")
        age = now() - again
    if age < -_BEHIND_S or age > _AHEAD_S:
        words = f"{abs(age):.1f} s {'behind' if age < 0 else 'ahead of'} the brokers'"
        return Finding("clock", "fault", words, "set it by NTP (chronyc, timedatectl): here, or where Kafka runs")
    return Finding("clock", "ok", "as the brokers', to a few seconds")
