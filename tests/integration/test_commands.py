"""The commands together, as a person runs them: demo; up, publish and tail on a real Kafka."""

from __future__ import annotations

import json
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from websockets.sync.client import connect

from tests.integration.commands import FEED, REPLAY, running

pytestmark = pytest.mark.slow

EVERYTHING = {"op": "subscribe", "id": 1, "channels": ["trades", "quotes", "book"], "symbols": ["*"]}
SYMBOLS_OF_DEMO = 8


def test_the_demo_shows_its_first_updates_within_ten_seconds_and_ends_by_itself(tmp_path: Path) -> None:
    began = time.monotonic()
    with running(*FEED, "demo", "--port", "0", "--seconds", "14", cwd=tmp_path) as demo:
        url = demo.said(r"ws://\S+")[0]
        updated: dict[str, set[str]] = {"trades": set(), "quotes": set(), "book": set()}
        with connect(url) as client:
            client.send(json.dumps(EVERYTHING))
            while not all(updated.values()) or len(updated["book"]) < SYMBOLS_OF_DEMO:
                for message in json.loads(client.recv(timeout=10)):
                    assert message.get("state") != "stale", message
                    if message["type"] == "update":
                        assert updated["book"] or time.monotonic() - began < 10
                        updated[message["channel"]].add(message["symbol"])
        with connect(url) as client:
            client.send(json.dumps(EVERYTHING))
            books: set[str] = set()
            while len(books) < SYMBOLS_OF_DEMO:
                for message in json.loads(client.recv(timeout=10)):
                    assert message["type"] != "gap", message
                    if message["type"] == "snapshot" and message["channel"] == "book":
                        books.add(message["symbol"])
        assert demo.wait() == 0
    assert {symbol.partition(":")[0] for symbol in books} == {"BINANCE", "KRAKEN", "COINBASE"}
    assert any("ticks/s" in line for line in demo.err)
    assert "0 could not be read" in demo.err[-1]
    assert demo.out == []


def test_the_demo_ends_at_ctrl_c_without_a_traceback(tmp_path: Path) -> None:
    with running(*FEED, "demo", "--port", "0", cwd=tmp_path) as demo:
        demo.said("ticks/s")
        assert demo.end(signal.SIGINT) == 0
    assert not any("Traceback" in line for line in demo.err)


def test_a_port_in_use_is_said_in_one_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        with running(*FEED, "demo", "--port", port, cwd=tmp_path) as demo:
            assert demo.wait() == 1
        with running(*FEED, "up", "--kafka", "127.0.0.1:1", "--port", port, cwd=tmp_path) as up:
            assert up.wait() == 1
    assert demo.err == up.err == [f"error: port {port} of 127.0.0.1 is in use; another one with --port"]


def test_what_is_published_comes_out_at_the_tail_and_the_roles_end_cleanly(
    kafka: str, fresh: Callable[[str], str], tmp_path: Path
) -> None:
    venue = fresh("desk")
    ticks = tmp_path / "ticks.ndjson"
    ticks.write_text("".join(f"{json.dumps(_trade(number))}\n" for number in range(1, 301)))
    with running(*FEED, "up", "--kafka", kafka, "--venues", venue, "--port", "0", cwd=tmp_path) as up:
        url = up.said(r"ws://\S+")[0]
        publish = [*REPLAY, "publish", str(ticks), "--venue", venue, "--kafka", kafka]
        with connect(url) as client:
            client.send(json.dumps({**EVERYTHING, "channels": ["trades"], "symbols": [f"{venue.upper()}:*"]}))
            with running(*publish, "--speed", "max", cwd=tmp_path) as published:
                assert published.wait() == 0
            # who comes before the first update is sent updates, and no snapshot
            while '"trade_id":"300"' not in str(client.recv(timeout=20)):
                pass
        assert "published 300 frames as 300 ticks" in published.err[-1]
        with running(*FEED, "tail", "trades", f"{venue.upper()}:*", "--url", url, "--json", cwd=tmp_path) as tail:
            tail.said('"type":"snapshot"', lines=tail.out)
            with running(*publish, "--speed", "max", cwd=tmp_path) as again:
                assert again.wait() == 0
            assert tail.end(signal.SIGINT) == 0
        assert up.end(signal.SIGTERM) == 0
    assert not any("Traceback" in line for line in (*up.err, *tail.err, *published.err))
    snapshot = json.loads(tail.out[0])
    assert snapshot["symbol"] == f"{venue.upper()}:AAPL"
    assert [trade["trade_id"] for trade in snapshot["data"]][-1] == "300"


def test_recorded_pace_takes_as_long_as_it_took(kafka: str, fresh: Callable[[str], str], tmp_path: Path) -> None:
    ticks = tmp_path / "ticks.ndjson"
    lines = [json.dumps({"rx_ns": number * 100_000_000, "frame": _trade(number)}) for number in range(1, 21)]
    ticks.write_text("\n".join(lines))
    command = [*REPLAY, "publish", str(ticks), "--venue", fresh("desk"), "--kafka", kafka]
    for speed, least, most in (("1", 1.9, 4.0), ("10", 0.19, 1.5)):
        with running(*command, "--speed", speed, cwd=tmp_path) as published:
            assert published.wait() == 0
        took = float(published.said(r"in ([\d.]+) s")[1])
        assert least <= took <= most


def _trade(number: int) -> dict[str, object]:
    """A canonical tick."""
    ts = str(1_700_000_000_000_000_000 + number)
    trade = {"price": "10.5", "size": "1", "side": "buy", "trade_id": str(number), "ts_event": ts}
    return {"symbol": "AAPL", "ts_event": ts, "channel": "trades", "data": [trade]}
