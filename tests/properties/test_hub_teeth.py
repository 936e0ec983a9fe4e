"""The property test of the hub sees what it is there for: with each of these faults planted, it fails."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from feed.channels import flush as flush_module
from feed.channels import intake
from feed.channels import tally as tally_module
from feed.channels.channel import Channel
from feed.channels.flush import Flush
from feed.channels.hub import Hub
from feed.channels.join import Join
from feed.channels.log import ChannelLog, Run
from feed.channels.lost import LostUpdates
from feed.channels.selection import PatternInterest, Selections
from feed.channels.shared import Openings
from feed.channels.subscriber import Subscriber
from tests.properties.test_hub import Gateways

SEARCH = settings(
    max_examples=9000,
    stateful_step_count=40,
    deadline=None,
    database=None,
    derandomize=True,
    phases=[Phase.generate],
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)


def entries_are_lost_in_silence(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Channel, "missed", lambda self, after: False)


def a_resume_repeats_an_update(patch: pytest.MonkeyPatch) -> None:
    honest = Channel.after
    patch.setattr(Channel, "after", lambda self, position: honest(self, position - 1))


def a_resume_skips_an_update(patch: pytest.MonkeyPatch) -> None:
    honest = Channel.after
    patch.setattr(Channel, "after", lambda self, position: honest(self, position)[1:])


def a_resume_ahead_is_not_held(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Subscriber, "_held", lambda self, id_, bit, seq: False)


def marks_of_a_reader_behind_are_the_newest(patch: pytest.MonkeyPatch) -> None:
    honest = Subscriber.marks

    def marks(self: Subscriber) -> dict[str, int]:
        positions = {name: source.pos for name, source in self._hub.sources.items()}
        return {name: positions.get(name, seq) for name, seq in honest(self).items()}

    patch.setattr(Subscriber, "marks", marks)


def a_reader_left_behind_skips_its_flush(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Hub, "served", property(lambda self: self.current))


def nobody_hears_of_new_symbols(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(PatternInterest, "announces", lambda self, channel: False)


def new_symbols_are_not_selected(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Selections, "open_channel", lambda self, birth: None)


def a_fold_forgets_the_last_update(patch: pytest.MonkeyPatch) -> None:
    from feed.channels import channel

    honest = channel.fold

    def forgetful(kind: Any, symbol: str, source: str, start: Any, entries: Any, *rest: Any) -> Any:
        return honest(kind, symbol, source, start, list(entries)[:-1], *rest)

    patch.setattr(channel, "fold", forgetful)


def the_log_is_cut_at_the_newest_keyframe(patch: pytest.MonkeyPatch) -> None:
    def trim(self: Channel) -> None:
        self.log_from = self.log.trim(self.source.evicted) or self.log_from

    patch.setattr(Channel, "trim", trim)


def a_keyframe_of_a_source_that_ended_is_taken(patch: pytest.MonkeyPatch) -> None:
    honest = Flush.commit

    def commit(self: Flush, *arguments: Any) -> None:
        offers = list(self.offered_snapshots)
        honest(self, *arguments)
        for channel, _, keyframe in offers:
            if channel.base is not None:
                channel.base = keyframe

    patch.setattr(flush_module.Flush, "commit", commit)


def a_lag_is_not_named(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Join, "after", lambda self, source: None)


def where_a_reader_stood_is_not_noted(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(LostUpdates, "_note", lambda self, channel, number, message, newest: None)


def a_told_state_counts_as_an_update(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(flush_module, "updates_in", lambda message: 1)


def a_flush_that_could_not_be_sent_counts(patch: pytest.MonkeyPatch) -> None:
    honest = Subscriber.leave_behind

    def leave_behind(self: Subscriber) -> None:
        self._tally.delivered += self.in_step
        honest(self)

    patch.setattr(Subscriber, "leave_behind", leave_behind)


def parts_count_as_updates(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(tally_module, "_ends_update", lambda message: message.startswith(b"update"))


def a_run_is_one_update(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(flush_module, "Run", lambda seq, bit, text, updates: Run(seq, bit, text, 1))


def a_run_is_given_whole(patch: pytest.MonkeyPatch) -> None:
    def after(self: ChannelLog, seq: int) -> list[bytes]:
        return [
            item.text if isinstance(item, Run) else item[2]
            for item in self._items
            if (item.seq if isinstance(item, Run) else item[0]) > seq
        ]

    patch.setattr(ChannelLog, "after", after)


def a_run_is_dropped_at_its_first_update(patch: pytest.MonkeyPatch) -> None:
    def trim(self: ChannelLog, bound: int) -> int | None:
        last = None
        while self and next(iter(self))[0] <= bound:
            item = self._items.popleft()
            last = item.seq if isinstance(item, Run) else item[0]
        return last

    patch.setattr(ChannelLog, "trim", trim)


def runs_of_a_symbol_follow_each_other(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(flush_module, "in_order", lambda entries: entries)


def what_follows_a_run_stands_alone(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(flush_module.Flush, "list_of", lambda self, listing: self.changed.setdefault(listing.id, []))


def a_state_is_that_of_the_snapshot_before_it(patch: pytest.MonkeyPatch) -> None:
    honest = intake.keyframes

    def keyframes(source: Any, value: bytes) -> Any:
        found: list[Any] = []
        for head, folded in honest(source, value):
            if folded.messages or not found:
                found.append((head, folded))
            else:
                found[-1] = found[-1][0], found[-1][1]._replace(state=folded.state)
        return found

    patch.setattr(intake, "keyframes", keyframes)


def who_joins_live_hears_of_no_state(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Channel, "doubt_at", lambda self, position: [])


def what_changes_is_not_told_to_openings(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Openings, "touch", lambda self, ids, number: None)


def openings_that_are_given_up_are_used(patch: pytest.MonkeyPatch) -> None:
    honest = Subscriber._join_block

    def join_block(self: Subscriber, join: Join, page: Any) -> bool:
        openings = None if join.shares is None else join.shares[0]
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(Hub, "openings", lambda hub, plan: openings)
            return honest(self, join, page)

    patch.setattr(Subscriber, "_join_block", join_block)


def what_begins_is_told_before_the_answer(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        Subscriber, "follows", property(lambda self: not self.in_step and self.cursor is not self._hub.current)
    )


FAULTS = [
    entries_are_lost_in_silence,
    a_resume_repeats_an_update,
    a_resume_skips_an_update,
    a_resume_ahead_is_not_held,
    marks_of_a_reader_behind_are_the_newest,
    a_reader_left_behind_skips_its_flush,
    nobody_hears_of_new_symbols,
    new_symbols_are_not_selected,
    a_fold_forgets_the_last_update,
    the_log_is_cut_at_the_newest_keyframe,
    a_keyframe_of_a_source_that_ended_is_taken,
    a_lag_is_not_named,
    where_a_reader_stood_is_not_noted,
    a_told_state_counts_as_an_update,
    a_flush_that_could_not_be_sent_counts,
    parts_count_as_updates,
    a_run_is_one_update,
    a_run_is_given_whole,
    a_run_is_dropped_at_its_first_update,
    runs_of_a_symbol_follow_each_other,
    what_follows_a_run_stands_alone,
    a_state_is_that_of_the_snapshot_before_it,
    who_joins_live_hears_of_no_state,
    what_changes_is_not_told_to_openings,
    openings_that_are_given_up_are_used,
    what_begins_is_told_before_the_answer,
]


@pytest.mark.slow
@pytest.mark.parametrize("plant", FAULTS, ids=lambda plant: plant.__name__)
def test_a_planted_fault_is_found(plant: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    with pytest.raises(AssertionError):
        run_state_machine_as_test(Gateways, settings=SEARCH)
