"""What is kept of openings for those who join the same: as long as it is true, and up to a size."""

from __future__ import annotations

import pytest

from feed.channels.pending import JoinPlan
from feed.channels.shared import BLOCK_SYMBOLS, OpeningBlock, Openings, Way

SNAPSHOT = Way(live=False, last=0, marks=None, on_lag="skip")
LIVE = SNAPSHOT._replace(live=True)
PLAN = JoinPlan(dict.fromkeys(range(3 * BLOCK_SYMBOLS), 1))
MEGABYTES = 1 << 20


def block(since: int = 0, frames: bytes = b"frames") -> OpeningBlock:
    return OpeningBlock(frames, ((0, 1),), frozenset(), since, 1, 1, 0, 1)


def test_a_block_is_for_those_who_begin_in_the_same_way() -> None:
    openings, kept = Openings(PLAN, 5), block()
    assert openings.find(1, SNAPSHOT, 5, 5) is None
    openings.keep(1, SNAPSHOT, kept)
    assert openings.find(1, SNAPSHOT, 6, 6) is kept
    assert openings.find(0, SNAPSHOT, 6, 6) is None
    for other in (LIVE, SNAPSHOT._replace(last=3), SNAPSHOT._replace(on_lag="close")):
        assert openings.find(1, other, 6, 6) is None


def test_a_flush_that_changes_one_of_its_symbols_ends_it() -> None:
    openings = Openings(PLAN, 5)
    for index in range(3):
        openings.keep(index, SNAPSHOT, block())
        openings.keep(index, LIVE, block())
    openings.touch([BLOCK_SYMBOLS, 10_000], 6)
    for way in (SNAPSHOT, LIVE):
        assert [openings.find(index, way, 6, 6) is not None for index in range(3)] == [True, False, True]


def test_who_asked_before_a_channel_began_is_not_given_it() -> None:
    openings = Openings(PLAN, 5)
    openings.keep(0, SNAPSHOT, block(since=7))
    assert openings.find(0, SNAPSHOT, 8, 6) is None
    assert openings.find(0, SNAPSHOT, 8, 7) is not None


def test_who_begins_live_is_given_it_only_where_nothing_has_happened_since_he_asked() -> None:
    openings = Openings(PLAN, 5)
    openings.touch([0], 7)
    openings.keep(0, LIVE, block())
    openings.keep(0, SNAPSHOT, block())
    assert not openings.unchanged(0, 6)
    assert openings.find(0, LIVE, 8, 6) is None
    assert openings.find(0, SNAPSHOT, 8, 6) is not None
    assert openings.find(0, LIVE, 8, 7) is not None
    assert openings.unchanged(1, 5)
    assert not openings.unchanged(1, 4)  # of before it was made nothing is known


def test_of_large_blocks_only_as_many_are_kept_as_there_is_room_for() -> None:
    openings, large = Openings(PLAN, 5), bytes(15 * MEGABYTES)
    for index in range(3):
        openings.keep(index, SNAPSHOT, block(frames=large))
    assert [openings.find(index, SNAPSHOT, 5, 5) is not None for index in range(3)] == [True, True, False]
    openings.touch([0], 6)
    openings.keep(2, SNAPSHOT, block(frames=large))
    assert openings.find(2, SNAPSHOT, 6, 6) is not None
    openings.keep(2, SNAPSHOT, block(frames=b""))
    openings.keep(0, SNAPSHOT, block(frames=large))
    assert openings.find(0, SNAPSHOT, 6, 6) is not None


@pytest.mark.parametrize("comes_back", [False, True])
def test_what_nobody_has_asked_for_in_many_flushes_is_let_go(comes_back: bool) -> None:
    openings = Openings(PLAN, 5)
    openings.keep(0, SNAPSHOT, block())
    if comes_back:
        assert openings.find(0, SNAPSHOT, 1_000, 1_000) is None
        openings.keep(0, SNAPSHOT, block())
        assert openings.find(0, SNAPSHOT, 1_000, 1_000) is not None
    else:
        openings.touch([9], 1_000)
        openings.touch([9], 1_001)
        assert openings.find(0, SNAPSHOT, 1_001, 1_001) is None
    assert not openings.unchanged(0, 999)
