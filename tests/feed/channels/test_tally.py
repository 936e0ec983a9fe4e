"""The sums: each update is delivered, merged into one that is, in a gap, left or pending."""

from __future__ import annotations

import json

import pytest
from msgspec import UNSET

from feed.channels.tally import Account, Tally, hidden_in, updates_in
from feed.wire.message import JOINT, bare
from feed.wire.model import Gap, Quote, State, Update
from tests.feed.channels.desk import Desk, Link

MS = 1_000_000


def updates(link: Link) -> list[int]:
    """For how many updates of the raw channel each update stands that a client was sent."""
    messages = [message for frame in link.frames for message in json.loads(frame)]
    return [message.get("count", 1) for message in messages if message["type"] == "update"]


def test_what_is_merged_is_counted_from_the_join_to_the_end() -> None:
    desk = Desk()
    early, late, raw = desk.link(), desk.link(), desk.link()
    desk.step("quotes")
    early.subscribe("quotes", "X:A", every_ms=50)
    for number in range(200):
        if number == 90:
            late.subscribe("quotes", "X:A", every_ms=50)
            raw.subscribe("quotes", "X:A")
        desk.now += 7 * MS
        desk.step("quotes")
    desk.now += 100 * MS
    desk.flush()
    for link in (early, late):
        account, seen = link.session.subscribers.account(), updates(link)
        assert account.delivered == len(seen) < 40
        assert account.merged == sum(seen) - len(seen) > 80
        assert account.all == account.delivered + account.merged
        assert account.pending == account.gapped == account.left == 0
    assert early.session.subscribers.account().all == 200
    assert raw.session.subscribers.account().merged == 0
    told = desk.merged
    assert told == sum(link.session.subscribers.account().merged for link in (early, late))
    early.ask("unsubscribe", "quotes", "X:A")
    late.session.close()
    assert desk.merged == told


def said(seq: int, *, count: int = 1, part: tuple[int, int] | None = None) -> bytes:
    """An update of a view that stands for so many, in bare form."""
    return bare(
        Update(
            "quotes",
            "X:A",
            seq - 1,
            seq,
            None,
            "5",
            Quote("1", "2", None, None),
            count=count if count > 1 else UNSET,
            part=part or UNSET,
        )
    )


STATE = bare(State("x/0@a", "book", "X:A", 5, "stale", "gap", "5"))
GAP = bare(Gap("trades", "X:A", "x/0@a", 1, 5, None, "venue", lost=True))


@pytest.mark.parametrize(
    ("messages", "updates", "hidden"),
    [
        ([said(5)], 1, 0),
        ([said(5, count=4)], 1, 3),
        ([said(5, count=4), STATE], 1, 3),
        ([GAP, said(5, count=2), said(6)], 2, 1),
        ([STATE], 0, 0),
        ([said(5, count=4, part=(1, 2))], 0, 0),
        ([said(5, count=4, part=(1, 2)), said(5, count=4, part=(2, 2))], 1, 3),
        ([said(5, part=(12, 12))], 1, 0),
        ([said(5, part=(2, 12))], 0, 0),
    ],
)
def test_an_update_counts_where_it_ends(messages: list[bytes], updates: int, hidden: int) -> None:
    assert updates_in(JOINT.join(messages)) == updates
    assert hidden_in(JOINT.join(messages)) == hidden


def test_the_sums_agree_at_any_moment() -> None:
    tally = Tally()
    tally.settled -= 10  # it began when its channel had had ten
    tally.delivered, tally.gapped, tally.gaps = 3, 2, 1
    account = tally.account(had=17, hidden=4)
    assert account == Account(all=11, delivered=3, merged=4, gapped=2, left=0, pending=2, gaps=1)
    assert account.all == sum(account[1:6])
