"""`feed topics`: what a configuration needs, as a table, as JSON and as commands."""

from __future__ import annotations

import shlex
from typing import Any

import msgspec
import pytest

from feed.run.topics_shown import needs_of, run
from feed.runtime.settings import Settings, load


def settings(**more: Any) -> Settings:
    return load({"normalize.venues": "desk", "kafka.partitions": 3, "kafka.replication": 2, **more}).settings


def test_each_topic_has_its_partitions_replicas_and_settings() -> None:
    own = settings()
    topics = needs_of(own).topics
    assert {name: (wanted.partitions, wanted.replication) for name, wanted in topics.items()} == {
        "ticks.desk": (3, 2),
        "feed.dead": (1, 2),
        "feed.desk": (3, 2),
    }
    assert topics["ticks.desk"].settings == own.topic_settings
    assert topics["feed.desk"].settings == topics["feed.dead"].settings == own.log_settings


def test_each_role_has_its_rights() -> None:
    own = settings(**{"venues.desk.topic": "mkt", "serve.venues": "kraken", "record.raw": True})
    assert needs_of(own).rights == {
        "normalize": [
            "READ on the group feed-normalize",
            "READ on the topic mkt",
            "READ on the topic feed.desk",
            "WRITE on the topic feed.desk",
            "WRITE on the topic feed.dead",
        ],
        "serve": ["READ on the topic feed.kraken"],
        "record": ["READ on the topic feed.desk", "READ on the topic mkt"],
    }


def test_a_table_names_all_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(settings(), commands=False, principal="User:x", as_json=False) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["topic", "partitions", "replicas", "settings"]
    assert lines[1].split()[:3] == ["ticks.desk", "3", "2"]
    assert "feed normalize needs" in lines
    assert "  WRITE on the topic feed.dead" in lines


def test_as_json_it_is_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    run(settings(), commands=False, principal="", as_json=True)
    assert msgspec.json.decode(capsys.readouterr().out)["topics"]["feed.desk"]["partitions"] == 3


def test_commands_make_each_topic_and_allow_each_right_once(capsys: pytest.CaptureFixture[str]) -> None:
    own = settings(**{"kafka.bootstrap": "broker:9092", "kafka.security_protocol": "SSL"})
    run(own, commands=True, principal="User:CN=feed", as_json=False)
    commands = [shlex.split(line) for line in capsys.readouterr().out.splitlines()]
    reach = ["--bootstrap-server", "broker:9092", "--command-config", "client.properties"]
    assert all(command[1:5] == reach for command in commands)
    made = {command[command.index("--topic") + 1] for command in commands if command[0] == "kafka-topics.sh"}
    assert made == {"ticks.desk", "feed.dead", "feed.desk"}
    allowed = [tuple(command[6:]) for command in commands if command[0] == "kafka-acls.sh"]
    assert len(allowed) == len(set(allowed)) == 5
    who = ("--allow-principal", "User:CN=feed", "--operation")
    assert (*who, "READ", "--group", "feed-normalize") in allowed
    assert (*who, "WRITE", "--topic", "feed.dead") in allowed


def test_brokers_that_let_everybody_in_need_no_file(capsys: pytest.CaptureFixture[str]) -> None:
    run(settings(), commands=True, principal="User:x", as_json=False)
    assert "--command-config" not in capsys.readouterr().out
