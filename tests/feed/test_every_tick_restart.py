"""The state machine restarted after ticks of every capture gives the bytes of the run that was never broken.

A restart is what a normalizer does: keyframe and checkpoint of each symbol, written out, read into a machine that has
seen nothing. The restarted machine takes the next tick and is restarted again, so a mistake would be carried on.

What is covered here:
- every single tick of every capture but the three long ones, each symbol as a source of its own (the other symbols of
  the source would only make each restart five times as slow);
- of these captures as they are, with all symbols in one source, every fiftieth tick;
- of the long ones (184,000 ticks) the first and the last ticks, those about the venue's snapshot with the diffs kept
  before it and the bridge after it, and every hundredth of all;
- through a feed log in memory, with keyframes of different ages and ticks run again: every tick of the short ones.

`FEED_TEST_EVERY_TICK=1` restarts after every single tick of the long ones too, which takes about half an hour.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec
import pytest

from feed.errors import BadTick
from feed.feedlog.writer import values_of
from feed.venues.source import Checkpoint, Source
from feed.venues.symbol import Rules, Tick
from feed.venues.table import venue
from feed.venues.venue import Venue
from feed.wire.record import Record
from tests.feed.memory_log import Worker, updates_of
from tests.feed.venues.playing import BIG, CAPTURES, captured, ticks

SOURCE = "x/0@a"
EVERY_TICK = bool(os.environ.get("FEED_TEST_EVERY_TICK"))
SMALL = [name for name in CAPTURES if name not in BIG]
SHORT_TICKS = 300
encode = msgspec.json.encode

pytestmark = pytest.mark.slow


def state(machine: Source, seq: int) -> list[Checkpoint]:
    """What a normalizer writes down of all symbols after tick `seq`."""
    return [Checkpoint(seq, values_of(machine.keyframe(key)), machine.checkpoint(key)) for key in sorted(machine)]


def restarted(machine: Source, of: Venue, seq: int) -> Source:
    """A machine that knows nothing but what the other has written down."""
    reborn = Source(of, SOURCE, Rules())
    reborn.restore(state(machine, seq))
    reborn.wake_all()
    assert reborn.take() == []
    return reborn


def step(machine: Source, tick: Tick) -> bytes:
    """What a tick makes a machine say."""
    try:
        machine.apply(tick)
    except BadTick as error:
        return str(error).encode()
    return encode(machine.take())


def run(of: Venue, played: Iterable[Tick], restarts: Callable[[int], bool]) -> tuple[int, int]:
    """Plays ticks through two machines, of which one is restarted after the ticks that `restarts` names by their
    number; gives how many restarts and bytes there were."""
    unbroken, broken = Source(of, SOURCE, Rules()), Source(of, SOURCE, Rules())
    count = said = seq = 0
    for number, tick in enumerate(played):
        seq = tick.seq
        wanted = step(unbroken, tick)
        assert step(broken, tick) == wanted, f"tick {number}, after {count} restarts"
        said += len(wanted)
        if restarts(number):
            broken = restarted(broken, of, seq)
            count += 1
    assert state(broken, seq) == state(unbroken, seq)
    return count, said


def by_symbol(played: Iterable[Tick]) -> list[list[Tick]]:
    """The ticks of each symbol, with those of the whole venue among them."""
    played = list(played)
    return [[tick for tick in played if tick.key in ("", key)] for key in sorted({t.key for t in played} - {""})]


@pytest.mark.parametrize("name", SMALL)
def test_restart_after_every_tick_of_each_symbol(data_dir: Path, name: str) -> None:
    of = venue(CAPTURES[name].venue)
    for played in by_symbol(ticks(name, captured(data_dir, name))):
        count, said = run(of, played, lambda _: True)
        assert count == len(played)
        assert said > 2 * count or len(played) < 100


@pytest.mark.parametrize("name", SMALL)
def test_restart_with_all_symbols_in_one_source(data_dir: Path, name: str) -> None:
    run(venue(CAPTURES[name].venue), ticks(name, captured(data_dir, name)), lambda number: number % 50 == 0)


@pytest.mark.parametrize("name", sorted(BIG))
def test_restart_of_long_captures(data_dir: Path, name: str) -> None:
    played = ticks(name, captured(data_dir, name))
    answered = next(number for number, tick in enumerate(played) if tick.request is not None)
    chosen = {*range(50), *range(max(0, answered - 200), answered + 200), *range(len(played) - 50, len(played))}
    chosen |= set(range(len(played)) if EVERY_TICK else range(0, len(played), 100))
    count, _ = run(venue(CAPTURES[name].venue), played, chosen.__contains__)
    assert count == len(chosen)


@pytest.mark.parametrize("name", SMALL)
def test_restart_through_a_feed_log(data_dir: Path, name: str) -> None:
    played = ticks(name, captured(data_dir, name))[:SHORT_TICKS]
    of = venue(CAPTURES[name].venue)
    unbroken: list[Record] = []
    Worker(of, unbroken, played).run([len(played)])
    log: list[Record] = []
    for number, _ in enumerate(played):
        # now and then few keyframes: then more ticks have to be run again
        Worker(of, log, played, ratio=0.05 if number % 40 < 20 else 1.0).run([1])
    assert updates_of(log) == updates_of(unbroken)


# ---- the test of the tests


def test_a_forgotten_trade_id_would_be_seen(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from feed.venues.ids import TradeIds

    monkeypatch.setattr(TradeIds, "load", lambda self, ids, texts: None)
    name = "coinbase/exchange_5products_20210417"
    once = ticks(name, captured(data_dir, name))
    again = [msgspec.structs.replace(tick, seq=once[-1].seq + 1 + tick.seq) for tick in once]
    with pytest.raises(AssertionError, match="restarts"):
        run(venue(CAPTURES[name].venue), [*once, *again], lambda number: number % 1000 == 999)
