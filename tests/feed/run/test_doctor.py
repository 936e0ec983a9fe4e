"""What `feed doctor` finds on a machine and in a log's settings, and how it tells it."""

from __future__ import annotations

import json
import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from feed.errors import NotLetIn
from feed.run import doctor
from feed.run.doctor import Finding, clock, disk, log_settings, open_files, run, text_of
from feed.runtime.settings import Settings, load

pytestmark = pytest.mark.anyio
GOOD = {"cleanup.policy": "delete", "message.timestamp.type": "LogAppendTime", "max.message.bytes": "16777216"}


def settings(**given: Any) -> Settings:
    return load({name.replace("__", "."): value for name, value in given.items()}).settings


def test_a_finding_is_told_as_a_check_is_with_its_remedy_below() -> None:
    assert text_of(Finding("clock", "ok", "as the brokers'")) == "[+] clock: as the brokers'\n"
    assert text_of(Finding("a", "fault", "b", "c")) == "[-] a: b\n    c\n"
    assert text_of(Finding("a", "doubt", "b", "c")).startswith("[!] ")


@pytest.mark.parametrize(("free", "state"), [(30, "ok"), (15, "doubt"), (9, "fault")])
def test_how_much_room_a_recording_has(free: int, state: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "trades").mkdir()
    names = os.statvfs_result((1 << 20, 1 << 20, 100, free, free, 0, 0, 0, 0, 255))
    monkeypatch.setattr(doctor.os, "statvfs", lambda path: names)
    found = disk(settings(record__to=str(tmp_path), record__free_bytes_min=10 << 20))
    assert found.state == state
    assert found.found.startswith(f"{free} MiB free at {tmp_path}, of which 10 must stay free")
    assert bool(found.remedy) is (state != "ok")


@pytest.mark.parametrize(("used", "state"), [(True, "fault"), (False, "doubt")])
def test_a_folder_that_cannot_be_written(
    used: bool, state: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor.os, "access", lambda path, mode: False)
    if used:
        (tmp_path / "trades").mkdir()
    found = disk(settings(record__to=str(tmp_path)))
    assert (found.state, found.found) == (state, f"{tmp_path} cannot be written by user {os.geteuid()}")


def test_a_folder_that_is_not_there_is_looked_at_where_it_would_be(tmp_path: Path) -> None:
    found = disk(settings(record__to=str(tmp_path / "a" / "b"), record__free_bytes_min=0))
    assert found.state == "ok"
    assert f"free at {tmp_path}," in found.found


def test_descriptors_for_all_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = load({"serve.limits.connections_max": 500, "serve.limits.http_connections_max": 50}).settings
    for hard, state in ((1062, "ok"), (1061, "doubt"), (resource.RLIM_INFINITY, "ok")):
        monkeypatch.setattr(doctor.resource, "getrlimit", lambda what, hard=hard: (1, hard))
        assert open_files(chosen).state == state
    monkeypatch.setattr(doctor.resource, "getrlimit", lambda what: (1, 100))
    assert "ulimit -n 1062" in open_files(chosen).remedy


@pytest.mark.parametrize(
    ("changed", "states"),
    [
        ({}, []),
        ({"cleanup.policy": "compact,delete"}, ["fault"]),
        ({"message.timestamp.type": "CreateTime"}, ["doubt"]),
        ({"max.message.bytes": "1048588"}, ["doubt"]),
    ],
)
def test_what_a_feed_logs_settings_do(changed: dict[str, str], states: list[str]) -> None:
    found = list(log_settings(settings(), "feed.desk", GOOD | changed))
    assert [one.state for one in found] == states
    for one in found:
        assert one.remedy.startswith("kafka-configs.sh --alter --topic feed.desk --add-config ")


def test_a_broker_that_tells_no_settings_is_no_fault() -> None:
    assert list(log_settings(settings(), "feed.desk", {})) == []


@pytest.mark.parametrize(
    ("records", "state", "words"),
    [
        ([None], "ok", "not compared: no feed log has"),
        ([1000.0], "ok", "as the brokers'"),
        ([998.0], "ok", "as the brokers'"),
        ([1003.5], "fault", "3.5 s behind the brokers'"),
        ([900.0, 900.0], "ok", "not compared: nothing was written for 100 s"),
        ([900.0, 901.5], "fault", "98.5 s ahead of the brokers'"),
        ([900.0, 999.0], "ok", "as the brokers'"),
    ],
)
async def test_the_clock_beside_the_brokers(records: list[float | None], state: str, words: str) -> None:
    told: Iterator[float | None] = iter(records)

    async def newest() -> float | None:
        return next(told)

    found = await clock(newest, 0.0, now=lambda: 1000.0)
    assert (found.state, found.found.startswith(words)) == (state, True), found
    assert next(told, "no more") == "no more"


async def test_where_no_broker_answers_the_machine_is_looked_at_all_the_same(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    chosen = settings(kafka__bootstrap="127.0.0.1:1", record__to=str(tmp_path), record__free_bytes_min=0)
    assert await run(chosen, as_json=True) == 3
    out, err = capsys.readouterr()
    told = json.loads(out)
    assert [(one["name"], one["state"]) for one in told["findings"]][::2] == [
        ("recordings", "ok"),
        ("brokers", "fault"),
    ]
    assert told["ok"] is False
    assert "faults: 1" in err


class Shut:
    """A cluster that lets nobody in."""

    def __init__(self, *_: object, **__: object) -> None: ...

    async def __aenter__(self) -> None:
        raise NotLetIn("the broker refused the password")

    async def __aexit__(self, *_: object) -> None: ...


async def test_a_broker_that_lets_nobody_in(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "Cluster", Shut)
    assert await run(settings(record__to=str(tmp_path)), as_json=False) == 3
    told = capsys.readouterr().out
    assert "[-] brokers: the broker refused the password\n    ops/README.md, into a Kafka that asks" in told
