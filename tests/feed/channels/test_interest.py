"""What a reader asked for: names, patterns, exceptions; the last request decides."""

from __future__ import annotations

from feed.protocol.session import SessionSettings
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
