"""Data of one's own: the producers of the page as they stand, and records by a mapping, on a real Kafka."""

from __future__ import annotations

import base64
import json
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from confluent_kafka import Producer
from websockets.sync.client import connect

from tests.conftest import ROOT
from tests.integration.commands import FEED, Command, running
from tests.registry import registry

pytestmark = pytest.mark.slow

PAGE: Final = (ROOT / "schemas" / "producers.md").read_text("utf-8")
PROGRAMS: Final = dict(re.findall(r"<!-- ([\w-]+) -->\n```python\n(.*?)```", PAGE, re.DOTALL))
EXAMPLES: Final = ROOT / "feed" / "venues" / "mapped" / "examples"


@contextmanager
def subscribed(up: Command, symbols: str, channels: list[str]) -> Iterator[Any]:
    """A function that gives the next message of a type, of a client that waits for some symbols."""
    with connect(up.said(r"ws://\S+")[0], max_size=None) as client:
        client.send(json.dumps({"op": "subscribe", "id": 1, "channels": channels, "symbols": [symbols]}))

        def told(wanted: Callable[[list[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = []
            until = time.monotonic() + 60
            while not wanted(found):
                assert time.monotonic() < until, found[-20:]
                found += json.loads(client.recv(timeout=60))
            return found

        yield told


def holds(messages: list[dict[str, Any]]) -> dict[str, Any]:
    """By channel what a client has after them: the last data, of books all levels."""
    state: dict[str, Any] = {}
    for message in messages:
        if message["type"] not in ("snapshot", "update"):
            continue
        data = message["data"]
        if message["channel"] == "book":
            sides = state.setdefault("book", {"bids": {}, "asks": {}})
            for side, levels in sides.items():
                levels.update(map(tuple, data[side]))
                state["book"][side] = {price: size for price, size in levels.items() if size != "0"}
        else:
            state[message["channel"]] = data
    return state


@pytest.mark.parametrize("library", ["confluent-kafka", "aiokafka"])
def test_a_producer_of_the_page_is_served(
    kafka: str, fresh: Callable[[str], str], tmp_path: Path, library: str
) -> None:
    program = PROGRAMS[library]
    assert sum(bool(line.strip()) for line in program.splitlines()) <= 20
    venue = fresh("desk")
    program = program.replace("127.0.0.1:9092", kafka).replace("ticks.desk", f"ticks.{venue}")
    with running(*FEED, "up", "--kafka", kafka, "--venues", venue, "--port", "0", cwd=tmp_path) as up:
        channels = ["trades", "quotes", "book"]
        with subscribed(up, "*", channels) as told:
            with running(sys.executable, "-W", "error", "-c", program, cwd=tmp_path) as producer:
                assert producer.wait() == 0, producer.err
            state = holds(told(lambda messages: len(holds(messages)) == 3))
    assert state["trades"][0]["price"] == "100.5"
    assert state["trades"][0]["trade_id"] == "1"
    assert state["quotes"]["bid_price"] == "99"
    assert state["book"] == {"bids": {"99": "50"}, "asks": {"100.5": "80"}}


def test_a_record_whose_schema_is_away_waits_and_is_no_dead_letter(
    kafka: str, fresh: Callable[[str], str], tmp_path: Path
) -> None:
    venue = fresh("desk")
    text = (EXAMPLES / "avro_trades.toml").read_text()
    (tmp_path / "desk.toml").write_text(text.replace("schemas = {", "registry = true\nschemas = {"))
    (tmp_path / "avro_trades.avsc").write_text((EXAMPLES / "avro_trades.avsc").read_text())
    known, other, away = map(base64.b64decode, (EXAMPLES / "avro_trades.base64").read_bytes().splitlines())
    producer = Producer({"bootstrap.servers": kafka})
    with registry() as fake:
        (tmp_path / "feed.toml").write_text(
            f'[kafka]\ngroup = "group.{venue}"\ndead_topic = "dead.{venue}"\n[normalize]\nvenues = ["{venue}"]\n'
            f'[venues.{venue}]\nformat = "mapped"\nmapping = "desk.toml"\nschema_registry = "{fake.url}"\n'
        )
        with (
            running(*FEED, "up", "--kafka", kafka, "--port", "0", cwd=tmp_path) as up,
            subscribed(up, "*", ["trades"]) as told,
        ):
            # a trade with an id of its own, by a schema that the registry does not have yet
            for value in (known, away[:5] + away[5:].replace(b"\xfc\x5a", b"\xfe\x5a"), other):
                producer.produce(f"ticks.{venue}", value=value, partition=0)
            assert producer.flush(30) == 0
            # what came before it does not wait with it, and its source says that it stands still
            said = told(lambda messages: any(message.get("reason") == "stalled" for message in messages))
            assert [trade["trade_id"] for trade in holds(said)["trades"]] == ["5821"]
            fake.answers["/schemas/ids/18"] = {"schema": (EXAMPLES / "avro_trades.avsc").read_text()}
            said = told(lambda messages: '"5822"' in json.dumps(messages))
            ids = [trade["trade_id"] for message in said if message["type"] == "update" for trade in message["data"]]
            assert ids == ["5823", "5822"]
            assert fake.asked.count(("/schemas/ids/18", None)) > 1
        assert not any("dead letter" in line for line in up.err)
    assert "schema 18" in "\n".join(up.err)


@pytest.mark.parametrize("by_header", [False, True])
def test_records_of_a_mapping_are_served_and_go_on_after_a_restart(
    kafka: str, fresh: Callable[[str], str], tmp_path: Path, by_header: bool
) -> None:
    venue = fresh("desk")
    text = (EXAMPLES / "nested_book.toml").read_text()
    assert 'field = "$.meta.instrument.code"' in text
    if by_header:
        text = text.replace('field = "$.meta.instrument.code"', 'header = "instrument"')
    (tmp_path / "desk.toml").write_text(text)
    (tmp_path / "feed.toml").write_text(
        f'[kafka]\ngroup = "group.{venue}"\n[normalize]\nvenues = ["{venue}"]\n'
        f'[venues.{venue}]\nformat = "mapped"\nmapping = "desk.toml"\n'
    )
    full, delta, halt, _ = (EXAMPLES / "nested_book.jsonl").read_bytes().splitlines()
    producer = Producer({"bootstrap.servers": kafka})

    def send(*values: bytes) -> None:
        for number, value in enumerate(values):
            # keys that say nothing, in one partition
            headers = [("instrument", b"EUR-6M")]
            producer.produce(f"ticks.{venue}", key=f"order-{number}", value=value, partition=0, headers=headers)
        assert producer.flush(30) == 0

    command = [*FEED, "up", "--kafka", kafka, "--port", "0"]
    with running(*command, cwd=tmp_path) as up, subscribed(up, "*", ["book", "status"]) as told:
        send(full, halt)
        state = holds(told(lambda messages: len(holds(messages)) == 2))
        assert state["book"]["bids"] == {"-0.125": "5000000", "-0.13": "2000000"}
        assert state["status"] == {"action": "halt", "reason": "limit"}
    with running(*FEED, "map", "sample", venue, "--kafka", kafka, cwd=tmp_path) as sampled:
        assert sampled.wait() == 0, sampled.err
    assert sampled.out == [f"order-{number}\t{value.decode()}" for number, value in enumerate((full, halt))]
    with running(*FEED, "map", "sample", f"{venue}-none", "--kafka", kafka, cwd=tmp_path) as missing:
        assert missing.wait() == 2
    with running(*command, cwd=tmp_path) as up, subscribed(up, "*", ["book"]) as told:
        send(delta)
        state = holds(told(lambda messages: "-0.125" not in holds(messages).get("book", {"bids": ["-0.125"]})["bids"]))
    assert state["book"] == {"bids": {"-0.13": "2000000"}, "asks": {"-0.12": "1000000", "-0.115": "3000000"}}
