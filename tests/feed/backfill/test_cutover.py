"""Past and live hub: when they meet, and what a client is sent from then on."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from feed.backfill import cutover
from feed.backfill.cutover import cut_over, tell_caught_up
from feed.backfill.past import LogCut, Past
from feed.channels.join import Start
from feed.channels.steps import whole
from feed.channels.subscriber import Subscriber
from feed.wire.message import KIND_BIT
from tests.feed.backfill.by_hand import ByHand
from tests.feed.backfill.logs import FeedLog, ask, begin, give_rest, opened, pulled, short

BYTES = 1 << 20


class Both(ByHand):
    """A past that was read to the end of a log, and a live hub that was, too."""

    def __init__(
        self, log: FeedLog, channels: str = "trades", symbols: str = "X:A", start: Start | None = None
    ) -> None:
        super().__init__(log)
        self.log = log
        self.past: Past = opened([log], LogCut(), "*" if "*" in symbols else symbols)
        self.past.expect({symbol: "x/0@a" for symbol in symbols.split() if "*" not in symbol})
        begin(self.past, ask(channels, symbols, start))
        self.sent = pulled(self.past)
        self.subscriber = Subscriber(self.hub, self)
        self.taken: list[str] = []

    def take(self, frames: bytes) -> None:
        """What the live hub sends."""
        self.taken += short(frames)

    def read_on(self) -> list[str]:
        """The past comes to the end of the log; what its client is sent."""
        give_rest(self.past, self.log)
        return pulled(self.past)

    def cut_over(self, *, forced: bool = False) -> bool:
        return whole(cut_over(self.past, self.hub, self.subscriber, "t", forced=forced))

    def live(self) -> list[str]:
        """What the live subscriber is sent to be in step."""
        told: list[str] = []
        while not self.subscriber.in_step:
            told += short(self.subscriber.pull(BYTES))
        return told


def some_log() -> FeedLog:
    log = FeedLog()
    log.ticks(3, "trades book")
    return log


def test_where_both_stand_at_the_same_tick_the_live_hub_goes_on() -> None:
    both = Both(some_log(), "trades book", "X:A")
    assert both.cut_over()
    assert both.live() == ["caught_up t"]
    both.log.tick("trades book")
    both.follow()
    assert both.taken == ["update trades X:A 3", "update book X:A 3"]


def test_what_memory_has_beyond_the_past_is_sent_first() -> None:
    both = Both(some_log())
    both.log.ticks(2)
    both.follow()
    assert both.cut_over()
    assert both.live() == ["update trades X:A 3", "update trades X:A 4", "caught_up t"]


def test_a_state_of_a_book_is_no_update_that_a_client_has_to_have() -> None:
    both = Both(some_log(), "book")
    both.log.source.stale("X:A", "gap")
    both.log.record()
    both.follow()
    assert both.cut_over()
    assert both.live() == ["state book X:A 3 stale", "caught_up t"]


def test_a_book_of_which_only_a_doubt_is_known_meets_itself() -> None:
    log = FeedLog()
    log.source.stale("X:A", "gap")
    log.record()
    both = Both(log, "book")
    assert both.sent == ["state book X:A 0 stale"]
    assert both.cut_over()
    assert both.live()[-1] == "caught_up t"
    log.source.stale("X:A", None)
    log.tick("book")
    both.follow()
    assert both.taken == ["state book X:A 1 ok", "update book X:A 2"]


def test_memory_that_is_behind_the_past_does_not_meet_it() -> None:
    both = Both(some_log())
    both.log.tick()
    both.read_on()
    assert not both.cut_over()
    both.follow()
    assert both.cut_over()


def test_a_channel_that_began_meanwhile_has_to_be_read_first() -> None:
    both = Both(some_log(), "trades", "*")
    both.log.tick("trades", "X:B")
    both.follow()
    assert not both.cut_over()
    assert both.read_on() == ["joined trades X:B live -1", "update trades X:B 3"]
    assert both.cut_over()
    assert both.live() == ["caught_up t"]


@pytest.mark.parametrize("symbol", ["X:A", "X:B"])
def test_one_that_memory_does_not_have_yet_is_waited_for(symbol: str) -> None:
    both = Both(some_log(), "trades quotes", "*")
    both.log.tick("quotes", symbol)
    assert len(both.read_on()) == 2
    assert not both.cut_over()
    both.follow()
    assert both.cut_over()


def test_a_source_that_has_ended_is_told_by_the_past() -> None:
    both = Both(some_log())
    both.log.new_source()
    both.log.record()
    both.follow()
    assert not both.cut_over()
    assert both.read_on() == ["gap trades X:A 2..2 source", "snapshot trades X:A 2"]
    assert both.cut_over()


def test_a_hole_that_the_past_has_yet_to_tell_is_told_first() -> None:
    log = some_log()
    both = Both(log, "book")
    log.tick("book")
    log.tick("book")
    both.follow()
    lost = both.past.reopen_log(both.past.logs[0], len(log.records) - 1)
    both.past.give(lost, log.records[-1:])
    assert pulled(both.past) == []
    assert not both.cut_over()  # of tick 3 nothing was read: a snapshot is awaited
    log.keyframe("X:A")
    both.follow()
    both.past.give(lost, log.records[-1:])
    assert pulled(both.past) == ["gap book X:A 2..4 evicted", "snapshot book X:A 4"]
    assert both.cut_over()


def test_channels_that_nobody_wants_are_not_compared() -> None:
    both = Both(some_log(), "trades", "X:A")
    both.log.tick("quotes trades", "X:B")
    both.log.tick("quotes", "X:A")
    both.follow()
    assert both.cut_over()
    assert both.live() == ["caught_up t"]


def test_a_name_that_has_not_begun_comes_from_its_first_update_on() -> None:
    both = Both(some_log(), "trades quotes", "X:A X:B")
    both.hub.expect("X:B", "x/0@a")
    assert both.past.named == [(kind, symbol) for symbol in ("X:A", "X:B") for kind in ("trades", "quotes")]
    assert both.cut_over()
    assert both.live() == ["caught_up t"]
    both.log.tick("quotes", "X:A")
    both.log.tick("trades", "X:B")
    both.follow()
    assert both.taken == ["update quotes X:A 3", "update trades X:B 4"]


def test_what_the_live_subscriber_had_of_a_channel_is_replaced() -> None:
    both = Both(some_log(), "trades", "X:*")
    other = Both(both.log, "trades", "X:*")
    other.hub, other.subscriber = both.hub, both.subscriber
    assert both.cut_over()
    assert both.live() == ["caught_up t"]
    assert other.cut_over()
    assert both.live() == ["caught_up t"]
    both.log.tick()
    both.follow()
    assert both.taken == ["update trades X:A 3"]


class TestForced:
    """The log has lost what lies between, or will never say it."""

    def test_a_channel_goes_on_with_a_gap_from_where_its_client_is(self) -> None:
        both = Both(some_log(), "trades book", "X:*")
        both.log.tick()
        both.forget()
        assert not both.cut_over()
        assert both.cut_over(forced=True)
        # its book has not changed since
        assert both.live() == ["gap trades X:A 2..3 evicted", "caught_up t"]

    def test_of_another_source_nothing_is_known(self) -> None:
        both = Both(some_log(), "trades book")
        both.log.new_source()
        both.follow()
        assert both.cut_over(forced=True)
        assert both.live() == [
            "gap trades X:A -1..2 evicted",
            "gap book X:A -1..2 evicted",
            "snapshot book X:A 2",
            "caught_up t",
        ]

    def test_one_that_the_past_does_not_know_is_told_by_joined(self) -> None:
        both = Both(some_log(), "trades", "X:*")
        both.log.tick("trades", "X:B")
        both.forget()
        assert both.cut_over(forced=True)
        assert both.live() == ["joined trades X:B gap -1", "gap trades X:B -1..3 evicted", "caught_up t"]

    def test_one_that_was_asked_for_by_name_needs_no_joined(self) -> None:
        both = Both(some_log(), "trades", "X:A X:B")
        both.log.tick("trades", "X:B")
        both.forget()
        assert both.cut_over(forced=True)
        assert both.live() == ["gap trades X:B -1..3 evicted", "caught_up t"]


class TestSteps:
    """It is compared in steps, and the market goes on between them."""

    @pytest.fixture(autouse=True)
    def _one_channel_a_step(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(cutover, "STRIDE", 1)

    def in_steps(self, both: Both, between: Callable[[], None]) -> bool:
        """All steps, and what happens between them."""
        steps = cut_over(both.past, both.hub, both.subscriber, "t")
        while True:
            try:
                next(steps)
            except StopIteration as ended:
                return bool(ended.value)
            between()

    def test_nothing_is_joined_before_all_is_compared(self) -> None:
        both = Both(some_log(), "trades book", "*")
        joins: list[int] = []
        assert self.in_steps(both, lambda: joins.append(len(both.subscriber.joins)))
        assert len(joins) >= 2
        assert set(joins) == {0}
        assert len(both.subscriber.joins) == 1

    def test_what_has_changed_meanwhile_is_compared_again(self) -> None:
        both = Both(some_log(), "trades", "*")

        def begins() -> None:
            if "X:B" not in both.hub.names:
                both.log.tick("trades", "X:B")
                both.follow()

        assert not self.in_steps(both, begins)  # the past does not know it
        assert both.subscriber.joins == []

    def test_what_is_unsubscribed_meanwhile_is_not_joined(self) -> None:
        both = Both(some_log(), "trades book", "X:A")
        interest, listing = both.past.subscriber.interest, both.past.hub.names["X:A"]

        def unsubscribes() -> None:
            if interest.has(listing, KIND_BIT["trades"]):
                interest.remove(listing, KIND_BIT["trades"])

        assert self.in_steps(both, unsubscribes)
        assert both.live() == ["caught_up t"]
        both.log.tick("trades book")
        both.follow()
        assert both.taken == ["update book X:A 3"]

    def test_where_something_changes_all_the_time_it_is_done_at_once(self) -> None:
        both = Both(some_log(), "trades", "*")
        count = 0

        def begins() -> None:
            nonlocal count
            count += 1
            both.log.tick("trades", f"X:{count}")
            both.read_on()
            both.follow()

        assert self.in_steps(both, begins)
        assert count >= cutover._ATTEMPTS_MAX - 1


def test_a_client_that_wants_nothing_of_it_any_more_hears_that_it_has_caught_up() -> None:
    both = Both(some_log())
    tell_caught_up(both.hub, both.subscriber, "t")
    assert both.live() == ["caught_up t"]
