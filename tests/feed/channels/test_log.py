"""A channel's log: runs of updates are kept as text, and nobody can tell from what is read of it."""

from __future__ import annotations

import random

import pytest

from feed.channels.channel import Channel, Listing
from feed.channels.flush import Flush
from feed.channels.log import ChannelLog, Entry, Run, entries_of, in_order
from feed.channels.roster import Roster
from feed.channels.source import Source
from feed.channels.view_spec import RAW
from feed.wire.message import JOINT


def update(seq: int, kind: str = "quotes") -> bytes:
    return b'update","channel":"%b","symbol":"X:A","source":"x/0@a","prev":%d,"seq":%d,"data":{}' % (
        kind.encode(),
        seq - 1,
        seq,
    )


def state(seq: int) -> bytes:
    return b'state","channel":"book","symbol":"X:A","source":"x/0@a","seq":%d,"state":"ok"' % seq


def run(*seqs: int, bit: int = 2) -> Run:
    return Run(seqs[-1], bit, JOINT.join(map(update, seqs)), len(seqs))


def mixed(chooser: random.Random) -> tuple[ChannelLog, list[Entry]]:
    """A log, and what it holds entry by entry."""
    log, entries, seq = ChannelLog(), [], 0
    for _ in range(chooser.randrange(12)):
        seq += chooser.randrange(1, 4)
        if chooser.random() < 0.5:
            seqs = [seq := seq + chooser.randrange(1, 3) for _ in range(chooser.randrange(1, 5))]
            log.add_run(run(*seqs))
            entries += entries_of(2, [update(one) for one in seqs])
        else:
            entry: Entry = (seq, 2, chooser.choice((update, state))(seq), None)
            log.add(entry)
            entries.append(entry)
    return log, entries


def is_state(entry: Entry) -> bool:
    return entry[2].startswith(b"state")


@pytest.mark.parametrize("seed", range(200))
def test_it_reads_as_its_entries_do(seed: int) -> None:
    log, entries = mixed(random.Random(seed))
    assert list(log) == entries
    assert list(reversed(log)) == entries[::-1]
    assert bool(log) == bool(entries)
    assert log.last == (entries[-1][2] if entries else b"")
    assert log.last_update() == max((entry[0] for entry in entries if not is_state(entry)), default=-1)
    assert log.updates == sum(not is_state(entry) for entry in entries)
    for seq in range(-1, 40):
        assert log.after(seq) == [entry[2] for entry in entries if entry[0] > seq]
        assert log.updates_until(seq) == sum(entry[0] <= seq and not is_state(entry) for entry in entries)


@pytest.mark.parametrize("seed", range(200))
def test_what_is_trimmed_is_a_beginning_and_no_run_is_cut(seed: int) -> None:
    chooser = random.Random(seed)
    log, entries = mixed(chooser)
    other = log.copy()
    bound = chooser.randrange(-1, 30)
    last = log.trim(bound)
    left = list(log)
    gone = entries[: len(entries) - len(left)]
    assert gone + left == entries
    assert last == (gone[-1][0] if gone else None)
    assert all(entry[0] <= bound for entry in gone)
    assert log.updates == sum(not is_state(entry) for entry in left)
    assert log.after(bound) == [entry[2] for entry in entries if entry[0] > bound]
    assert list(other) == entries


def test_runs_of_several_kinds_are_put_in_order() -> None:
    quotes, trades = run(1, 4, 6), Run(6, 1, JOINT.join(update(seq, "trades") for seq in (2, 4, 6)), 3)
    entries = in_order(quotes.entries() + trades.entries())
    assert [(seq, bit) for seq, bit, _, _ in entries] == [(1, 2), (2, 1), (4, 1), (4, 2), (6, 1), (6, 2)]


def test_a_symbol_has_runs_or_entries_in_a_flush() -> None:
    source = Source("x/0@a", 0)
    listing = Listing("X:A", 7, source)
    quotes, trades = Channel(listing, "quotes", source), Channel(listing, "trades", source)
    for channel in (quotes, trades):
        listing.heads[channel.index] = listing.channels[channel.index] = channel
        listing.appends[channel.bit] = channel.log.add
    flush = Flush(1)
    for channel, seq in ((quotes, 3), (trades, 4), (quotes, 5)):
        channel.pos_text = b"%d" % seq
        message = update(seq, channel.kind)
        flush.follow(channel, message) if channel.run is None else channel.run.append(message)
    assert not flush.empty
    assert not flush.changed
    # a state is no update: from here on they stand in one list
    flush.list_of(listing).append((5, quotes.bit, state(5), None))
    assert [entry[0] for entry in flush.changed[7]] == [3, 4, 5, 5]
    assert quotes.run is trades.run is None
    quotes.pos_text = b"6"
    flush.follow(quotes, update(6))
    flush.told.append(quotes)
    roster = Roster()
    roster.add(listing)
    flush.commit(roster, RAW)
    assert not flush.runs
    assert flush.said(7, quotes.bit) == ([update(3), update(5), state(5), update(6)], 3)
    assert flush.said(7, quotes.bit | trades.bit)[1] == 4
    assert quotes.log.after(3) == [update(5), state(5), update(6)]


def test_a_committed_run_is_one_text() -> None:
    source = Source("x/0@a", 0)
    listing = Listing("X:A", 7, source)
    channel = Channel(listing, "quotes", source)
    listing.heads[channel.index] = listing.channels[channel.index] = channel
    flush = Flush(1)
    flush.follow(channel, update(3))
    assert channel.run is not None
    channel.run.append(update(5))
    channel.pos_text = b"5"
    roster = Roster()
    roster.add(listing)
    flush.commit(roster, RAW)
    assert channel.run is None
    assert flush.runs == {7: [Run(5, channel.bit, update(3) + JOINT + update(5), 2)]}
    assert flush.said(7, channel.bit) == ([update(3) + JOINT + update(5)], 2)
    assert flush.said(7, 1) == ([], 0)
    assert flush.entries(7) == [(3, 2, update(3), None), (5, 2, update(5), None)]
    assert (channel.position, channel.updates) == (5, 2)
