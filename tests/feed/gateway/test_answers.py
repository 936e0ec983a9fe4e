"""Large answers: made once for all who ask meanwhile, and in slices of time."""

from __future__ import annotations

import asyncio
import json

import pytest

from feed.gateway import answers
from feed.gateway.answers import Made, SharedAnswers, Slices
from feed.wire.model import Book
from tests.gateways import Running
from tests.integration.test_gateway import get, subscribe, until
from tests.market import OTHER, SYMBOL, Market
from tests.raw_client import RawClient


def test_an_answer_is_made_once_as_long_as_its_stamp_holds() -> None:
    made = Made()
    calls: list[str] = []

    def make(text: str) -> bytes:
        calls.append(text)
        return text.encode()

    assert [made.of("a", 1, lambda: make("a")) for _ in range(3)] == [b"a"] * 3
    assert made.of("b", 1, lambda: make("b")) == b"b"
    assert calls == ["a", "b"]
    assert made.of("a", 2, lambda: make("A")) == b"A"
    assert made.of("b", 2, lambda: make("")) == b""
    assert made.of("b", 2, lambda: make("B")) == b"B"


def test_no_more_than_some_megabytes_are_kept() -> None:
    made = Made()
    for number in range(100):
        made.of(number, 1, lambda: bytes(1 << 20))
    assert len(made._kept) <= 9


@pytest.mark.anyio
async def test_who_asks_while_it_is_made_gets_the_same() -> None:
    together, going, made = SharedAnswers(), asyncio.Event(), 0

    async def make() -> int:
        nonlocal made
        made += 1
        await going.wait()
        return made

    asking = [asyncio.create_task(together.of("a", make)) for _ in range(3)]
    await asyncio.sleep(0)
    asking.pop().cancel()  # one that goes away takes nothing from the others
    going.set()
    assert await asyncio.gather(*asking) == [1, 1]
    assert await together.of("a", make) == 2


@pytest.mark.anyio
async def test_what_was_begun_before_a_change_is_not_kept_as_what_holds_after_it() -> None:
    made = Made()
    goes_on = asyncio.Event()

    async def make(text: bytes) -> bytes:
        await goes_on.wait()
        return text

    first = asyncio.create_task(made.later("a", 1, lambda: make(b"old")))
    await asyncio.sleep(0)
    second = asyncio.create_task(made.later("a", 2, lambda: make(b"new")))
    await asyncio.sleep(0)
    goes_on.set()
    assert await asyncio.gather(first, second) == [b"old", b"new"]
    assert await made.later("a", 2, lambda: make(b"newer")) == b"new"


@pytest.mark.anyio
async def test_a_slice_is_some_milliseconds(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 10.0
    monkeypatch.setattr(answers, "perf_counter", lambda: now)
    slices = Slices()
    assert not slices.over
    now += 0.005
    assert slices.over
    await slices.rest()
    assert not slices.over


def test_symbols_and_snapshots_are_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with Running() as running:
        market = Market(running)
        market.open()
        hub = running.gateway.hub
        calls: list[str] = []
        symbols, snapshot = hub.symbols, hub.snapshot
        monkeypatch.setattr(hub, "symbols", lambda: calls.append("symbols") or symbols())
        monkeypatch.setattr(hub, "snapshot", lambda *of: calls.append("snapshot") or snapshot(*of))
        first = [get(running, "/v1/symbols") for _ in range(3)]
        assert [row["symbol"] for row in json.loads(first[0][1])] == sorted([SYMBOL, OTHER])
        assert len(set(first)) == 1
        states = [get(running, f"/v1/snapshot/trades/{SYMBOL}") for _ in range(3)]
        assert calls == ["symbols", "snapshot"]
        assert get(running, "/v1/snapshot/trades/NO:NE")[0] == 404
        # what is asked after a change shows it
        market.prev["bars", SYMBOL] = -1
        market.tick("bars", SYMBOL, [])
        running.shown()
        assert "bars" in get(running, "/v1/symbols")[1]
        assert get(running, f"/v1/snapshot/trades/{SYMBOL}")[1] == states[0][1]
        assert calls == ["symbols", "snapshot", "snapshot", "symbols", "snapshot"]


def test_a_large_snapshot_is_made_in_slices_once_for_all_who_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    rests = 0
    rest = Slices.rest

    async def rested(self: Slices) -> None:
        nonlocal rests
        rests += 1
        await rest(self)

    monkeypatch.setattr(Slices, "over", True)
    monkeypatch.setattr(Slices, "rest", rested)
    with Running() as running:
        market = Market(running)
        market.open()
        path = f"/v1/snapshot/book/{SYMBOL}"
        levels = [(f"{number}.5", "1.123456789") for number in range(40_000, 0, -1)]
        market.prev["book", SYMBOL] = -1
        market.tick("book", SYMBOL, Book(levels[:20_000], []))
        market.tick("book", SYMBOL, Book(levels[20_000:], []))
        running.shown()
        found = json.loads(get(running, path)[1])
        assert sum(len(part["data"]["bids"]) for part in found) == 40_000
        assert rests > 8


def test_clients_are_told_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    rests = 0

    async def rest(self: Slices) -> None:
        nonlocal rests
        rests += 1

    monkeypatch.setattr(Slices, "over", True)
    monkeypatch.setattr(Slices, "rest", rest)
    with Running() as running:
        Market(running).open()
        clients = [RawClient(running.port).open() for _ in range(5)]
        for client in clients:
            subscribe(client, ["trades"], ["*"])
            until(client, "snapshot", 2)
        assert len(json.loads(get(running, "/v1/clients?limit=3")[1])["clients"]) == 3
        assert rests == 5 + 3
        for client in clients:
            client.socket.close()
