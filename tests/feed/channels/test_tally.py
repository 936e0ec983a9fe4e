"""The sums of a client of views: each update of the raw channel is delivered, or merged into one that is."""

from __future__ import annotations

import json

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
