"""The schemas themselves: valid, whole, explained; and they refuse what the protocol refuses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator

import schemas
from tests.schemas.validation import check, faults

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def _nodes(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
        node = list(node.values())
    if isinstance(node, list):
        for child in node:
            yield from _nodes(child)


@pytest.mark.parametrize("name", schemas.names())
def test_schema_is_valid_and_named_after_its_file(name: str) -> None:
    schema = schemas.schema(name)
    assert (schema["$schema"], schema["title"]) == (DIALECT, name)
    Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize("name", schemas.names())
def test_every_reference_leads_somewhere(name: str) -> None:
    for node in _nodes(schemas.schema(name)):
        if "$ref" in node:
            file, _, path = node["$ref"].partition("#")
            target: Any = schemas.schema(file.removesuffix(".json") if file else name)
            for step in path.split("/")[1:]:
                target = target[step]


@pytest.mark.parametrize("name", schemas.names())
def test_every_field_says_what_it_means(name: str) -> None:
    schema = schemas.schema(name)
    assert schema["description"].endswith(".")
    for field, node in schema.get("properties", {}).items():
        tag = field in ("type", "op", "data")  # told by the title; data by its channel's schema
        assert tag or "description" in node or "$ref" in node, f"{field} of {name} has no description"


def test_a_frame_schema_takes_each_message_and_request() -> None:
    for name in schemas.examples():
        value = json.loads(schemas.example(name))
        if "type" in value:
            check("server_frame", [value])
        elif "op" in value:
            check("client_frame", value)
            check("client_frame", [value])


GOOD_DECIMALS = ["0", "1", "10", "0.1", "67187.48", "0.000000000000000001", "9" * 20, "9" * 20 + "." + "9" * 18]
BAD_DECIMALS = [
    *(
        "1e5",
        "1E5",
        "01",
        "00",
        "1.",
        ".5",
        "-0",
        "+1",
        "-1",
        "1.0",
        "0.0",
        "1.10",
        "",
        " 1",
        "1 ",
        "1,5",
        "1_000",
        "NaN",
    ),
    *("Infinity", "0x1", "1.2.3", "\u0661", "9" * 21, "0." + "0" * 18 + "1", 1, 1.5, 0, None, True, ["1"]),
]


@pytest.mark.parametrize("text", GOOD_DECIMALS)
def test_canonical_decimals_are_taken(text: str) -> None:
    check("common#/$defs/decimal", text)


@pytest.mark.parametrize("value", BAD_DECIMALS)
def test_other_decimals_are_refused(value: object) -> None:
    assert faults("common#/$defs/decimal", value)


@pytest.mark.parametrize("text", [*GOOD_DECIMALS, *(f"-{text}" for text in GOOD_DECIMALS if text != "0")])
def test_canonical_prices_are_taken(text: str) -> None:
    check("common#/$defs/price", text)


@pytest.mark.parametrize(
    "value", [*(v for v in BAD_DECIMALS if v != "-1"), *("-0", "-0.0", "-01", "-1.0", "--1", "-.5")]
)
def test_other_prices_are_refused(value: object) -> None:
    assert faults("common#/$defs/price", value)


@pytest.mark.parametrize("value", ["", "-1", "01", "1.5", "1e9", "12345678901234567890", 1795467600003417000, None])
def test_times_are_nanoseconds_as_text(value: object) -> None:
    assert faults("common#/$defs/time", value)


@pytest.mark.parametrize(
    ("value", "good"),
    [(-1, True), (0, True), (2**53 - 1, True), (2**53, False), (-2, False), (1.5, False), ("1", False)],
)
def test_positions_are_integers_below_2_53(value: object, good: bool) -> None:
    assert (not faults("common#/$defs/seq", value)) is good


def _messages() -> list[tuple[str, str]]:
    """Every example of a message or request, with each field of its schema that must be there."""
    found = []
    for name in schemas.examples():
        value = json.loads(schemas.example(name))
        if "type" in value or "op" in value:
            found += [(name, field) for field in value]
    return found


OPTIONAL = {"part", "count", "id", "from", "every_ms", "depth", "on_lag", "retry_after_ms", "to", "speed", "n", "time"}
OPTIONAL |= {"ignored", "wait"}


@pytest.mark.parametrize(("name", "field"), _messages())
def test_a_missing_field_is_refused(name: str, field: str) -> None:
    value = json.loads(schemas.example(name))
    optional_here = field in OPTIONAL and field not in schemas.schema(_schema_of(value)).get("required", [])
    del value[field]
    kind = "message" if "type" in json.loads(schemas.example(name)) else "request"
    may_go = optional_here or (name.startswith("joined") and field in ("source", "seq"))
    assert bool(faults(kind, value)) is not may_go


def _schema_of(value: dict[str, Any]) -> str:
    return "replay_state" if value.get("type") == "replay" else value.get("type") or value["op"]


def _changed(name: str, **fields: object) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(schemas.example(name))
    return value | fields


WRONG = [
    ("message", _changed("update_trades", data={"bids": [], "asks": []})),
    ("message", _changed("update_book", data=[])),
    ("message", _changed("update_trades", seq=-1)),
    ("message", _changed("update_trades", channel="ticker")),
    ("message", _changed("update_trades", symbol="BTC-USD")),
    ("message", _changed("update_trades", ts_recv=None)),
    ("message", _changed("update_trades", part=[1])),
    ("message", _changed("update_trades", part=[0, 2])),
    ("message", _changed("update_book", data={"bids": [["1", "2", "3"]], "asks": []})),
    ("message", _changed("update_book", data={"bids": [[1.5, "2"]], "asks": []})),
    ("message", _changed("snapshot_book", data={"bids": [["1", "0"]], "asks": []})),
    (
        "message",
        _changed("update_quotes", data={"bid_price": "1.0", "bid_size": "1", "ask_price": None, "ask_size": None}),
    ),
    ("message", _changed("gap_lag", reason="because")),
    ("message", _changed("gap_lag", count=-1)),
    ("message", _changed("state_book_stale", reason="silent")),
    ("message", _changed("state_silent", reason="checksum")),
    ("message", _changed("error_bad_message", code="nonesuch")),
    ("message", _changed("heartbeat", marks={"coinbase/0@k7qd": "1"})),
    ("message", _changed("welcome", auth="maybe")),
    ("message", _changed("ack_subscribe", results=[{"channel": "book", "symbol": "A:B", "ok": False}])),
    (
        "message",
        _changed("ack_subscribe", results=[{"channel": "book", "symbol": "A:B", "ok": True, "code": "internal"}]),
    ),
    ("message", _changed("update_trades", type="nonesuch")),
    ("server_frame", []),
    ("server_frame", json.loads(schemas.example("heartbeat"))),
    ("request", _changed("subscribe", channels=[])),
    ("request", _changed("subscribe", symbols=[])),
    ("request", _changed("subscribe", symbols=["COINBASE:BTC-*", 5])),
    ("request", _changed("subscribe", channels=["*"])),
    ("request", _changed("subscribe", id=2**53)),
    ("request", _changed("subscribe", id=None)),
    ("request", _changed("subscribe", **{"from": "yesterday"})),
    ("request", _changed("subscribe", **{"from": {"last": 0}})),
    ("request", _changed("subscribe", on_lag="wait")),
    ("request", {"op": "unsubscribe", "id": 1, "channels": ["book"]}),
    ("request", _changed("ping", op="nonesuch")),
    ("client_frame", []),
    ("client_frame", "subscribe"),
    ("canonical_tick", _changed("tick_trades", channel="bars")),
    ("canonical_tick", _changed("tick_trades", snapshot=True)),
    ("canonical_tick", _changed("tick_book", data={"bids": [["1", "-2"]], "asks": []})),
    ("canonical_tick", _changed("tick_quotes", data={})),
]


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_what_is_wrong_is_refused(name: str, value: object) -> None:
    assert faults(name, value)


@pytest.mark.parametrize("name", ["update_trades", "heartbeat", "subscribe", "ack_subscribe"])
def test_unknown_fields_are_ignored(name: str) -> None:
    assert not faults("message" if name != "subscribe" else "request", _changed(name, since_version=2))
