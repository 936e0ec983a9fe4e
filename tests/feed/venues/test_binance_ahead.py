"""Ticks that were read ahead, many at once, give the bytes that they give one by one."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import repeat
from pathlib import Path

import msgspec
import pytest

from feed.errors import BadTick
from feed.venues import binance_ahead
from feed.venues.binance_spot import spot_ahead
from feed.venues.source import Source
from feed.venues.symbol import Rules, Tick
from feed.venues.table import venue
from tests.feed.venues.playing import BIG, CAPTURES, captured, numbered, ticks

encode = msgspec.json.encode
BINANCE = [name for name in CAPTURES if name.startswith("binance/")]
BYTES = b'0123456789.,"[]{}a:-e\\ \n'


@pytest.fixture(autouse=True)
def however_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read ahead also where it does not pay."""
    monkeypatch.setattr(binance_ahead, "_AHEAD_BYTES_MIN", 1)


def said(name: str, played: Sequence[Tick], *, ahead: bool, rules: Rules = Rules()) -> list[bytes]:
    """What each tick makes a source say, and its state in the end."""
    source = Source(venue(CAPTURES[name].venue), "source", rules)
    out = []
    for tick, read in zip(played, source.ahead(played) if ahead else repeat(None, len(played)), strict=True):
        try:
            source.apply(tick, read)
        except BadTick as error:
            out.append(str(error).encode())
        out.append(encode(source.take()))
    for key in sorted(source):
        out += [encode(source.keyframe(key)), source.checkpoint(key)]
    return out


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in BIG else ()) for name in BINANCE]
)
def test_captures_give_the_same_bytes(data_dir: Path, name: str) -> None:
    played = ticks(name, captured(data_dir, name))
    assert said(name, played, ahead=True) == said(name, played, ahead=False)


@pytest.mark.slow
@pytest.mark.parametrize("name", BINANCE)
def test_most_depth_updates_of_a_capture_are_read_ahead(data_dir: Path, name: str) -> None:
    played = ticks(name, captured(data_dir, name)[:3000])
    depth = [tick for tick in played if b'"depthUpdate"' in tick.value and tick.value.startswith(b'{"stream"')]
    read = [read for read in Source(venue(CAPTURES[name].venue), "source", Rules()).ahead(depth) if read is not None]
    assert len(read) > 0.9 * len(depth) > 100


def test_quotes_from_the_book_are_the_same(data_dir: Path) -> None:
    name = "binance/usdm_multi_20210722"
    played, rules = ticks(name, captured(data_dir, name)), Rules(quotes_from="book")
    assert said(name, played, ahead=True, rules=rules) == said(name, played, ahead=False, rules=rules)


@pytest.mark.slow
@pytest.mark.parametrize("name", BINANCE)
def test_spoiled_frames_holes_and_repeats_give_the_same_bytes(data_dir: Path, name: str) -> None:
    seed = 20261126
    choose = random.Random(seed)
    frames = captured(data_dir, name)
    played: list[Tick] = []
    for tick in ticks(name, frames[:1500]):
        chance = choose.random()
        if chance < 0.02:
            continue  # lost
        if chance < 0.04 and played:
            played.append(choose.choice(played[-50:]))
        if chance > 0.9:
            value = bytearray(tick.value)
            for _ in range(choose.choice((1, 1, 2))):
                value[choose.randrange(len(value))] = choose.choice(BYTES)
            tick = msgspec.structs.replace(tick, value=bytes(value))
        played.append(tick)
    played = numbered(played)
    print("seed", seed)
    assert said(name, played, ahead=True) == said(name, played, ahead=False)


def test_only_the_usual_frame_is_read_ahead() -> None:
    def tick(frame: bytes, request: str | None = None) -> Tick:
        return Tick(0, "X", frame, 1, 1, request)

    usual = b'{"stream":"x@depth","data":{"e":"depthUpdate","E":1,"s":"X","U":1,"u":2,"b":[["1.50","2.0"]],"a":[]}}'
    nested = usual.replace(b'"s":"X"', b'"s":"X","o":{}')
    longer = usual.replace(b'"2.0"', b'"2.0",[]')
    ticks = [tick(usual), tick(usual, "https://x"), tick(usual[:-1]), tick(longer), tick(b'{"b":1}')]
    found = spot_ahead(ticks)
    assert [each is None for each in found] == [False, True, True, True, True]
    assert found[0] is not None
    assert (found[0].stream, found[0].head.u, found[0].book.text) == ("x@depth", 2, b'{"bids":[["1.5","2"]],"asks":[]}')
    assert spot_ahead([tick(usual), tick(nested)]) == [None, None], "an object more: nobody knows whose sides these are"
    assert spot_ahead([tick(usual), tick(usual.replace(b'"U":1', b'"U":x'))]) == [None, None], "one of them is bad"
    assert spot_ahead([tick(b"{}")]) == [None]


def test_few_bytes_are_not_read_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binance_ahead, "_AHEAD_BYTES_MIN", 2048)
    frame = b'{"stream":"x@depth","data":{"s":"X","U":1,"u":2,"b":[],"a":[]}}'
    assert spot_ahead([Tick(0, "X", frame, 1, 1)]) == [None]
