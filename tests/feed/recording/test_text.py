"""Messages as columns and back: every byte the same."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from feed.errors import BadTick, CorruptLog
from feed.recording.columns import Dictionaries, Places, gaps_of, lines_of, parse, rows_of, states_of
from feed.recording.json_text import if_there, joined, strings
from feed.recording.tables import GAPS, STATES
from feed.recording.text import messages_of
from feed.venues.source import Source
from feed.venues.symbol import Rules
from feed.venues.table import venue
from feed.wire.message import bare
from feed.wire.model import (
    Bar,
    Book,
    Gap,
    Instrument,
    Quote,
    Snapshot,
    State,
    Status,
    Trade,
    Update,
)
from feed.wire.parts import parted
from tests.feed.recording.test_decimals import canonical, prices
from tests.feed.venues.playing import BIG, CAPTURES, captured, ticks

encode = msgspec.json.encode
words = st.text(max_size=8)
times = st.integers(0, 2**63 - 1).map(str)
numbers, priced = canonical(), prices()
maybe = lambda values: st.none() | values  # noqa: E731  # reads as the schema does
DATA: dict[str, st.SearchStrategy[Any]] = {
    "trades": st.lists(
        st.builds(
            Trade,
            priced,
            numbers,
            maybe(st.sampled_from(["buy", "sell"])),
            maybe(words),
            maybe(times),
            st.just(UNSET) | st.lists(words, min_size=1, max_size=3),
            st.just(UNSET) | words,
        ),
        max_size=3,
    ),
    "quotes": st.builds(Quote, *[maybe(priced), maybe(numbers)] * 2),
    "book": st.builds(Book, *[st.lists(st.tuples(priced, numbers), max_size=4)] * 2),
    "bars": st.lists(
        st.builds(
            Bar, st.sampled_from(["1s", "1m"]), times, *[priced] * 4, numbers, st.integers(0, 2**53 - 1), st.booleans()
        ),
        max_size=3,
    ),
    "status": st.builds(Status, st.sampled_from(["trading", "halt", "pre-open"]), maybe(words)),
    "instruments": st.builds(
        Instrument, words, words, *[maybe(words)] * 3, *[maybe(numbers)] * 2, st.lists(words, max_size=3)
    ),
}
positions = st.integers(-1, 2**53 - 1)


@st.composite
def messages(draw: st.DrawFn, kind: str) -> list[Any]:
    """Updates and snapshots of one kind, mixed."""
    made: list[Any] = []
    for _ in range(draw(st.integers(1, 6))):
        symbol, data = f"X:{draw(words)}", draw(DATA[kind])
        if draw(st.booleans()):
            made.append(Update(kind, symbol, draw(positions), draw(positions), draw(maybe(times)), draw(times), data))  # type: ignore[arg-type]
        else:
            made.append(
                Snapshot(kind, symbol, draw(words), draw(positions), draw(maybe(times)), draw(maybe(times)), data)
            )  # type: ignore[arg-type]
    return made


def through(kind: str, made: list[Any]) -> list[bytes]:
    """The messages as they come back, each group in its own order: updates and snapshots, gaps, states."""
    dictionaries = Dictionaries()
    parsed = parse(kind, lines_of([bare(message) for message in made]), len(made))
    places = Places(
        np.array([dictionaries.symbols.index(message.symbol) for message in made], np.int32),
        np.array([dictionaries.sources.index(getattr(message, "source", "s")) for message in made], np.int32),
        parsed.seq + 3,
        np.arange(len(made)),
    )
    back: list[bytes] = []
    for table, types, make in (
        (kind, ("update", "snapshot"), rows_of),
        (GAPS, ("gap",), gaps_of),
        (STATES, ("state",), states_of),
    ):
        rows = parsed.of_type(*types)
        if len(rows):
            batch = make(parsed.take(rows), places.take(rows), dictionaries)
            batch.validate(full=True)
            back += [text.encode() for text in messages_of(table, batch).messages.to_pylist()]
    return back


@pytest.mark.parametrize("kind", DATA)
@given(data=st.data())
def test_every_message_comes_back_as_it_was(kind: str, data: st.DataObject) -> None:
    made = data.draw(messages(kind))
    assert through(kind, made) == [encode(message) for message in made]


@given(
    st.lists(
        st.builds(
            Gap,
            st.just("book"),
            words,
            words,
            positions,
            positions,
            maybe(positions),
            st.sampled_from(["lag", "venue"]),
            st.booleans(),
        ),
        min_size=1,
    )
)
def test_gaps_come_back(made: list[Gap]) -> None:
    assert through("book", made) == [encode(gap) for gap in made]


@given(
    st.lists(
        st.builds(
            State,
            words,
            st.just("book"),
            words,
            positions,
            st.sampled_from(["ok", "stale"]),
            maybe(st.just("gap")),
            times,
        ),
        min_size=1,
    )
)
def test_states_come_back(made: list[State]) -> None:
    assert through("book", made) == [encode(state) for state in made]


def test_a_message_too_large_for_a_frame_comes_back_in_the_same_parts() -> None:
    levels = [(f"{number}.00000001", "12345.678") for number in range(12_000)]
    trades = [Trade("1.5", "2", "buy", str(number), None) for number in range(2_000)]
    for kind, data in (("book", Book(levels[:6000], levels)), ("trades", trades)):
        large = Update(kind, "X:A", 4, 5, None, "7", data)  # type: ignore[arg-type]
        small = Update("book", "X:A", 5, 6, None, "8", Book([], [("1", "0")])) if kind == "book" else large
        wanted = [encode(part) for message in (small, large, small) for part in parted(message)]
        assert len(wanted) > 3
        assert through(kind, [small, large, small]) == wanted


@pytest.mark.parametrize("more", [{"conditions": ["T"]}, {"exchange": "N"}, {"conditions": [""], "exchange": ""}])
def test_what_one_trade_of_many_has_comes_back(more: dict[str, Any]) -> None:
    trade = Trade("1.5", "2", "buy", "6", None)
    some = Trade("1.5", "2", "buy", "7", None, **more)
    made = [Update("trades", "X:A", n - 1, n, None, "7", [trade]) for n in range(1000)]
    made[500] = Update("trades", "X:A", 499, 500, None, "7", [trade, some])
    assert through("trades", made) == [encode(message) for message in made]


def test_lists_of_texts_are_those_of_their_rows() -> None:
    whole = pa.array([["a"], ["b", 'c"'], None, []])
    assert joined(["", *strings(whole.slice(1))]).to_pylist() == ['["b","c\\""]', "null", "[]"]
    hidden = pa.ListArray.from_arrays(pa.array([0, 1, 3]), pa.array(["a", "b", "c"]), mask=pa.array([True, False]))
    assert joined(["", *strings(hidden)]).to_pylist() == ["null", '["b","c"]']
    assert joined(["x", *if_there(":", hidden, strings)]).to_pylist() == ["x", 'x:["b","c"]']


@pytest.mark.parametrize(
    "message",
    [
        b'update","channel":"book","symbol":"X:A","prev":1,"seq":2,"ts_event":null,"ts_recv":"1","data":{"bids":[["1"]],"asks":[]}',
        b'update","channel":"book","symbol":"X:A","prev":1,"seq":2,"ts_event":null,"ts_recv":"1","data":{"bids":[["1","x"]],"asks":[]}',
        b'update","channel":"book","symbol":"X:A","prev":1,"seq":"2"',
        b"update",
    ],
)
def test_what_is_no_message_is_refused(message: bytes) -> None:
    dictionaries = Dictionaries()
    dictionaries.symbols.index("X:A")
    dictionaries.sources.index("x/0@a")
    with pytest.raises(CorruptLog):
        rows_of(parse("book", lines_of([message]), 1), Places(*[np.zeros(1, np.int32)] * 4), dictionaries)


@pytest.mark.slow
@pytest.mark.parametrize("name", CAPTURES)
def test_captures_come_back(data_dir: Path, name: str) -> None:
    machine = Source(venue(CAPTURES[name].venue), "x/0@a", Rules())
    of_kind: dict[str, list[Any]] = defaultdict(list)
    for tick in ticks(name, captured(data_dir, name))[: 20_000 if name in BIG else None]:
        try:
            machine.apply(tick)
        except BadTick:
            continue
        for message in machine.take():
            of_kind[message.channel].append(message)  # type: ignore[index]
    for venue_symbol in machine:
        for message in machine.keyframe(venue_symbol):
            of_kind[message.channel].append(message)  # type: ignore[index]
    for kind, made in of_kind.items():
        back = through(kind, made)
        groups = ((Update, Snapshot), (Gap,), (State,))
        assert back == [encode(message) for group in groups for message in made if isinstance(message, group)]
