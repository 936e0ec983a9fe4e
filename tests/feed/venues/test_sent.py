"""Values as people send them: what each may look like, exactly, and what is said of any other."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feed.errors import BadTick
from feed.venues import sent
from feed.wire.decimals import signed

ANY = sent.decoder(Any)
TIME = "1795467600131000000"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (b'"1.50"', "1.50"),
        (b'"x"', "x"),
        (b"7", "7"),
        (b"-7", "-7"),
        (b"0.1000000000000000055", "0.1000000000000000055"),
        (b"-0.0", "0.0"),
        (b"-0", "0"),
        (b"1e5", "100000"),
        (b"1.50E+2", "150"),
        (b"1E-7", "0.0000001"),
        (b"-2.5e-3", "-0.0025"),
        (b"0e999999999999999999999", "0"),
        (b"123456789012345678901234567890", "123456789012345678901234567890"),
    ],
)
def test_a_number_keeps_its_digits(text: bytes, wanted: str) -> None:
    assert sent.number("price", ANY.decode(text)) == wanted


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (None, "price null,"),
        (True, "price true,"),
        ([], "price list,"),
        ({}, "price object,"),
        (b"1", "price b'1',"),
        (1.5, "price 1.5,"),
        (10**150, "price of 151 characters"),
        (sent.Written("1." + "1" * 100), "price of 102 characters"),
        (sent.Written("1e99"), "price '1e99', wanted at most 20 digits"),
        (sent.Written("1e99999999999999999999"), "wanted at most 20 digits"),
        (sent.Written("1e-999999999999"), "wanted at most"),
    ],
)
def test_what_is_no_number_is_named(value: object, found: str) -> None:
    with pytest.raises(BadTick) as error:
        sent.number("price", value)
    assert found in str(error.value)


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**19), max_value=10**19, places=9))
def test_a_json_number_and_its_text_are_the_same(number: Decimal) -> None:
    plain = format(number, "f")
    read = sent.number("price", ANY.decode(plain.encode()))
    assert signed(read) == signed(plain)
    exponent = f"{number.scaleb(3):f}e-3"
    assert Decimal(sent.number("price", ANY.decode(exponent.encode()))) == number


@given(st.text(alphabet="0123456789.eE+-", max_size=30))
def test_any_json_number_is_read_exactly_or_refused(text: str) -> None:
    try:
        json.loads(text)
        value = ANY.decode(text.encode())
    except ValueError:
        return
    try:
        number = signed(sent.number("price", value))
    except BadTick:
        return
    assert Decimal(number) == Decimal(text)


@pytest.mark.parametrize(
    "value",
    [TIME, int(TIME), "2026-11-23T21:00:00.131Z", "2026-11-23t22:00:00.131000000+01:00", "2026-11-23 21:00:00.131z"],
)
def test_a_moment_is_nanoseconds(value: object) -> None:
    assert sent.moment(value) == TIME


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("2026-11-23T21:00:00", "with its zone"),
        ("2026-11-23", "with its zone"),
        ("", "time '', wanted"),
        (True, "time true,"),
        (sent.Written("1.5"), "time 1.5, wanted"),
        (1795467600, "looks like seconds"),
        (0, "looks like seconds"),
        ("1795467600131", "looks like milliseconds"),
        (2**63, "of more than 63 bits"),
        (str(2**63), "up to 9223372036854775807"),
        ("9" * 5000, "up to 9223372036854775807"),
        ("1989-12-31T23:59:59Z", "from 1990 on"),
        ("2026-13-01T00:00:00Z", "month"),
        ("2400-01-01T00:00:00Z", "between 1677 and 2262"),
    ],
)
def test_what_is_no_moment_is_named(value: object, found: str) -> None:
    with pytest.raises(BadTick, match="time") as error:
        sent.moment(value)
    assert found in str(error.value)


def test_none_is_none() -> None:
    assert sent.moment(None) is sent.side(None) is sent.identity("trade_id", None) is None


@pytest.mark.parametrize(
    ("word", "side"), [("buy", "buy"), ("BUY", "buy"), ("B", "buy"), ("b", "buy"), ("Sell", "sell"), ("s", "sell")]
)
def test_words_of_a_side(word: str, side: str) -> None:
    assert sent.side(word) == side


@pytest.mark.parametrize("word", ["bid", "ask", "", "buyer", "ſell", 1, True, [], sent.Written("1.0")])
def test_what_is_no_side_is_refused(word: object) -> None:
    with pytest.raises(BadTick, match="wanted the taker's: buy, sell"):
        sent.side(word)


def test_ids_are_texts_or_integers() -> None:
    assert sent.identity("trade_id", 2**70) == str(2**70)
    assert sent.identity("trade_id", "a") == "a"
    for other in (True, 1.5, sent.Written("7.0"), []):
        with pytest.raises(BadTick, match="wanted a text or an integer"):
            sent.identity("trade_id", other)
