"""What the hub costs without Kafka and sockets: microseconds for each update taken in and for each delivery.

    python -m tests.bench.bench_hub

W1: 200 clients on the same 20 of 100 symbols. W2: 1,000 clients on 10 random of 500.
"""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Iterator

from feed.channels.hub import Hub, HubSettings
from feed.protocol.session import Session, SessionSettings

UPDATES_A_RECORD = 500


class Owner:
    """A client that takes everything."""

    def write(self, buffer: bytes) -> bool:
        return True


def records(symbols: int, count: int) -> Iterator[tuple[int, int, bytes]]:
    """Data records of `UPDATES_A_RECORD` trades of about 230 bytes, on random symbols."""
    chooser = random.Random(7)
    last = [-1] * symbols
    seq = -1
    for _ in range(count):
        pos = seq
        messages = []
        for _ in range(UPDATES_A_RECORD):
            seq += 1
            symbol = chooser.randrange(symbols)
            messages.append(
                b'{"type":"update","channel":"trades","symbol":"BINANCE:SYM%dUSDT","prev":%d,"seq":%d,'
                b'"ts_event":"1795467600112000000","ts_recv":"1795467600115417000","data":[{"price":"67187.48",'
                b'"size":"0.01","side":"buy","trade_id":"%d","ts_event":"1795467600112000000"}]}'
                % (symbol, last[symbol], seq, seq)
            )
            last[symbol] = seq
        yield pos, seq, b"[" + b",".join(messages) + b"]"


def subscribe(hub: Hub, symbols: list[str]) -> None:
    """One client."""
    session = Session(hub, Owner(), SessionSettings())
    names = ",".join(f'"{symbol}"' for symbol in symbols)
    session.receive(f'{{"op":"subscribe","id":1,"channels":["trades"],"symbols":[{names}]}}'.encode(), 1)
    while not session.reader.in_step:
        session.pull(1 << 20, 1)


def measure(name: str, symbols: int, selections: list[list[int]], updates_a_flush: int, total: int) -> None:
    """Runs one workload and prints what it cost."""
    hub = Hub(HubSettings())
    made = list(records(symbols, total // UPDATES_A_RECORD))
    hub.opened("binance/0@a", "", False)
    for pos, last, value in made[: max(1, symbols * 20 // UPDATES_A_RECORD)]:
        hub.data("binance/0@a", pos, last, value, last + 1)
    hub.flush(1)
    list(hub.fan_out())
    for chosen in selections:
        subscribe(hub, [f"BINANCE:SYM{symbol}USDT" for symbol in chosen])
    gc.collect()
    gc.freeze()
    rest = made[max(1, symbols * 20 // UPDATES_A_RECORD) :]
    taking = flushing = fanning = 0.0
    sent = 0
    now = 1
    before = hub.counts.deliveries
    records_a_flush = max(1, updates_a_flush // UPDATES_A_RECORD)
    for start in range(0, len(rest), records_a_flush):
        began = time.process_time()
        for pos, last, value in rest[start : start + records_a_flush]:
            hub.data("binance/0@a", pos, last, value, last + 1)
        took = time.process_time()
        now += 20_000_000
        hub.flush(now)
        flushed = time.process_time()
        for buffer, readers in hub.fan_out():
            for reader in readers:
                if reader.owner.write(buffer):  # type: ignore[attr-defined]  # an Owner
                    sent += len(buffer)
        taking += took - began
        flushing += flushed - took
        fanning += time.process_time() - flushed
    updates = len(rest) * UPDATES_A_RECORD
    deliveries = hub.counts.deliveries - before
    total_us = (taking + flushing + fanning) * 1e6
    print(
        f"{name}: {updates} updates, {deliveries} deliveries, {sent / 1e6:.0f} MB; us an update: take "
        f"{taking / updates * 1e6:.2f}, flush {flushing / updates * 1e6:.2f}, fan out {fanning / updates * 1e6:.2f}; "
        f"ns a delivery, all of it: {total_us * 1000 / deliveries:.0f}"
    )


def main() -> None:
    """Both workloads."""
    gc.set_threshold(50_000, 20, 20)
    chooser = random.Random(3)
    measure("W1", 100, [list(range(20))] * 200, 2_000, 400_000)
    measure("W2", 500, [chooser.sample(range(500), 10) for _ in range(1000)], 1_000, 200_000)
    measure("W2, small flushes", 500, [chooser.sample(range(500), 10) for _ in range(1000)], 500, 50_000)


if __name__ == "__main__":
    main()
