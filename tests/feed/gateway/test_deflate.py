"""Frames, compressed: what comes out is what went in, once for all, and within its time."""

from __future__ import annotations

import os

import pytest

from feed.gateway import deflate
from feed.gateway.deflate import Deflater
from feed.runtime.metrics import Metrics
from feed.wire.frames import text_frame
from tests.raw_client import inflated


class Time:
    """A clock that stands, and CPU time of which each look takes a millisecond."""

    def __init__(self) -> None:
        self.now = 0.0
        self.used = 0.0

    def clock(self) -> float:
        return self.now

    def cpu(self) -> float:
        self.used += 0.001
        return self.used


def deflater(time: Time | None = None, *, bytes_min: int = 100, level: int = 1) -> Deflater:
    """With 20 ms of credit on a clock that stands: 20 frames."""
    time = time or Time()
    return Deflater(Metrics(), level=level, bytes_min=bytes_min, share=0.5, clock=time.clock, cpu=time.cpu)


def frames_of(data: bytes) -> list[tuple[int, bytes]]:
    """First byte and payload of each frame."""
    found = []
    at = 0
    while at < len(data):
        begin, end = deflate._payload(data, at)
        found.append((data[at], bytes(data[begin:end])))
        at = end
    assert at == len(data)
    return found


PAYLOADS = [b'[{"seq":%d}]' % number * size for number, size in enumerate((1, 5, 9, 10, 11, 12, 100, 6000, 25_000))]


@pytest.mark.parametrize("level", [1, 6, 9])
def test_frames_come_back_as_they_were(level: int) -> None:
    whole = b"".join(map(text_frame, PAYLOADS))
    for given in (whole, bytearray(whole)):
        packed = frames_of(bytes(deflater(level=level).packed(given)))
        assert len(packed) == len(PAYLOADS)
        for (first, payload), plain in zip(packed, PAYLOADS, strict=True):
            assert first == (0x81 if len(plain) < 100 else 0xC1)
            assert (inflated(payload) if first & 0x40 else payload) == plain


def test_what_would_not_shrink_goes_as_it_is() -> None:
    frame = text_frame(os.urandom(500))
    found = deflater()
    assert found.packed(frame) is frame
    assert found.packed(frame) is frame
    assert found._frames.value == 1


def test_control_frames_are_let_alone() -> None:
    ping = b"\x89\x05hello"
    whole = ping + text_frame(b"x" * 300) + ping
    packed = frames_of(bytes(deflater(bytes_min=5).packed(whole)))
    assert [first for first, _ in packed] == [0x89, 0xC1, 0x89]
    assert packed[0][1] == packed[2][1] == b"hello"


def test_an_equal_payload_is_compressed_once() -> None:
    found = deflater()
    frame = text_frame(b"x" * 300)
    first = found.packed(frame)
    assert all(found.packed(frame + text_frame(b"z" * 20)) == first + text_frame(b"z" * 20) for _ in range(50))
    assert found._frames.value == 1


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deflate, "_KEPT_BYTES_MAX", 10_000)
    time = Time()
    found = deflater(time)
    for number in range(1000):
        time.now += 1
        found.packed(text_frame(b"%04d" % number * 100))
        assert found._kept_bytes <= 10_000
        kept = sum(len(plain) + len(frame) + deflate._KEPT_OVERHEAD_BYTES for plain, frame in found._kept.items())
        assert found._kept_bytes == kept
    assert len(found._kept) > 5


def test_compressing_takes_its_share_and_no_more() -> None:
    time = Time()
    found = deflater(time)

    def one_more(number: int) -> bool:
        frame = text_frame(b"%04d" % number * 100)
        return found.packed(frame) is not frame

    assert sum(map(one_more, range(100))) in (20, 21)
    assert not one_more(101)
    time.now += 0.006  # of which half
    assert [one_more(number) for number in range(200, 206)].count(True) in (2, 3, 4)
    time.now += 1000
    assert sum(map(one_more, range(300, 400))) in (20, 21)


@pytest.mark.parametrize(
    ("kind", "size", "packs"), [("ack", 65_000, 1), ("ack", 66_000, 0), ("update", 320_000, 1), ("update", 330_000, 0)]
)
def test_a_large_frame_goes_as_it_is_and_disturbs_nothing(kind: str, size: int, packs: int) -> None:
    found = deflater()
    shared = text_frame(b"x" * 300)
    compressed = found.packed(shared)
    large = text_frame(b'[{"type":"%b"%b}]' % (kind.encode(), b" " * (size - 20)))
    packed = found.packed(large + text_frame(b"y" * 20))
    assert frames_of(bytes(packed))[0][0] == (0xC1 if packs else 0x81)
    assert found._frames.value == 1 + packs
    assert found.packed(shared) == compressed
    assert found._frames.value == 1 + packs


def test_what_one_client_is_told_is_not_remembered_and_leaves_others_their_share() -> None:
    time = Time()
    found = deflater(time)

    def goes_packed(text: bytes) -> bool:
        frame = text_frame(text)
        return found.packed(frame) is not frame

    answers = [goes_packed(b'[{"type":"ack","id":%d%b}]' % (number, b" " * 300)) for number in range(100)]
    assert sum(answers) in (10, 11)
    assert not found._kept
    assert sum(goes_packed(b"%04d" % number * 100) for number in range(100)) in (10, 11)
    time.now += 0.01
    # what comes back is for those that many get
    assert not goes_packed(b'[{"type":"ack","id":1%b}]' % (b" " * 300))
    assert goes_packed(b"9999" * 100)
