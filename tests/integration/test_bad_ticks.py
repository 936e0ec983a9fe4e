"""Bad ticks of every venue on a real broker: each becomes one dead letter, and everything else goes on.

Between the ticks of captures stand ticks that nobody can use: no bytes at all, one, ten million of noise, bad UTF-8,
JSON that is too deep, and copies of the next good tick with a number that is none, that has the wrong type or sign, or
with a receive time of another century. What comes out is what the good ticks alone would have made; a book of which an
entry was bad is stale, and as it was before that.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import pytest
from aiokafka.structs import TopicPartition
from msgspec.structs import replace

from feed.kafka.cluster import Raw
from feed.venues.symbol import Tick
from tests.feed.venues.playing import CAPTURES, captured, play, ticks
from tests.integration.stage import Stage, Viewer, check_exact, said
from tests.reference_client import Client

pytestmark = pytest.mark.slow

NOISE_BYTES: Final = 10 << 20
LETTER_BYTES_MAX: Final = 64 << 10
FAR_AHEAD_NS: Final = 4_000_000_000 * 1_000_000_000


class Place(NamedTuple):
    """Where ticks of one form have a price and a size; both are texts or both are numbers of JSON."""

    capture: str
    numbers: re.Pattern[bytes]
    ticks_max: int | None = None

    @property
    def venue(self) -> str:
        return CAPTURES[self.capture].venue


TEXT: Final = rb'("[0-9.]+")'
PLACES: Final = {
    "binance diff": Place("binance/spot_multi_20211011", re.compile(rb'"[ba]":\[\[%b,%b\]' % (TEXT, TEXT))),
    "binance-usdm trade": Place("binance/usdm_multi_20210722", re.compile(rb'"p":%b,"q":%b' % (TEXT, TEXT))),
    "binance-usdm diff": Place("binance/usdm_multi_20210722", re.compile(rb'"[ba]":\[\[%b,%b\]' % (TEXT, TEXT))),
    "binance-coinm trade": Place(
        "binance/coinm_btcusd_perp_20240808", re.compile(rb'"p":%b,"q":%b' % (TEXT, TEXT)), 2000
    ),
    "kraken v1 book": Place("kraken/v1_5pairs_20210417.book", re.compile(rb'"[ba]":\[\[%b,%b,' % (TEXT, TEXT))),
    "kraken v1 trade": Place("kraken/v1_5pairs_20210417.trade", re.compile(rb"\[\[%b,%b," % (TEXT, TEXT))),
    "kraken v2 book": Place("kraken/v2_btcusd_d10_20260705", re.compile(rb'"price": ?([0-9.]+), ?"qty": ?([0-9.]+)')),
    "coinbase l2update": Place(
        "coinbase/exchange_5products_20210417", re.compile(rb'\["(?:buy|sell)",%b,%b\]' % (TEXT, TEXT)), 1500
    ),
    "coinbase match": Place(
        "coinbase/exchange_5products_20210417",
        re.compile(rb'"type":"match".*"size":%b,"price":%b' % (TEXT, TEXT)),
        1500,
    ),
    "coinbase advanced": Place(
        "coinbase/advanced_btcusd_l2_20260824",
        re.compile(rb'"price_level": ?%b, ?"new_quantity": ?%b' % (TEXT, TEXT)),
    ),
}
VENUES: Final = tuple(dict.fromkeys(place.venue for place in PLACES.values()))


def bad_values(good: bytes, numbers: re.Match[bytes], chance: random.Random) -> Iterator[bytes]:
    """Values that cannot be used, of which some are all but the good one."""
    yield b""
    yield b"x"
    yield good[:-1]
    yield b"[" * 200_000
    yield b'{"a":' * 50_000 + b"1" + b"}" * 50_000
    at = numbers.start(1) + 1
    yield good[:at] + b"\xff\xfe" + good[at:]
    quoted = good[numbers.start(1) : numbers.start(1) + 1] == b'"'
    for group in (1, 2):
        start, stop = numbers.span(group)
        texts = [b"NaN", b"-1", b"1e999", b"Infinity", b"0x10", b"9" * 30]
        for text in [b'"%b"' % text if quoted else text for text in texts] + [b"true", b"[]", b"{}", b"null"]:
            yield good[:start] + text + good[stop:]
    yield chance.randbytes(1000)


def bad_ticks(place: Place, good: list[Tick], chance: random.Random) -> dict[int, list[Tick]]:
    """Bad ticks by the number of the good one that they stand before: one that they were made of."""
    fits = [number for number, tick in enumerate(good) if tick.request is None and place.numbers.search(tick.value)]
    first = fits[len(fits) // 2]
    numbers = place.numbers.search(good[first].value)
    assert numbers is not None
    tick = good[first]
    made = [Tick(-1, tick.key, value, tick.ts_recv, 0) for value in bad_values(tick.value, numbers, chance)]
    made.append(Tick(-1, tick.key, tick.value, FAR_AHEAD_NS, 0))
    made.append(Tick(-1, "", b"junk without a key", tick.ts_recv, 0))
    return {first: made}


class Sent(NamedTuple):
    """What went to one venue: the good ticks by capture, the bad ones by their offset, and before which good one of a
    capture the first bad one of a symbol stands."""

    good: dict[str, list[Tick]]
    bad: dict[int, Tick]
    stale: dict[tuple[str, str], int]


async def send(stage: Stage, data_dir: Path, venue: str, chance: random.Random) -> Sent:
    """Sends the captures of a venue with the bad ticks among them."""
    sent = Sent({}, {}, {})
    offset = 0
    for capture in dict.fromkeys(place.capture for place in PLACES.values() if place.venue == venue):
        places = [place for place in PLACES.values() if place.capture == capture]
        good = ticks(capture, captured(data_dir, capture))[: places[0].ticks_max]
        if sent.good:  # captures of other years: a time that jumps by more than a week is not believed at once
            later_ns = max(tick.ts_recv for one in sent.good.values() for tick in one) - good[0].ts_recv
            good = [replace(tick, ts_recv=tick.ts_recv + later_ns) for tick in good]
        before: dict[int, list[Tick]] = {}
        for place in places:
            for number, bad in bad_ticks(place, good, chance).items():
                before.setdefault(number, []).extend(bad)
                # some of them do not say what they are, and may have been of the book
                where = capture, good[number].key
                sent.stale[where] = min(number, sent.stale.get(where, number))
        noise = next(iter(before))
        before[noise].append(Tick(-1, good[noise].key, chance.randbytes(NOISE_BYTES), good[noise].ts_recv, 0))
        batch: list[Tick] = []
        for number, tick in enumerate(good):
            for bad_one in before.get(number, ()):
                sent.bad[offset + len(batch)] = bad_one
                batch.append(bad_one)
            batch.append(tick)
        await stage.appender.append(
            TopicPartition(stage.settings.ticks_topic(venue), 0), [record_of(tick) for tick in batch]
        )
        offset += len(batch)
        sent.good[capture] = good
    return sent


def record_of(tick: Tick) -> tuple[bytes | None, bytes, list[tuple[str, bytes]]]:
    """A tick as it is sent."""
    headers = [("ts_recv", b"%d" % tick.ts_recv)]
    if tick.request is not None:
        headers.append(("request", tick.request.encode()))
    return tick.key.encode() or None, tick.value, headers


def check_letters(letters: list[Raw], sent: dict[str, Sent]) -> None:
    """Each bad tick has one letter that says which it was and why, and no good one has."""
    found: dict[tuple[str, int], Raw] = {}
    for letter in letters:
        headers = dict(letter.headers)
        where = headers["source"].decode().partition("/")[0], int(headers["offset"])
        assert where not in found, f"two letters of {where}"
        found[where] = letter
    wanted = {(venue, offset): tick for venue, one in sent.items() for offset, tick in one.bad.items()}
    missing = {where: wanted[where].value[:200] for where in wanted.keys() - found.keys()}
    assert not missing
    assert not found.keys() - wanted.keys()
    for where, letter in found.items():
        headers, tick = dict(letter.headers), wanted[where]
        assert re.fullmatch(rf"{where[0]}/0@\w+", headers["source"].decode())
        assert headers["reason"].decode().strip()
        assert int(headers["length"]) == len(tick.value)
        assert letter.value == tick.value[:LETTER_BYTES_MAX]
        assert (letter.key or b"").decode() == tick.key


def check_books(client: Client, venue_name: str, sent: Sent) -> int:
    """The books that a client holds are those of the good ticks alone, and stale where a tick of their symbol was bad.

    Gives how many there are.
    """
    count = 0
    for capture, good in sent.good.items():
        played = play(capture, good)
        assert played.bad == []
        for symbol, folded in played.symbols.items():
            stale = sent.stale.get((capture, symbol))
            if stale is not None:
                folded = play(capture, good[:stale]).symbols[symbol]
            bids, asks = folded.sides()
            channel = client.channels.get(("book", f"{venue_name.upper()}:{symbol}"))
            if bids or asks:
                assert channel is not None
                assert channel.book() == (dict(bids), dict(asks))
                assert channel.state[1] == ("ok" if stale is None else "stale")
                count += 1
    return count


@pytest.mark.anyio
async def test_bad_ticks_of_every_venue_are_dead_letters_and_the_rest_goes_on(
    kafka: str, data_dir: Path, tmp_path: Path
) -> None:
    chance = random.Random(61)
    async with Stage(kafka, tmp_path, [*VENUES, "desk"]) as stage, stage.up() as url, Viewer(lambda: url) as viewer:
        await viewer.answered()
        sent = {venue: await send(stage, data_dir, venue, chance) for venue in VENUES}
        sent["desk"] = await send_canonical(stage)
        truth = await stage.truth()
        await viewer.has(truth)
        check_exact(viewer.client, truth)
        [letters] = await stage.records(stage.settings.kafka.dead_topic)
        check_letters(letters, sent)
        assert sum(check_books(viewer.client, venue, sent[venue]) for venue in VENUES) > 15
        assert viewer.client.channel("book", "DESK:A").book() == ({"10": "3"}, {"11": "1"})
        assert viewer.client.channel("book", "DESK:A").state[1] == "ok"
        assert len(letters) > 25 * len(PLACES)


FAULT = """
from feed.venues.canonical import Canonical
honest = Canonical.apply
def apply(self, tick):
    honest(self, tick)
    if b"a fault" in tick.value:
        raise ZeroDivisionError("nobody has thought of it")
Canonical.apply = apply
"""


@pytest.mark.anyio
async def test_an_exception_that_nobody_expected_is_a_dead_letter_and_told_whole(kafka: str, tmp_path: Path) -> None:
    stage = Stage(kafka, tmp_path, ["desk"], planted=FAULT)
    async with stage, stage.running("up", "--port", "0") as command:
        url = await said(command, r"ws://\S+")
        async with Viewer(lambda: url) as viewer:
            await viewer.answered()
            await go_past_a_fault(stage, viewer)
        log = "\n".join(command.err)
        assert "Traceback" in log
        assert "nobody has thought of it" in log


async def go_past_a_fault(stage: Stage, viewer: Viewer) -> None:
    """Ticks of which one ends in an exception; what a client is told of them."""

    def book(price: str, **more: object) -> tuple[str, bytes]:
        data = {"bids": [[price, "1"]], "asks": []}
        return "A", json.dumps({"channel": "book", "data": data} | more).encode()

    await stage.send("desk", [book("10", snapshot=True), book("11"), book("12", note="a fault"), book("13")])
    await stage.send("desk", [("B", book("1", snapshot=True)[1])])
    await viewer.until(lambda: ("book", "DESK:B") in viewer.channels, "what came after it")
    channel = viewer.client.channel("book", "DESK:A")
    # what it said was told; nobody knows whether that was all
    assert channel.book()[0] == dict.fromkeys(("10", "11", "12"), "1")
    assert channel.state[1:] == ("stale", "gap")
    ([letter],) = await stage.records(stage.settings.kafka.dead_topic)
    assert b"ZeroDivisionError('nobody has thought of it')" in dict(letter.headers)["reason"]
    assert int(dict(letter.headers)["offset"]) == 2
    await stage.send("desk", [book("20", snapshot=True)])
    await viewer.until(lambda: channel.book()[0] == {"20": "1"} and channel.state[1] == "ok", "a good book")


async def send_canonical(stage: Stage) -> Sent:
    """Bad ones among canonical ticks, in every channel that has numbers."""
    book = {"channel": "book", "data": {"bids": [["10", "1"]], "asks": [["11", "1"]]}, "snapshot": True}
    good = [book, {"channel": "book", "data": {"bids": [["10", "2"]], "asks": []}}]
    bad: list[bytes] = [b"", b"7", b"[" * 100_000, b'{"channel":"book"}', b'{"channel":"\xff","data":[]}']
    numbers: list[object] = ["-1", "NaN", "1e5", "", True, None, []]
    for number in numbers:
        bad += [
            json.dumps({"channel": "book", "data": {"bids": [["10", number]], "asks": []}}).encode(),
            json.dumps(
                {"channel": "book", "data": {"bids": [["--1" if number == "-1" else number, "1"]], "asks": []}}
            ).encode(),
            json.dumps({"channel": "trades", "data": [dict.fromkeys(("price", "size"), number)]}).encode(),
        ]
    last = {"channel": "book", "data": {"bids": [["10", "3"]], "asks": [["11", "1"]]}, "snapshot": True}
    values = [*(json.dumps(one).encode() for one in good), *bad, json.dumps(last).encode()]
    await stage.send("desk", [("A", value) for value in values])
    return Sent({}, {number + len(good): Tick(-1, "A", value, 0, 0) for number, value in enumerate(bad)}, {})


# ---- the test of the tests


class Letter(NamedTuple):
    """A record that was never in a log."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]


def letter(offset: int, tick: Tick, **changed: bytes) -> Letter:
    """A dead letter as it must be, but for what is changed."""
    headers = {"reason": b"because", "source": b"desk/0@a", "offset": b"%d" % offset, "length": b"%d" % len(tick.value)}
    return Letter(offset, 0, tick.key.encode(), tick.value[:LETTER_BYTES_MAX], list((headers | changed).items()))


@pytest.mark.parametrize(
    "fault",
    ["none", "one is missing", "one comes twice", "a good tick has one", "no reason", "length of what was cut"],
)
def test_the_check_of_letters_sees(fault: str) -> None:
    bad = {3: Tick(3, "A", b"x", 0, 0), 5: Tick(5, "A", b"y" * (LETTER_BYTES_MAX + 1), 0, 0)}
    sent = {"desk": Sent({}, bad, {})}
    short, long = sent["desk"].bad.values()
    letters = {
        "one is missing": [letter(3, short)],
        "one comes twice": [letter(3, short), letter(5, long), letter(3, short)],
        "a good tick has one": [letter(3, short), letter(5, long), letter(4, short)],
        "no reason": [letter(3, short, reason=b""), letter(5, long)],
        "length of what was cut": [letter(3, short), letter(5, long, length=b"%d" % LETTER_BYTES_MAX)],
    }
    if fault == "none":
        check_letters([letter(3, short), letter(5, long)], sent)
        return
    with pytest.raises(AssertionError):
        check_letters(letters[fault], sent)
