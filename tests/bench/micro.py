"""The pure parts alone, without Kafka and sockets: CPU time of each stage of an update's way, small and quick.

W1: 200 clients on the same 20 of 100 symbols. W2: 1,000 clients on 10 random of 500. Records come as a follower gets
them; what a flush makes is thrown away.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

from feed.channels.distributor import Distributor
from feed.channels.hub import Hub, HubSettings
from feed.protocol.session import Session, SessionSettings
from feed.wire.frames import Frames, encode, text_frame
from feed.wire.log_reader import LogReader
from feed.wire.model import Quote, Update
from feed.wire.record import record_of
from tests.bench.figures import Figure, Part, Result
from tests.bench.market import PARTITIONS, PREFIX, Corpus, Lot, stamped_entry
from tests.bench.stage import Stage
from tests.bench.trial import Crowd

_UPDATES: Final = 60_000
_LOTS_A_FLUSH: Final = 4
_NOW_NS: Final = 1_795_467_600_000_000_000
CROWDS: Final = (("W1", Crowd(200, 100, 20, same=True), 256), ("W2", Crowd(1000, 500, 10, same=False), 128))

WRITE: Final = Figure("pure: a quote through machine and writer, records of 256", "us a tick", of_python=True)
ENCODE: Final = Figure("pure: encode 100 updates", "us an update", of_python=True)
FRAME: Final = Figure("pure: frame of 16 KiB", "us a frame", of_python=True)
TAKE: Final = {name: Figure(f"pure: take records in, {name}", "us an update", of_python=True) for name, *_ in CROWDS}
SEND: Final = {name: Figure(f"pure: fan out, {name}", "ns a delivery", of_python=True) for name, *_ in CROWDS}


class Sent(NamedTuple):
    """CPU seconds of taking in and of sending, and how many deliveries, writes and bytes it was."""

    taking: float
    sending: float
    deliveries: int
    writes: int
    bytes: int


class _Owner:
    """A client that takes everything."""

    def __init__(self) -> None:
        self.writes = 0
        self.taken = 0

    def write(self, buffer: Frames) -> None:
        self.writes += 1
        self.taken += len(buffer)


def _measure(stage: Stage) -> Iterator[Result]:
    gc.set_threshold(50_000, 20, 20)
    count = stage.scale.of(_UPDATES, 2_000)
    for name, crowd, record_updates in CROWDS:
        corpus = Corpus(crowd.symbols, record_updates)
        began = time.process_time()
        lots = corpus.lots(count)
        took = time.process_time() - began
        if name == "W1":
            yield Result(WRITE, took / count * 1e6)
        sent = through_hub(corpus.opening, lots, crowd._replace(clients=stage.scale.of(crowd.clients)))
        yield Result(TAKE[name], sent.taking / count * 1e6)
        yield Result(SEND[name], sent.sending / max(sent.deliveries, 1) * 1e9, f"{sent.deliveries:,} deliveries")
    update = Update("quotes", f"{PREFIX}:S000", 1, 2, str(_NOW_NS), str(_NOW_NS), Quote("60.1", "1", "61.1", "2"))
    batch = [update] * 100
    yield Result(ENCODE, _repeated(lambda: encode(batch), 300) / 100 * 1e6)
    payload = bytes(16 * 1024)
    yield Result(FRAME, _repeated(lambda: text_frame(payload), 10_000) * 1e6)


def through_hub(
    opening: list[Lot], lots: list[Lot], crowd: Crowd, packed: Callable[[Frames], Frames] | None = None
) -> Sent:
    """Takes lots in and fans them out; `packed` is done to each buffer once, for all who get it."""
    hub = Hub(HubSettings())
    distributor = Distributor(hub)
    readers = [LogReader() for _ in range(PARTITIONS)]
    offsets = [0] * PARTITIONS

    def take(lot: Lot) -> None:
        for _, value, headers in lot.entries:
            record = record_of(headers, value, offsets[lot.partition])
            offsets[lot.partition] += 1
            pos = readers[lot.partition].take(record)
            assert pos is not None
            if record.kind == "source":
                hub.opened(record.source, record.ends, record.carries, record.missing)
            elif record.kind == "data":
                hub.data(record.source, pos, record.last, record.value, record.end)
            elif record.kind == "keyframe":
                hub.keyframe(record.source, record.symbol, record.value)

    for lot in opening:
        take(_at(lot))
    distributor.flush(_NOW_NS)
    list(distributor.fan_out())
    owners = [_Owner() for _ in range(crowd.clients)]
    for owner, symbols in zip(owners, crowd.subscriptions(), strict=True):
        _subscribe(distributor, owner, symbols)
    ready = [_at(lot) for lot in lots]
    before = hub.counts.delivered
    gc.collect()
    gc.freeze()
    taking = sending = 0.0
    for at in range(0, len(ready), _LOTS_A_FLUSH):
        began = time.process_time()
        for lot in ready[at : at + _LOTS_A_FLUSH]:
            take(lot)
        took = time.process_time()
        distributor.flush(_NOW_NS + at * 10_000_000)
        for buffer, served in distributor.fan_out():
            if packed is not None:
                buffer = packed(buffer)
            for reader in served:
                owner_of: Any = reader.owner
                owner_of.write(buffer)
        taking += took - began
        sending += time.process_time() - took
    gc.unfreeze()
    deliveries = hub.counts.delivered - before
    return Sent(taking, sending, deliveries, sum(o.writes for o in owners), sum(o.taken for o in owners))


def _at(lot: Lot) -> Lot:
    return lot._replace(entries=[stamped_entry(entry, _NOW_NS, _NOW_NS) for entry in lot.entries])


def _subscribe(distributor: Distributor, owner: _Owner, symbols: list[str]) -> None:
    session = Session(distributor, owner, SessionSettings())
    names = ",".join(f'"{symbol}"' for symbol in symbols)
    session.receive(f'{{"op":"subscribe","id":1,"channels":["quotes"],"symbols":[{names}]}}'.encode(), 1)
    while not session.subscriber.in_step:
        session.pull(1 << 20, 1)


def _repeated(work: Callable[[], Any], times: int) -> float:
    """CPU seconds of one, the best of three series."""
    found = []
    for _ in range(3):
        began = time.process_time()
        for _ in range(times):
            work()
        found.append(time.process_time() - began)
    return min(found) / times


PART: Final = Part("micro", "pure parts alone", (WRITE, *TAKE.values(), *SEND.values(), ENCODE, FRAME), _measure)
