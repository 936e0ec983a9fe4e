"""What was recorded, on its way to a client: states first, then messages as they are, and every hole named."""

from __future__ import annotations

import json

import pytest

from feed.backfill import recorded as recorded_module
from feed.backfill.recorded import RecordedMessage, RecordedPart, RecordedState
from feed.wire.model import GapReason, Kind, OnLag, Result
from tests.feed.backfill.logs import messages, short
from tests.reference_client import payloads

SOURCE = "toy/0@a"
END = {("trades", "TOY:A"): (SOURCE, 21), ("book", "TOY:A"): (SOURCE, 21)}


class Everything:
    """A client that wants all; `without`: but these kinds. `named`: it asked for channels by name."""

    def __init__(self, *, named: bool = False) -> None:
        self.without: set[str] = set()
        self.named = named

    def wants(self, kind: str, symbol: str) -> bool:
        return kind not in self.without

    def announces(self, kind: str, symbol: str) -> bool:
        return not self.named

    def on_lag(self, kind: str, symbol: str) -> OnLag:
        return "close" if kind == "book" else "skip"


def message(kind: Kind, what: str, seq: int, **more: object) -> RecordedMessage:
    told = {"type": what, "channel": kind, "symbol": "TOY:A"}
    told |= {"source": SOURCE} if what != "update" else {}
    text = json.dumps(told | more | {"seq": seq}, separators=(",", ":")).encode()
    return RecordedMessage(kind, "TOY:A", SOURCE, text)


def update(kind: Kind, seq: int, prev: int | None = None) -> RecordedMessage:
    return message(kind, "update", seq, prev=seq - 1 if prev is None else prev)


def state(kind: Kind, seq: int) -> RecordedState:
    told = [message(kind, "snapshot", seq).message]
    if kind == "book":
        told.append(message(kind, "state", seq, state="stale").message)
    return RecordedState(SOURCE, seq, told)


def part(
    states: dict[tuple[str, str], RecordedState] | None = None,
    *,
    marks: dict[str, int] | None = None,
    late: GapReason | None = None,
) -> RecordedPart:
    return RecordedPart({SOURCE: 30}, END, states or {}, client_marks=marks or {}, late=late)


def told(one: RecordedPart) -> list[str]:
    return short(one.pull(1 << 20))


def test_states_come_first_then_messages_as_they_are() -> None:
    one = part({("trades", "TOY:A"): state("trades", 3), ("book", "TOY:A"): state("book", 4)})
    one.begin(Everything(named=True))
    updates = [update("trades", 5), update("book", 6), update("trades", 7, 5)]
    one.give(updates)
    frames = one.pull(1 << 20)
    assert short(frames) == [
        "snapshot trades TOY:A 3",
        "snapshot book TOY:A 4",
        "state book TOY:A 4 stale",
        "update trades TOY:A 5",
        "update book TOY:A 6",
        "update trades TOY:A 7",
    ]
    (payload,) = payloads(frames)
    assert payload.endswith(b",".join([each.message for each in updates]) + b"]")
    assert one.last(("trades", "TOY:A")) == 7
    assert one.last(("quotes", "TOY:A")) == -1


def test_a_channel_of_a_pattern_is_told_by_joined_once() -> None:
    one = part({("book", "TOY:A"): state("book", 4)})
    one.begin(Everything())
    one.give([update("trades", 0), update("trades", 1)])
    frames = one.pull(1 << 20)
    assert short(frames) == [
        "joined book TOY:A snapshot 4",
        "snapshot book TOY:A 4",
        "state book TOY:A 4 stale",
        "joined trades TOY:A live -1",
        "update trades TOY:A 0",
        "update trades TOY:A 1",
    ]
    assert [each["on_lag"] for each in messages(frames) if each["type"] == "joined"] == ["close", "skip"]
    assert one.told == {("book", "TOY:A"), ("trades", "TOY:A")}


def test_what_a_client_does_not_want_any_more_is_left_out() -> None:
    one, client = part({("trades", "TOY:A"): state("trades", 3), ("book", "TOY:A"): state("book", 4)}), Everything()
    client.without = {"book"}
    one.begin(client)
    one.give([update("trades", 5), update("book", 6)])
    assert told(one) == ["joined trades TOY:A snapshot 3", "snapshot trades TOY:A 3", "update trades TOY:A 5"]
    client.without = {"book", "trades"}
    one.give([update("trades", 6)])
    assert one.due
    assert one.pull(1 << 20) == b""
    assert not one.due


def test_pages_are_about_so_long_and_frames_are_of_bounded_size(monkeypatch: pytest.MonkeyPatch) -> None:
    one = part()
    one.begin(Everything(named=True))
    one.give([update("trades", seq) for seq in range(40)])
    assert len(messages(one.pull(1))) == 1
    size = len(update("trades", 10).message)
    monkeypatch.setattr(recorded_module, "PART_BYTES_MAX", 3 * size)
    frames = one.pull(7 * size)
    assert [len(json.loads(payload)) for payload in payloads(frames)] == [3, 3, 2]
    assert one.due


def test_it_is_done_when_all_that_was_given_is_sent_and_no_more_comes() -> None:
    one = part()
    one.begin(Everything())
    assert not one.due
    assert not one.done
    one.give([update("trades", 0)])
    one.end()
    assert one.ended
    assert not one.broke_off
    assert not one.done
    one.pull(1)
    assert one.done


def test_one_that_breaks_off_says_so() -> None:
    one = part()
    one.end(broke_off=True)
    assert one.ended
    assert one.broke_off


def test_one_that_begins_later_than_asked_for_has_gaps_before_its_states() -> None:
    states = {("trades", "TOY:A"): state("trades", 3), ("book", "TOY:A"): state("book", 4)}
    states["trades", "TOY:B"] = RecordedState(
        SOURCE, -1, [b'{"type":"snapshot","channel":"trades","symbol":"TOY:B","seq":-1}']
    )
    one = part(states, late="evicted")
    one.begin(Everything())
    frames = one.pull(1 << 20)
    assert short(frames) == [
        "joined trades TOY:A gap -1",
        "gap trades TOY:A -1..3 evicted",  # what is lost of trades is told, and no state brings it back
        "joined book TOY:A gap -1",
        "gap book TOY:A -1..4 evicted",
        "snapshot book TOY:A 4",
        "state book TOY:A 4 stale",
        "joined trades TOY:B gap -1",
        "gap trades TOY:B -1..-1 evicted",
        "snapshot trades TOY:B -1",
    ]
    assert [each["lost"] for each in messages(frames) if each["type"] == "gap"] == [True, False, False]


@pytest.mark.parametrize("kind", ["trades", "book"])
def test_a_channel_whose_first_row_is_a_snapshot_has_a_gap_before_it(kind: Kind) -> None:
    one = part()
    one.begin(Everything())
    one.give([message(kind, "snapshot", 8)])
    snapshot = [f"snapshot {kind} TOY:A 8"] if kind == "book" else []
    assert told(one) == [f"joined {kind} TOY:A live -1", f"gap {kind} TOY:A -1..8 recording", *snapshot]


@pytest.mark.parametrize("kind", ["trades", "book"])
def test_a_channel_that_begins_inside_a_hole_says_so(kind: Kind) -> None:
    one = part()
    one.begin(Everything())
    one.give([update(kind, 21)])
    joined, gap, last = messages(one.pull(1 << 20))
    assert (joined["mode"], joined["seq"]) == ("live", -1)
    assert (gap["type"], gap["reason"], gap["prev"], gap["seq"]) == ("gap", "recording", -1, 20)
    # the client goes on, or waits for the snapshot of a book
    assert gap["lost"] == (kind == "trades")
    assert last["seq"] == 21


def test_who_has_marks_of_a_source_goes_on_from_them() -> None:
    one = part(marks={SOURCE: 7})
    one.begin(Everything())
    one.give([update("trades", 8), message("book", "snapshot", 9)])
    assert told(one) == [
        "joined trades TOY:A resumed 7",
        "update trades TOY:A 8",
        "joined book TOY:A resumed 7",
        "snapshot book TOY:A 9",
    ]


class TestResult:
    """What the ack says: how a channel begins here, where it is recorded, and else as the log says."""

    log = Result("trades", "TOY:A", ok=True, mode="resumed", source=SOURCE, seq=30)

    def test_a_recorded_channel_begins_as_recorded(self) -> None:
        states = {("trades", "TOY:A"): state("trades", 3)}
        for one, mode, seq in (
            (part(states), "snapshot", 3),
            (part(states, late="evicted"), "gap", -1),
            (part(), "live", -1),
            (part(marks={SOURCE: 7}), "resumed", 7),
        ):
            result = one.result(self.log)
            assert (result.mode, result.source, result.seq) == (mode, SOURCE, seq)

    @pytest.mark.parametrize(
        "result",
        [
            Result("trades", "TOY:B", ok=True, mode="snapshot", source=SOURCE, seq=30),
            Result("trades", "TOY:A", ok=False, code="subscription_limit"),
            Result("trades", "TOY:*", ok=True, matched=4),
        ],
    )
    def test_any_other_result_stays(self, result: Result) -> None:
        assert part().result(result) is result


def test_its_partitions_are_those_of_its_sources() -> None:
    one = RecordedPart({"toy/0@a": 3, "toy/1@c": 4}, {}, {}, client_marks={}, late=None)
    assert one.partitions == {"toy/0", "toy/1"}
