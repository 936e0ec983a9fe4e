"""Kinds as bits, by symbol and by venue."""

from __future__ import annotations

from feed.channels.masks import Masks


def masks() -> Masks[str]:
    made: Masks[str] = Masks()
    for name, bit in [("X:B", 1), ("Y:A", 2), ("X:A", 4), ("X:B", 2)]:
        made.set(name, name[:2], bit)
    return made


def test_bits_of_a_symbol_add_up_and_symbols_stay_in_order() -> None:
    made = masks()
    assert made
    assert list(made.items()) == [("X:B", 3), ("Y:A", 2), ("X:A", 4)]
    assert made.get("X:C") == 0


def test_those_of_a_venue_are_found_without_the_others() -> None:
    made = masks()
    assert made.of("X:") == ["X:B", "X:A"]
    assert made.of("") == ["X:B", "Y:A", "X:A"]
    assert made.of("Z:") == []
    assert {venue: list(names) for venue, names in made.by_venue.items()} == {"X:": ["X:B", "X:A"], "Y:": ["Y:A"]}


def test_a_symbol_is_there_until_its_last_bit_is_cleared() -> None:
    made = masks()
    made.clear("X:B", "X:", 1)
    assert made.get("X:B") == 2
    made.clear("X:B", "X:", 2)
    assert made.of("X:") == ["X:A"]
    made.clear("X:B", "X:", 2)
    made.clear("Y:A", "Y:", 2)
    assert list(made.by_venue) == ["X:"]
    made.clear("X:A", "X:", 7)
    assert not made
    assert not made.by_venue
