"""The AsyncAPI document: its structure is that of 3.0, and every reference leads to a file or a part of itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import pytest
import yaml

import schemas
from tests.schemas.validation import check

DOCUMENT: dict[str, Any] = yaml.safe_load(schemas.asyncapi())
MESSAGES: dict[str, Any] = DOCUMENT["components"]["messages"]


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if "$ref" in node:
            assert list(node) == ["$ref"], node
            yield node["$ref"]
        node = list(node.values())
    if isinstance(node, list):
        for child in node:
            yield from _references(child)


def target(reference: str) -> Any:
    """What a reference leads to."""
    if reference.startswith("#/"):
        node: Any = DOCUMENT
        for step in reference[2:].split("/"):
            node = node[step]
        return node
    return json.loads((files("schemas") / reference).read_text("utf-8"))


def whole(node: Any) -> Any:
    """A node with its references put in."""
    if isinstance(node, dict):
        return whole(target(node["$ref"])) if "$ref" in node else {key: whole(child) for key, child in node.items()}
    return [whole(child) for child in node] if isinstance(node, list) else node


@pytest.mark.parametrize("reference", sorted(set(_references(DOCUMENT))))
def test_every_reference_leads_somewhere(reference: str) -> None:
    assert target(reference)


def test_document_is_of_the_version_that_it_says() -> None:
    assert DOCUMENT["asyncapi"] == "3.0.0"
    assert {"title", "version"} <= DOCUMENT["info"].keys()
    assert DOCUMENT.keys() <= {
        "asyncapi",
        "id",
        "info",
        "servers",
        "defaultContentType",
        "channels",
        "operations",
        "components",
    }


@pytest.mark.parametrize("name", DOCUMENT["servers"])
def test_server_has_a_host_and_a_protocol(name: str) -> None:
    assert {"host", "protocol"} <= DOCUMENT["servers"][name].keys()


@pytest.mark.parametrize("name", DOCUMENT["channels"])
def test_channel_is_whole(name: str) -> None:
    channel = DOCUMENT["channels"][name]
    assert channel.keys() <= {"address", "title", "description", "servers", "parameters", "messages", "bindings"}
    assert {part.split("}")[0] for part in channel["address"].split("{")[1:]} == set(channel.get("parameters", {}))
    for key, message in channel["messages"].items():
        assert message == {"$ref": f"#/components/messages/{key}"}


@pytest.mark.parametrize("name", DOCUMENT["operations"])
def test_operation_uses_messages_of_its_channel(name: str) -> None:
    operation = DOCUMENT["operations"][name]
    assert operation["action"] in ("send", "receive")
    for part in (operation, operation.get("reply", operation)):
        channel = part["channel"]["$ref"]
        assert all(message["$ref"].startswith(f"{channel}/messages/") for message in part.get("messages", []))


@pytest.mark.parametrize("name", MESSAGES)
def test_message_has_a_payload_and_valid_examples(name: str) -> None:
    message = MESSAGES[name]
    assert message["name"] == name
    assert message["examples"]
    reference = message["payload"].get("schema", {}).get("$ref")
    if reference:
        for example in message["examples"]:
            check(reference.removeprefix("./").removesuffix(".json"), whole(example["payload"]))


@pytest.mark.parametrize(
    ("message", "schema"),
    [
        ("tick", "tick_record"),
        ("canonicalTick", "tick_record"),
        ("feedRecord", "feed_record"),
        ("deadLetter", "dead_letter"),
    ],
)
def test_headers_of_records_are_valid(message: str, schema: str) -> None:
    assert MESSAGES[message]["headers"]["schema"] == {"$ref": f"./{schema}.json"}
    for example in MESSAGES[message]["examples"]:
        check(schema, whole(example.get("headers", {})))


@pytest.mark.parametrize("example", MESSAGES["feedRecord"]["examples"], ids=lambda example: str(example["name"]))
def test_values_of_records_are_frames_of_the_protocol(example: dict[str, Any]) -> None:
    check("server_frame", whole(example["payload"]))


def test_every_message_and_request_of_the_streams_is_there() -> None:
    cases = [case for name in ("message", "request") for case in schemas.schema(name)["allOf"]]
    of_replays = {"replay", "replay_state"}
    assert of_replays <= DOCUMENT["channels"]["replay"]["messages"].keys()
    named = {case["then"]["$ref"].removesuffix(".json") for case in cases} - of_replays
    assert named == DOCUMENT["channels"]["stream"]["messages"].keys() - {"serverFrame", "clientFrame"}


@pytest.mark.parametrize("topic", ["ticks.{venue}", "feed.{venue}", "feed.dead"])
def test_every_topic_is_there(topic: str) -> None:
    assert any(channel["address"] == topic for channel in DOCUMENT["channels"].values())
