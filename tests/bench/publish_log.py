"""A process that plays a feed log at a steady rate, whatever anybody else does (open loop): into Kafka, or into NATS.

    echo '{"symbols": 100, "record_updates": 256}' | python -m tests.bench.publish_log

Then for each run two lines and their answers:

    {"kafka": "127.0.0.1:9092", "topic": "…", "rate": 100000, "seconds": 8}   →  the log is open: {"open": …}
    {"start_ns": …}                                                            →  at the end: {"late_ms": …, …}

(`{"nats": PORT, …}` publishes each update on the subject of its symbol instead.) `ts_event` of an update is the time at
which it was due and `ts_recv` the time at which it was given away, so a client that takes the first is not fooled by a
publisher that was held up: no coordinated omission.

librdkafka rather than aiokafka: at 100,000 updates a second in 390 appends the publisher took 31 % of a core with the
one and 12 % with the other, and that core has the clients, too.
"""

from __future__ import annotations

import gc
import json
import socket
import sys
import time
from typing import Any, Final, Protocol

import msgspec
from confluent_kafka import Producer

from tests.bench.market import Corpus, Entry, Lot, stamped_entry

_DATA: Final = ("kind", b"data")
_SYMBOL: Final = b'"symbol":"'
_FLUSH_S: Final = 30.0
_messages: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode


class Sink(Protocol):
    """Where a log is played to."""

    def append(self, partition: int, entries: list[Entry]) -> None:
        """Gives these away, in order."""

    def flush(self) -> None:
        """Returns when all that was given away is taken."""


class Kafka:
    """A topic; in order, without loss, as a normalizer writes it."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self._topic = topic
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "enable.idempotence": True,
                "linger.ms": 0,
                "message.max.bytes": 15 << 20,
                "topic.metadata.refresh.interval.ms": -1,
            }
        )

    def append(self, partition: int, entries: list[Entry]) -> None:
        """Hands them to the producer's own thread."""
        for _, value, headers in entries:
            self._producer.produce(self._topic, value, partition=partition, headers=[*headers])
        self._producer.poll(0)

    def flush(self) -> None:
        """Waits for the broker."""
        left = self._producer.flush(_FLUSH_S)
        assert not left, f"{left} records are not taken"


class Nats:
    """A publisher's connection; keyframes have no meaning there and are left out."""

    def __init__(self, port: int) -> None:
        self._peer = socket.create_connection(("127.0.0.1", port))
        self._peer.sendall(b'CONNECT {"verbose":false,"pedantic":false}\r\n')

    def append(self, partition: int, entries: list[Entry]) -> None:
        """Publishes each update by itself; waits until the socket has taken them."""
        for _, value, headers in entries:
            if _DATA in headers:
                self._peer.sendall(b"".join(map(_publication, _messages(value))))

    def flush(self) -> None:
        """They are on their way."""


def _publication(raw: msgspec.Raw) -> bytes:
    message = bytes(raw)
    begin = message.index(_SYMBOL) + len(_SYMBOL)
    symbol = message[begin : message.index(b'"', begin)]
    return b"PUB %s %d\r\n%s\r\n" % (symbol, len(message), message)


def _append(sink: Sink, lot: Lot, due_ns: int) -> None:
    now_ns = time.time_ns()
    entries = [stamped_entry(entry, due_ns, now_ns) for entry in lot.entries]
    sink.append(lot.partition, entries)


def _play(sink: Sink, lots: list[Lot], step_s: float, start_ns: int) -> float:
    """Gives each lot away when it is due. Returns the worst lateness in seconds."""
    late_ns = 0
    for number, lot in enumerate(lots):
        due_ns = start_ns + int(number * step_s * 1e9)
        if (wait_ns := due_ns - time.time_ns()) > 0:
            time.sleep(wait_ns / 1e9)
        late_ns = max(late_ns, time.time_ns() - due_ns)
        _append(sink, lot, due_ns)
    return late_ns / 1e9


def _run(corpus: Corpus, told: dict[str, Any]) -> None:
    lots = corpus.lots(int(told["rate"] * told["seconds"]))
    gc.collect()
    gc.freeze()
    sink: Sink = Nats(told["nats"]) if "nats" in told else Kafka(told["kafka"], told["topic"])
    for lot in corpus.opening:
        _append(sink, lot, time.time_ns())
    sink.flush()
    _say({"open": len(lots)})
    start_ns = json.loads(sys.stdin.readline())["start_ns"]
    cpu = time.process_time()
    late_s = _play(sink, lots, corpus.record_updates / told["rate"], start_ns)
    sink.flush()
    cpu = time.process_time() - cpu
    _say({"late_ms": round(late_s * 1000, 1), "updates": sum(lot.updates for lot in lots), "cpu_s": cpu})


def _say(what: dict[str, Any]) -> None:
    print(json.dumps(what), flush=True)


def main() -> None:
    """Makes the corpus, then plays it as often as it is told to, until its input ends."""
    gc.set_threshold(50_000, 20, 20)
    told = json.loads(sys.stdin.readline())
    corpus = Corpus(told["symbols"], told["record_updates"], every_kind=told.get("every_kind", False))
    for line in sys.stdin:
        _run(corpus, json.loads(line))


if __name__ == "__main__":
    main()
