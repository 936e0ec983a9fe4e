"""Every capture through everything: published to a real Kafka, normalized, served, and held by WebSocket clients.

The clients apply the client's rule and nothing else; what they hold in the end is what an independent oracle found in
the captures, to the last digit. What a recorder beside them writes has the hash of what a client was sent.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from feed.recording.recording import RecordingFiles
from feed.run.tail import Hashing
from feed.runtime.command import run
from feed.venues.table import venue as venue_named
from feed.wire.model import KINDS as ALL_KINDS
from replay.cli import app
from tests.feed.venues.playing import BIG, CAPTURES
from tests.hashed_client import HashedClient
from tests.integration.stage import DEADLINE_S, Key, Stage, Viewer, joined, lines_of, seeded
from tests.reference_client import Broken, Channel, Client

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

KINDS = ("trades", "quotes", "book")
VENUES = ("binance", "binance-usdm", "binance-coinm", "kraken", "coinbase")
JOINERS = 100
# feed/venues/README.md: Binance everything, Coinbase all but changes of a book, Kraken nothing of what is captured
IDENTIFIED = {
    "binance": KINDS,
    "binance-usdm": KINDS,
    "binance-coinm": KINDS,
    "coinbase": ("trades", "quotes"),
    "kraken": (),
}


class Publication:
    """Captures of one venue that go out together, because they are of the same symbols."""

    def __init__(self, *names: str, speed: str) -> None:
        self.names = names
        self.speed = speed
        self.venue = CAPTURES[names[0]].venue
        self.files = [file for name in names for file in CAPTURES[name].files]
        self.symbol = CAPTURES[names[0]].symbol


# the long ones take six minutes, the others half of one: so all of them take some fifteen seconds
PUBLICATIONS = [
    *(Publication(name, speed="20") for name in CAPTURES if name in BIG),
    *(Publication(name, speed="2") for name in CAPTURES if name not in BIG and "kraken/v1" not in name),
    Publication(*(name for name in CAPTURES if "kraken/v1" in name), speed="2"),
]


def facts_of(data_dir: Path) -> dict[str, dict[str, Any]]:
    """What the oracle says, by the feed's symbol: the facts of all captures of a symbol."""
    facts = msgspec.json.decode((data_dir / "facts.json").read_bytes())
    found: dict[str, dict[str, Any]] = {}
    for name, capture in CAPTURES.items():
        for symbol, fact in facts[name]["symbols"].items():
            found.setdefault(f"{venue_named(capture.venue).prefix}:{symbol}", {}).update(
                {kind: fact[kind] for kind in ("trades", "quotes", "book") if kind in fact}
            )
    return found


def ends_of(facts: dict[str, dict[str, Any]], times: int) -> Counter[Key]:
    """How many trades, quotes and updates of books each channel ends with, where every tick came so many times."""
    ends: Counter[Key] = Counter()
    for symbol, fact in facts.items():
        venue = symbol.partition(":")[0].lower()
        for kind in fact:
            factor = 1 if kind in IDENTIFIED[venue] else times
            if kind == "book":
                # diffs that were kept for the snapshot go out with it
                kept = max(0, fact[kind]["updates_before_snapshot"] - fact[kind]["stale_updates_dropped"])
                ends[kind, symbol] = factor * (fact[kind]["snapshots"] + fact[kind]["updates"] - kept)
            elif fact[kind]["count"]:
                ends[kind, symbol] = factor * fact[kind]["count"]
    return ends


def lacking(client: Client, ends: Counter[Key]) -> dict[Key, tuple[int, int]]:
    """What a client has not got yet: how many, and how many it shall have."""
    counts = {key: had(client.channels[key]) if key in client.channels else 0 for key in ends}
    return {key: (count, ends[key]) for key, count in counts.items() if count < ends[key]}


def had(channel: Channel) -> int:
    """How many trades, or updates of another kind, a client has applied."""
    return len(channel.data or ()) if channel.kind == "trades" else len(channel.applied)


def check_against_facts(client: Client, facts: dict[str, dict[str, Any]], ends: Counter[Key], times: int) -> None:
    """The client holds what the oracle found, no more and no less."""
    for symbol, fact in facts.items():
        factor = 1 if "trades" in IDENTIFIED[symbol.partition(":")[0].lower()] else times
        for kind in fact:
            channel = client.channels.get((kind, symbol))
            if not ends[kind, symbol]:
                continue
            assert channel is not None
            assert had(channel) == ends[kind, symbol], channel
            assert channel.gaps == []
            assert channel.state[1] == "ok"
            if kind == "trades":
                check_trades(channel.data, fact[kind], factor)
            elif kind == "book":
                assert book_sha256(*channel.book()) == fact[kind]["book_sha256"], channel
            else:
                last = fact[kind]["last"]
                wanted = [last["bid"], last["bid_size"], last["ask"], last["ask_size"]]
                assert [channel.data[name] for name in ("bid_price", "bid_size", "ask_price", "ask_size")] == wanted
    applied = {key for key, channel in client.channels.items() if channel.applied and key[0] in KINDS}
    assert applied == {key for key in ends if ends[key]}


def check_trades(trades: list[dict[str, Any]], fact: dict[str, Any], factor: int) -> None:
    """Counts and exact sums, by side."""
    sizes = [Decimal(trade["size"]) for trade in trades]
    assert sum(sizes) == factor * Decimal(fact["volume"])
    notional = sum(Decimal(trade["price"]) * Decimal(trade["size"]) for trade in trades)
    assert notional == factor * Decimal(fact["notional"])
    for side in ("buy", "sell"):
        made = [size for size, trade in zip(sizes, trades, strict=True) if trade["side"] == side]
        wanted = fact["by_side"].get(side, {"count": 0, "volume": "0"})
        assert (len(made), sum(made)) == (factor * wanted["count"], factor * Decimal(wanted["volume"]))


def book_sha256(bids: dict[str, str], asks: dict[str, str]) -> str:
    """The hash that facts.json has of a whole book."""
    digest = hashlib.sha256()
    for letter, side, highest_first in (("b", bids, True), ("a", asks, False)):
        for price in sorted(side, key=Decimal, reverse=highest_first):
            digest.update(f"{letter} {price} {side[price]}\n".encode())
    return digest.hexdigest()


def short(sides: tuple[dict[str, str], dict[str, str]]) -> tuple[int, ...]:
    """A book as numbers that are equal where it is equal."""
    return tuple(number for side in sides for number in (len(side), hash(frozenset(side.items()))))


def check_joiners(first: Client, joiners: list[dict[Key, tuple[int, tuple[int, ...]]]]) -> int:
    """Each book of each late joiner is the one that the client that was there from the start had at the same `seq`;
    gives how many were compared."""
    compared = 0
    for key, channel in first.channels.items():
        wanted = sorted({joiner[key][0] for joiner in joiners if key in joiner and joiner[key][0] != -1})
        books: dict[int, tuple[int, ...]] = {}
        again = Channel(*key)
        again.open = True
        for raw in channel.applied if wanted else ():
            message = msgspec.json.decode(raw)
            again.update(message, raw)
            if wanted and again.pos == wanted[0]:
                books[wanted.pop(0)] = short(again.book())
        if wanted:
            raise Broken(f"{channel}: a joiner stood at {wanted[0]}, where the first client never was")
        for joiner in joiners:
            seq, book = joiner.get(key, (-1, ()))
            if seq != -1:
                compared += 1
                if books[seq] != book:
                    raise Broken(f"{channel}: a joiner's book at {seq} is another")
    return compared


async def recorded(root: Path, client: Client) -> None:
    """Waits until everything that a client has is in a recording."""
    wanted: dict[str, int] = {}
    for channel in client.channels.values():
        if channel.source is not None:
            wanted[channel.source] = max(wanted.get(channel.source, -1), channel.pos)
    async with asyncio.timeout(DEADLINE_S):
        while True:
            recording = RecordingFiles(str(root))
            found = recording.positions
            recording.close()
            if all(source in found and found[source].tick >= seq for source, seq in wanted.items()):
                return
            await asyncio.sleep(0.2)


async def test_all_captures_arrive_as_the_facts_say_for_late_joiners_too_and_are_recorded_as_sent(
    kafka: str, data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chance = seeded(31)
    facts = facts_of(data_dir)
    ends = ends_of(facts, 1)
    root = tmp_path / "recordings"
    viewer, client = Viewer(lambda: url, ALL_KINDS), HashedClient()
    viewer.client = client
    async with (
        Stage(kafka, tmp_path, VENUES, partitions=2) as stage,
        stage.up() as url,
        stage.running("record", "--to", str(root), "--json") as recorder,
        viewer as first,
    ):
        await first.answered()
        await asyncio.to_thread(recorder.said, '"commits":[1-9]', lines=recorder.out, timeout_s=DEADLINE_S)
        publishing = [
            asyncio.create_task(
                stage.publish(one.venue, *(data_dir / file for file in one.files), speed=one.speed, symbol=one.symbol)
            )
            for one in PUBLICATIONS
        ]
        await first.until(lambda: len(first.channels) > 10, "channels")
        joiners = []
        moments = asyncio.get_running_loop().time()
        for _ in range(JOINERS):
            moments += chance.random() * 0.2
            await asyncio.sleep(max(0.0, moments - asyncio.get_running_loop().time()))
            pattern = f"{venue_named(chance.choice(VENUES)).prefix}:*"
            late = await joined(url, ["book"], [pattern], stay_s=chance.random() * 0.05)
            joiners.append({key: (one.pos, short(one.book())) for key, one in late.channels.items()})
        await asyncio.gather(*publishing)
        await first.until(lambda: not lacking(first.client, ends), lambda: f"{lacking(first.client, ends)} left")
        await recorded(root, client)
        assert await asyncio.to_thread(recorder.end, timeout_s=DEADLINE_S) == 0
    check_hashes(root, client.hashing, capsys)
    check_against_facts(first.client, facts, ends, 1)
    assert check_joiners(first.client, joiners) > 2 * JOINERS
    positions = {joiner[key][0] for joiner in joiners for key in joiner}
    assert len(positions) > JOINERS // 4  # on a slow machine many join at the same one


def check_hashes(root: Path, live: Hashing, capsys: pytest.CaptureFixture[str]) -> None:
    """`replay print --hash` says of a recording what a client says of the stream."""
    capsys.readouterr()
    live.say()
    wanted = capsys.readouterr().out.splitlines()
    assert run(app, ["print", str(root), "--hash"]) == 0
    assert capsys.readouterr().out.splitlines() == wanted
    assert len(wanted) > 70


async def test_ticks_sent_twice_are_known_where_the_venue_gives_identity(
    kafka: str, data_dir: Path, tmp_path: Path
) -> None:
    facts = facts_of(data_dir)
    ends = ends_of(facts, 2)
    async with (
        Stage(kafka, tmp_path, VENUES, partitions=2) as stage,
        stage.up() as url,
        Viewer(lambda: url, KINDS) as first,
    ):
        await first.answered()
        await asyncio.gather(
            *(
                stage.publish(
                    one.venue, *(_doubled(data_dir / file, tmp_path) for file in one.files), symbol=one.symbol
                )
                for one in PUBLICATIONS
            )
        )
        await first.until(lambda: not lacking(first.client, ends), lambda: f"{lacking(first.client, ends)} left")
    check_against_facts(first.client, facts, ends, 2)


def _doubled(file: Path, folder: Path) -> Path:
    """A copy of a capture in which every line stands twice."""
    copy = folder / f"twice-{file.name}"
    data = b"".join(line + b"\n" + line + b"\n" for line in lines_of(file))
    copy.write_bytes(gzip.compress(data, 1) if file.suffix == ".gz" else data)
    return copy


# ---- tests of the tests


@pytest.mark.parametrize("fault", ["an update left out", "a joiner's level"])
def test_the_check_of_joiners_sees(fault: str) -> None:
    first, late = Client(), Channel("book", "X:A")
    channel = first.channels["book", "X:A"] = Channel("book", "X:A")
    late.open = channel.open = True
    for seq in range(5):
        data = {"bids": [[str(seq + 1), "1"]], "asks": []}
        raw = msgspec.json.encode({"prev": seq - 1, "seq": seq, "data": data})
        if not (fault == "an update left out" and seq == 3):
            late.update(msgspec.json.decode(raw) | {"prev": late.pos}, raw)
        channel.update(msgspec.json.decode(raw), raw)
    joiner = {("book", "X:A"): (late.pos, short(late.book()))}
    if fault == "a joiner's level":
        late.book()[0]["1"] = "2"
        joiner = {("book", "X:A"): (late.pos, short(late.book()))}
    with pytest.raises(Broken):
        check_joiners(first, [joiner])
