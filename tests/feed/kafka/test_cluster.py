"""Fetched bytes taken apart: whole batches from an offset on, and none that is damaged."""

from __future__ import annotations

import random

import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from feed.errors import FeedError
from feed.kafka.cluster import records_of

_CRC_AT = 17


def batch_at(offset: int, values: list[bytes], codec: int = 0) -> bytes:
    """A batch as it lies in a log."""
    builder = DefaultRecordBatchBuilder(2, codec, 0, -1, -1, 0, 1 << 20)
    for number, value in enumerate(values):
        builder.append(number, 1_000 + number, b"k", value, [("a", b"1")])
    return offset.to_bytes(8) + bytes(builder.build())[8:]


@pytest.mark.parametrize("codec", [0, 1, 4])
def test_batches_from_an_offset_on(codec: int) -> None:
    buffer = batch_at(5, [b"five", b"six"], codec) + batch_at(7, [b"seven", b"eight", b"nine"], codec)
    records, after = records_of(buffer, 6)
    assert [(record.offset, record.value) for record in records] == [
        (6, b"six"),
        (7, b"seven"),
        (8, b"eight"),
        (9, b"nine"),
    ]
    assert (after, records[0].key, list(records[0].headers)) == (10, b"k", [("a", b"1")])


def test_a_batch_that_is_cut_off_is_left_for_the_next_fetch() -> None:
    whole = batch_at(0, [b"x" * 100])
    for cut in range(1, len(whole)):
        records, after = records_of(whole + batch_at(1, [b"y" * 100])[:cut], 0)
        assert (len(records), after) == (1, 1)


def test_every_flipped_bit_under_the_crc_is_seen() -> None:
    chance = random.Random(11)
    before = batch_at(0, [b"whole"])
    buffer = before + batch_at(1, [b"damaged", b"too"])
    start = len(before) + _CRC_AT
    for bit in [start * 8, *(chance.randrange(start * 8, len(buffer) * 8) for _ in range(300))]:
        damaged = bytearray(buffer)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(FeedError, match="fails its crc"):
            records_of(bytes(damaged), 0)
