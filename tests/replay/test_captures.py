"""Capture files: every format of a line, merging on receive time, and files that are not what they should be."""

from __future__ import annotations

import gzip
import tracemalloc
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feed.errors import BadCapture
from replay import captures
from replay.captures import Captured, read

URL = "https://www.binance.com/api/v3/depth?symbol=NKNUSDT&limit=1000"
FRAME = b'{"e":"trade","s":"X"}'
DEPTH = b'{"lastUpdateId":5,"bids":[],"asks":[]}'


def file(folder: Path, *lines: bytes, name: str = "capture", zipped: bool = False) -> Path:
    path = folder / name
    data = b"\n".join(lines) + b"\n"
    path.write_bytes(gzip.compress(data) if zipped else data)
    return path


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        (b"1618677817.0618958: " + FRAME, Captured(1618677817061895800, FRAME)),
        (b"1618677817: " + FRAME, Captured(1618677817000000000, FRAME)),
        (b"1618677817.5: " + DEPTH, Captured(1618677817500000000, DEPTH)),
        (URL.encode() + b" -> 1633998512.320639: " + DEPTH, Captured(1633998512320639000, DEPTH, URL, "NKNUSDT")),
        (
            b"https://x?symbol=A%2FB -> 1633998512.5: {}",
            Captured(1633998512500000000, b"{}", "https://x?symbol=A%2FB", "A/B"),
        ),
        (b"https://x/y -> 1633998512.5: {}", Captured(1633998512500000000, b"{}", "https://x/y", "GIVEN")),
        (b"1723161253937085768 " + FRAME, Captured(1723161253937085768, FRAME)),
        (b"1680652700423575 " + FRAME, Captured(1680652700423575000, FRAME)),
        (b"1680652700423 " + FRAME, Captured(1680652700423000000, FRAME)),
        (b"1680652700 " + FRAME, Captured(1680652700000000000, FRAME)),
        (b"1723161253937085768 " + DEPTH, Captured(1723161253937085768, DEPTH, "depth", "GIVEN")),
        (
            b'5000000000 {"lastUpdateId":5,"symbol":"Y"}',
            Captured(5000000000 * 10**9, b'{"lastUpdateId":5,"symbol":"Y"}', "depth", "Y"),
        ),
        (b'{"rx_ns":1723161253937085768,"frame":' + FRAME + b"}", Captured(1723161253937085768, FRAME)),
        (b'{"rx_ns":17,"frame":"{\\"e\\": \\"\xc3\xa9\\"}"}', Captured(17, '{"e": "é"}'.encode())),
        (FRAME, Captured(None, FRAME)),
        (b" " + FRAME + b"\r", Captured(None, FRAME)),
        (b'[1,{},"book-10","XBT/USD"]', Captured(None, b'[1,{},"book-10","XBT/USD"]')),
    ],
)
def test_lines(tmp_path: Path, line: bytes, wanted: Captured, zipped: bool) -> None:
    skipped = (
        b"",
        b"wss://x <-> 1618677816.84",
        b'wss://x <- 1618677817.02: {"type":"subscribe"}',
        b"configuration: {}",
    )
    assert list(read([file(tmp_path, *skipped, line, b"", zipped=zipped)], symbol="GIVEN")) == [wanted]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"hello", r"line 2: found b'hello', wanted a frame"),
        (b"16186778: {}", "wanted a frame"),
        (b'"text"', "wanted a frame"),
        (DEPTH, "wanted the option --symbol"),
        (b"1723161253937085768 " + DEPTH, "line 2: .*wanted the option --symbol"),
        (b'1723161253937085768 {"lastUpdateId":', "wanted a depth snapshot"),
        (b'{"rx_ns":1}', "wanted rx_ns and frame"),
        (b'{"rx_ns":"1","frame":{}}', "wanted rx_ns and frame"),
        (b'{"rx_ns":1,"frame":"\xff"}', "wanted rx_ns and frame"),
        (b"x" * 10_000_000, "wanted a frame"),
    ],
)
def test_line_that_is_none_is_named(tmp_path: Path, line: bytes, words: str) -> None:
    path = file(tmp_path, FRAME, line)
    with pytest.raises(BadCapture, match=words) as refused:
        list(read([path]))
    assert str(refused.value).startswith(f"{path} line 2: ")
    assert len(str(refused.value)) < 500


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    whole = file(tmp_path, *[FRAME] * 1000, zipped=True)
    cut = tmp_path / "cut"
    cut.write_bytes(whole.read_bytes()[:-20])
    spoiled = tmp_path / "spoiled"
    spoiled.write_bytes(whole.read_bytes()[:30] + b"xxxx" + whole.read_bytes()[34:])
    for path in (cut, spoiled, tmp_path / "missing", tmp_path):
        with pytest.raises(BadCapture, match="cannot be read"):
            list(read([path]))
    assert list(read([file(tmp_path, name="empty")])) == []


def test_line_has_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captures, "LINE_BYTES_MAX", 100)
    with pytest.raises(BadCapture, match="line 2: longer than 100 bytes"):
        list(read([file(tmp_path, FRAME, b"[" * 200)]))


def test_files_are_merged_on_receive_time_answers_first(tmp_path: Path) -> None:
    socket = file(tmp_path, b'1000000000.1: {"n":1}', b'1000000000.2: {"n":2}', b'1000000000.3: {"n":3}', name="a")
    answers = file(tmp_path, b'u?symbol=A -> 1000000000.2: {"n":4}', b'u?symbol=B -> 1000000000.25: {"n":5}', name="b")
    other = file(tmp_path, b'1000000000.2: {"n":6}', name="c")
    timeless = file(tmp_path, b'{"n":7}', b'{"n":8}', name="d")

    def numbers(*files: Path) -> list[int]:
        return [msgspec.json.decode(captured.frame)["n"] for captured in read(files)]

    assert numbers(socket, answers) == [1, 4, 2, 5, 3]
    assert numbers(answers, socket, other) == [1, 4, 2, 6, 5, 3]
    assert numbers(other, answers, socket) == [1, 4, 6, 2, 5, 3]
    assert numbers(socket, timeless) == [7, 8, 1, 2, 3]


@given(st.lists(st.lists(st.integers(0, 5), max_size=6), min_size=1, max_size=3))
def test_merging_loses_nothing_and_keeps_the_order_of_each_file(
    tmp_path_factory: pytest.TempPathFactory, times: list[list[int]]
) -> None:
    folder = tmp_path_factory.mktemp("merged")
    files = [
        file(folder, *[b'100000000%d.0: {"f":%d,"n":%d}' % (time, f, n) for n, time in enumerate(some)], name=str(f))
        for f, some in enumerate(times)
    ]
    merged = [msgspec.json.decode(captured.frame) for captured in read(files)]
    for f, some in enumerate(times):
        assert [entry["n"] for entry in merged if entry["f"] == f] == list(range(len(some)))
    if all(some == sorted(some) for some in times):
        assert [captured.ts_recv for captured in read(files)] == sorted(
            (10**9 + time) * 10**9 for some in times for time in some
        )


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    path = file(tmp_path, *[b"1723161253937085768 " + b"[%d]" % n * 20 for n in range(50_000)], zipped=True)
    tracemalloc.start()
    try:
        assert sum(1 for _ in read([path])) == 50_000
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


def test_all_lines_of_all_captures_are_read(data_dir: Path) -> None:
    facts = msgspec.json.decode((data_dir / "facts.json").read_bytes())
    seen = 0
    for name, fact in facts.items():
        if name.startswith(("binance/", "kraken/", "coinbase/")):
            files = [data_dir / path for path in fact["files"]]
            frames = list(read(files, symbol="BTCUSDT"))
            assert len(frames) == sum(fact["frames"].values())
            times = [captured.ts_recv for captured in frames if captured.ts_recv is not None]
            assert times == sorted(times)
            if times:
                assert [str(times[0]), str(times[-1])] == [fact["local_first_ns"], fact["local_last_ns"]]
            seen += 1
    assert seen >= 11
