"""When the newest tick was received of what a flush has: for how long delivery takes."""

from __future__ import annotations

import json

from feed.wire.record import EMPTY
from tests.feed.channels.desk import Desk


def test_the_newest_tick_of_what_came_in_since_the_last_look() -> None:
    desk = Desk()
    assert desk.hub.received_ns() == 0
    seen: set[int] = set()
    for _ in range(3):
        desk.tick("trades quotes")
        pos, last, value = desk.source.record()
        desk.hub.data("x/0@a", pos, last, value, last + 1)
        newest = int(json.loads(value)[-1]["ts_recv"])
        seen.add(newest)
    desk.hub.data("x/0@a", last, last, EMPTY, last + 1)
    assert desk.hub.received_ns() == newest == max(seen)
    assert len(seen) == 3
    assert desk.hub.received_ns() == 0


def test_words_that_look_like_a_time_are_none() -> None:
    hub = Desk().hub
    message = {"type": "update", "channel": "status", "symbol": "X:A", "prev": -1, "seq": 1, "ts_event": None}
    data = {"action": "halt", "reason": '"ts_recv":"9"'}
    text = json.dumps([{**message, "ts_recv": "1700000000000000005", "data": data}], separators=(",", ":"))
    hub.data("x/0@a", 0, 1, text.encode(), 2)
    assert hub.received_ns() == 1_700_000_000_000_000_005
