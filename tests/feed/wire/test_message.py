"""The bare form: splitting records, joining frames, without reading a message."""

from __future__ import annotations

import json

import msgspec
import pytest

from feed.channels.channel import Channel, Listing
from feed.channels.flush import joined
from feed.channels.source import Source
from feed.channels.view_spec import ViewSpec
from feed.errors import CorruptLog
from feed.wire.message import FRAME_START, bare, closed, frame, head_of, part, split, whole
from feed.wire.model import Joined, Kind, OnLag, Quote, Trade, Update
from feed.wire.record import PART_BYTES_MAX
from tests.reference_client import payloads

NASTY = 'X:},{"type":"update"\\,"prev":5,"seq":'


def update(seq: int, symbol: str = "X:A", size: int = 1) -> Update:
    return Update("trades", symbol, seq - 1, seq, None, "1", [Trade("1", "2", None, "i" * size, None)])


@pytest.mark.parametrize("symbol", ["X:A", NASTY, "X:äöü", 'X:"', "X:\\"])
def test_split_is_exact_whatever_a_symbol_is_called(symbol: str) -> None:
    messages = [update(5, symbol), update(7, symbol), update(9, symbol)]
    value = msgspec.json.encode(messages)
    pieces = split(value)
    assert pieces == [bare(message) for message in messages]
    assert [one for piece in pieces for one in whole(piece)] == [msgspec.json.encode(m) for m in messages]
    assert [head_of(piece).symbol for piece in pieces] == [symbol] * 3


def test_an_empty_record_has_no_messages() -> None:
    assert split(b"[]") == []


def test_a_frame_holds_the_messages_as_they_were() -> None:
    messages = [update(5), Update("quotes", "X:B", 1, 2, None, "1", Quote(None, None, "1", "2"))]
    (payload,) = payloads(frame([bare(message) for message in messages]))
    assert payload == msgspec.json.encode(messages)


def test_frames_are_cut_between_messages() -> None:
    messages = [bare(update(seq, size=100_000)) for seq in range(7)]
    cut = list(payloads(frame(messages)))
    assert [m["seq"] for payload in cut for m in json.loads(payload)] == list(range(7))
    assert all(len(payload) <= PART_BYTES_MAX + 300 for payload in cut)
    assert len(cut) == 4


def test_joined_messages_are_taken_apart_only_where_they_are_too_large() -> None:
    parts = [bare(update(seq, size=200_000)) for seq in range(3)]
    joined = b'},{"type":"'.join(parts)
    cut = list(payloads(frame([bare(update(9)), joined])))
    assert [m["seq"] for payload in cut for m in json.loads(payload)] == [9, 0, 1, 2]
    assert len(cut) == 3


@pytest.mark.parametrize("sizes", [[1], [1, 1, 1], [40_000, 20_000], [60_000, 60_000], [200_000, 200_000]])
def test_a_frame_of_parts_is_the_frame_of_their_messages(sizes: list[int]) -> None:
    messages = [bare(update(seq, size=size)) for seq, size in enumerate(sizes)]
    parts = [FRAME_START, b"", part(messages[:1]), b"", *([part(messages[1:])] if messages[1:] else [])]
    assert closed(parts) == frame(messages)


def test_a_frame_of_a_short_message_has_a_short_head() -> None:
    messages = [b'pong","id":1,"received":"1","time":"2"']
    assert closed([FRAME_START, part(messages)]) == frame(messages)
    assert frame(messages)[1] < 126


def test_nothing_is_no_frame() -> None:
    assert closed([FRAME_START, b"", b""]) == b""


@pytest.mark.parametrize("text", [b"", b"update", b'update","channel":"nonesuch","symbol":"X"', b'update","seq":\xff'])
def test_what_is_no_message_is_our_own_fault_and_loud(text: bytes) -> None:
    with pytest.raises(CorruptLog):
        head_of(text)


@pytest.mark.parametrize("symbol", ["X:A", NASTY, "X:äöü"])
@pytest.mark.parametrize("kind", ["book", "trades"])
@pytest.mark.parametrize("on_lag", ["skip", "close"])
def test_a_joined_that_is_put_together_is_the_struct_s(symbol: str, kind: Kind, on_lag: OnLag) -> None:
    source = Source("x/0@a", 0)
    channel = Channel(Listing(symbol, 0, source), kind, source)
    for mode, seq, spec in (
        ("snapshot", 7, ViewSpec(50, 10)),
        ("live", -1, ViewSpec()),
        ("resumed", 2**53 - 1, ViewSpec(0, 1)),
    ):
        struct = Joined(kind, symbol, mode, source.name, seq, on_lag, *spec.of(kind))
        assert joined(channel, mode, source.name, seq, on_lag, spec) == bare(struct)
