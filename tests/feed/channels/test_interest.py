"""What a subscriber asked for: names, patterns, exceptions; the last request decides."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from feed.channels.channel import Channel, Listing
from feed.channels.interest import Interest
from feed.channels.join import Start
from feed.channels.source import Source
from feed.channels.steps import Steps, whole
from feed.protocol.session import SessionSettings
from feed.wire.message import KIND_BIT, KIND_INDEX
from feed.wire.model import OnLag
from tests.feed.channels.desk import Desk


def desk() -> Desk:
    made = Desk()
    for symbol in ("X:A", "X:B", "Y:A"):
        made.tick("quotes trades", symbol)
    made.read()
    return made


def test_the_order_of_names_and_patterns() -> None:
    link = desk().link()

    def quotes() -> set[str]:
        link.session.subscriber.own()
        masks = link.session.subscriber.selection.masks
        names = link.session._hub.listings
        found = {names[id_].name for id_, mask in masks.items() if mask & 2}
        link.drain()
        return found

    link.subscribe("quotes", "X:A")
    link.subscribe("quotes", "X:*")
    assert quotes() == {"X:A", "X:B"}
    link.ask("unsubscribe", "quotes", "X:A")
    assert quotes() == {"X:B"}
    link.subscribe("quotes", "*")
    assert quotes() == {"X:A", "X:B", "Y:A"}
    link.ask("unsubscribe", "quotes", "Y:*")
    assert quotes() == {"X:A", "X:B"}
    link.subscribe("quotes", "Y:A")
    assert quotes() == {"X:A", "X:B", "Y:A"}
    assert [(r["symbol"], r.get("matched")) for r in link.ask("list")["results"]] == [("Y:A", None), ("*", 2)]
    link.ask("unsubscribe", "quotes", "*")
    assert quotes() == set()
    assert link.ask("list")["results"] == []
    assert link.session.subscriber.interest.count == 0
    link.subscribe("quotes", "X:A")
    assert [r["symbol"] for r in link.ask("unsubscribe")["results"]] == ["X:A"]


def test_what_was_not_subscribed() -> None:
    link = desk().link()
    link.subscribe("quotes", "X:A")
    results = link.ask("unsubscribe", "quotes trades nonesuch", "X:A X:NOPE Z:*")["results"]
    assert [r.get("code") for r in results] == [
        None, "unknown_symbol", "not_subscribed",
        "not_subscribed", "unknown_symbol", "not_subscribed",
        "unknown_channel", "unknown_channel", "unknown_channel",
    ]  # fmt: skip


def test_the_last_request_decides_what_becomes_of_a_lag() -> None:
    link = desk().link()

    def told() -> dict[str, str]:
        return {r["symbol"]: r["on_lag"] for r in link.ask("list")["results"]}

    link.subscribe("quotes", "X:A", on_lag="close")
    link.subscribe("quotes", "X:B")
    assert told() == {"X:A": "close", "X:B": "skip"}
    link.subscribe("quotes", "*", on_lag="close")
    assert told() == {"X:A": "close", "X:B": "close", "*": "close"}
    link.subscribe("quotes", "X:B")
    link.subscribe("quotes", "Y:*")
    assert told() == {"X:A": "close", "X:B": "skip", "*": "close", "Y:*": "skip"}
    wanted, names = link.session.subscriber.interest, link.session._hub.names
    assert [wanted.closes(names[symbol], 2) for symbol in ("X:A", "X:B", "Y:A")] == [True, False, False]


def test_limits_are_accepted_and_one_more_is_refused_by_name() -> None:
    made = desk()
    made.session = SessionSettings(subscriptions_max=2, patterns_max=1, symbols_max=4)
    link = made.link()
    results = link.subscribe("quotes", "X:A X:B Y:A")["results"]
    assert [r.get("code") for r in results] == [None, None, "subscription_limit"]
    assert link.subscribe("quotes", "X:A")["ok"]
    link.ask("unsubscribe", "quotes", "X:A X:B")
    results = link.subscribe("quotes trades", "*")["results"]
    assert [r.get("code") for r in results] == [None, "subscription_limit"]
    assert link.subscribe("quotes", "A:B " * 4)["type"] == "ack"
    assert link.subscribe("quotes", "A:B " * 5)["code"] == "subscription_limit"


SOURCE = Source("x/0@a", 0)
QUOTES, TRADES = KIND_BIT["quotes"], KIND_BIT["trades"]
KNOWN = ["X:A", "X:B", "Y:A"]
UNKNOWN = ["X:NEW", "Y:NEW", "Z:NEW"]
VENUES = ["X:", "Y:", "Z:"]
PREFIXES = ["", "X:", "Y:", "Z:"]
HOWS: list[OnLag] = ["skip", "close"]


def listing(name: str, id_: int) -> Listing:
    made = Listing(name, id_, SOURCE)
    made.channels[KIND_INDEX["quotes"]] = Channel(made, "quotes", SOURCE)
    return made


class Asked:
    """An interest, and the plain list of all requests that it comes from."""

    def __init__(self, first_id: int = 0) -> None:
        self.interest = Interest()
        self.names = {name: listing(name, id_) for id_, name in enumerate(KNOWN, first_id)}
        self.listings = {one.id: one for one in self.names.values()}
        self.requests: list[tuple[str, bool, OnLag]] = []

    def ask(self, symbol: str, *, add: bool, on_lag: OnLag) -> None:
        """One request on quotes."""
        interest = self.interest
        if symbol.endswith("*"):
            prefix = symbol[:-1]
            if not add and not interest.has_any(prefix, QUOTES, venues=VENUES):
                return
            if add:
                whole(interest.add_pattern(prefix, QUOTES, on_lag, self.listings))
            else:
                whole(interest.remove_pattern(prefix, QUOTES, self.listings, venues=VENUES))
        elif symbol in self.names:
            if add:
                interest.add(self.names[symbol], QUOTES, on_lag)
            else:
                interest.remove(self.names[symbol], QUOTES)
        elif add:
            interest.await_(symbol, QUOTES, on_lag, None)
        else:
            interest.refuse(symbol, QUOTES)
        self.requests.append((symbol, add, on_lag))

    def last(self, name: str) -> tuple[bool, OnLag]:
        """What the last request that matched says of a channel."""
        for symbol, add, on_lag in reversed(self.requests):
            if name == symbol or (symbol.endswith("*") and name.startswith(symbol[:-1])):
                return add, on_lag
        return False, "skip"

    def appear(self) -> None:
        """All symbols become known."""
        for id_, name in enumerate(UNKNOWN, max(self.listings) + 1):
            one = self.names[name] = self.listings[id_] = listing(name, id_)
            if self.interest.awaits(name, QUOTES):
                self.interest.arrive(one, QUOTES)

    def has(self) -> dict[str, bool]:
        return {name: self.interest.has(one, QUOTES) for name, one in self.names.items()}


def at_random(chooser: random.Random, first_id: int = 0) -> Asked:
    asked = Asked(first_id)
    symbols = [*KNOWN, *UNKNOWN, *[f"{prefix}*" for prefix in PREFIXES]]
    for _ in range(chooser.randrange(1, 12)):
        asked.ask(chooser.choice(symbols), add=chooser.random() < 0.6, on_lag=chooser.choice(HOWS))
    return asked


@pytest.mark.parametrize("seed", range(100))
def test_the_last_request_that_matched_a_channel_decides(seed: int) -> None:
    asked = at_random(random.Random(seed))
    interest = asked.interest
    wanted = {name: asked.last(name) for name in [*KNOWN, *UNKNOWN]}
    watched = interest.pattern_interest()
    for name in UNKNOWN:
        new = listing(name, 99).channels[KIND_INDEX["quotes"]]
        assert new is not None
        comes = interest.awaits(name, QUOTES) or (watched is not None and watched.wants(new))
        assert comes == wanted[name][0]
    asked.appear()
    assert asked.has() == {name: add for name, (add, _) in wanted.items()}
    for name, (add, on_lag) in wanted.items():
        assert not add or interest.closes(asked.names[name], QUOTES) == (on_lag == "close")
    assert interest.never_closes or any(on_lag == "close" for _, _, on_lag in asked.requests)
    asked.ask("*", add=False, on_lag="skip")
    assert not any(asked.has().values())
    assert interest.count == 0
    assert interest.empty


@pytest.mark.parametrize("seed", range(100))
def test_who_goes_on_in_the_place_of_another_has_what_either_asked_for(seed: int) -> None:
    chooser = random.Random(seed)
    one, other = at_random(chooser), at_random(chooser, first_id=10)
    both = [one.last(name)[0] or other.last(name)[0] for name in KNOWN]
    one.interest.take_over(other.interest, other.listings, one.names, one.listings)
    assert [one.interest.has(one.names[name], QUOTES) for name in KNOWN] == both


def test_its_venues_are_those_of_names_patterns_and_what_it_waits_for() -> None:
    asked = Asked()
    assert asked.interest.venues() == frozenset()
    for symbol in ("X:A", "Z:NEW", "Y:*"):
        asked.ask(symbol, add=True, on_lag="skip")
    assert asked.interest.venues() == {"X", "Y", "Z"}
    asked.ask("*", add=True, on_lag="skip")
    assert "*" in asked.interest.venues()


def test_what_a_request_on_patterns_looks_at_is_what_is_kept_of_their_venues() -> None:
    asked = Asked()
    for symbol, add in [("*", True), ("X:A", False), ("X:NEW", False), ("Y:A", True), ("Y:NEW", True)]:
        asked.ask(symbol, add=add, on_lag="skip")
    looked = asked.interest.looked_at
    assert [looked(["X:"]), looked(["Y:"]), looked(["Z:"]), looked([""])] == [2, 2, 0, 4]
    assert asked.interest.taken_out == 2
    assert asked.interest.excepted("", QUOTES, asked.listings) == ["X:A", "X:NEW"]
    assert asked.interest.excluded("X:", QUOTES) == [asked.names["X:A"].id]
    assert asked.interest.named("Y:", QUOTES) == [asked.names["Y:A"].id]


def test_a_name_that_is_waited_for_arrives_as_it_was_asked_for() -> None:
    asked, start = Asked(), Start("live")
    interest = asked.interest
    interest.await_("X:NEW", QUOTES, "close", start)
    interest.await_("X:NEW", TRADES, "skip", None)
    assert interest.turned == ["X:NEW"]
    new = listing("X:NEW", 99)
    assert interest.has(new, QUOTES)
    assert interest.arrive(new, QUOTES) is start
    assert interest.awaits("X:NEW", TRADES)
    assert interest.arrive(new, TRADES) is None
    assert interest.turned == ["X:NEW", "X:NEW"]
    assert interest.kinds(new) == QUOTES | TRADES
    assert interest.closes(new, QUOTES)
    assert not interest.closes(new, TRADES)
    assert interest.count == 2
    interest.clear()
    assert interest.empty


def test_an_exception_from_a_pattern_takes_a_rule_where_a_wider_one_brings_it() -> None:
    asked = Asked()
    needs = asked.interest.needs_rule
    assert not needs("X:", QUOTES, VENUES)
    asked.ask("*", add=True, on_lag="skip")
    assert needs("X:", QUOTES, VENUES)
    assert not needs("W:", QUOTES, VENUES)
    assert needs("W:", QUOTES, VENUES, always=True)
    assert not needs("", QUOTES, VENUES)
    asked.ask("X:*", add=False, on_lag="skip")
    assert not needs("X:", QUOTES, VENUES)
    assert asked.interest.patterns == 2
    assert list(asked.interest.patterns_subscribed()) == [("quotes", "*", "skip")]
    assert asked.interest.excepted("", QUOTES, asked.listings) == ["X:*"]


def test_many_names_are_looked_at_in_steps() -> None:
    interest = Interest()
    listings = {id_: listing(f"X:{id_}", id_) for id_ in range(60)}

    def looks(steps: Steps[None]) -> int:
        return sum(1 for _ in steps)

    def every() -> Iterator[Listing]:
        return iter(listings.values())

    for one in every():
        interest.add(one, QUOTES, "skip")
        interest.await_(f"X:NEW{one.id}", QUOTES, "skip", None)
    assert looks(interest.add_pattern("X:", QUOTES, "close", listings)) == 4
    assert all(interest.closes(one, QUOTES) for one in every())
    assert all(told[QUOTES].close for told in interest.awaited.values())
    for one in every():
        interest.remove(one, QUOTES)
        interest.refuse(f"X:NEW{one.id}", QUOTES)
    assert interest.taken_out == 120
    assert looks(interest.add_pattern("", QUOTES, "skip", listings)) == 4
    assert interest.taken_out == 0
    for one in every():
        interest.add(one, QUOTES, "skip")
        interest.refuse(f"X:NEW{one.id}", QUOTES)
        interest.await_(f"X:LATE{one.id}", QUOTES, "skip", None)
    assert looks(interest.remove_names("X:", QUOTES, listings)) == 4
    assert looks(interest.remove_pattern("", QUOTES, listings, venues=["X:"])) == 2
    assert interest.empty
