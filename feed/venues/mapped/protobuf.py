"""Protobuf records, by a descriptor set (`protoc --include_imports --descriptor_set_out`).

Owns what a message's fields are here: enums by their names, a Timestamp as a moment, and absent what the message can
say to be absent (`optional`, messages, members of a oneof). A plain field of proto3 that was not set is zero, as the
format has it. Leaves the decoding to protobuf, which is the extra of that name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from feed.errors import BadTick, ConfigError
from feed.venues.mapped.formats import Decode, framed
from feed.venues.mapped.shape import Schema
from feed.venues.mapped.values import Moment

_TIMESTAMP: Final = "google.protobuf.Timestamp"
_NS_PER_S: Final = 1_000_000_000
_PLACES_MAX: Final = 32


def protobuf(options: Schema, files: Mapping[str, bytes]) -> Decode:
    """A decoder for records of one message.

    Raises:
        ConfigError: the descriptor set cannot be read, or does not have the message.
    """
    file = options.schema or ""
    try:
        pool = descriptor_pool.DescriptorPool()
        for one in descriptor_pb2.FileDescriptorSet.FromString(files[file]).file:
            pool.Add(one)
        made = message_factory.GetMessageClass(pool.FindMessageTypeByName(options.message))
    except Exception as error:  # DecodeError, KeyError, TypeError: whatever is wrong with the set
        raise ConfigError(f"descriptor set {file} with the message {options.message!r}: {error!r}") from error

    def decode(value: bytes) -> list[object]:
        if options.framing == "confluent":
            value = _without_places(framed(value)[1])
        try:
            message = made.FromString(value)
        except (DecodeError, RecursionError) as error:
            raise BadTick(f"record is not a {options.message}: {error}") from error
        return [_plain(message)]

    return decode


def _without_places(value: bytes) -> bytes:
    """What follows the list of places of the message in its file: a count and as many numbers; the first one is 0."""
    count, at = _varint(value, 0)
    if count > _PLACES_MAX * 2:
        raise BadTick(f"record names {count // 2} places of its message, wanted at most {_PLACES_MAX}")
    for _ in range(count // 2):
        _, at = _varint(value, at)
    return value[at:]


def _varint(value: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while at < len(value) and shift < 64:
        byte = value[at]
        at += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number, at
        shift += 7
    raise BadTick("record ends in the place of its message")


def _plain(message: Any) -> object:
    if message.DESCRIPTOR.full_name == _TIMESTAMP:
        return Moment(message.seconds * _NS_PER_S + message.nanos)
    found: dict[str, object] = {}
    for field in message.DESCRIPTOR.fields:
        if field.has_presence and not message.HasField(field.name):
            continue
        value = getattr(message, field.name)
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            inner = field.message_type.fields_by_name["value"]
            found[field.name] = {str(name): _one(inner, value[name]) for name in value}
        elif field.is_repeated:
            found[field.name] = [_one(field, each) for each in value]
        else:
            found[field.name] = _one(field, value)
    return found


def _one(field: Any, value: Any) -> object:
    if field.message_type is not None:
        return _plain(value)
    if field.enum_type is not None:
        named = field.enum_type.values_by_number.get(value)
        return named.name if named is not None else value
    return value
