"""The feed log: what is written is the same whoever writes it, and however often the writer dies."""

from __future__ import annotations

import itertools
import json
import random

import msgspec
import pytest
from msgspec.structs import replace

from feed.errors import BadTick
from feed.feedlog.writer import Ahead, Opening, Restored, Round, Step, Writer, values_of
from feed.venues.source import Source
from feed.venues.symbol import Rules, Tick
from feed.venues.tick import NEVER_WRITTEN, NO_TIME
from feed.wire.log_reader import HoleInLog, LogReader
from feed.wire.model import Book, Snapshot, State
from feed.wire.record import PART_BYTES_MAX, Record
from tests.feed.memory_log import Died, SecondWriter, Worker, restore, updates_of
from tests.feed.toy import TOY

T0 = 1_700_000_000_000_000_000


def make_ticks(count: int, seed: int, symbols: int = 4) -> list[Tick]:
    rng = random.Random(seed)
    ticks, seq, now, trade_id = [], 0, T0, 0
    for _ in range(count):
        seq += rng.choice((1, 1, 1, 3))  # offsets have holes
        now += rng.choice((1_000_000, 50_000_000, 900_000_000))
        key = f"S{rng.randrange(symbols)}"
        frame: dict[str, object] = {"ts": now - rng.randrange(5_000_000_000)}
        kind = rng.randrange(10)
        if kind < 4:
            trade_id += rng.choice((0, 1, 1, 2))
            frame |= {"op": "trade", "trades": [[f"{rng.randrange(1, 50)}.5", "0.1", str(trade_id)]], "hole": kind == 0}
        elif kind < 5:
            frame |= {"op": "quote"}
        elif kind < 7:
            level = [str(rng.randrange(1, 30)), str(rng.randrange(3))]
            frame |= {"op": "book", "bids": [level], "asks": []}
        elif kind < 8:
            levels = [[str(price), "7"] for price in rng.sample(range(1, 40), 5)]
            frame |= {"op": "snapshot", "bids": levels, "asks": []}
        elif kind < 9:
            frame |= {"op": "stale"}
        else:
            frame |= {"op": "status", "action": rng.choice(("halt", "trading"))}
        value = json.dumps(frame).encode()
        if rng.random() < 0.03:
            value, key = rng.choice(((b"junk", key), (b"wide", ""), (b"\xff", "new\n")))
        ticks.append(Tick(seq, key, value, now, now))
    return ticks


def unbroken(ticks: list[Tick], page: int = 7) -> list[bytes]:
    log: list[Record] = []
    Worker(TOY, log, ticks).run([page] * len(ticks))
    return updates_of(log)


def test_a_tick_that_has_no_time_counts_at_the_clock_of_its_source_also_after_restarts() -> None:
    known = make_ticks(120, seed=5)
    ticks = [replace(tick, ts_recv=NO_TIME, ts_kafka=NEVER_WRITTEN) if n % 3 else tick for n, tick in enumerate(known)]
    clock, clocked = 0, []
    for tick in ticks:
        clock = max(clock, tick.ts_recv)
        clocked.append(replace(tick, ts_recv=clock, ts_kafka=clock))
    assert unbroken(ticks) == unbroken(clocked)
    log: list[Record] = []
    for _ in ticks:
        Worker(TOY, log, ticks).run([1])
    assert updates_of(log) == unbroken(ticks)


@pytest.mark.parametrize("seed", [0, 16, 24])
def test_times_that_are_not_believed_are_none_after_restarts_either(seed: int) -> None:
    rng = random.Random(seed)
    ticks, ahead = [], 0
    for tick in make_ticks(120, seed):
        ahead += rng.choice((0, 0, 0, 0, 8, 8 * 52)) * 24 * 3600 * 10**9 if len(ticks) > 4 else 0
        odd = rng.choice((0, 0, 0, 0, 0, 9 * 10**18, 2**63 - 1, 4 * 10**18))
        ts_recv = odd if odd and len(ticks) > 4 else tick.ts_recv + ahead
        ticks.append(replace(tick, ts_recv=ts_recv, ts_kafka=NEVER_WRITTEN))
    wanted = unbroken(ticks)
    assert len(wanted) > 20
    log: list[Record] = []
    for _ in ticks:
        Worker(TOY, log, ticks).run([1])
    assert updates_of(log) == wanted


def test_a_tick_without_a_time_that_is_the_first_of_all_is_a_bad_one() -> None:
    machine = Source(TOY, "toy/0@a", Rules())
    with pytest.raises(BadTick, match="neither the record nor a header ts_recv says when it came"):
        machine.apply(Tick(0, "S1", b"{}", NO_TIME, NEVER_WRITTEN))


@pytest.mark.parametrize(
    ("written_ms", "now_ms", "age_ms"),
    [(1000, 5000, 4000), (1000, 900, 2000), (-1, 5000, 5001), (-1, 900, 3001)],
)
def test_the_age_of_a_keyframe_is_told_by_the_logs_own_times_where_this_clock_is_behind(
    written_ms: int, now_ms: int, age_ms: int
) -> None:
    log: list[Record] = []
    ticks = make_ticks(30, seed=2, symbols=1)
    Worker(TOY, log, ticks).run([len(ticks)])
    log += Worker(TOY, log, ticks).writer.everything(0)
    restored = Restored()
    for offset, record in enumerate(log):
        restored.read(replace(record, offset=offset), written_ms)
    restored.read(replace(log[-1], kind="data", after=restored.reader.pos, offset=len(log)), 3000)
    assert [age for _, _, age in restored.ages(now_ms).values()] == [age_ms]


def test_every_update_is_there_once_whatever_the_pages() -> None:
    ticks = make_ticks(300, seed=1)
    assert len(unbroken(ticks)) > 250
    assert unbroken(ticks, 1) == unbroken(ticks, 7) == unbroken(ticks, 300)


@pytest.mark.slow
@pytest.mark.parametrize("ratio", [0.0, 0.1, 1.0, 5.0])
def test_a_restart_after_every_tick_gives_the_bytes_of_the_unbroken_run(ratio: float) -> None:
    ticks = make_ticks(250, seed=2)
    log: list[Record] = []
    for _ in ticks:
        Worker(TOY, log, ticks, ratio=ratio).run([1])
    assert updates_of(log) == unbroken(ticks)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(30))
def test_a_worker_that_dies_between_any_two_records_loses_and_repeats_nothing(seed: int) -> None:
    rng = random.Random(seed)
    ticks = make_ticks(200, seed=seed)
    log: list[Record] = []
    while True:
        worker = Worker(TOY, log, ticks, ratio=rng.choice((0.2, 1.0, 3.0)))
        if worker.writer.pos == ticks[-1].seq:
            break
        try:
            worker.run([rng.randrange(1, 30)] * 20, die_after=rng.randrange(1, 12))
        except Died:
            continue
    assert updates_of(log) == unbroken(ticks)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(30))
def test_several_owners_at_once_do_no_harm(seed: int) -> None:
    rng = random.Random(seed)
    ticks = make_ticks(200, seed=100 + seed)
    log: list[Record] = []
    workers = [Worker(TOY, log, ticks)]
    while min(worker.writer.pos for worker in workers) < ticks[-1].seq:
        if rng.random() < 0.1:
            workers.append(Worker(TOY, log, ticks, ratio=rng.choice((0.3, 2.0))))
        if rng.random() < 0.1 and len(workers) > 1:
            workers.pop(rng.randrange(len(workers)))
        at = rng.randrange(len(workers))
        try:
            workers[at].run([rng.randrange(1, 20)])
        except SecondWriter:
            workers[at] = Worker(TOY, log, ticks, ratio=rng.choice((0.3, 2.0)))
    assert updates_of(log) == unbroken(ticks)
    for stop in range(1, len(log) + 1):
        restore(log[:stop])  # leads somewhere, wherever a reader begins


class Waiting(Worker):
    """One whose steps wait now and then, and whose log says so meanwhile, as often as `chance` has it."""

    chance = random.Random()

    def _write(self, step: Step, budget: itertools.count[int] | None) -> None:
        before = self.newest
        while step.records[0].kind != "source" and self.chance.random() < 0.4:
            record = replace(self.writer.stuck(Ahead(10_000, before + 1, 2_500)), offset=len(self.log))
            assert (record.last, record.covers, record.waits_ms) == (before, False, 2_500)
            self.writer.told(record.offset)
            self.log.append(record)
            self.next_offset += 1
        super()._write(step, budget)

    @property
    def newest(self) -> int:
        """The last tick that the log covers."""
        return restore(self.log).reader.pos


@pytest.mark.parametrize("seed", range(10))
def test_what_the_log_says_while_a_step_waits_covers_nothing_of_it(seed: int) -> None:
    rng = random.Random(seed)
    ticks = make_ticks(120, seed=200 + seed)
    log: list[Record] = []
    while True:
        worker = Waiting(TOY, log, ticks, ratio=rng.choice((0.2, 1.0, 3.0)))
        worker.chance = rng
        if worker.writer.pos == ticks[-1].seq:
            break
        try:
            worker.run([rng.randrange(1, 8)] * 20, die_after=rng.randrange(1, 12))
        except Died:
            continue
    assert sum(record.waits_ms == 2_500 for record in log) > 10
    assert updates_of(log) == unbroken(ticks)


def test_a_state_is_not_cut_from_its_snapshot() -> None:
    state = State("x/0@a", "book", "X:A", 7, "stale", "gap", "7")

    def book(levels: int) -> Snapshot:
        return Snapshot(
            "book", "X:A", "x/0@a", 7, None, "7", Book([(f"{n}", "1") for n in range(10**6, 10**6 + levels)], [])
        )

    size = len(msgspec.json.encode(book(1001))) - len(msgspec.json.encode(book(1000)))
    for levels in range(PART_BYTES_MAX // size - 40, PART_BYTES_MAX // size):
        *_, last = values_of([book(100), book(levels), state])
        assert [one["type"] for one in json.loads(last)][-2:] == ["snapshot", "state"]
    # those of many symbols in one tick are cut anywhere
    assert len(values_of([state] * (PART_BYTES_MAX // 100))) > 1


def test_a_book_of_8_mb_goes_out_in_parts_and_comes_back() -> None:
    side = [[f"{price}.123456", "1234.123456789"] for price in range(1, 200_001)]
    frames = [
        {"op": "snapshot", "bids": side, "asks": [], "ts": 1},
        {"op": "trade", "trades": [["5", "1", "1"]], "ts": 2},
        {"op": "book", "bids": [["1.123456", "0"]], "asks": [], "ts": 3},
    ]
    ticks = [Tick(i, "BIG", json.dumps(frame).encode(), T0 + i, T0 + i) for i, frame in enumerate(frames)]
    log: list[Record] = []
    Worker(TOY, log, ticks).run([3])
    assert max(len(record.value) for record in log if record.kind != "checkpoint") <= 256 * 1024
    parts = [record for record in log if b'"part":[' in record.value and record.kind == "data"]
    assert len(parts) > 20
    assert [record.covers for record in parts] == [False] * (len(parts) - 1) + [True]
    restored = Worker(TOY, list(log), ticks)
    fresh: list[Record] = []
    unbroken_worker = Worker(TOY, fresh, ticks)
    unbroken_worker.run([1, 1, 1])
    snapshots = restored.machine.keyframe("BIG")
    assert len(snapshots) > 20
    assert snapshots == unbroken_worker.machine.keyframe("BIG")
    assert restored.machine.checkpoint("BIG") == unbroken_worker.machine.checkpoint("BIG")
    assert updates_of(fresh) == updates_of(log)


def test_a_reader_names_a_hole() -> None:
    ticks = make_ticks(60, seed=3)
    log: list[Record] = []
    Worker(TOY, log, ticks).run([5] * 12)
    data = [record for record in log if record.covers]
    reader = LogReader()
    reader.take(data[0])
    with pytest.raises(HoleInLog) as hole:
        reader.take(data[2])
    assert hole.value.floor == data[2].floor


def test_the_first_incarnation_with_the_same_ends_wins_and_all_others_are_void() -> None:
    ticks = make_ticks(40, seed=4)
    log: list[Record] = []
    worker = Worker(TOY, log, ticks)
    worker.run([10])
    opening = replace(worker.writer.open(Opening(ends="toy/0@a", carries=True), 0), source="toy/0@b")
    log += [replace(opening, offset=len(log)), replace(opening, source="toy/0@c", offset=len(log) + 1)]
    with pytest.raises(SecondWriter):  # a zombie of the incarnation that ended
        worker.run([10])
    reader = LogReader()
    taken = [reader.take(record) for record in log]
    assert reader.source == "toy/0@b"
    assert taken[log.index(next(r for r in log if r.source == "toy/0@c"))] is None
    assert all(before is None for before, record in zip(taken, log, strict=True) if record.offset > log[-1].offset - 2)
    assert reader.void >= 2


@pytest.mark.parametrize("least_ms", [0, 50])
def test_no_keyframe_is_younger_than_the_round_allows_and_floors_still_move(least_ms: int) -> None:
    ticks, step_ms = make_ticks(600, seed=5), 10
    writer = Writer(
        Source(TOY, "toy/0@a", Rules()),
        source="toy/0@a",
        pos=-1,
        crc=-1,
        version="1.x",
        partitions=1,
        anchor=0,
        keyframe_ratio=1.0,
        round_=Round(least_ms=least_ms),
    )
    made: dict[str, list[int]] = {}
    offset = 0
    floors = []
    for step, start in enumerate(range(0, 600, 5)):
        records = writer.step(ticks[start : start + 5], Ahead(0, 0), step * step_ms).records
        writer.acked(range(offset, offset + len(records)))
        offset += len(records)
        floors += [offset - record.floor for record in records[:1]]
        for record in records:
            if record.kind == "checkpoint":
                made.setdefault(record.symbol, []).append(step * step_ms)
    pauses = [later - before for times in made.values() for before, later in itertools.pairwise(times)]
    assert len(pauses) > 20
    assert min(pauses) >= least_ms
    # a step has one record of data and at most eight of keyframes: a floor is a round back, not more
    assert max(floors) <= 9 * (2 + max(pauses) // step_ms)
