"""Conditions and exchange of trades, recorded and read: and files made before there were columns for them beside it.

Files of the earlier form are written anew from what the recorder wrote, without the columns.
"""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import polars as pl
import pyarrow as pa
import pyarrow.parquet
import pytest

import replay
from feed.recording.blocks import BlockWriter
from feed.recording.disk import Disk
from feed.recording.files import RecordedFile
from feed.recording.filter import Filter
from feed.recording.folder import Folder
from feed.recording.notes import CorruptRecording
from feed.recording.recording import RecordingFiles
from feed.recording.seal import write_sealed
from feed.recording.table_files import NEVER, RecordingCut
from feed.recording.tables import SCHEMAS, is_of, schema_of
from feed.runtime.command import run
from feed.venues.symbol import Tick
from feed.venues.table import venue
from feed.wire.model import KINDS
from feed.wire.record import Record
from replay.cli import app
from replay.exporting import export
from replay.history import FORMS, HistoryQuery
from tests.feed.memory_log import Worker, updates_of
from tests.feed.recorder.tape import Log, Tape
from tests.feed.venues.playing import T0
from tests.replay.desk import Desk

SYMBOL = "ACME:XYZ"
ARROW, NDJSON, CSV = FORMS
ADDED = ("conditions", "exchange")
EARLIER = pa.schema([field for field in SCHEMAS["trades"] if field.name not in ADDED])
FORMED: list[dict[str, Any]] = [
    {},
    {"conditions": ["odd lot"]},
    {"conditions": ["@", 'a "word", or \\two', "é\u0001"], "exchange": "XNAS"},
    {"exchange": "X,Y"},
]
OLD, NEW = 40, 60
encode = msgspec.json.encode


def ticks(first: int, count: int, formed: Sequence[dict[str, Any]]) -> list[Tick]:
    """One to three trades each."""
    made = []
    for seq in range(first, first + count):
        trades = [
            {
                "price": str(seq - 50),
                "size": "1",
                "side": None,
                "trade_id": f"{seq}-{number}",
                "ts_event": str(T0 + seq),
                **formed[(seq + number) % len(formed)],
            }
            for number in range(1 + seq % 3)
        ]
        made.append(Tick(seq, "XYZ", encode({"channel": "trades", "data": trades}), T0 + seq, T0 + seq))
    return made


@pytest.fixture(scope="module")
def log() -> list[Record]:
    """The feed log: at first trades as they were before, then some with conditions and exchange."""
    records: list[Record] = []
    all_ticks = ticks(0, OLD, FORMED[:1]) + ticks(OLD, NEW, FORMED)
    Worker(venue("acme"), records, all_ticks, source="acme/0@a").run([5] * len(all_ticks))
    return records


@pytest.fixture(scope="module", params=["sealed", "open"])
def folder(log: list[Record], tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """A recording that an earlier recorder began: it ended, or was killed and its file was taken up."""
    root = tmp_path_factory.mktemp("recordings")
    earlier = Tape(root, [Log("acme/0", log)])
    read_to(earlier, OLD // 2)
    earlier.rotate(["trades"])
    read_to(earlier, OLD - 1)
    earlier.end() if request.param == "sealed" else earlier.die()
    for file in files_of(root):
        make_earlier(root, file)
    assert [file.columns for file in files_of(root)] == [len(EARLIER)] * 2
    now = Tape(root, [Log("acme/0", log)])
    now.play()
    now.end() if request.param == "sealed" else now.die()
    return root


def read_to(tape: Tape, tick: int) -> None:
    while tape.logs[0].reader.pos < tick:
        tape.read(0)
    tape.commit()


def make_earlier(root: Path, file: RecordedFile) -> None:
    """Writes a file anew without the columns that were added."""
    schema = EARLIER.with_metadata(schema_of("trades", file.rules).metadata)
    noted = [
        (pa.record_batch(file.batch(number).columns[: len(schema)], schema=schema), block.note)
        for number, block in enumerate(file.blocks)
    ]
    if file.place.sealed:
        write_sealed(Disk(root), schema, iter(noted), file.place.path)
        return
    writer = BlockWriter(schema, "stream")
    (root / file.place.path).write_bytes(b"".join(bytes(writer.block(*each)[0]) for each in noted))


def files_of(root: Path) -> list[RecordedFile]:
    folder = Folder(str(root))
    return [RecordedFile(folder, place) for place in folder.places(["trades"])]


def told(log: list[Record]) -> list[Any]:
    """Every trade of the stream."""
    messages = [json.loads(message) for message in updates_of(log)]
    return [trade for message in messages if message["channel"] == "trades" for trade in message["data"]]


def added(trades: Sequence[Any]) -> list[tuple[Any, ...]]:
    return [tuple(trade.get(name) for name in ADDED) for trade in trades]


def test_messages_are_those_of_the_stream(folder: Path, log: list[Record]) -> None:
    with replay.open(str(folder)) as opened:
        assert sorted(opened.messages("trades")) == sorted(m for m in updates_of(log) if b'"channel":"trades"' in m)
    assert run(app, ["verify", str(folder)]) == 0


def test_one_table_of_old_and_new_files(folder: Path, log: list[Record]) -> None:
    assert {file.columns for file in files_of(folder)} == {len(EARLIER), len(SCHEMAS["trades"])}
    wanted = added(told(log))
    assert len(set(map(str, wanted))) == len(FORMED)
    with replay.open(str(folder)) as opened:
        table = opened.trades()
        assert table.schema.names[-2:] == [*ADDED]
        assert added(table.to_pylist()) == wanted
        assert added(replay.floats(table).to_pylist()) == wanted
        assert added(pl.from_arrow(table).to_dicts()) == wanted  # type: ignore[union-attr]  # a table
        assert duckdb.from_arrow(table).select(*ADDED).fetchall() == wanted
        frame = table.to_pandas()
        assert [None if words is None else list(words) for words in frame["conditions"]] == [w for w, _ in wanted]
        sealed = opened.dataset("trades").to_table()
        rows = sealed.filter(pa.compute.invert(sealed["is_snapshot"])).to_pylist()
        assert added(rows) == wanted[: len(rows)]


def test_a_range_with_an_old_file_alone(folder: Path) -> None:
    with replay.open(str(folder)) as opened:
        part = opened.trades(end=T0 + 10)
        assert part.schema.equals(opened.trades().schema)
        assert added(part.to_pylist()) == [(None, None)] * part.num_rows


def test_history_gives_the_same_rows_in_each_form(folder: Path, log: list[Record]) -> None:
    recording = RecordingFiles(str(folder))
    wanted = HistoryQuery(Filter(["trades"]), 0, NEVER)
    trades = added(told(log))
    table = pa.ipc.open_stream(b"".join(map(bytes, FORMS[ARROW](recording, wanted)))).read_all()
    assert table.schema.equals(SCHEMAS["trades"])
    assert added(table.to_pylist()) == trades
    lines = b"".join(map(bytes, FORMS[NDJSON](recording, wanted))).splitlines()
    assert added([trade for line in lines for trade in json.loads(line)["data"]]) == trades
    rows = list(csv.DictReader(io.StringIO(b"".join(map(bytes, FORMS[CSV](recording, wanted))).decode())))
    assert of_csv(rows) == trades
    recording.close()


def of_csv(rows: Sequence[dict[str, str]]) -> list[tuple[Any, ...]]:
    assert all(row["conditions"] != "null" for row in rows)
    return [(json.loads(row["conditions"]) if row["conditions"] else None, row["exchange"] or None) for row in rows]


def test_exports_have_both_columns(folder: Path, log: list[Record], tmp_path: Path) -> None:
    trades = added(told(log))
    with replay.open(str(folder)) as opened:
        export(opened, "trades", tmp_path / "trades.csv", "csv")
        export(opened, "trades", tmp_path / "trades.parquet", "parquet")
    assert of_csv(list(csv.DictReader(io.StringIO((tmp_path / "trades.csv").read_text("utf-8"))))) == trades
    assert added(pyarrow.parquet.read_table(tmp_path / "trades.parquet").to_pylist()) == trades


def test_a_replay_as_arrow_has_rows_of_both(folder: Path, log: list[Record]) -> None:
    desk = Desk(folder, arrow=True)
    desk.subscribe([*KINDS], ["*"])
    desk.replay("open", speed="max")
    while desk.states[-1] != "ended":
        desk.replay("step", n=17)
    rows: list[Any] = []
    for _, table in desk.rows:
        if table.schema.metadata[b"feed.table"] == b"trades":
            assert table.schema.equals(SCHEMAS["trades"])
            rows += table.to_pylist()
    assert added(rows) == added(told(log))


def test_a_channel_stands_as_its_last_trades_say(folder: Path, log: list[Record]) -> None:
    recording = RecordingFiles(str(folder))
    ends = recording.standing(Filter(["trades"]), RecordingCut(NEVER - 1))
    messages = [json.loads(message) for message in ends["trades", SYMBOL].messages]
    recording.close()
    assert messages[0]["data"] == told(log)[-100:]


def test_an_old_file_is_mended(folder: Path, log: list[Record], tmp_path: Path) -> None:
    root = tmp_path / "recordings"
    shutil.copytree(folder, root)
    file = next(file for file in files_of(root) if file.columns == len(EARLIER))
    path = root / file.place.path
    data = bytearray(path.read_bytes())
    data[file.blocks[-1].end + 100] ^= 1  # in the index: all rows are whole
    path.write_bytes(data)
    with pytest.raises(CorruptRecording), replay.open(str(root)) as opened:
        opened.trades()
    assert run(app, ["repair", str(root)]) == 0
    assert added(replay.open(str(root)).trades().to_pylist()) == added(told(log))


def test_columns_of_an_earlier_version_are_the_first_ones() -> None:
    now = SCHEMAS["trades"]
    assert is_of("trades", now)
    assert is_of("trades", EARLIER)
    assert not is_of("trades", pa.schema(list(EARLIER)[:-1]))  # was never left out: it cannot be null
    assert not is_of("trades", pa.schema([*now, pa.field("more", pa.string())]))
    assert not is_of("trades", pa.schema([*list(EARLIER), pa.field("conditions", pa.string())]))
    assert not is_of("quotes", pa.schema(list(SCHEMAS["quotes"])[:-1]))
    assert not is_of("trades", pa.schema([]))
