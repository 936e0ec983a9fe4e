"""A recording as its users see it: tables in one line for each library, books, messages; the commands over it."""

from __future__ import annotations

import io
import json
import random
import shutil
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow.fs
import pyarrow.parquet
import pytest
from pyarrow._fs import _MockFileSystem

import replay
from feed.errors import FeedError
from feed.recording.files import RecordedFile
from feed.recording.filter import Filter
from feed.recording.folder import Folder
from feed.recording.notes import CorruptRecording
from feed.recording.recording import RecordingFiles
from feed.recording.table_files import FROM_BEGIN, TO_END
from feed.runtime.command import run
from feed.wire.hashes import Hashes
from feed.wire.times import text_of
from replay import printing
from replay.cli import app
from replay.opened import Recording
from tests.feed.recorder.made_up import MadeUp, head, truth_of
from tests.feed.recorder.tape import Tape
from tests.feed.recorder.test_session import stream_of, updates_of


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, MadeUp]:
    """A recording of one source, ended well."""
    log = MadeUp("toy/0", ["TOY:A", "TOY:B"], random.Random(7))
    log.grow(250)
    log.record()
    root = tmp_path_factory.mktemp("recordings")
    tape = Tape(root, [log.log])
    tape.play()
    tape.end()
    return root, log


@pytest.fixture
def opened(recorded: tuple[Path, MadeUp]) -> Recording:
    return replay.open(str(recorded[0]))


def ran(*arguments: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    capsys.readouterr()
    code = run(app, arguments)
    return code, *capsys.readouterr()


def trades_of(log: MadeUp, symbol: str) -> list[tuple[Decimal, str]]:
    updates = truth_of([log]).get(("trades", symbol), [])
    return [(Decimal(trade["price"]), trade["trade_id"]) for update in updates for trade in head(update)["data"]]


def test_a_table_is_a_row_a_trade(opened: Recording, recorded: tuple[Path, MadeUp]) -> None:
    rows = opened.trades("TOY:A").to_pylist()
    assert [(row["price"], row["trade_id"]) for row in rows] == trades_of(recorded[1], "TOY:A")
    assert {row["symbol"] for row in opened.trades().to_pylist()} == {"TOY:A", "TOY:B"}
    assert opened.trades("TOY:*").num_rows == opened.trades().num_rows
    assert opened.trades("TOY:NOPE").num_rows == 0


def test_polars_pandas_and_duckdb_take_it_in_one_line(opened: Recording, recorded: tuple[Path, MadeUp]) -> None:
    wanted = trades_of(recorded[1], "TOY:B")
    assert pl.from_arrow(opened.trades("TOY:B"))["trade_id"].to_list() == [trade for _, trade in wanted]
    assert opened.trades("TOY:B").to_pandas()["price"].tolist() == [price for price, _ in wanted]
    assert isinstance(opened.quotes().to_pandas(), pd.DataFrame)
    trades = opened.trades("TOY:B")
    assert duckdb.sql("select count(*), max(price) from trades").fetchall() == [
        (trades.num_rows, max(price for price, _ in wanted))
    ]


def test_files_are_a_data_set_without_us(recorded: tuple[Path, MadeUp], opened: Recording) -> None:
    scanned = pl.scan_ipc(recorded[0] / "trades/**/*.arrow").filter(~pl.col("is_snapshot")).collect()
    assert scanned.height == opened.trades().num_rows
    found = opened.dataset("trades").to_table()
    assert found.filter(pyarrow.compute.invert(found["is_snapshot"])).num_rows == opened.trades().num_rows
    assert set(found["date"].to_pylist()) == {"1970-01-01"}


def test_a_range_of_time_is_a_part_of_it(opened: Recording) -> None:
    whole = opened.quotes().to_pylist()
    times = [row["ts_recv"] for row in whole]
    start, end = times[len(times) // 3], times[2 * len(times) // 3]
    part = opened.quotes(start=start, end=end).to_pylist()
    assert part == [row for row, time in zip(whole, times, strict=True) if start <= time < end]
    assert 0 < len(part) < len(whole)


def test_every_table_can_be_had(opened: Recording) -> None:
    for name in ("trades", "quotes", "book", "bars", "status", "instruments", "gaps", "states"):
        table = getattr(opened, name)()
        assert "is_keyframe" not in table.schema.names
        assert table.num_rows
        assert opened.table(name, columns=["symbol"]).schema.names == ["symbol"]


def test_messages_are_the_live_ones_and_begin_with_states(opened: Recording) -> None:
    stream = stream_of(opened.recording, Filter())
    assert list(opened.messages()) == [entry[4] for entry in stream]
    middle = stream[len(stream) // 2][0]
    told = list(opened.messages(["book"], "TOY:A", start=text_of(middle)))
    assert head(told[0])["type"] == "snapshot"
    rest = [e[4] for e in stream if e[0] >= middle and b'"book","symbol":"TOY:A"' in e[4]]
    assert told[-len(rest) :] == rest
    assert list(opened.play("max", "book", "TOY:A", start=text_of(middle))) == told


def test_a_book_at_a_time(opened: Recording, recorded: tuple[Path, MadeUp]) -> None:
    found = opened.book_at("TOY:A", 2**62)
    data = recorded[1].source.truth("book", "TOY:A").data()
    assert found.bids == [(Decimal(price), Decimal(size)) for price, size in data.bids]
    assert found.asks == [(Decimal(price), Decimal(size)) for price, size in data.asks]
    assert "bids" in repr(found)
    with pytest.raises(FeedError, match="no book of TOY:NOPE"):
        opened.book_at("TOY:NOPE", "1985-01-01")


def test_info_counts_what_is_there(recorded: tuple[Path, MadeUp], capsys: pytest.CaptureFixture[str]) -> None:
    root, log = recorded
    code, out, _ = ran("info", str(root), "--json", capsys=capsys)
    assert code == 0
    told = json.loads(out)
    counted = {(channel["channel"], channel["symbol"]): channel["updates"] for channel in told["channels"]}
    assert counted == {key: len(updates) for key, updates in truth_of([log]).items()}
    assert told["positions"] == {"toy/0@a": log.source.seq}
    rows: dict[str, int] = {}
    for channel in told["channels"]:
        rows[channel["channel"]] = rows.get(channel["channel"], 0) + channel["rows"]
    with replay.open(str(root)) as opened:
        assert rows == {kind: opened.table(kind).num_rows for kind in rows}
    assert told["rows"] == sum(rows.values()) > told["updates"]
    code, out, _ = ran("info", str(root), capsys=capsys)
    assert code == 0
    assert f"{told['rows']:,} rows" in out
    assert f"{sum(counted.values()):,} updates" in out


def test_verify_finds_nothing_or_names_file_and_batch(
    recorded: tuple[Path, MadeUp], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = shutil.copytree(recorded[0], tmp_path / "copy")
    assert ran("verify", str(root), capsys=capsys)[0] == 0
    (file,) = root.glob("book/*/*.arrow")
    data = bytearray(file.read_bytes())
    blocks = RecordingFiles(str(root)).files_by_table["book"].file(0).blocks
    data[next(block for block in blocks if block.rows).end - 40] ^= 1
    file.write_bytes(data)
    code, out, _ = ran("verify", str(root), "--json", capsys=capsys)
    assert code == 1
    assert f"{file.name} batch" in json.loads(out)["faults"][0]
    with pytest.raises(CorruptRecording):
        replay.open(str(root)).book()
    assert replay.open(str(root)).trades().num_rows


def test_verify_sees_a_chain_that_is_broken(
    recorded: tuple[Path, MadeUp], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = recorded[1].log
    root = tmp_path / "recordings"
    tape = Tape(root, [log])
    tape.read(0, 30)
    tape.commit()
    tape.read(0, 30)
    tape.lose("quotes")
    tape.play()
    tape.end()
    code, out, _ = ran("verify", str(root), capsys=capsys)
    assert code == 1
    assert "quotes of TOY:" in out
    assert "follows" in out


@pytest.mark.parametrize(
    "command", [("print",), ("export", "--table", "trades", "--to", "x.csv"), ("publish", "--kafka", "127.0.0.1:1")]
)
def test_a_symbol_that_was_never_recorded_is_named(
    recorded: tuple[Path, MadeUp], command: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    ended = ran(command[0], str(recorded[0]), *command[1:], "--symbols", "TOY:A,TOY:NOPE", capsys=capsys)
    assert ended == (2, "", "error: nothing is recorded of 'TOY:NOPE'; `replay info` tells what is\n")


def test_a_folder_without_a_recording_is_not_verified(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ran("verify", str(tmp_path), capsys=capsys) == (1, "", f"error: nothing is recorded in {tmp_path}\n")


def test_print_gives_every_byte_or_its_hash(
    recorded: tuple[Path, MadeUp], capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    root, log = recorded
    assert run(app, ["print", str(root), "--channels", "trades,book"]) == 0
    lines = capfdbinary.readouterr().out.splitlines()
    stream = [(0, "", 0, 0, line) for line in lines]
    assert updates_of(stream) == {k: v for k, v in truth_of([log]).items() if k[0] in ("trades", "book")}
    assert run(app, ["print", str(root), "--hash"]) == 0
    told = capfdbinary.readouterr().out.decode().splitlines()
    hashes = Hashes()
    for _, source, _, _, message in stream_of(replay.open(str(root)).recording, Filter()):
        read = head(message)
        if read["type"] in ("update", "state") or read.get("reason") == "venue":
            hashes.take(read["channel"], read["symbol"], source, read["type"], read["seq"], message)
            hashes.take(read["channel"], read["symbol"], source, read["type"], read["seq"], message)
    assert told == [*(" ".join(line) for line in hashes.lines()), hashes.total()]


class Clock:
    """Time that passes only where somebody sleeps; stands in for `time`."""

    def __init__(self) -> None:
        self.now = 0

    def monotonic_ns(self) -> int:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += int(seconds * 1e9) + 1


class Timed(io.BytesIO):
    """Notes when each line was written."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock
        self.times: list[int] = []

    def write(self, data: Any) -> int:
        """Some lines."""
        self.times += [self.clock.now] * bytes(data).count(b"\n")
        return super().write(data)


@pytest.mark.parametrize("speed", [1e-6, 1e-7])  # what is made up takes 240 ns
def test_print_at_a_pace_writes_each_line_when_it_is_due(
    opened: Recording, monkeypatch: pytest.MonkeyPatch, speed: float
) -> None:
    out = Timed(clock := Clock())
    monkeypatch.setattr(printing, "time", clock)
    printing.print_messages(opened.recording, Filter(), FROM_BEGIN, TO_END, speed=speed, out=out)
    stream = stream_of(opened.recording, Filter())
    assert out.getvalue().splitlines() == [entry[4] for entry in stream]
    due = [int((entry[0] - stream[0][0]) / speed) for entry in stream]
    assert due[-1] > 1_000_000
    assert max(abs(found - wanted) for found, wanted in zip(out.times, due, strict=True)) < 1_000_000


def test_export_writes_parquet_and_exact_csv(
    recorded: tuple[Path, MadeUp], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, log = recorded
    for name in ("trades.parquet", "trades.csv", "book.csv", "instruments.csv", "states.parquet"):
        table = name.partition(".")[0]
        code, _, words = ran("export", str(root), "--table", table, "--to", str(tmp_path / name), capsys=capsys)
        assert (code, words.startswith("wrote")) == (0, True), words
    wanted = trades_of(log, "TOY:A")
    found = pyarrow.parquet.read_table(tmp_path / "trades.parquet").to_pylist()
    assert [(row["price"], row["trade_id"]) for row in found if row["symbol"] == "TOY:A"] == wanted
    frame = pd.read_csv(io.StringIO((tmp_path / "trades.csv").read_text()), dtype=str)
    mine = frame[frame["symbol"] == "TOY:A"]
    assert list(zip(map(Decimal, mine["price"]), mine["trade_id"], strict=True)) == wanted
    levels = pd.read_csv(tmp_path / "book.csv", dtype=str)["bids"].map(json.loads)
    updates = [m for key, ms in truth_of([log]).items() if key[0] == "book" for m in ms]
    assert sorted(levels, key=str) == sorted((head(update)["data"]["bids"] for update in updates), key=str)
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["info", "nowhere"], 2, "no recording in nowhere"),
        (["info", "nope://x"], 2, "nope://x"),
        (["export", ".", "--table", "nope", "--to", "x.csv"], 2, "nope"),
        (["export", ".", "--table", "trades", "--to", "x.xls"], 2, ".parquet, .csv"),
        (["print", ".", "--channels", "nope"], 2, "nope"),
        (["print", ".", "--start", "yesterday"], 2, "yesterday"),
        (["print", ".", "--speed", "0"], 2, "speed"),
    ],
)
def test_usage_has_words_and_code_2(
    arguments: Sequence[str],
    code: int,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    found, _, said = ran(*arguments, capsys=capsys)
    assert found == code
    assert words in said


def test_numbers_become_floats_for_arithmetic(opened: Recording) -> None:
    trades = replay.floats(opened.trades())
    exact = opened.trades().to_pylist()
    found = pl.from_arrow(trades).select(pl.col("price") * pl.col("size")).to_series().to_list()
    assert found == [float(row["price"]) * float(row["size"]) for row in exact]
    book = replay.floats(opened.book()).column("bids").to_pylist()
    levels = opened.book().column("bids").to_pylist()
    assert book == [[{name: float(one[name]) for name in one} for one in row] for row in levels]
    assert any(book)


def test_a_recording_is_reached_by_uri(recorded: tuple[Path, MadeUp], opened: Recording) -> None:
    assert replay.open(f"file://{recorded[0]}").trades().equals(opened.trades())


@pytest.mark.parametrize("ended", [True, False], ids=["sealed", "open"])
def test_a_recording_is_read_from_another_file_system(
    recorded: tuple[Path, MadeUp], opened: Recording, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ended: bool
) -> None:
    root = recorded[0]
    if not ended:
        tape = Tape(root := tmp_path / "open", [recorded[1].log])
        tape.play()
        tape.die()
    memory = _MockFileSystem()
    for file in root.rglob("*.arrow*"):
        name = f"bucket/{file.relative_to(root)}"
        memory.create_dir(name.rpartition("/")[0], recursive=True)
        with memory.open_output_stream(name) as stream:
            stream.write(file.read_bytes())
    asked = SimpleNamespace(from_uri=lambda uri: (memory, uri.removeprefix("s3://")))
    monkeypatch.setattr("feed.recording.folder.fs", SimpleNamespace(**{**vars(pyarrow.fs), "FileSystem": asked}))
    far = replay.open("s3://bucket")
    assert not far.recording.folder.local
    assert far.book_at("TOY:A", 10**18) == opened.book_at("TOY:A", 10**18)
    assert list(far.messages()) == list(opened.messages())
    assert run(app, ["verify", "s3://bucket"]) == run(app, ["info", "s3://bucket"]) == 0
    if ended:
        assert far.trades().equals(opened.trades())
        assert far.dataset("trades").count_rows() == opened.dataset("trades").count_rows()


@pytest.mark.parametrize("ended", [True, False], ids=["sealed", "open"])
def test_repair_keeps_every_whole_batch(
    recorded: tuple[Path, MadeUp], tmp_path: Path, ended: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    log = recorded[1].log
    root = tmp_path / "recordings"
    tape = Tape(root, [log])
    more = True
    while more:
        more = tape.read(0, 20)
        tape.commit()
        if ended:
            tape.rotate(["trades"])
    tape.end() if ended else tape.die()
    whole = truth_of([recorded[1]])
    places = Folder(str(root)).places(["trades"])
    place = places[len(places) // 2]
    file = RecordedFile(Folder(str(root)), place)
    block = next(block for number, block in enumerate(file.blocks) if number and block.rows)
    data = bytearray((root / place.path).read_bytes())
    data[block.end - 30] ^= 1
    (root / place.path).write_bytes(data)
    assert ran("verify", str(root), capsys=capsys)[0] == 1
    code, _, words = ran("repair", str(root), capsys=capsys)
    assert code == 0, words
    assert "1 lost" in words
    assert (root / f"{place.path}.damaged").exists()
    code, out, _ = ran("verify", str(root), capsys=capsys)
    assert "checksum" not in out
    found = updates_of(stream_of(replay.open(str(root)).recording, Filter()))
    assert {k: v for k, v in found.items() if k[0] != "trades"} == {k: v for k, v in whole.items() if k[0] != "trades"}
    kept = sum(len(updates) for key, updates in found.items() if key[0] == "trades")
    assert 0 < kept < sum(len(updates) for key, updates in whole.items() if key[0] == "trades")
    assert ran("repair", str(root), capsys=capsys)[2] == "no file is damaged\n"
