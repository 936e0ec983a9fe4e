"""Every update that a client had coming is delivered, in a gap or to come: as the gateway tells, as clients count.

A client that takes all, one that reads slowly and one that does not read at all, on a gateway that keeps little.
"""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from feed.channels.hub import Hub, HubSettings
from feed.runtime.settings import LimitSettings, ServeSettings
from feed.wire.model import Trade
from tests.gateways import Running
from tests.integration.test_gateway import get, messages, subscribe, until
from tests.market import OTHER, SYMBOL, Market
from tests.raw_client import PING, PONG, TEXT, RawClient, frame

TICKS = 1500
BIG = [Trade("1", "2", "buy", "x" * 500, None)] * 14
"""8 KiB"""
SUMS = ("delivered", "merged", "gapped", "left", "pending")


class Reading(threading.Thread):
    """A client that reads a piece every `pause` seconds, and counts."""

    def __init__(self, client: RawClient, pause: float) -> None:
        super().__init__(daemon=True)
        self.client = client
        self.pause = pause
        self.updates = self.gapped = 0
        self.seq = 0

    def run(self) -> None:
        while (found := self.client.frame()) is not None:
            if found.opcode == PING:
                self.client.send(frame(PONG, found.payload))
            if found.opcode != TEXT:
                continue
            for message in json.loads(found.payload):
                if message["type"] == "update":
                    self.updates += 1
                if message["type"] == "gap":
                    self.gapped += message["count"]
                if message["type"] in ("update", "gap") and message["symbol"] == SYMBOL:
                    self.seq = message["seq"]
            time.sleep(self.pause)


@pytest.fixture
def running() -> Iterator[Running]:
    """A gateway that keeps 400 KB, and drops a client that takes nothing in a second or two."""
    limits = LimitSettings(write_bytes_max=128 * 1024)  # what is kept is little, and the fast client is to have all
    settings = ServeSettings(port=0, heartbeat_ms=250, ping_interval_ms=2000, client_addresses=True, limits=limits)
    with Running(settings, hub=Hub(HubSettings(resume_window_bytes_max=400_000))) as found:
        yield found


def clients_of(running: Running) -> dict[int, Any]:
    """What `/v1/clients` tells, by the client's port."""
    told = json.loads(get(running, "/v1/clients")[1])
    assert told["total"] >= len(told["clients"])
    return {int(client["address"].rpartition(":")[2]): client for client in told["clients"]}


def totals(running: Running) -> dict[str, float]:
    """The counter of updates on `/metrics`, by outcome."""
    families = text_string_to_metric_families(get(running, "/metrics")[1])
    return {
        sample.labels["outcome"]: sample.value
        for family in families
        for sample in family.samples
        if sample.name == "feed_gateway_updates_total"
    }


def opened(running: Running, **how: Any) -> RawClient:
    """A client with both symbols' trades, of which one never changes."""
    client = RawClient(running.port, **how).open()
    subscribe(client, ["trades"], [SYMBOL, OTHER])
    until(client, "snapshot", 2)
    return client


@pytest.mark.slow
def test_a_stalled_a_slow_and_a_fast_client(running: Running, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "feed.gateway")
    market = Market(running)
    market.open()
    fast = Reading(opened(running), 0.0)
    slow = Reading(opened(running, receive_buffer=8192), 0.01)
    stalled = opened(running, receive_buffer=4096)
    ports = [client.socket.getsockname()[1] for client in (fast.client, slow.client, stalled)]
    began = time.monotonic()
    fast.start()
    slow.start()
    for number in range(TICKS):
        market.tick("trades", SYMBOL, BIG)
        if number % 50 == 49:
            market.keyframe()
    found = clients_of(running)
    for port in ports:
        if port in found:
            assert found[port]["updates"] == sum(found[port][name] for name in SUMS)
            assert found[port]["channels"] == 2
    assert running.wait_until(lambda: running.gateway.counts.dropped.of("stalled").value == 1, 6)
    assert time.monotonic() - began < 8
    assert running.wait_until(lambda: running.gateway.distributor.behind == 0, 30)
    found = clients_of(running)
    assert sorted(found) == sorted(ports[:2])
    assert running.wait_until(lambda: fast.seq == slow.seq == market.prev["trades", SYMBOL], 10)
    for port, client in zip(ports, (fast, slow), strict=False):
        told = found[port]
        assert told["updates"] == TICKS
        assert (told["delivered"], told["gapped"]) == (client.updates, client.gapped)
        assert (told["merged"], told["left"], told["pending"]) == (0, 0, 0)
        assert told["in_step"]
    assert found[ports[0]]["gapped"] == 0
    assert found[ports[1]]["gapped"] > 0
    assert found[ports[1]]["gaps"] >= 1
    # the third one's numbers are in the log, and all of them in the sums
    sums = totals(running)
    assert sum(sums.values()) == 2 * TICKS + of_the_stalled(caplog)
    assert sums["gapped"] == slow.gapped
    assert sums["left"] > 0
    stalled.socket.close()
    for client in (fast, slow):
        client.client.socket.shutdown(socket.SHUT_RDWR)
        client.join()
        client.client.socket.close()


def of_the_stalled(caplog: pytest.LogCaptureFixture) -> int:
    """How many updates the log says the dropped client had coming; of them some were delivered, the rest left."""
    lines = [record for record in caplog.records if "was dropped, stalled" in record.getMessage()]
    assert len(lines) == 1
    _, _, _, every, delivered, merged, gapped, _, left = lines[0].args  # type: ignore[misc]
    assert every == delivered + merged + gapped + left  # type: ignore[operator]
    assert left > 0  # type: ignore[operator]
    return int(every)  # type: ignore[call-overload, no-any-return]


def test_what_is_unsubscribed_before_it_was_sent_is_left(running: Running) -> None:
    market = Market(running)
    market.open()
    with opened(running, receive_buffer=4096) as client:
        for _ in range(100):
            market.tick("trades", SYMBOL, BIG)
        assert running.do(lambda: running.gateway.distributor.behind) == 1
        port = client.socket.getsockname()[1]
        assert clients_of(running)[port]["pending"] > 0
        client.send(frame(TEXT, b'{"op":"unsubscribe","id":2}'))
        updates = 0
        while True:
            found = client.frame()
            if found is not None and found.opcode == TEXT:
                seen = messages(found)
                updates += sum(message["type"] == "update" for message in seen)
                if any(message["type"] == "ack" for message in seen):
                    break
        assert running.wait_until(lambda: running.gateway.distributor.behind == 0)
        told = clients_of(running)[port]
    assert told["channels"] == told["pending"] == 0
    assert told["updates"] == 100 == told["delivered"] + told["left"]
    assert told["delivered"] == updates


@pytest.mark.slow
def test_stalled_clients_cost_at_most_256_kib_each() -> None:
    """Of the process; what its kernel holds of a socket is bounded beside it (`kernel_unsent_bytes_max`)."""
    count = 100
    settings = ServeSettings(port=0, heartbeat_ms=60_000, ping_interval_ms=600_000)
    with Running(settings, hub=Hub(HubSettings(resume_window_bytes_max=8 << 20))) as running:
        market = Market(running)
        market.open()
        with opened(running) as warm:
            for number in range(1500):
                market.tick("trades", SYMBOL, BIG)
                if number % 100 == 99:
                    market.keyframe()
                    while (found := warm.frame()) is not None and b'"seq":%d' % market.prev["trades", SYMBOL] not in (
                        found.payload
                    ):
                        pass
            stalled = [opened(running, receive_buffer=4096) for _ in range(count)]
            before = psutil.Process().memory_info().rss
            for number in range(1500):
                market.tick("trades", SYMBOL, BIG)
                if number % 10 == 9:
                    running.shown()
                if number % 100 == 99:
                    market.keyframe()
            assert running.do(lambda: running.gateway.distributor.behind) >= count
            each = (psutil.Process().memory_info().rss - before) / count
            held = running.do(
                lambda: max(peer.transport.get_write_buffer_size() for peer in running.gateway.connections)
            )
        for client in stalled:
            client.socket.close()
    print(f"{each / 1024:.0f} KiB a stalled client, at most {held / 1024:.0f} KiB in its transport")
    assert each < 256 * 1024
    assert held < 512 * 1024
