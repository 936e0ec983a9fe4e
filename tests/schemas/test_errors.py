"""The error table: every word and close code of the protocol, each with what it means and what to do."""

from __future__ import annotations

import schemas

WORDS = (
    *("bad_message", "unknown_op", "unknown_channel", "unknown_symbol", "not_entitled", "auth_required", "auth_failed"),
    *("subscription_limit", "rate_limited", "bad_position", "not_subscribed", "source_unavailable", "no_recording"),
    *("bad_replay", "internal"),
)
CLOSES = (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1011, 1012, 4001, 4008)


def test_the_words_are_those_of_the_protocol() -> None:
    assert tuple(schemas.errors()) == WORDS


def test_the_close_codes_are_those_of_the_protocol() -> None:
    assert tuple(schemas.closes()) == CLOSES


def test_the_schemas_take_these_words_and_no_others() -> None:
    assert tuple(schemas.schema("common")["$defs"]["error_code"]["enum"]) == WORDS


def test_every_row_is_filled() -> None:
    for row in (*schemas.errors().values(), *schemas.closes().values()):
        assert all(field or field is False for field in row), row
        assert row.cause.endswith(".")
        assert row.remedy.endswith(".")
