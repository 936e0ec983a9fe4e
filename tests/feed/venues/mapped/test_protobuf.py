"""Protobuf records, by a descriptor set: what is absent, enums, times; any bytes give a record or a bad tick."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, timestamp_pb2
from hypothesis import given
from hypothesis import strategies as st

from feed.errors import BadTick, ConfigError
from feed.venues.mapped.protobuf import protobuf
from feed.venues.mapped.shape import Schema

F = descriptor_pb2.FieldDescriptorProto


def described() -> bytes:
    """What protoc would say of a small file with a trade in it."""
    files = descriptor_pb2.FileDescriptorSet()
    timestamp_pb2.DESCRIPTOR.CopyToProto(files.file.add())
    file = files.file.add(
        name="desk.proto", package="desk", syntax="proto3", dependency=["google/protobuf/timestamp.proto"]
    )
    side = file.enum_type.add(name="Side")
    for number, name in enumerate(("NONE", "BUY", "SELL")):
        side.value.add(name=name, number=number)
    trade = file.message_type.add(name="Trade")
    trade.field.add(name="price", number=1, type=F.TYPE_INT64, label=F.LABEL_OPTIONAL)
    trade.field.add(name="side", number=2, type=F.TYPE_ENUM, type_name=".desk.Side", label=F.LABEL_OPTIONAL)
    stamp = ".google.protobuf.Timestamp"
    trade.field.add(name="at", number=3, type=F.TYPE_MESSAGE, type_name=stamp, label=F.LABEL_OPTIONAL)
    trade.field.add(name="tags", number=4, type=F.TYPE_STRING, label=F.LABEL_REPEATED)
    trade.oneof_decl.add(name="_note")
    trade.field.add(
        name="note", number=5, type=F.TYPE_STRING, label=F.LABEL_OPTIONAL, proto3_optional=True, oneof_index=0
    )
    entry = trade.nested_type.add(name="SizesEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=F.TYPE_STRING, label=F.LABEL_OPTIONAL)
    entry.field.add(name="value", number=2, type=F.TYPE_INT64, label=F.LABEL_OPTIONAL)
    trade.field.add(
        name="sizes", number=6, type=F.TYPE_MESSAGE, type_name=".desk.Trade.SizesEntry", label=F.LABEL_REPEATED
    )
    return files.SerializeToString()


SET = described()
FILES = {"desk.desc": SET}
OPTIONS = Schema(schema="desk.desc", message="desk.Trade")


def trade(**values: Any) -> bytes:
    pool = descriptor_pool.DescriptorPool()
    for one in descriptor_pb2.FileDescriptorSet.FromString(SET).file:
        pool.Add(one)
    made = message_factory.GetMessageClass(pool.FindMessageTypeByName("desk.Trade"))(**values)
    return bytes(made.SerializeToString())


def test_what_can_be_absent_is() -> None:
    decode = protobuf(OPTIONS, FILES)
    assert decode(b"") == [{"price": 0, "side": "NONE", "tags": [], "sizes": {}}]
    assert decode(trade(note="")) == [{"price": 0, "side": "NONE", "tags": [], "sizes": {}, "note": ""}]


def test_values() -> None:
    at = {"seconds": 1795467600, "nanos": 131000001}
    value = trade(price=2**62, side=2, at=at, tags=["a"], sizes={"x": 5})
    wanted = {"price": 2**62, "side": "SELL", "at": 1795467600131000001, "tags": ["a"], "sizes": {"x": 5}}
    assert protobuf(OPTIONS, FILES)(value) == [wanted]
    [unknown] = protobuf(OPTIONS, FILES)(trade(side=9))
    assert unknown == {"price": 0, "side": 9, "tags": [], "sizes": {}}


def test_the_frame_of_a_registry() -> None:
    decode = protobuf(Schema(framing="confluent", schema="desk.desc", message="desk.Trade"), FILES)
    for places in (b"\0", b"\x04\x02\x80\x01"):
        assert decode(b"\0\0\0\0\1" + places + trade(price=5))[0]["price"] == 5  # type: ignore[index]
    for odd in (b"", b"\x04\x02", b"\x80" * 20, b"\xff\x7f"):
        with pytest.raises(BadTick):
            decode(b"\0\0\0\0\1" + odd)


@given(st.binary(max_size=60))
def test_any_bytes_are_a_record_or_a_bad_tick(value: bytes) -> None:
    decode = protobuf(OPTIONS, FILES)
    try:
        decode(value)
    except BadTick:
        return


def test_a_set_that_cannot_be_read_is_named() -> None:
    for options, files in ((OPTIONS, {"desk.desc": b"\xff"}), (Schema(schema="desk.desc", message="desk.No"), FILES)):
        with pytest.raises(ConfigError, match=r"descriptor set desk\.desc with the message 'desk\."):
            protobuf(options, files)
