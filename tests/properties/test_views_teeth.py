"""The property test of views sees what it is there for: with each of these faults planted, it fails."""

from __future__ import annotations

from typing import Any

import pytest

from feed.channels.channel import Channel
from feed.channels.conflation import Best, Quotes, _Side
from feed.channels.join import Join
from feed.channels.log import Entry
from feed.channels.state import Body
from feed.channels.subscribers import Subscribers
from feed.channels.views import View, _Seen
from feed.wire.model import Level
from feed.wire.prices import rank_of
from tests.properties.test_views import run

SEEDS = 400


def a_level_that_leaves_is_not_named(patch: pytest.MonkeyPatch) -> None:
    honest = _Side.give

    def give(self: _Side) -> list[Level]:
        return [level for level in honest(self) if level[1] != "0"]

    patch.setattr(_Side, "give", give)


def a_level_that_enters_is_not_named(patch: pytest.MonkeyPatch) -> None:
    honest = _Side.take

    def take(self: _Side, levels: list[Level]) -> bool:
        before = dict(self._touched)
        seen = honest(self, levels)
        own = {self._sign * rank_of(level[0]) for level in levels}
        self._touched = {rank: price for rank, price in self._touched.items() if rank in own or rank in before}
        return seen

    patch.setattr(_Side, "take", take)


def a_book_is_never_cut(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Best, "start", lambda self, kind, symbol, source, whole: whole)


def the_first_quote_wins(patch: pytest.MonkeyPatch) -> None:
    honest = Quotes.take

    def take(self: Quotes, body: Body) -> bool:
        return self._data is not None or honest(self, body)

    patch.setattr(Quotes, "take", take)


def what_is_pending_is_told_only_with_the_next_change(patch: pytest.MonkeyPatch) -> None:
    honest = View.flush

    def flush_view(self: View, flush: Any, now_ns: int) -> bool:
        return flush is not None and honest(self, flush, now_ns)

    patch.setattr(View, "flush", flush_view)


def a_view_stands_where_the_raw_channels_do(patch: pytest.MonkeyPatch) -> None:
    def stand(self: View) -> None:
        for source in self.hub.intake.by_index:
            if source.name in self._raw.sources:
                source.pos = max(source.pos, self._raw.current.position(self._raw.sources[source.name]))

    patch.setattr(View, "_stand", stand)


def the_chain_breaks_between_two_updates(patch: pytest.MonkeyPatch) -> None:
    honest = _Seen._close

    def close(self: _Seen, state: bytes) -> Any:
        before = self.chain
        yield from honest(self, state)
        self.chain = before

    patch.setattr(_Seen, "_close", close)


def marks_are_those_of_the_raw_channels(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Subscribers, "marks", lambda self: self.raw.marks())


def who_changes_a_view_begins_at_its_newest(patch: pytest.MonkeyPatch) -> None:
    honest = Join.after

    def after(self: Join, source: Any) -> int | None:
        found = honest(self, source)
        return source.pos if self.marks is not None and self.tells is None and found is not None else found

    patch.setattr(Join, "after", after)


def a_view_that_was_made_ahead_repeats(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Channel, "standing_at", lambda self, flush: flush.position(self.source))


def a_new_source_is_not_told(patch: pytest.MonkeyPatch) -> None:
    honest = View._give

    def give(self: View, seen: _Seen) -> None:
        seen.came = [entry for entry in seen.came if entry[3] is None or entry[3].reason != "source"]
        honest(self, seen)

    patch.setattr(View, "_give", give)


def a_beginning_is_forgotten(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(View, "_wants", lambda self, raw: False)


def a_state_alone_is_not_told(patch: pytest.MonkeyPatch) -> None:
    honest = _Seen.told

    def told(self: _Seen, entries: list[Entry]) -> Any:
        return honest(self, [entry for entry in entries if not entry[2].startswith(b"state")])

    patch.setattr(_Seen, "told", told)


FAULTS = [
    a_level_that_leaves_is_not_named,
    a_level_that_enters_is_not_named,
    a_book_is_never_cut,
    the_first_quote_wins,
    what_is_pending_is_told_only_with_the_next_change,
    a_view_stands_where_the_raw_channels_do,
    the_chain_breaks_between_two_updates,
    marks_are_those_of_the_raw_channels,
    who_changes_a_view_begins_at_its_newest,
    a_view_that_was_made_ahead_repeats,
    a_new_source_is_not_told,
    a_beginning_is_forgotten,
    a_state_alone_is_not_told,
]


@pytest.mark.slow
@pytest.mark.parametrize("plant", FAULTS, ids=lambda plant: plant.__name__)
def test_a_planted_fault_is_found(plant: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    with pytest.raises(AssertionError):
        _search()


def _search() -> None:
    for seed in range(SEEDS):
        run(seed)
