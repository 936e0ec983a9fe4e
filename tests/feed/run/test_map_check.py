"""What `feed map check` says: of the examples that are shipped, and of samples that cannot be read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from feed.errors import ConfigError
from feed.run.map_check import Record, check, fetch_schemas, proposed, sample
from feed.run.venues import mapped
from tests.registry import registry

EXAMPLES = Path(__file__).resolve().parents[3] / "feed/venues/mapped/examples"
TOLD = {
    ("avro_trades", "base64"): [
        'trades AVRO_TRADES:BTC-EUR at 1795467600000131000 [{"price":"61034.125","size":"0.25","side":"buy",'
        '"trade_id":"5821","ts_event":"1795467600000131000","conditions":["block"]}]',
        'trades AVRO_TRADES:BTC-EUR at 1795467600000132000 [{"price":"61034.125","size":"0.000000001","side":null,'
        '"trade_id":"5822","ts_event":"1795467600000132000"}]',
        "refused: record of schema 18, wanted one of 17",
    ],
    ("nested_book", "jsonl"): [
        'book NESTED_BOOK:EUR-6M at 1795467600131000000 {"bids":[["-0.125","5000000"],["-0.13","2000000"]],'
        '"asks":[["-0.12","1000000"]]}',
        'book NESTED_BOOK:EUR-6M at 1795467600140000000 {"bids":[["-0.125","0"]],"asks":[["-0.115","3000000"]]}',
        'status NESTED_BOOK:EUR-6M {"action":"halt","reason":"limit"}',
        "refused: entry of EUR-6M: action 'LUNCH', wanted one of OPEN, HALTED, AUCTION, CLOSED",
    ],
    ("itch", "csv"): [
        "",
        'status ITCH:ACME at 1795467600000000001 {"action":"trading","reason":null}',
        'book ITCH:ACME at 1795467600000000002 {"bids":[["101.25","300"]],"asks":[]}',
        'book ITCH:ACME at 1795467600000000003 {"bids":[],"asks":[["101.27","200"]]}',
        'book ITCH:ACME at 1795467600000000004 {"bids":[["101.25","0"]],"asks":[]}',
        'trades ITCH:ACME at 1795467600000000005 [{"price":"101.25","size":"100","side":"sell","trade_id":"90001",'
        '"ts_event":"1795467600000000005"}]',
        'trades ITCH:ACME at 1795467600000000006 [{"price":"101.265","size":"25","side":null,"trade_id":"90002",'
        '"ts_event":"1795467600000000006"}]',
        "refused: entry of ACME: number '0', wanted one above 0",
    ],
}


@pytest.mark.parametrize(("name", "kind"), TOLD)
def test_what_becomes_of_the_examples(name: str, kind: str) -> None:
    venue = mapped(name, EXAMPLES / f"{name}.toml")
    records = sample(EXAMPLES / f"{name}.{kind}", keyed=False, binary=kind == "base64")
    told = ["; ".join([*said, *(f"refused: {why}" for why in refused)]) for _, said, refused in check(venue, records)]
    assert told == TOLD[name, kind]


def test_every_example_is_checked() -> None:
    assert {file.stem for file in EXAMPLES.glob("*.toml")} == {name for name, _ in TOLD}


def test_keys_and_lines(tmp_path: Path) -> None:
    file = tmp_path / "sample"
    file.write_bytes(b"A\t{}\n\nB\t\n".replace(b"\n\n", b"\n\t\n"))
    assert sample(file, keyed=True, binary=False) == [Record(1, "A", b"{}")]
    file.write_bytes(b"\nAAE=\n")
    assert sample(file, keyed=False, binary=True) == [Record(2, "", b"\0\1")]


@pytest.mark.parametrize(
    ("text", "keyed", "binary", "found"),
    [
        (None, False, False, "cannot be read"),
        (b"{}", True, False, "line 1 of .* has no tab"),
        (b"?", False, True, "wanted base64"),
        (b"\xff\t{}", True, False, "UTF-8"),
    ],
)
def test_a_sample_that_cannot_be_read_is_named(
    tmp_path: Path, text: bytes | None, keyed: bool, binary: bool, found: str
) -> None:
    if text is not None:
        (tmp_path / "sample").write_bytes(text)
    with pytest.raises(ConfigError, match=found):
        sample(tmp_path / "sample", keyed=keyed, binary=binary)


def test_a_book_that_has_not_begun_is_stale(tmp_path: Path) -> None:
    venue = mapped("desk", EXAMPLES / "itch.toml")
    [(_, said, refused)] = check(venue, [Record(1, "", b"L,1795467600000000003,ACME,S,200,1012700")])
    assert refused == []
    assert '"state":"stale","reason":"gap"' in said[0]


def test_what_is_proposed_can_be_checked(tmp_path: Path) -> None:
    file = tmp_path / "desk.jsonl"
    file.write_text('{"type":"trade","symbol":"A","price":1.5,"size":2}\n')
    options: dict[str, Any] = {"format": None, "schema": None, "message": "", "framed": False, "keyed": False}
    (tmp_path / "desk.toml").write_text(proposed(file, **options))
    [(_, [said], refused)] = check(mapped("desk", tmp_path / "desk.toml"), sample(file, keyed=False, binary=False))
    assert refused == []
    assert said.startswith('trades DESK:A [{"price":"1.5"')
    file.write_text("T,1,2\n")
    assert 'format = "csv"' in proposed(file, **options)
    avro = {**options, "format": "avro", "schema": str(EXAMPLES / "avro_trades.avsc"), "framed": True}
    text = proposed(EXAMPLES / "avro_trades.base64", **avro)
    assert 'framing = "confluent"' in text
    assert 'side = { field = "aggressor", words = { "BUYER" = "buy", "UNKNOWN" = "?" } }' in text
    for more, found in (
        ({"format": "xml"}, "Invalid enum value"),
        ({"format": "json"}, "line 1 of .*: record is not JSON"),
        ({"format": "avro", "schema": "missing"}, "records of avro"),
    ):
        with pytest.raises(ConfigError, match=found):
            proposed(file if more["format"] != "avro" else EXAMPLES / "avro_trades.base64", **{**options, **more})
    file.write_text("\n")
    with pytest.raises(ConfigError, match="has no records"):
        proposed(file, **options)


def test_schemas_of_a_registry_are_fetched_before(tmp_path: Path) -> None:
    text = (EXAMPLES / "avro_trades.toml").read_text()
    (tmp_path / "desk.toml").write_text(text.replace('schemas = { 17 = "avro_trades.avsc" }', "registry = true"))
    venue = mapped("desk", tmp_path / "desk.toml")
    records = sample(EXAMPLES / "avro_trades.base64", keyed=False, binary=True)
    with pytest.raises(ConfigError, match="line 1 needs schema 17 of a registry"):
        fetch_schemas(venue, records, None)
    with registry() as fake:
        answer = {"schema": (EXAMPLES / "avro_trades.avsc").read_text()}
        fake.answers = {f"/schemas/ids/{number}": answer for number in (17, 18)}
        fetch_schemas(venue, records, fake.url)
        assert [path for path, _ in fake.asked] == ["/schemas/ids/17", "/schemas/ids/18"]
    assert [len(said) for _, said, _ in check(venue, records)] == [1, 1, 0], "the last one is sent twice"
    fetch_schemas(mapped("desk", EXAMPLES / "itch.toml"), records, None)
