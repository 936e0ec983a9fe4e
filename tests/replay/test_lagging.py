"""Sources that lag: what one of them did long ago is written behind what another did since, and is in its place."""

from __future__ import annotations

import json
import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

import replay
from feed.gateway.recordings import range_of
from feed.recording.tables import SCHEMAS, TABLES
from feed.wire.model import KINDS
from replay.opened import Recording
from tests.feed.recorder.made_up import MadeUp
from tests.feed.recorder.tape import Tape
from tests.replay.desk import Desk

SYMBOLS = {"toy/0": ["TOY:A", "TOY:B"], "toy/1": ["TOY:C", "TOY:D"]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first source is a thousand ticks ahead when the second one is read, some files later."""
    chance = random.Random(11)
    logs = [MadeUp(name, symbols, chance) for name, symbols in SYMBOLS.items()]
    logs[0].source.tick([("trades", "TOY:A", _trades())], skip=1000)
    for log in logs:
        log.grow(120)
        log.record()
    root = tmp_path_factory.mktemp("recordings")
    tape = Tape(root, [log.log for log in logs])
    for number in range(2):
        while tape.read(number, 15):
            tape.commit()
        tape.commit()
        tape.rotate(TABLES)
    tape.end()
    return root


def _trades() -> Any:
    from tests.truth import some_data

    return some_data("trades", 1)


def test_a_replay_begins_with_the_oldest_row_of_any_source(folder: Path) -> None:
    with replay.open(str(folder)) as opened:
        wanted = list(opened.messages())
        assert range_of(opened.recording).begin < 10
    desk = Desk(folder)
    desk.subscribe([*KINDS], ["*"])
    desk.replay("open", speed="max")
    desk.replay("play")
    assert list(desk.data()) == wanted
    assert {json.loads(message)["symbol"] for message in wanted[:20]} <= set(SYMBOLS["toy/1"])
    desk.close()


@pytest.mark.parametrize("kind", ["trades", "quotes", "book"])
def test_a_table_is_in_the_order_of_time(folder: Path, kind: str) -> None:
    with replay.open(str(folder)) as opened:
        table = opened.table(kind)
        assert set(table["symbol"].to_pylist()) == {symbol for symbols in SYMBOLS.values() for symbol in symbols}
        times = table["ts_recv"].cast("int64").to_numpy()
        assert (np.diff(times) >= 0).all()
        lying = [row for batch in opened.batches(kind) for row in batch.to_pylist()]
        assert [row["ts_recv"].value for row in lying] != times.tolist()
        assert sorted(map(str, lying)) == sorted(map(str, table.to_pylist()))
        _as_of(opened, kind)


def _as_of(opened: Recording, kind: str) -> None:
    trades, other = opened.trades(), opened.table(kind, columns=["ts_recv", "symbol", "seq"])
    left, right = pl.from_arrow(trades.select(["ts_recv", "price"])), pl.from_arrow(other)
    assert isinstance(left, pl.DataFrame)
    assert isinstance(right, pl.DataFrame)
    assert left.join_asof(right, on="ts_recv").height == trades.num_rows
    assert len(pd.merge_asof(left.to_pandas(), right.to_pandas(), on="ts_recv")) == trades.num_rows


def test_rows_of_one_message_stay_together(folder: Path) -> None:
    with replay.open(str(folder)) as opened:
        rows = opened.table("trades", columns=SCHEMAS["trades"].names).to_pylist()
    items = [row["item"] for row in rows]
    assert max(items) > 0
    for before, row in pairwise(rows):
        if row["item"]:
            assert (before["symbol"], before["seq"], before["item"] + 1) == (row["symbol"], row["seq"], row["item"])
