"""One hash of a stream, whoever saw it and in whatever pieces."""

from __future__ import annotations

import hashlib
import random

import pytest

from feed.wire.hashes import Hashes

Message = tuple[str, str, str, str, int, bytes, int]
MESSAGES: list[Message] = [
    ("trades", "V:A", "v/0@a", "update", 1, b"one", 0),
    ("trades", "V:A", "v/0@a", "gap", 1, b"gap", 0),
    ("trades", "V:A", "v/0@a", "update", 7, b"two, first part", 1),
    ("trades", "V:A", "v/0@a", "update", 7, b"two, second part", 2),
    ("trades", "V:A", "v/1@b", "update", 5, b"of another source", 0),
    ("book", "V:B", "v/0@a", "state", 3, b"state", 0),
]


def hashed(messages: list[Message]) -> Hashes:
    found = Hashes()
    for kind, symbol, source, type_, seq, message, part in messages:
        found.take(kind, symbol, source, type_, seq, message, part)
    return found


def sha(*parts: bytes) -> str:
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()


def test_a_channels_hash_is_over_its_messages_in_order() -> None:
    trades = sha(b"gap", b"one", b"of another source", b"two, first part", b"two, second part")
    assert list(hashed(MESSAGES).lines()) == [(sha(b"state"), "book", "V:B"), (trades, "trades", "V:A")]


def test_the_streams_hash_is_over_the_lines() -> None:
    lines = "".join(f"{found} {kind} {symbol}\n" for found, kind, symbol in hashed(MESSAGES).lines())
    assert hashed(MESSAGES).total() == hashlib.sha256(lines.encode()).hexdigest()
    assert Hashes().total() == hashlib.sha256(b"").hexdigest()


@pytest.mark.parametrize("seed", range(5))
def test_order_and_copies_do_not_matter(seed: int) -> None:
    again = MESSAGES + MESSAGES[seed:]
    random.Random(seed).shuffle(again)
    assert hashed(again).total() == hashed(MESSAGES).total()


@pytest.mark.parametrize("at", range(len(MESSAGES)))
def test_each_message_counts(at: int) -> None:
    assert hashed(MESSAGES[:at] + MESSAGES[at + 1 :]).total() != hashed(MESSAGES).total()
    changed = (*MESSAGES[at][:5], MESSAGES[at][5] + b".", MESSAGES[at][6])
    assert hashed([*MESSAGES[:at], changed, *MESSAGES[at + 1 :]]).total() != hashed(MESSAGES).total()


def test_only_types_that_count_are_taken() -> None:
    with pytest.raises(ValueError, match="not in tuple"):
        Hashes().take("book", "V:B", "v/0@a", "snapshot", 1, b"", 0)
