"""RFC 6455 as a server, frame by frame: raw bytes against a real gateway on loopback.

Each row sends bytes behind a handshake and says what must come: so many messages, a pong, a close code. Every row
ends with a look whether the gateway still serves somebody else.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import time
from collections.abc import Iterator
from typing import Final, NamedTuple

import psutil
import pytest

from feed.runtime.settings import LimitSettings, ServeSettings
from tests.gateways import Running
from tests.raw_client import BINARY, CLOSE, CONT, PING, PONG, TEXT, RawClient, close, frame, handshake, text

MESSAGE_BYTES_MAX: Final = 16 * 1024
FRAMES_MAX: Final = 64
LIMITS: Final = LimitSettings(
    message_bytes_max=MESSAGE_BYTES_MAX,
    message_frames_max=FRAMES_MAX,
    bytes_per_second=100_000_000,
    frames_per_second=10_000_000,
    close_seconds=1.0,
)
ASK: Final = '{"op":"ping","id":1}'


class Row(NamedTuple):
    """What is sent, and what must come of it."""

    name: str
    sent: list[bytes]
    messages: int = 0
    pongs: tuple[bytes, ...] = ()
    code: int | None = None
    """The close code; None: the connection goes on."""
    empty_close: bool = False


def padded(size: int) -> bytes:
    """A request of exactly `size` bytes."""
    return ASK.encode() + b" " * (size - len(ASK))


def pieces(payload: bytes, count: int) -> list[bytes]:
    """A message cut into `count` frames."""
    size = -(-len(payload) // count)
    cut = [payload[i * size : (i + 1) * size] for i in range(count)]
    return [frame(TEXT if i == 0 else CONT, part, fin=i == count - 1) for i, part in enumerate(cut)]


def rows() -> Iterator[Row]:
    """The table."""
    yield from text_rows()
    yield from fragment_rows()
    yield from utf8_rows()
    yield from control_rows()
    yield from close_rows()
    yield from broken_rows()
    yield from length_rows()


def text_rows() -> Iterator[Row]:
    """Whole messages of every length class, however they are cut into segments."""
    for size in (len(ASK), 125, 126, 127, 128, 1000, 4095, 4096, 4097, MESSAGE_BYTES_MAX - 1, MESSAGE_BYTES_MAX):
        yield Row(f"text of {size} bytes", [text(padded(size))], messages=1)
    yield Row("empty text is a message, and a bad one", [text("")], messages=1)
    yield Row("text that is not JSON", [text("hello")], messages=1)
    yield Row("text of nulls", [text(b"\0" * 50)], messages=1)
    yield Row("two messages in one segment", [text(ASK) + text(ASK)], messages=2)
    yield Row("forty messages in one segment", [text(ASK) * 40], messages=40)
    yield Row("a message byte by byte", [bytes([byte]) for byte in text(ASK)], messages=1)
    yield Row("length 16 bit where 7 would do", [frame(TEXT, ASK.encode(), form=16)], messages=1)
    yield Row("length 64 bit where 7 would do", [frame(TEXT, ASK.encode(), form=64)], messages=1)
    yield Row("binary", [frame(BINARY, b"\0\1")], code=1003)
    yield Row("empty binary", [frame(BINARY)], code=1003)
    yield Row("binary in fragments, at the first one", [frame(BINARY, b"a", fin=False)], code=1003)
    yield Row("binary after a message", [text(ASK) + frame(BINARY, b"a")], messages=1, code=1003)


def fragment_rows() -> Iterator[Row]:
    """Messages in several frames."""
    for count in (2, 3, 10, FRAMES_MAX):
        yield Row(f"a message in {count} frames", pieces(padded(500), count), messages=1)
    yield Row("a message in one frame too many", pieces(padded(500), FRAMES_MAX + 1), code=1009)
    yield Row("fragments in one segment", [b"".join(pieces(padded(500), 5))], messages=1)
    yield Row("first fragment empty", [frame(TEXT, fin=False), frame(CONT, ASK.encode())], messages=1)
    yield Row("last fragment empty", [frame(TEXT, ASK.encode(), fin=False), frame(CONT)], messages=1)
    yield Row("all fragments empty", [frame(TEXT, fin=False), frame(CONT, fin=False), frame(CONT)], messages=1)
    yield Row(
        "ping between fragments",
        [frame(TEXT, ASK[:5].encode(), fin=False), frame(PING, b"in between"), frame(CONT, ASK[5:].encode())],
        messages=1,
        pongs=(b"in between",),
    )
    yield Row(
        "pong between fragments",
        [frame(TEXT, ASK[:5].encode(), fin=False), frame(PONG), frame(CONT, ASK[5:].encode())],
        messages=1,
    )
    yield Row("close between fragments", [frame(TEXT, b"{", fin=False), close(1000)], code=1002)
    yield Row("two fragmented messages", pieces(ASK.encode(), 3) * 2, messages=2)
    yield Row("continuation of nothing", [frame(CONT, b"a")], code=1002)
    yield Row("unfinished continuation of nothing", [frame(CONT, b"a", fin=False)], code=1002)
    yield Row("continuation after a whole message", [text(ASK), frame(CONT, b"a")], messages=1, code=1002)
    yield Row("text inside a fragmented message", [frame(TEXT, b"a", fin=False), text(ASK)], code=1002)
    yield Row("binary inside a fragmented message", [frame(TEXT, b"a", fin=False), frame(BINARY, b"a")], code=1002)
    half = MESSAGE_BYTES_MAX // 2
    yield Row("fragments up to the size limit", pieces(padded(MESSAGE_BYTES_MAX), 4), messages=1)
    yield Row(
        "fragments one byte over it", [frame(TEXT, padded(half), fin=False), frame(CONT, b" " * (half + 1))], code=1009
    )
    yield Row(
        "fragments over it, unfinished",
        [frame(TEXT, padded(half), fin=False), frame(CONT, b" " * (half + 1), fin=False)],
        code=1009,
    )
    yield Row("unfinished message, then the end", [frame(TEXT, b"a", fin=False), close(1001)], code=1002)


GOOD_UTF8: Final = {
    "two bytes": "é",
    "three bytes": "€",
    "four bytes": "𝄞",
    "highest": "\U0010ffff",
    "byte order mark": "\ufeff",
}
BAD_UTF8: Final = {
    "lone 0xff": b"\xff",
    "lone continuation": b"\x80",
    "overlong slash": b"\xc0\xaf",
    "overlong null": b"\xe0\x80\x80",
    "surrogate": b"\xed\xa0\x80",
    "above U+10FFFF": b"\xf4\x90\x80\x80",
    "five bytes": b"\xf8\x88\x80\x80\x80",
    "cut short": b"\xe2\x82",
    "latin-1": b"caf\xe9 ",
}


def utf8_rows() -> Iterator[Row]:
    """Text is UTF-8, also across frames."""
    for name, good in GOOD_UTF8.items():
        payload = json.dumps({"op": "ping", "id": good}, ensure_ascii=False).encode()
        yield Row(f"UTF-8, {name}", [text(payload)], messages=1)
        at = payload.index(good.encode()) + 1
        yield Row(
            f"UTF-8, {name}, cut inside the character",
            [frame(TEXT, payload[:at], fin=False), frame(CONT, payload[at:])],
            messages=1,
        )
    for name, bad in BAD_UTF8.items():
        payload = b'{"op":"ping","id":"' + bad + b'"}'
        yield Row(f"bad UTF-8, {name}", [text(payload)], code=1007)
        at = payload.index(bad) + 1
        yield Row(
            f"bad UTF-8, {name}, over two frames",
            [frame(TEXT, payload[:at], fin=False), frame(CONT, payload[at:])],
            code=1007,
        )


def control_rows() -> Iterator[Row]:
    """Pings and pongs."""
    yield Row("ping", [frame(PING)], pongs=(b"",))
    yield Row("ping with payload", [frame(PING, b"hello")], pongs=(b"hello",))
    yield Row("ping of 125 bytes", [frame(PING, b"x" * 125)], pongs=(b"x" * 125,))
    yield Row("ping of bytes that are not UTF-8", [frame(PING, b"\xff\xfe")], pongs=(b"\xff\xfe",))
    yield Row(
        "ten pings in one segment",
        [b"".join(frame(PING, b"%d" % i) for i in range(10))],
        pongs=tuple(b"%d" % i for i in range(10)),
    )
    yield Row("pong that nobody asked for", [frame(PONG, b"hello"), text(ASK)], messages=1)
    yield Row(
        "ping around a message", [frame(PING, b"1") + text(ASK) + frame(PING, b"2")], messages=1, pongs=(b"1", b"2")
    )
    for name, opcode in (("ping", PING), ("pong", PONG), ("close", CLOSE)):
        payload = struct.pack("!H", 1000) if opcode == CLOSE else b""
        yield Row(f"{name} of 126 bytes", [frame(opcode, payload.ljust(126, b"x"))], code=1002)
        yield Row(f"{name} of 126 bytes in 64 bit form", [frame(opcode, payload.ljust(126, b"x"), form=64)], code=1002)
        yield Row(f"fragmented {name}", [frame(opcode, payload, fin=False)], code=1002)


def close_rows() -> Iterator[Row]:
    """The closing handshake: good codes come back, bad ones are an error."""
    yield Row("close without a code", [close()], empty_close=True)
    for code in (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999):
        yield Row(f"close {code}", [close(code)], code=code)
    for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535):
        yield Row(f"close {code}, which nobody may send", [close(code)], code=1002)
    yield Row("close with a reason", [close(1000, "au revoir, é".encode())], code=1000)
    yield Row("close with the longest reason", [close(1000, b"x" * 123)], code=1000)
    yield Row("close with a reason that is not UTF-8", [close(1000, b"\xff")], code=1007)
    yield Row("close of one byte", [frame(CLOSE, b"\x03")], code=1002)
    yield Row("message before close", [text(ASK) + close(1000)], messages=1, code=1000)
    yield Row("message after close", [close(1000) + text(ASK)], code=1000)
    yield Row("ping after close", [close(1000) + frame(PING)], code=1000)
    yield Row("close after close", [close(1000) + close(1001)], code=1000)


def broken_rows() -> Iterator[Row]:
    """Frames that no client may send."""
    names = {TEXT: "text", CONT: "continuation", PING: "ping", PONG: "pong", CLOSE: "close"}
    for opcode, name in names.items():
        payload = struct.pack("!H", 1000) if opcode == CLOSE else b"ab"
        yield Row(f"unmasked {name}", [frame(opcode, payload, mask=False)], code=1002)
        for rsv in (4, 2, 1):
            yield Row(
                f"{name} with RSV{4 // rsv if rsv < 4 else 1} ({rsv:03b})", [frame(opcode, payload, rsv=rsv)], code=1002
            )
    yield Row("text with all RSV", [frame(TEXT, b"ab", rsv=7)], code=1002)
    for opcode in (3, 4, 5, 6, 7, 0xB, 0xC, 0xD, 0xE, 0xF):
        yield Row(f"opcode {opcode:#x}", [frame(opcode, b"ab")], code=1002)
    yield Row("opcode 0x3 without payload", [frame(3)], code=1002)
    yield Row("message before a broken frame", [text(ASK) + frame(3)], messages=1, code=1002)
    yield Row("message after a broken frame", [frame(3) + text(ASK)], code=1002)
    yield Row("HTTP after the handshake", [b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"], code=1002)
    yield Row("noise", [bytes(range(255, 0, -1))], code=1002)


def length_rows() -> Iterator[Row]:
    """Lengths are believed only as far as the limit, and before any payload comes."""
    yield Row("one byte over the limit, head only", [frame(TEXT, length=MESSAGE_BYTES_MAX + 1)], code=1009)
    yield Row("one byte over the limit, whole", [text(padded(MESSAGE_BYTES_MAX + 1))], code=1009)
    yield Row("65536 bytes, head only", [frame(TEXT, length=65536)], code=1009)
    yield Row("16 MiB, head only", [frame(TEXT, length=16 << 20)], code=1009)
    yield Row("4 GiB, head only", [frame(TEXT, length=4 << 30)], code=1009)
    yield Row("2^63 - 1, head only", [frame(TEXT, length=(1 << 63) - 1)], code=1009)
    yield Row("2^63, head only", [frame(TEXT, length=1 << 63)], code=1002)
    yield Row("2^64 - 1, head only", [frame(TEXT, length=(1 << 64) - 1)], code=1002)
    yield Row("ping of 16 MiB, head only", [frame(PING, length=16 << 20)], code=1009)
    yield Row("binary of 16 MiB, head only", [frame(BINARY, length=16 << 20)], code=1009)
    yield Row("continuation of 16 MiB", [frame(TEXT, b"{", fin=False), frame(CONT, length=16 << 20)], code=1009)


TABLE: Final = list(rows())


@pytest.fixture(scope="module")
def gateway() -> Iterator[Running]:
    """One gateway for all rows."""
    settings = ServeSettings(port=0, heartbeat_ms=60_000, ping_interval_ms=60_000, limits=LIMITS)
    with Running(settings) as running:
        yield running


def assert_serves(port: int) -> None:
    """Somebody else is served."""
    with RawClient(port).open() as other:
        other.send(text(ASK))
        found = other.frame()
        assert found is not None
        assert b'"pong"' in found.payload


def test_the_table_is_large_enough() -> None:
    assert len({row.name for row in TABLE}) == len(TABLE)
    assert len(TABLE) >= 100


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_frames(gateway: Running, row: Row) -> None:
    with RawClient(gateway.port).open() as client:
        for data in row.sent:
            client.send(data)
        if row.code is None and not row.empty_close:
            # the end of what is to come: the connection still works
            client.send(text('{"op":"ping","id":"last"}') + close(1000))
        frames = client.frames()
    last = frames.pop()
    pongs = tuple(found.payload for found in frames if found.opcode == PONG)
    messages = [message for found in frames if found.opcode == TEXT for message in json.loads(found.payload)]
    if row.code is None and not row.empty_close:
        assert messages.pop()["id"] == "last"
    assert last.opcode == CLOSE
    assert last.code == (1000 if row.code is None and not row.empty_close else row.code)
    assert pongs == row.pongs
    assert len(messages) == row.messages, messages
    assert_serves(gateway.port)


def test_a_close_reason_says_nothing_of_the_inside(gateway: Running) -> None:
    for row in TABLE:
        if row.code in (1002, 1003, 1007, 1009):
            with RawClient(gateway.port).open() as client:
                client.send(b"".join(row.sent))
                reason = client.frames()[-1].payload[2:].decode()
            assert "Traceback" not in reason
            assert "/" not in reason, reason


def test_a_flood_of_empty_continuations_is_closed_early(gateway: Running) -> None:
    """A million of them: bytes alone would never reach a limit."""
    before = psutil.Process().memory_info().rss
    cpu = gateway.cpu()
    flood = frame(CONT, fin=False) * 10_000
    with RawClient(gateway.port).open() as client:
        client.send(frame(TEXT, fin=False))
        client.socket.settimeout(0.2)
        try:
            for _ in range(100):
                client.socket.sendall(flood)
        except OSError:
            pass  # the gateway does not read it any more, or has gone
        client.socket.settimeout(5)
        assert client.closed_with() == 1009
    assert gateway.cpu() - cpu < 1.0
    assert psutil.Process().memory_info().rss - before < 8 << 20
    assert_serves(gateway.port)


def test_one_byte_frames_cost_little() -> None:
    """64 KiB in frames of one byte; with room for so many frames they arrive, else they are refused, cheaply."""
    settings = ServeSettings(port=0, limits=LimitSettings(bytes_per_second=10_000_000, frames_per_second=1_000_000))
    with Running(settings) as running, RawClient(running.port).open() as client:
        cpu = running.cpu()
        client.send(b"".join(pieces(padded(64 * 1024), 64 * 1024)))
        assert client.closed_with() == 1009
        assert running.cpu() - cpu < 0.1


def test_a_large_frame_is_refused_before_its_payload(gateway: Running) -> None:
    before = psutil.Process().memory_info().rss
    with RawClient(gateway.port).open() as client:
        began = time.monotonic()
        client.send(frame(TEXT, length=16 << 20))
        assert client.closed_with() == 1009
        assert time.monotonic() - began < 0.5
    with RawClient(gateway.port).open() as client:
        client.send(frame(TEXT, length=16 << 20) + os.urandom(1 << 20))
        assert client.closed_with() == 1009
    assert psutil.Process().memory_info().rss - before < 8 << 20


@pytest.mark.parametrize("sent", [b"", text(ASK)[:7], frame(TEXT, b"{", fin=False), text(ASK)], ids=len)
def test_a_connection_that_is_cut_leaves_nothing_behind(gateway: Running, sent: bytes) -> None:
    with RawClient(gateway.port).open() as client:
        client.send(sent)
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert gateway.wait_until(lambda: not gateway.gateway.connections and not len(gateway.gateway.doors))
    assert_serves(gateway.port)


def test_a_half_closed_connection_ends(gateway: Running) -> None:
    with RawClient(gateway.port).open() as client:
        client.socket.shutdown(socket.SHUT_WR)
        assert client.ends_within(2)


def test_an_error_of_ours_closes_that_connection_alone(
    gateway: Running, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from feed.protocol.session import Session

    inside = Session.receive

    def breaks(self: Session, text: bytes, now_ns: int) -> bytes:
        if b"break" in text:
            raise RuntimeError("secret detail")
        return inside(self, text, now_ns)

    monkeypatch.setattr(Session, "receive", breaks)
    with RawClient(gateway.port).open() as bystander, RawClient(gateway.port).open() as client:
        client.send(text('{"op":"break"}'))
        last = client.frames()[-1]
        assert last.code == 1011
        assert b"secret" not in last.payload
        bystander.send(text(ASK))
        found = bystander.frame()
        assert found is not None
        assert b'"pong"' in found.payload
    assert "secret detail" in caplog.text


def test_frames_sent_behind_the_handshake_are_answered(gateway: Running) -> None:
    with RawClient(gateway.port) as client:
        client.send(handshake(gateway.port) + text(ASK) + close(1000))
        assert client.answer().status == 101
        frames = client.frames()
    assert b'"welcome"' in frames[0].payload
    assert b'"pong"' in frames[1].payload
    assert frames[2].code == 1000
