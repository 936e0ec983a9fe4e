"""The golden examples: valid, compact, in field order, and none of what the protocol can say is missing."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest

import schemas
from feed.wire.model import KINDS, GapReason, StateReason
from tests.schemas.validation import check, faults

MESSAGES = [case["then"]["$ref"].removesuffix(".json") for case in schemas.schema("message")["allOf"]]
REQUESTS = [case["then"]["$ref"].removesuffix(".json") for case in schemas.schema("request")["allOf"]]


def schema_of(value: dict[str, Any]) -> str:
    """The name of the schema that is for a message, request or canonical tick."""
    if "type" in value:
        return "replay_state" if value["type"] == "replay" else str(value["type"])
    if value.keys() <= schemas.schema("tick_record")["properties"].keys():
        return "tick_record"
    headers = {"crc": "feed_record", "length": "dead_letter"}
    for field, name in headers.items():
        if field in value:
            return name
    return str(value.get("op", "canonical_tick"))


ALL: dict[str, Any] = {name: json.loads(schemas.example(name)) for name in schemas.examples()}
SINGLE = {name: value for name, value in ALL.items() if "steps" not in value}
SESSIONS = {name: value for name, value in ALL.items() if name.startswith("session_")}
RULES = {name: value for name, value in ALL.items() if name.startswith("rule_")}


def test_every_example_is_a_message_a_session_or_a_rule() -> None:
    assert {*SINGLE, *SESSIONS, *RULES} == {*ALL}


@pytest.mark.parametrize("name", SINGLE)
def test_a_single_example_is_valid_and_compact(name: str) -> None:
    value = SINGLE[name]
    check(schema_of(value), value)
    assert schemas.example(name) == json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


@pytest.mark.parametrize("name", SINGLE)
def test_a_single_example_is_in_field_order(name: str) -> None:
    fields = list(schemas.schema(schema_of(SINGLE[name]))["properties"])
    assert list(SINGLE[name]) == [field for field in fields if field in SINGLE[name]]


@pytest.mark.parametrize("name", SESSIONS)
def test_a_session_is_made_of_valid_frames(name: str) -> None:
    for step in SESSIONS[name]["steps"]:
        if step["from"] == "server" and "close" in step["frame"]:
            assert step["frame"]["close"] in schemas.closes()
        else:
            check(f"{step['from']}_frame", step["frame"])


@pytest.mark.parametrize("name", RULES)
def test_a_rule_is_made_of_valid_messages(name: str) -> None:
    for step in RULES[name]["steps"]:
        check("message", step["message"])
        assert list(step["then"]) == ["do", "pos", "source", "waiting"]


@pytest.mark.parametrize("name", [*MESSAGES, *REQUESTS, "canonical_tick", "tick_record", "feed_record", "dead_letter"])
def test_every_message_and_request_has_an_example(name: str) -> None:
    assert any(schema_of(value) == name for value in SINGLE.values())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["update", "snapshot"])
def test_every_kind_has_an_update_and_a_snapshot(name: str, kind: str) -> None:
    assert SINGLE[f"{name}_{kind}"]["channel"] == kind


@pytest.mark.parametrize("reason", get_args(GapReason))
def test_every_gap_reason_has_an_example(reason: str) -> None:
    assert any(value.get("type") == "gap" and value["reason"] == reason for value in SINGLE.values())


@pytest.mark.parametrize("reason", get_args(StateReason))
def test_every_state_reason_has_an_example(reason: str) -> None:
    assert any(value.get("type") == "state" and value["reason"] == reason for value in SINGLE.values())


def test_a_planted_fault_is_seen() -> None:
    assert faults("update", SINGLE["update_trades"] | {"data": [{"price": "1.0"}]})
