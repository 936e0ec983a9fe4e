"""`feed topics`: what a configuration needs of a cluster, topic by topic and right by right; asks no broker.

Owns the table, and the commands of Kafka's own tools that give a cluster what is needed. Whether it has that is for
`feed doctor` to see.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from feed.kafka.rights import Right
from feed.run.topics import Topic, needed, rights

if TYPE_CHECKING:
    from feed.runtime.settings import Settings

Role = Literal["normalize", "serve", "record"]
_CLIENT_FILE: Final = "client.properties"


class Wanted(msgspec.Struct, frozen=True):
    """A topic that there has to be."""

    partitions: int
    replication: int
    settings: dict[str, str]


class Needs(msgspec.Struct, frozen=True):
    """All of it. `topics` with the settings that they are to have, `rights` of each role."""

    topics: dict[str, Wanted]
    rights: dict[Role, list[str]]


def run(settings: Settings, *, commands: bool, principal: str, as_json: bool) -> int:
    """Writes it to stdout, as a table, as commands or as JSON."""
    if commands:
        lines = commands_of(settings, principal)
    elif as_json:
        lines = iter([msgspec.json.encode(needs_of(settings)).decode()])
    else:
        lines = table_of(needs_of(settings))
    for line in lines:
        sys.stdout.write(f"{line}\n")
    return 0


def needs_of(settings: Settings) -> Needs:
    """What roles with these settings need."""
    topics = {topic.name: _wanted(settings, topic) for topic in _topics(settings)}
    return Needs(topics, {role: [str(right) for right in found] for role, found in _rights(settings).items()})


def table_of(needs: Needs) -> Iterator[str]:
    """For a person."""
    width = max(map(len, needs.topics))
    yield f"{'topic':{width}}  partitions  replicas  settings"
    for name, wanted in needs.topics.items():
        own = ", ".join(f"{key}={value}" for key, value in wanted.settings.items())
        yield f"{name:{width}}  {wanted.partitions:10}  {wanted.replication:8}  {own}"
    for role, found in needs.rights.items():
        yield f"\nfeed {role} needs"
        yield from (f"  {right}" for right in found)


def commands_of(settings: Settings, principal: str) -> Iterator[str]:
    """For a shell: `kafka-topics.sh` for what is missing, `kafka-acls.sh` for what `principal` has to be allowed."""
    kafka = settings.kafka
    reach = ["--bootstrap-server", kafka.bootstrap]
    if kafka.security_protocol != "PLAINTEXT":
        reach += ["--command-config", _CLIENT_FILE]
    for name, wanted in needs_of(settings).topics.items():
        counts = ["--partitions", str(wanted.partitions), "--replication-factor", str(wanted.replication)]
        own = [word for key, value in wanted.settings.items() for word in ("--config", f"{key}={value}")]
        yield shlex.join(["kafka-topics.sh", *reach, "--create", "--if-not-exists", "--topic", name, *counts, *own])
    found = dict.fromkeys(right for some in _rights(settings).values() for right in some)
    for right in found:
        allowed = ["--allow-principal", principal, "--operation", right.operation, f"--{right.kind}", right.name]
        yield shlex.join(["kafka-acls.sh", *reach, "--add", *allowed])


def _topics(settings: Settings) -> list[Topic]:
    names = dict.fromkeys((*settings.normalized.names, *settings.served.names, *settings.recorded.names))
    return needed(settings, names, {})


def _wanted(settings: Settings, topic: Topic) -> Wanted:
    own = settings.log_settings if topic.is_log else settings.topic_settings
    return Wanted(topic.partitions, settings.kafka.replication, own)


def _rights(settings: Settings) -> dict[Role, list[Right]]:
    # what describing takes comes with READ and WRITE; without DESCRIBE_CONFIGS a normalizer works, and says what it
    # cannot know of retention
    served, recorded = (
        [Right("READ", "topic", settings.feed_topic(name)) for name in venues.names]
        for venues in (settings.served, settings.recorded)
    )
    if settings.record.raw:
        recorded += [Right("READ", "topic", settings.ticks_topic(name)) for name in settings.recorded.names]
    return {"normalize": rights(settings, settings.normalized.names), "serve": served, "record": recorded}
