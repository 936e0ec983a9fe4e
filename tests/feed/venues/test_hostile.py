"""Any bytes: a tick is understood, or it is refused and nothing has changed but what is in doubt since then."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from feed.errors import BadTick
from feed.venues.symbol import Tick
from feed.venues.table import NAMES, venue
from feed.wire.model import State
from tests.feed.venues.playing import CAPTURES, T0, Played, captured, doubts, state_of, ticks

VENUES = [*NAMES, "anyone"]
NESTED = b"[" * 200_000
WORDS = st.sampled_from(
    [
        b'{"stream":"x@trade","data":',
        b'{"e":"trade","s":"X"',
        b'{"lastUpdateId":1,"bids":[],"asks":[]}',
        b'{"type":"match"',
        b'{"type":"l2update","product_id":"X"',
        b'{"channel":"l2_data","events":[',
        b'{"channel":"book","data":[',
        b'[1,{"a":[["1","1","1"]],"c":"1"},"book-10","X"]',
        b'{"event":"systemStatus","status":"online"}',
        b'{"channel":"trades"',
        b'"data":',
        *(bytes([byte]) for byte in b',:{}[]"\xff\x00'),
        *(b"null", b"1e999", b"NaN", b"-0", b'"1.5"', b"\\ud800", b"1" * 5000),
    ]
)
BYTES = st.one_of(st.binary(max_size=40), st.lists(WORDS, max_size=8).map(b"".join))


@pytest.mark.parametrize("name", VENUES)
@given(value=BYTES, request=st.sampled_from([None, "depth"]), keyed=st.booleans())
@example(value=NESTED, request=None, keyed=True)
@example(value=b'{"data":' + NESTED, request=None, keyed=True)
@example(value=b'{"lastUpdateId":1,"bids":' + NESTED, request="depth", keyed=True)
@example(value=b"[1," + NESTED + b',"book-10","X"]', request=None, keyed=True)
@example(value=b'{"channel":"\xff","s":"\xff"}', request=None, keyed=False)
def test_any_bytes_are_taken_or_refused(name: str, value: bytes, request: str | None, keyed: bool) -> None:
    played = Played(name)
    played.play([Tick(0, "X" if keyed else "", value, T0, T0, request)])
    for read in (venue(name).keys, venue(name).venue_status):
        with contextlib.suppress(BadTick):
            read(value)


@pytest.mark.slow
@pytest.mark.parametrize("name", CAPTURES)
def test_spoiled_frame_is_taken_or_refused_and_then_nothing_has_changed(data_dir: Path, name: str) -> None:
    seed = 20261123
    choose = random.Random(seed)
    played = Played(CAPTURES[name].venue)
    frames = ticks(name, captured(data_dir, name)[:3000])
    seq = refused = tried = missed = 0
    for tick in frames:
        played.play([msgspec.structs.replace(tick, seq=seq)])
        seq += 1
        if not tick.key or choose.random() > 60 / len(frames):
            continue
        before = state_of(played.source, tick.key)
        for _ in range(4):
            spoiled = msgspec.structs.replace(tick, seq=seq, value=spoil(tick.value, choose))
            played.bad.clear()
            played.play([spoiled])
            seq += 1
            tried += 1
            if played.bad:
                refused += 1
                after = state_of(played.source, tick.key)
                assert certain(after) == certain(before), (seed, spoiled)
                missed += doubts(played.source, tick.key) != []
            before = state_of(played.source, tick.key)
    assert tried >= 8
    assert 0 < refused < tried
    assert missed or name.endswith("ticker")


def certain(state: Any) -> Any:
    """A state but for what a refused tick or entry puts in doubt."""
    keyframe, saved = state
    snapshots = [message for message in keyframe if not isinstance(message, State)]
    return snapshots, {**saved, "stale": None, "hole": None, "machine": None}


def spoil(value: bytes, choose: random.Random) -> bytes:
    """The frame with a few bytes deleted, repeated, replaced or put in."""
    spoiled = bytearray(value)
    for _ in range(choose.choice((1, 1, 1, 3))):
        at = choose.randrange(len(spoiled))
        kind = choose.randrange(5)
        if kind == 0:
            del spoiled[at : at + choose.choice((1, 1, 5, len(spoiled)))]
        elif kind == 1:
            spoiled[at:at] = spoiled[at : at + choose.choice((1, 10))]
        elif kind == 2:
            spoiled[at] = choose.randrange(256)
        elif kind == 3:
            spoiled[at:at] = choose.choice((b"-", b"0", b".", b"e5", b'"', b",", b"\xff", b"null", b"[", b"}"))
        else:
            spoiled[at] = choose.choice(b'0123456789.-"')
        if not spoiled:
            break
    return bytes(spoiled)
