"""JSON and CSV: records out of bytes, or a bad tick."""

from __future__ import annotations

import sys

import pytest

from feed.errors import BadTick, ConfigError
from feed.venues.mapped import formats
from feed.venues.mapped.paths import ABSENT
from feed.venues.mapped.shape import Csv, mapping_file


def test_json_keeps_digits() -> None:
    assert formats.json(b'{"a":1.50,"b":[1]}') == [{"a": "1.50", "b": [1]}]
    for value in (b"", b"{", b"\xff", b"[" * 100_000):
        with pytest.raises(BadTick, match="not JSON"):
            formats.json(value)


def test_lines() -> None:
    assert formats.lines(Csv())(b'T,"a,b",\r\nQ\n\n') == [["T", "a,b", ABSENT], ["Q"]]
    named = formats.lines(Csv(columns=["kind", "price"], delimiter=";"))
    assert named(b"T;1.50\nT;\n") == [{"kind": "T", "price": "1.50"}, {"kind": "T"}]
    with pytest.raises(BadTick, match="line of 1 cells, wanted 2"):
        named(b"T")
    for value in (b"\xff", b'"a', b'"a"b,c', b'"a'):
        with pytest.raises(BadTick, match="not CSV"):
            formats.lines(Csv())(value)
    with pytest.raises(ConfigError, match="wanted one character"):
        formats.lines(Csv(delimiter="::"))


def test_a_frame_of_a_schema() -> None:
    assert formats.framed(b"\0\0\0\1\2abc") == (258, b"abc")
    for value in (b"", b"\0\0\0\1", b"\1\0\0\0\1x"):
        with pytest.raises(BadTick, match="wanted 00 and the id"):
            formats.framed(value)


@pytest.mark.parametrize("name", ["avro", "protobuf"])
def test_a_library_that_is_not_there_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rule = '[[records]]\nkind = "trades"\nfields = { price = "p", size = "s" }\n'
    file = mapping_file(f'format = "{name}"\n{rule}\n[{name}]\nschema = "x"')
    monkeypatch.setitem(sys.modules, f"feed.venues.mapped.{name}", None)
    with pytest.raises(ConfigError, match=rf"pip install 'market-feed\[{name}\]'"):
        formats.decode_of(file, {})


def test_which_decoder_a_format_has() -> None:
    rule = '[[records]]\nkind = "trades"\nfields = { price = "p", size = "s" }\n'
    assert formats.decode_of(mapping_file(f'format = "json"\n{rule}'), {}) == (formats.json, None)
    assert formats.decode_of(mapping_file(f'format = "csv"\n{rule}'), {})[0](b"a") == [["a"]]
    for name in ("avro", "protobuf"):
        with pytest.raises(ConfigError):
            formats.decode_of(mapping_file(f'format = "{name}"\n{rule}\n[{name}]\nschema = "x"'), {"x": b"\xff"})
