"""Code and schemas say the same: every Struct of `feed.wire.model` has its schema's fields, order, types and words."""

from __future__ import annotations

import inspect
import json
from typing import Any, NamedTuple

import msgspec
import pytest
from msgspec import Struct
from msgspec import inspect as types

import schemas
from feed.wire import model

# A Struct cannot have a field without a default behind one that may be left out, so these have one and are always sent.
# A request has the message's name.
FILES = {"replay": "replay_state"}
ALWAYS_SENT = {"state": {"state", "reason", "since"}, "error": {"code", "message", "retry"}}
ALWAYS_SENT["joined"] = {"on_lag", "every_ms", "depth"}
DATA = {
    "trades": list[model.Trade],
    "quotes": model.Quote,
    "book": model.Book,
    "bars": list[model.Bar],
    "status": model.Status,
    "instruments": model.Instrument,
}
PLAIN = {
    types.StrType: "string",
    types.IntType: "integer",
    types.BoolType: "boolean",
    types.FloatType: "number",
    types.ListType: "array",
    types.TupleType: "array",
    types.DictType: "object",
    types.StructType: "object",
    types.NoneType: "null",
}


class Form(NamedTuple):
    """What both sides can say of a field: JSON types, words (none: any), what is in a list, the fields of an object."""

    types: frozenset[str]
    words: frozenset[str] | None = None
    items: Any = None
    fields: Any = None


def _messages() -> dict[str, type[Struct]]:
    found = {}
    for _, thing in inspect.getmembers(model, inspect.isclass):
        if issubclass(thing, Struct) and thing is not Struct and thing.__struct_config__.tag is not None:
            found[str(thing.__struct_config__.tag)] = thing
    return found


MESSAGES = _messages()


def of_struct(kind: types.Type) -> Form:
    """The form of a type of the code."""
    if isinstance(kind, types.UnionType):
        forms = [of_struct(part) for part in kind.types]
        words = {word for form in forms for word in form.words or ()}
        plain = [form for form in forms if form.types != {"null"}]
        return Form(
            frozenset().union(*(form.types for form in forms)),
            frozenset(words) or None,
            plain[0].items,
            plain[0].fields,
        )
    if isinstance(kind, types.LiteralType):
        return Form(frozenset({"string"}), frozenset(map(str, kind.values)))
    if isinstance(kind, types.ListType):
        return Form(frozenset({"array"}), None, of_struct(kind.item_type))
    if isinstance(kind, types.TupleType):
        return Form(frozenset({"array"}), None, tuple(map(of_struct, kind.item_types)))
    if isinstance(kind, types.DictType):
        return Form(frozenset({"object"}), None, of_struct(kind.value_type))
    if isinstance(kind, types.StructType):
        return Form(frozenset({"object"}), None, None, {field.name: of_struct(field.type) for field in kind.fields})
    return Form(frozenset({PLAIN[type(kind)]}))


def of_schema(node: dict[str, Any], file: str) -> Form:
    """The form of a node of a schema file."""
    if "$ref" in node:
        target_file, _, path = node["$ref"].partition("#")
        target_file = target_file.removesuffix(".json") or file
        target: Any = schemas.schema(target_file)
        for step in path.split("/")[1:]:
            target = target[step]
        return of_schema(target, target_file)
    if "anyOf" in node:
        forms = [of_schema(part, file) for part in node["anyOf"]]
        words = {word for form in forms for word in form.words or ()}
        plain = [form for form in forms if form.types != {"null"}]
        return Form(
            frozenset().union(*(form.types for form in forms)),
            frozenset(words) or None,
            plain[0].items,
            plain[0].fields,
        )
    if "const" in node:
        return (
            of_schema({"enum": [node["const"]]}, file)
            if isinstance(node["const"], str)
            else Form(frozenset({"integer"}))
        )
    if "enum" in node:
        return Form(frozenset({"string"}), frozenset(node["enum"]))
    kind = frozenset({node["type"]})
    if node["type"] == "number":
        return Form(frozenset({"number", "integer"}))
    if "prefixItems" in node:
        return Form(kind, None, tuple(of_schema(item, file) for item in node["prefixItems"]))
    if "items" in node:
        return Form(kind, None, of_schema(node["items"], file))
    if "additionalProperties" in node:
        return Form(kind, None, of_schema(node["additionalProperties"], file))
    if "properties" in node:
        return Form(kind, None, None, {name: of_schema(field, file) for name, field in node["properties"].items()})
    return Form(kind)


def same(code: Form, schema: Form, where: str) -> None:
    """Fails where the two differ; a schema may name the words of what is any text in the code."""
    assert code.types == schema.types, where
    assert code.words is None or code.words == schema.words, where
    assert (code.fields is None) == (schema.fields is None), where
    if code.fields is not None:
        assert list(code.fields) == list(schema.fields), where
        for name, form in code.fields.items():
            same(form, schema.fields[name], f"{where}.{name}")
    if isinstance(code.items, tuple) and not isinstance(code.items, Form):
        assert len(code.items) == len(schema.items), where
        for i, form in enumerate(code.items):
            same(form, schema.items[i], f"{where}[{i}]")
    elif code.items is not None:
        same(code.items, schema.items, f"{where}[]")


def test_every_message_of_the_schemas_has_its_struct() -> None:
    assert MESSAGES.keys() == set(schemas.schema("message")["properties"]["type"]["enum"])


@pytest.mark.parametrize("name", MESSAGES)
def test_message_has_the_fields_of_its_schema(name: str) -> None:
    struct, schema = MESSAGES[name], schemas.schema(FILES.get(name, name))
    fields = {field.encode_name: field for field in msgspec.structs.fields(struct)}
    assert ["type", *fields] == list(schema["properties"])
    assert schema["properties"]["type"] == {"const": name}
    for field in fields.values():
        if field.name != "data":  # a test of its own: its type is known from the channel only
            node = schema["properties"][field.encode_name]
            file = FILES.get(name, name)
            same(of_struct(types.type_info(field.type)), of_schema(node, file), f"{name}.{field.name}")


@pytest.mark.parametrize("name", MESSAGES)
def test_message_requires_what_its_schema_requires(name: str) -> None:
    fields = msgspec.structs.fields(MESSAGES[name])
    left_out = {field.name for field in fields if not field.required} - ALWAYS_SENT.get(name, set())
    schema = schemas.schema(FILES.get(name, name))
    assert set(schema["properties"]) - set(schema["required"]) == left_out


@pytest.mark.parametrize("kind", DATA)
def test_data_has_the_fields_of_its_schema(kind: str) -> None:
    same(of_struct(types.type_info(DATA[kind])), of_schema(schemas.schema(kind), kind), kind)
    node = schemas.schema(kind)
    node = node.get("items", node)
    struct = DATA[kind].__args__[0] if kind in ("trades", "bars") else DATA[kind]  # type: ignore[attr-defined]  # a list
    assert list(node["required"]) == [field.name for field in msgspec.structs.fields(struct) if field.required]


def test_result_has_the_fields_of_its_schema() -> None:
    node = schemas.schema("common")["$defs"]["result"]
    same(of_struct(types.type_info(model.Result)), of_schema(node, "common"), "result")


def test_kinds_are_those_of_the_schema_in_its_order() -> None:
    assert list(model.KINDS) == schemas.schema("common")["$defs"]["channel"]["enum"]


@pytest.mark.parametrize(
    ("code", "schema"),
    [
        ({"type": "string"}, {"type": "integer"}),
        ({"enum": ["a"]}, {"enum": ["a", "b"]}),
        ({"type": "array", "items": {"type": "string"}}, {"type": "array", "items": {"type": "integer"}}),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, {"type": "string"}),
    ],
)
def test_a_planted_difference_is_seen(code: dict[str, Any], schema: dict[str, Any]) -> None:
    with pytest.raises(AssertionError):
        same(of_schema(code, ""), of_schema(schema, ""), "planted")


# bytes

OTHERS = msgspec.json.Decoder(
    model.Gap
    | model.State
    | model.Heartbeat
    | model.CaughtUp
    | model.Goaway
    | model.Error
    | model.Welcome
    | model.Ack
    | model.Joined
    | model.Pong
    | model.Replayed
)


class _Update(model.Update, frozen=True, gc=False, tag_field="type", tag="update", omit_defaults=True):
    data: msgspec.Raw  # type: ignore[assignment]  # its type is known from the channel only


class _Snapshot(model.Snapshot, frozen=True, gc=False, tag_field="type", tag="snapshot", omit_defaults=True):
    data: msgspec.Raw  # type: ignore[assignment]  # its type is known from the channel only


WITH_DATA = msgspec.json.Decoder(_Update | _Snapshot)


def read(text: bytes) -> Struct:
    """A message as the Struct that the code would make."""
    if json.loads(text)["type"] not in ("update", "snapshot"):
        return OTHERS.decode(text)
    message = WITH_DATA.decode(text)
    data: Any = msgspec.json.decode(message.data, type=DATA[message.channel])
    fields = {field: getattr(message, field) for field in message.__struct_fields__} | {"data": data}
    return (model.Update if isinstance(message, model.Update) else model.Snapshot)(**fields)


def _sent() -> list[tuple[str, bytes]]:
    """Every message of the server in all examples, as its bytes."""
    found = []
    for name in schemas.examples():
        text = schemas.example(name)
        value = json.loads(text)
        if "type" in value:
            found.append((name, text))
        for step in value.get("steps", []):
            messages = [step["message"]] if "message" in step else step["frame"] if step["from"] == "server" else []
            found += [
                (name, json.dumps(message, separators=(",", ":"), ensure_ascii=False).encode())
                for message in messages
                if message != "close"
            ]
    return found


@pytest.mark.parametrize(("name", "text"), _sent())
def test_structs_read_an_example_and_write_the_same_bytes(name: str, text: bytes) -> None:
    assert msgspec.json.encode(read(text)) == text
    assert text in schemas.example(name)
