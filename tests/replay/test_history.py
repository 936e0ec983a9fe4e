"""`/v1/history`: three forms of the same rows, in ranges, with every refusal named, at constant memory."""

from __future__ import annotations

import csv
import io
import json
import random
import shutil
import socket
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import replay
from feed.recording.filter import Filter
from feed.recording.recording import RecordingFiles
from feed.recording.table_files import NEVER
from feed.recording.tables import SCHEMAS
from feed.runtime.settings import LimitSettings, ServeSettings
from feed.wire.times import text_of
from replay.history import FORMS, HistoryQuery, Piece, arrow, ndjson
from tests.feed.recorder.made_up import MadeUp
from tests.feed.recorder.tape import FILES, Tape
from tests.gateways import Running

SYMBOLS = ["TOY:A", "TOY:B", "TOY:C"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sealed files, and open ones behind them."""
    root = tmp_path_factory.mktemp("recordings")
    log = MadeUp("toy/0", SYMBOLS, random.Random(11))
    log.grow(400)
    log.record()
    tape = Tape(root, [log.log], files=FILES.model_copy(update={"rotate_bytes": 8_000}))
    tape.play()
    tape.die()
    return root


@pytest.fixture(scope="module")
def served(folder: Path) -> Any:
    limits = LimitSettings(histories_max=2, response_seconds=1.0)
    with Running(ServeSettings(port=0, limits=limits), recordings=folder) as running:
        yield running


def get(running: Running, accept: str | None = None, **query: str) -> tuple[int, dict[str, str], bytes]:
    url = f"http://127.0.0.1:{running.port}/v1/history?{urllib.parse.urlencode(query)}"
    request = urllib.request.Request(url, headers={"accept": accept} if accept else {})
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as error:
        return error.code, dict(error.headers), error.read()


def table(body: bytes) -> pa.Table:
    return pa.ipc.open_stream(body).read_all()


@pytest.mark.parametrize("kind", ["trades", "quotes", "book", "bars", "status", "instruments"])
def test_arrow_has_the_columns_and_the_rows_of_the_recording(served: Running, folder: Path, kind: str) -> None:
    status, headers, body = get(served, channel=kind)
    assert (status, headers["content-type"]) == (200, "application/vnd.apache.arrow.stream")
    found = table(body)
    assert found.schema.equals(SCHEMAS[kind])
    assert not any(found["is_keyframe"].to_pylist())
    with replay.open(str(folder)) as opened:
        names = opened.table(kind).schema.names
        updates = found.filter(pa.compute.invert(found["is_snapshot"])).select(names)
        assert updates.to_pylist() == opened.table(kind).to_pylist()
        assert int(headers["feed-recorded-until"]) >= max(updates["ts_recv"].cast(pa.int64()).to_pylist())


def test_open_and_sealed_files_are_both_read(folder: Path) -> None:
    recording = RecordingFiles(str(folder))
    places = recording.files_by_table["trades"].places
    recording.close()
    assert {place.sealed for place in places} == {True, False}
    assert len(places) > 2


def test_ndjson_is_the_messages_byte_for_byte(served: Running, folder: Path) -> None:
    status, headers, body = get(served, "application/x-ndjson", channel="book")
    assert (status, headers["content-type"]) == (200, "application/x-ndjson")
    recording = RecordingFiles(str(folder))
    assert body == b"".join(bytes(page.text()) for page in recording.pages(Filter(["book"])))
    recording.close()
    types = {json.loads(line)["type"] for line in body.splitlines()}
    assert "update" in types


def test_csv_is_what_export_writes(served: Running, folder: Path, tmp_path: Path) -> None:
    from feed.runtime.command import run
    from replay.cli import app

    _, headers, body = get(served, "text/csv", channel="trades", symbols="TOY:A,TOY:C")
    assert headers["content-type"] == "text/csv; charset=utf-8"
    out = tmp_path / "trades.csv"
    arguments = ["export", str(folder), "--table", "trades", "--symbols", "TOY:A,TOY:C", "--to", str(out)]
    assert run(app, arguments) == 0
    assert list(csv.reader(io.StringIO(body.decode()))) == list(csv.reader(io.StringIO(out.read_text())))


def test_symbols_and_patterns(served: Running) -> None:
    everything = table(get(served, channel="trades")[2])
    one = table(get(served, channel="trades", symbols="TOY:B")[2])
    assert set(one["symbol"].to_pylist()) == {"TOY:B"}
    assert one.num_rows == everything["symbol"].to_pylist().count("TOY:B")
    assert table(get(served, channel="trades", symbols="TOY:*")[2]).num_rows == everything.num_rows
    assert table(get(served, channel="trades", symbols="NONE:*")[2]).num_rows == 0


@pytest.mark.parametrize("seed", range(5))
def test_ranges_that_follow_each_other_have_every_row_once(folder: Path, seed: int) -> None:
    chooser = random.Random(seed)
    recording = RecordingFiles(str(folder))
    everything = HistoryQuery(Filter(["book"]), 0, NEVER)
    clocks = sorted({int(c) for page in recording.pages(everything.chosen) for c in page.clock})
    cuts = [0, *sorted(chooser.sample(clocks, 4)), NEVER]
    rows: list[Any] = []
    lines = b""
    for start, end in pairwise(cuts):
        wanted = HistoryQuery(everything.chosen, start, end)
        rows += table(b"".join(map(bytes, arrow(recording, wanted)))).to_pylist()
        lines += b"".join(map(bytes, ndjson(recording, wanted)))
    assert rows == table(b"".join(map(bytes, arrow(recording, everything)))).to_pylist()
    assert lines == b"".join(map(bytes, ndjson(recording, everything)))
    recording.close()


def test_a_time_is_the_clock_by_which_ticks_were_received(served: Running) -> None:
    rows = table(get(served, channel="quotes")[2])
    at = sorted(rows["ts_recv"].cast(pa.int64()).to_pylist())[rows.num_rows // 2]
    later = table(get(served, channel="quotes", start=text_of(at))[2])
    earlier = table(get(served, channel="quotes", end=text_of(at))[2])
    assert later.num_rows + earlier.num_rows == rows.num_rows
    assert earlier.num_rows and later.num_rows


@pytest.mark.parametrize(
    ("query", "accept", "status", "code"),
    [
        ({}, None, 400, "bad_message"),
        ({"channel": "trades", "symbol": "TOY:A"}, None, 400, "bad_message"),
        ({"channel": "tapes"}, None, 400, "unknown_channel"),
        ({"channel": "trades", "symbols": ","}, None, 400, "bad_message"),
        ({"channel": "trades", "symbols": "TOY:A*"}, None, 404, "unknown_symbol"),
        ({"channel": "trades", "symbols": "TOY:NOPE"}, None, 404, "unknown_symbol"),
        ({"channel": "trades", "start": "yesterday"}, None, 400, "bad_message"),
        ({"channel": "trades", "start": "9" * 30}, None, 400, "bad_message"),
        ({"channel": "trades", "start": "9" * 4400}, None, 400, "bad_message"),
        ({"channel": "trades", "end": "0" * 4400 + "1"}, None, 400, "bad_message"),
        ({"channel": "trades", "end": "1795973660"}, None, 400, "bad_message"),
        ({"channel": "trades", "start": "0"}, None, 400, "bad_message"),
        ({"channel": "trades", "start": "2026-11-21", "end": "2026-11-20"}, None, 400, "bad_position"),
        ({"channel": "trades"}, "image/png", 406, "bad_message"),
    ],
)
def test_refusals_are_named(served: Running, query: dict[str, str], accept: str | None, status: int, code: str) -> None:
    found, headers, body = get(served, accept, **query)
    assert (found, json.loads(body)["code"]) == (status, code)
    assert headers.get("vary") == ("accept" if status == 406 else None)


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("channel=trades&chanel=book", "found the parameter 'chanel', wanted one of channel, symbols, start, end"),
        ("channel=trades&channel=book", "found the parameter 'channel' twice, wanted it once"),
        ("channel=trades&start=2026-11-20&start=2026-11-21", "found the parameter 'start' twice, wanted it once"),
    ],
)
def test_a_parameter_that_is_unknown_or_there_twice_is_refused_by_its_name(
    served: Running, query: str, said: str
) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"http://127.0.0.1:{served.port}/v1/history?{query}", timeout=20)
    body = json.loads(refused.value.read())
    assert (refused.value.code, body["code"], body["message"]) == (400, "bad_message", said)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/v1/snapshot/book/TOY:A?depth=10", "'depth'"),
        ("/v1/symbols?venue=toy", "'venue'"),
        ("/v1/status?x", "'x'"),
        ("/v1/clients?limit=1&limit=2", "'limit' twice"),
        ("/readyz?verbos=1", "'verbos'"),
    ],
)
def test_no_route_passes_over_a_parameter(served: Running, path: str, said: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"http://127.0.0.1:{served.port}{path}", timeout=20)
    body = json.loads(refused.value.read())
    assert (refused.value.code, body["type"]) == (400, "error")
    assert said in body["message"]


@pytest.mark.parametrize("path", ["/?utm_source=x", "/docs?x=1", "/board/board.css?v=2", "/v1/clients?limit=1"])
def test_pages_take_what_a_link_has(served: Running, path: str) -> None:
    with urllib.request.urlopen(f"http://127.0.0.1:{served.port}{path}", timeout=20) as answer:
        assert answer.status == 200


def test_what_hangs_on_accept_says_so_to_caches(served: Running) -> None:
    assert get(served, channel="trades")[1]["vary"] == "accept"


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("*/*", "application/vnd.apache.arrow.stream"),
        ("text/*", "text/csv; charset=utf-8"),
        ("text/csv;q=0.5, application/x-ndjson", "application/x-ndjson"),
        ("text/html, */*;q=0.1", "application/vnd.apache.arrow.stream"),
    ],
)
def test_the_form_is_chosen_by_accept(served: Running, accept: str, kind: str) -> None:
    assert get(served, accept, channel="status")[1]["content-type"] == kind


def test_no_recording_yet(tmp_path: Path) -> None:
    with Running(ServeSettings(port=0), recordings=tmp_path / "later") as running:
        status, _, body = get(running, channel="trades")
        assert (status, json.loads(body)["code"]) == (404, "no_recording")
        (tmp_path / "later").mkdir()
        assert get(running, channel="trades")[0] == 404


def _ask(running: Running, kind: str = "book", receive_buffer: int | None = None) -> socket.socket:
    peer = socket.socket()
    if receive_buffer is not None:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    peer.connect(("127.0.0.1", running.port))
    peer.sendall(
        f"GET /v1/history?channel={kind} HTTP/1.1\r\nhost: localhost\r\naccept: application/x-ndjson\r\n\r\n".encode()
    )
    return peer


def _rest(peer: socket.socket) -> bytes:
    found = b""
    try:
        while piece := peer.recv(65536):
            found += piece
    except ConnectionResetError:
        pass
    return found


def open_files(folder: Path) -> int:
    """Files under a folder that this process holds open."""
    found = 0
    for link in Path("/proc/self/fd").iterdir():
        try:
            found += str(folder) in str(link.readlink())
        except OSError:
            continue
    return found


def endless(recording: RecordingFiles, wanted: HistoryQuery) -> Iterator[Piece]:
    """A history that no socket holds."""
    piece = b"".join(map(bytes, ndjson(recording, wanted))) * 20
    while True:
        yield piece


@pytest.mark.slow
def test_a_reader_that_takes_nothing_is_cut_and_leaves_no_file_open(folder: Path, monkeypatch: Any) -> None:
    monkeypatch.setitem(FORMS, "application/x-ndjson", endless)
    limits = LimitSettings(response_seconds=0.5)
    with Running(ServeSettings(port=0, limits=limits), recordings=folder) as running:
        peer = _ask(running)
        assert _until(lambda: open_files(folder) > 0)
        assert _until(lambda: open_files(folder) == 0), "files are left open"
        assert not _rest(peer).endswith(b"0\r\n\r\n"), "the answer ends as if it were whole"
        assert get(running, channel="trades")[0] == 200


def trickling(recording: RecordingFiles, wanted: HistoryQuery) -> Iterator[Piece]:
    """The same in small pieces."""
    while True:
        yield b"x" * 32_768


@pytest.mark.slow
@pytest.mark.parametrize(("rate", "kept"), [(1 << 30, False), (1, True)], ids=["too slow", "quick enough"])
def test_a_slow_reader_keeps_its_place_only_at_a_rate(folder: Path, monkeypatch: Any, rate: int, kept: bool) -> None:
    monkeypatch.setitem(FORMS, "application/x-ndjson", trickling)
    limits = LimitSettings(response_seconds=2.0, history_bytes_per_second_min=rate)
    with Running(ServeSettings(port=0, limits=limits), recordings=folder) as running:
        peer = _ask(running, receive_buffer=32_768)
        ends = time.monotonic() + 4
        while time.monotonic() < ends and running.do(lambda: len(running.gateway.doors)):
            assert peer.recv(65_536)  # it takes something all the time
            time.sleep(0.003)
        assert running.do(lambda: len(running.gateway.doors)) == kept
        peer.close()


@pytest.mark.slow
def test_a_reader_that_goes_away_leaves_no_file_open(folder: Path, monkeypatch: Any) -> None:
    monkeypatch.setitem(FORMS, "application/x-ndjson", endless)
    with Running(ServeSettings(port=0, limits=LimitSettings(histories_max=1)), recordings=folder) as running:
        for _ in range(3):
            peer = _ask(running)
            assert _until(lambda: open_files(folder) > 0)
            status, headers, body = get(running, channel="trades")
            assert (status, headers["retry-after"], json.loads(body)["retry"]) == (503, "1", True)
            peer.close()
            assert _until(lambda: open_files(folder) == 0), "files are left open"
        assert get(running, channel="trades")[0] == 200


def _until(holds: Any, seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if holds():
            return True
        time.sleep(0.01)
    return False


def test_a_damaged_block_breaks_the_answer_off(folder: Path, tmp_path: Path) -> None:
    root = tmp_path / "copy"
    shutil.copytree(folder, root)
    recording = RecordingFiles(str(root))
    path = root / recording.files_by_table["trades"].places[0].path
    blocks = recording.files_by_table["trades"].file(0).blocks
    block = next(block for block in blocks if block.rows and not block.note.keyframes)
    recording.close()
    data = bytearray(path.read_bytes())
    data[block.end - 3] ^= 1
    path.write_bytes(data)
    with Running(ServeSettings(port=0), recordings=root) as running:
        with pytest.raises(Exception, match="IncompleteRead"):
            get(running, channel="trades")
        assert get(running, channel="quotes")[0] == 200
    path.write_bytes(data[: len(data) // 2])
    with Running(ServeSettings(port=0), recordings=root) as running:
        status, _, body = get(running, channel="quotes")
        assert (status, json.loads(body)["code"]) == (500, "internal")
