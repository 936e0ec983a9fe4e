"""What comes in pieces is seen as a whole, or not at all: records in, what a client has out."""

from __future__ import annotations

import json
from typing import Any

import pytest

from feed.channels.channel import Channel, Listing
from feed.channels.intake import keyframes
from feed.channels.source import Source
from feed.channels.steps import whole
from feed.wire.model import Book
from tests.feed.channels.desk import Desk
from tests.feed.channels.test_intake import sent, subscribed

NAME = "x/0@a"


def messages_of(value: bytes) -> list[Any]:
    found = json.loads(value)
    assert isinstance(found, list)
    return found


def text(messages: list[Any]) -> bytes:
    return json.dumps(messages, separators=(",", ":")).encode()


def levels(count: int) -> list[tuple[str, str]]:
    return [(f"{number}.{number % 9 + 1}", f"{number}.123456789") for number in range(1, count)]


def cut_keyframe(desk: Desk, parts: int) -> list[Any]:
    """The book's keyframe in so many parts, a level each."""
    (message,) = messages_of(desk.source.keyframe("X:A"))
    bids = message["data"]["bids"]
    assert len(bids) == parts
    return [
        {**message, "data": {"bids": [bid], "asks": []}, "part": [number, parts]} for number, bid in enumerate(bids, 1)
    ]


def book_of(desk: Desk) -> Any:
    found = whole(desk.hub.snapshot("book", "X:A"))
    return None if found is None else [json.loads(one) for one in found]


@pytest.mark.parametrize("flushed", [False, True])
def test_a_tick_over_several_records_is_seen_when_the_last_one_covers_it(flushed: bool) -> None:
    desk = Desk()
    desk.step("trades quotes book")
    link = subscribed(desk, "trades quotes book")
    desk.tick("trades quotes book", hole=True)
    records = desk.source.records()
    for number, (pos, last, value) in enumerate(records, 1):
        desk.hub.data(NAME, pos, last, value, last + 1)
        if flushed or number == len(records):
            desk.flush()
        if number < len(records):
            assert [len(sent(link, kind)) for kind in ("trades", "quotes", "book")] == [1, 1, 1]
    assert [m["type"] for m in sent(link, "trades")] == ["snapshot", "gap", "update"]
    for kind in ("trades", "quotes", "book"):
        desk.agrees(link, kind)


def test_a_hole_at_the_end_of_a_record_waits_for_its_update() -> None:
    desk = Desk()
    desk.step("trades")
    link = subscribed(desk, "trades")
    desk.tick("trades", hole=True)
    pos, last, value = desk.source.record()
    gap, update = messages_of(value)
    desk.hub.data(NAME, pos, pos, text([gap]), 2)
    desk.flush()
    assert len(sent(link, "trades")) == 1
    desk.hub.data(NAME, pos, last, text([update]), 2)
    desk.flush()
    assert [m["type"] for m in sent(link, "trades")][1:] == ["gap", "update"]
    desk.agrees(link, "trades")


def test_an_update_in_parts_is_seen_when_its_last_part_has_come() -> None:
    desk = Desk()
    desk.step("book")
    link = subscribed(desk, "book")
    desk.tick("book", parts=True)
    pos, last, value = desk.source.record()
    first, second = messages_of(value)
    # the first part alone, as of an update that was begun, then all of it again
    desk.hub.data(NAME, pos, last, text([first]), 2)
    desk.flush()
    assert len(sent(link, "book")) == 1
    desk.hub.data(NAME, pos, last, text([first, second]), 2)
    desk.flush()
    assert [m["part"] for m in sent(link, "book")[1:]] == [[1, 2], [2, 2]]
    desk.agrees(link, "book")
    # parts of the one before are not those of the next
    desk.tick("book", parts=True)
    desk.read()
    desk.agrees(link, "book")


@pytest.mark.parametrize(
    ("order", "stands"),
    [([0, 1, 2], True), ([0, 2], False), ([1, 2], False), ([0, 1, 0, 1, 2], True), ([0, 1], False)],
)
def test_a_snapshot_in_parts_counts_when_all_of_them_came_in_order(order: list[int], stands: bool) -> None:
    truth = Desk()
    truth.change("book", Book([("3", "1"), ("2", "1"), ("1", "1")], []))
    parts = cut_keyframe(truth, 3)
    desk = Desk()
    for index in order:
        desk.hub.keyframe(NAME, "X:A", text([parts[index]]))
        desk.flush()
    found = book_of(desk)
    if not stands:
        assert found is None
    else:
        assert [bid for message in found for bid in message["data"]["bids"]] == [["3", "1"], ["2", "1"], ["1", "1"]]


def test_a_state_belongs_to_the_snapshot_before_it_or_stands_alone() -> None:
    truth = Desk()
    truth.step("quotes book")
    truth.source.stale("X:A", "gap")
    value = truth.source.keyframe("X:A")
    assert [m["type"] for m in messages_of(value)] == ["snapshot", "snapshot", "state"]
    source = Source(NAME, 0)
    (_, quotes), (_, book) = keyframes(source, value)
    assert (quotes.state, quotes.covers) == (None, 0)
    assert book.state is not None
    assert (book.seq, book.covers) == (0, 1)
    quote, _, state = messages_of(value)
    ((_, alone), (head, told)) = keyframes(source, text([quote, state]))
    assert alone.state is None
    assert (head.channel, told.seq, told.messages, told.covers) == ("book", -1, [], 1)
    other = {**quote, "type": "joined"}
    assert list(keyframes(source, text([other]))) == []


def test_a_book_in_parts_is_taken_up_with_its_state() -> None:
    truth = Desk()
    truth.change("book", Book(levels(20_000), []))
    truth.source.stale("X:A", "checksum")
    truth.read()
    messages = messages_of(truth.source.keyframe("X:A"))
    assert len(messages) > 2
    desk = Desk()
    for message in messages[:-2]:
        desk.hub.keyframe(NAME, "X:A", text([message]))
    desk.hub.keyframe(NAME, "X:A", text(messages[-2:]))
    desk.flush()
    assert book_of(desk) == messages


def test_a_source_that_follows_another_one_lets_go_of_it_and_of_those_before() -> None:
    first, second, third = (Source(f"x/0@{name}", number) for number, name in enumerate("abc"))
    first.stand(7)
    second.replace(first)
    third.replace(second)
    assert (first.over, second.over, third.over) == (True, True, False)
    assert (second.ended, second.ended_pos) == ("x/0@a", 7)
    assert [third.release_ended(), third.release_ended(), third.release_ended()] == [second, first, None]


def test_a_source_of_another_hub_knows_what_this_one_does() -> None:
    raw, seen = Source("x/0@b", 0), Source("x/0@b", 0)
    raw.replace(Source("x/0@a", 1))
    raw.begin(complete=True, untouched=False)
    assert raw.change_state("stale", "silent", b"told")
    assert not raw.change_state("stale", "silent", b"told")
    seen.begin_as(raw)
    assert (seen.state, seen.reason, seen.notice, seen.ended, seen.complete) == (
        "stale",
        "silent",
        b"told",
        "x/0@a",
        True,
    )
    assert raw.change_state("ok", None, b"told")
    assert raw.notice is None


def test_a_source_never_goes_back() -> None:
    source = Source("x/0@a", 0)
    for position in (5, 3):
        source.stand(position)
        source.evict(position)
        source.raise_floor(position + 2)
    assert (source.pos, source.evicted, source.floor) == (5, 5, 7)
    assert [source.may_miss(after) for after in (4, 6, 7)] == [True, True, False]
    source.confirm()
    assert source.confirms == 1


def test_the_channels_that_a_source_goes_on_with_are_its_until_it_gives_them_back() -> None:
    source = Source("x/0@a", 0)
    channel = Channel(Listing("X:A", 0, source), "trades", source)
    source.inherit(channel, complete=True)
    assert source.disinherit() == {channel: True}
    assert source.disinherit() == {}
    source.inherit(channel, complete=False)
    source.clear()
    assert (source.channels, source.leftover) == ({}, {})


def test_a_snapshot_of_which_a_part_is_missing_is_none() -> None:
    source = Source("x/0@a", 0)
    assert source.add_part((1, 3), b"a") is None
    assert source.add_part((3, 3), b"c") is None
    assert source.add_part((1, 2), b"a") is None
    assert source.add_part((2, 2), b"b") == [b"a", b"b"]
