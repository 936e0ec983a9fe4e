"""Captures through the normalizer's machine and the hub: the gateway folds the normalizer's keyframes, to the byte."""

from __future__ import annotations

import json
import random
from pathlib import Path

import msgspec
import pytest

from feed.channels.distributor import Distributor
from feed.channels.hub import Hub, HubSettings
from feed.channels.steps import whole
from feed.errors import BadTick
from feed.protocol.session import Session, SessionSettings
from feed.venues.source import Source
from feed.venues.symbol import Rules
from feed.venues.table import venue
from feed.wire.model import Snapshot
from tests.feed.venues.playing import BIG, CAPTURES, captured, ticks
from tests.reference_client import Client, payloads

BATCH = 4
COMPARISONS = 40


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(CAPTURES) - BIG))
def test_folds_are_the_normalizers_keyframes(data_dir: Path, name: str) -> None:
    chooser = random.Random(name)
    machine = Source(venue(CAPTURES[name].venue), "x/0@a", Rules())
    hub = Hub(HubSettings())
    distributor = Distributor(hub)
    session = Session(distributor, None, SessionSettings())
    client = Client()

    def take(frames: bytes) -> None:
        for payload in payloads(frames):
            client.receive(payload)

    take(session.open(1))
    request = client.ask({"op": "subscribe", "channels": ["trades", "quotes", "book", "bars"], "symbols": ["*"]})
    take(session.receive(request, 1))
    compared = 0
    pos = -1

    def read(last: int) -> None:
        hub.data("x/0@a", pos, last, msgspec.json.encode(machine.take()), last)
        if distributor.flush(last):
            for buffer, _ in distributor.fan_out():
                take(buffer)

    made = ticks(name, captured(data_dir, name))
    for number, tick in enumerate(made):
        try:
            machine.apply(tick)
        except BadTick:
            continue
        if number % BATCH:
            continue
        read(tick.seq)
        pos = tick.seq
        if chooser.random() < COMPARISONS * BATCH / len(made):
            compared += compare(machine, hub, client)
    read(tick.seq)
    assert compared > 5 or len(machine) == 1
    assert compare(machine, hub, client)


def compare(machine: Source, hub: Hub, client: Client) -> int:
    """Compares every channel of every symbol; how many."""
    compared = 0
    for venue_symbol in machine:
        for snapshot in machine.keyframe(venue_symbol):
            if not isinstance(snapshot, Snapshot) or snapshot.seq == -1 or snapshot.part is not msgspec.UNSET:
                continue
            held = whole(hub.snapshot(snapshot.channel, snapshot.symbol))
            assert held is not None
            assert held[0] == msgspec.json.encode(snapshot)
            compared += 1
            if snapshot.channel == "book":
                data = json.loads(msgspec.json.encode(snapshot.data))
                assert client.channel("book", snapshot.symbol).book() == (dict(data["bids"]), dict(data["asks"]))
    return compared
