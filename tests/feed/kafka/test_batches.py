"""Fetched bytes taken apart: whole batches from an offset on, none that is damaged, none that was taken back."""

from __future__ import annotations

import random

import google_crc32c
import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from hypothesis import given
from hypothesis import strategies as st

from feed.errors import FeedError
from feed.kafka.batches import committed, joined, written

_CRC_AT = 17
_CRC_FROM = 21
_ATTRIBUTES_AT = 22
_EPOCH_AT = 12
_CONTROL = 0x20
ABORT, COMMIT = 0, 1


def batch_at(
    offset: int, values: list[bytes], codec: int = 0, *, producer: int = -1, transaction: bool = False, epoch: int = 0
) -> bytes:
    """A batch as it lies in a log."""
    builder = DefaultRecordBatchBuilder(2, codec, transaction, producer, 0 if producer >= 0 else -1, 0, 1 << 20)
    for number, value in enumerate(values):
        builder.append(number, 1_000 + number, b"k", value, [("a", b"1")])
    return _placed(bytearray(builder.build()), offset, epoch)


def marker_at(offset: int, producer: int, kind: int, *, epoch: int = 0) -> bytes:
    """The control batch that ends a transaction."""
    builder = DefaultRecordBatchBuilder(2, 0, True, producer, 0, -1, 1 << 20)
    builder.append(0, 1_000, b"\0\0" + kind.to_bytes(2), b"\0" * 6, [])
    batch = bytearray(builder.build())
    batch[_ATTRIBUTES_AT] |= _CONTROL
    batch[_CRC_AT:_CRC_FROM] = google_crc32c.value(bytes(batch[_CRC_FROM:])).to_bytes(4)
    return _placed(batch, offset, epoch)


def _placed(batch: bytearray, offset: int, epoch: int) -> bytes:
    batch[:8] = offset.to_bytes(8)
    batch[_EPOCH_AT : _EPOCH_AT + 4] = epoch.to_bytes(4)
    return bytes(batch)


@pytest.mark.parametrize("codec", [0, 1, 4])
def test_batches_from_an_offset_on(codec: int) -> None:
    buffer = batch_at(5, [b"five", b"six"], codec) + batch_at(7, [b"seven", b"eight", b"nine"], codec)
    for read in (written, lambda buffer, offset: committed(buffer, offset, None)):
        page = joined(read(buffer, 6), 6)
        assert [(record.offset, record.value) for record in page.records] == [
            (6, b"six"),
            (7, b"seven"),
            (8, b"eight"),
            (9, b"nine"),
        ]
        assert (page.after, page.records[0].key, list(page.records[0].headers)) == (10, b"k", [("a", b"1")])
        assert read(buffer, 10) == []


def test_a_batch_that_is_cut_off_is_left_for_the_next_fetch() -> None:
    whole = batch_at(0, [b"x" * 100])
    for cut in range(1, len(whole)):
        page = joined(written(whole + batch_at(1, [b"y" * 100])[:cut], 0), 0)
        assert (len(page.records), page.after) == (1, 1)


def test_every_flipped_bit_under_the_crc_is_seen() -> None:
    chance = random.Random(11)
    before = batch_at(0, [b"whole"])
    buffer = before + batch_at(1, [b"damaged", b"too"])
    start = len(before) + _CRC_AT
    for bit in [start * 8, *(chance.randrange(start * 8, len(buffer) * 8) for _ in range(300))]:
        damaged = bytearray(buffer)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(FeedError, match="fails its crc"):
            written(bytes(damaged), 0)


@given(st.binary(max_size=200), st.integers(0, 400))
def test_any_bytes_are_records_or_a_feed_error(junk: bytes, at: int) -> None:
    whole = batch_at(0, [b"value"] * 3, 1)
    buffer = whole[:at] + junk + whole[at:]
    for read in (written, lambda buffer, offset: committed(buffer, offset, [(1, 0)])):
        try:
            read(buffer, 0)
        except FeedError:
            continue


def test_a_batch_whose_codec_fails_is_a_feed_error() -> None:
    batch = bytearray(batch_at(0, [b"value" * 100], 1))
    batch[70:80] = b"\xff" * 10
    batch[_CRC_AT:_CRC_FROM] = google_crc32c.value(bytes(batch[_CRC_FROM:])).to_bytes(4)
    with pytest.raises(FeedError, match="cannot be read"):
        written(bytes(batch), 0)


def test_what_was_aborted_is_no_tick() -> None:
    buffer = (
        batch_at(0, [b"10"], producer=1, transaction=True)
        + marker_at(1, 1, COMMIT)
        + batch_at(2, [b"66.6"], producer=2, transaction=True)
        + batch_at(3, [b"11"])
        + batch_at(4, [b"66.7"], producer=2, transaction=True)
        + batch_at(5, [b"12"], producer=1, transaction=True)
        + marker_at(6, 2, ABORT)
        + batch_at(7, [b"13"], producer=2, transaction=True)
        + marker_at(8, 2, COMMIT)
        + marker_at(9, 1, COMMIT)
    )
    aborted = [(2, 2)]
    page = joined(committed(buffer, 0, aborted), 0)
    assert [(record.offset, record.value) for record in page.records] == [
        (0, b"10"),
        (3, b"11"),
        (5, b"12"),
        (7, b"13"),
    ]
    assert page.after == 10
    # also where reading begins in the middle of it
    assert [record.offset for record in joined(committed(buffer, 4, aborted), 4).records] == [5, 7]


def test_a_producer_that_aborts_twice_is_believed_in_between() -> None:
    buffer = (
        batch_at(0, [b"no"], producer=5, transaction=True)
        + marker_at(1, 5, ABORT)
        + batch_at(2, [b"yes"], producer=5, transaction=True)
        + marker_at(3, 5, COMMIT)
        + batch_at(4, [b"no"], producer=5, transaction=True)
        + marker_at(5, 5, ABORT)
    )
    page = joined(committed(buffer, 0, [(5, 4), (5, 0)]), 0)
    assert ([record.value for record in page.records], page.after) == ([b"yes"], 6)


def test_a_transaction_in_a_feed_log_is_somebody_elses() -> None:
    buffer = (
        batch_at(0, [b"ours"])
        + batch_at(1, [b"theirs", b"theirs"], producer=3, transaction=True)
        + marker_at(3, 3, COMMIT)
        + batch_at(4, [b"ours"])
    )
    page = joined(written(buffer, 0), 0)
    assert ([record.offset for record in page.records], page.after, page.foreign) == ([0, 4], 5, 2)


def test_each_leader_epoch_is_a_page() -> None:
    buffer = batch_at(0, [b"a"], epoch=3) + batch_at(1, [b"b"], epoch=3) + batch_at(2, [b"c"], epoch=5)
    pages = written(buffer, 0)
    assert [(page.epoch, [record.offset for record in page.records], page.after) for page in pages] == [
        (3, [0, 1], 2),
        (5, [2], 3),
    ]
