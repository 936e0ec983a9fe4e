"""How a log goes on: what the ticks that lie there say of those that were read."""

from __future__ import annotations

from typing import Any

import google_crc32c
import pytest
from msgspec.structs import replace

from feed.feedlog.writer import Restored
from feed.normalizer.plan import Bounds, TakeUpPlan, plan_for
from feed.wire.record import Record

pytestmark = pytest.mark.anyio
VERSION = "2.abc"
SOURCE = "toy/0@a"


class TickLog:
    """Ticks by offset: value and leader epoch."""

    def __init__(self, begin: int, values: list[str], *, epochs: list[int] | None = None) -> None:
        self.begin = begin
        self.values = values
        self.epochs = epochs or [0] * len(values)

    @property
    def end(self) -> int:
        return self.begin + len(self.values)

    async def crc(self, seq: int) -> int | None:
        return crc_of(self.values[seq - self.begin]) if self.begin <= seq < self.end else None

    async def first_of_epoch_after(self, epoch: int, begin: int, end: int) -> int | None:
        found = range(max(begin, self.begin), min(end, self.end))
        return next((seq for seq in found if self.epochs[seq - self.begin] > epoch), None)

    def bounds(self, partitions: int = 1) -> Bounds:
        return Bounds(self.begin, self.end, partitions)


def crc_of(value: str) -> int:
    return int(google_crc32c.value(value.encode()))


def record(after: int, last: int, values: list[str], **more: Any) -> Record:
    """A data record of ticks `after + 1` to `last`, `values` being all ticks from 0 on."""
    covers = last > after
    fields: dict[str, Any] = {
        "source": SOURCE, "kind": "data", "after": after, "first": min(after + 1, last), "last": last,
        "first_crc": crc_of(values[after + 1]) if covers else -1,
        "crc": crc_of(values[last]) if last >= 0 else -1,
        "epoch": 0, "partitions": 1, "version": VERSION, "floor": 0, "since": -1, "end": last + 1,
        "position": last + 1, "value": b"[]", "offset": 0,
    }  # fmt: skip
    return Record(**(fields | more))


def restored(*records: Record) -> Restored:
    found = Restored()
    for offset, one in enumerate(records):
        found.read(replace(one, offset=offset), 0)
    return found


TEN = [f"tick {number}" for number in range(10)]


def log_of_ten(**more: Any) -> Restored:
    """Three records of four, three and three ticks."""
    return restored(*(record(after, last, TEN, **more) for after, last in ((-1, 3), (3, 6), (6, 9))))


async def plan(found: Restored, ticks: TickLog, *, whole: bool = True, partitions: int = 1) -> TakeUpPlan:
    return await plan_for(found, ticks.bounds(partitions), VERSION, ticks, whole=whole)


async def test_it_goes_on_where_the_ticks_are_those_that_were_read() -> None:
    assert await plan(log_of_ten(), TickLog(0, [*TEN, "more"])) == TakeUpPlan(source=SOURCE, pos=9, carries=True)


async def test_an_empty_log_begins_with_the_first_tick_there_is() -> None:
    found = await plan(Restored(), TickLog(5, TEN))
    assert (found.source, found.ends, found.pos, found.missing) == ("", "", 4, True)
    assert not (await plan(Restored(), TickLog(0, TEN))).missing


async def test_a_tail_that_was_cut_goes_on_at_the_cut() -> None:
    found = await plan(log_of_ten(), TickLog(0, TEN[:6], epochs=[0] * 6))
    assert (found.ends, found.pos, found.carries, found.missing, found.gone) == (SOURCE, 5, True, True, True)
    assert found.reason == "ticks 6 to 9 were taken back"


@pytest.mark.parametrize("more", [1, 3, 8])
async def test_new_ticks_at_the_same_offsets_are_told_by_the_epoch(more: int) -> None:
    """As few, as many, or more of them than were taken back."""
    new = [f"new {number}" for number in range(more)]
    found = await plan(log_of_ten(), TickLog(0, [*TEN[:7], *new], epochs=[0] * 7 + [1] * more))
    assert (found.ends, found.pos, found.carries, found.missing, found.gone) == (SOURCE, 6, True, True, True)


async def test_a_cut_inside_what_one_record_covers_is_found_by_its_first_tick() -> None:
    found = await plan(log_of_ten(), TickLog(0, [*TEN[:8], "new", "new"], epochs=[0] * 8 + [1] * 2))
    assert (found.pos, found.gone) == (7, True)


async def test_without_epochs_the_last_tick_that_is_the_same_counts() -> None:
    found = await plan(log_of_ten(epoch=-1), TickLog(0, [*TEN[:8], "new", "new"]))
    assert (found.pos, found.gone) == (7, True)
    # rather twice than never: what lies between two ticks that are told by CRCs is run again
    found = await plan(log_of_ten(epoch=-1), TickLog(0, [*TEN[:9], "new"]))
    assert (found.pos, found.gone) == (7, True)


async def test_a_topic_made_anew_begins_from_nothing() -> None:
    for values in (["other"] * 4, ["other"] * 20):
        found = await plan(log_of_ten(), TickLog(0, values, epochs=[0] * len(values)))
        assert (found.ends, found.pos, found.carries, found.missing) == (SOURCE, -1, False, True)
        assert found.reason == "the tick topic was made anew"


async def test_an_empty_topic_where_there_was_one() -> None:
    found = await plan(log_of_ten(), TickLog(0, []))
    assert (found.ends, found.pos, found.carries, found.missing) == (SOURCE, -1, False, True)


async def test_ticks_that_nobody_read_are_gone() -> None:
    found = await plan(log_of_ten(), TickLog(15, ["later"]))
    assert (found.ends, found.pos, found.carries, found.missing, found.gone) == (SOURCE, 14, True, True, True)
    assert found.reason == "ticks 10 to 14 are gone"


async def test_ticks_to_run_again_that_are_gone_leave_the_state_in_doubt() -> None:
    found = await plan(log_of_ten(since=4), TickLog(7, TEN[7:]))
    assert (found.ends, found.pos, found.carries, found.missing, found.gone) == (SOURCE, 9, True, False, True)


async def test_partitions_and_versions_that_change_lose_nothing() -> None:
    found = await plan(log_of_ten(), TickLog(0, TEN), partitions=2)
    assert (found.ends, found.pos, found.carries, found.missing, found.gone) == (SOURCE, 9, True, False, False)
    found = await plan(log_of_ten(version="1.abc"), TickLog(0, TEN))
    assert (found.ends, found.pos, found.carries, found.missing, found.gone) == (SOURCE, 9, True, False, False)


async def test_a_log_whose_begin_is_gone_carries_nothing() -> None:
    found = await plan(log_of_ten(), TickLog(0, TEN), whole=False)
    assert (found.ends, found.pos, found.carries, found.missing) == (SOURCE, 9, False, True)


@pytest.mark.parametrize("missing", [True, False])
async def test_an_incarnation_whose_state_was_never_whole_is_opened_again(missing: bool) -> None:
    opening = record(9, 9, TEN, kind="source", source="toy/0@b", ends=SOURCE, carries=True, missing=missing)
    found = await plan(restored(record(-1, 9, TEN), opening), TickLog(0, TEN))
    assert (found.ends, found.carries, found.missing, found.gone) == ("toy/0@b", True, missing, missing)
    begun = record(9, 9, TEN, source="toy/0@b")
    found = await plan(restored(record(-1, 9, TEN), opening, begun), TickLog(0, TEN))
    assert found.source == "toy/0@b"
    found = await plan(restored(record(-1, 9, TEN), replace(opening, carries=False)), TickLog(0, TEN))
    assert found.source == "toy/0@b"  # it has no state to write


async def test_who_was_taken_over_may_have_gone_on_until_then() -> None:
    opening = record(7, 7, TEN, kind="source", source="toy/0@b", ends=SOURCE, carries=True)
    found = await plan(restored(record(-1, 7, TEN), record(7, 9, TEN), opening), TickLog(0, TEN))
    assert (found.ends, found.pos, found.carries, found.missing) == ("toy/0@b", 9, True, False)
    # but where ticks were taken back they are others
    found = await plan(restored(record(-1, 9, TEN), replace(opening, missing=True)), TickLog(0, TEN))
    assert found.pos == 7
