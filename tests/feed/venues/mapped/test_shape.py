"""A mapping file: what it may say, and what is said of one that says something else."""

from __future__ import annotations

import pytest

from feed.errors import ConfigError
from feed.venues.mapped.shape import Value, mapping_file

TRADES = """
format = "json"
[[records]]
kind = "trades"
fields = { price = "p", size = { field = "s", scale = 9 } }
"""


def test_a_mapping_file() -> None:
    read = mapping_file(TRADES)
    assert read.symbol == Value(key=True)
    assert read.records[0].fields == {"price": "p", "size": Value(field="s", scale=9)}
    assert read.files == []
    avro = mapping_file(TRADES.replace('"json"', '"avro"') + '[avro]\nschemas = { 1 = "b", 2 = "a" }\nschema = "b"')
    assert avro.files == ["a", "b"]


RULE = 'format = "json"\n[[records]]\n'


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("format = ", "cannot be read"),
        ("", "required field `format`"),
        ('format = "xml"\nrecords = []', "Invalid enum value 'xml'"),
        ('format = "json"\nrecords = []', "without"),
        (TRADES + "colour = 1", "unknown field `colour`"),
        (TRADES.replace("price =", "prize ="), r"records\[0\].fields has prize, wanted of trades some of price"),
        (RULE + 'kind = "trades"\nfields = { price = "p" }', "of trades without size"),
        (RULE + 'kind = "quotes"', "without bid_price and ask_price"),
        (RULE + 'kind = "changes"', "of changes without price"),
        (RULE + 'kind = "status"', "without action"),
        (RULE + 'kind = "instruments"', "without venue"),
        (RULE + 'kind = "snapshot"\nbids = { each = "b", price = "[0]", size = "[1]" }', "of one side"),
        (
            RULE + 'kind = "status"\nfields = { action = "a" }\nbids = { each = "b", price = "[0]", size = "[1]" }',
            "in snapshot and changes only",
        ),
        (
            TRADES.replace('"json"', '"avro"') + "[avro]\nregistry = true",
            'wanted it of avro with framing = "confluent"',
        ),
        ('symbol = { header = "symbols" }\n' + TRADES, "wanted another name than ts_recv, request, symbols"),
        (TRADES.replace('"json"', '"avro"'), r"of avro without a schema, wanted \[avro\] schema"),
    ],
)
def test_what_no_mapping_can_say_is_named(text: str, found: str) -> None:
    with pytest.raises(ConfigError, match=found):
        mapping_file(text)
