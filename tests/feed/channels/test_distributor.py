"""Raw channels and views side by side: what is sent of both with one flush, and what may not happen amid it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.feed.channels.desk import Desk, Link

MS = 1_000_000


def desk() -> tuple[Desk, Link, Link]:
    """A client of the raw channel, and one that sees it less often."""
    made = Desk()
    made.step("quotes")
    raw, seldom = made.link(), made.link()
    raw.subscribe("quotes", "X:A")
    seldom.subscribe("quotes", "X:A", every_ms=100)
    for link in (raw, seldom):
        link.drain()
    return made, raw, seldom


@pytest.mark.parametrize(
    "ask",
    [
        lambda link: link.subscribe("trades", "X:A"),
        lambda link: link.ask("unsubscribe", "quotes", "X:A"),
        lambda link: link.ask("unsubscribe"),
        lambda link: link.session.pull(1000, 1),
        lambda link: link.session.subscriber.own(),
        lambda link: link.session.subscriber.pull(1000),
        lambda link: link.session.subscriber.follow(1000),
    ],
    ids=["subscribe", "unsubscribe", "unsubscribe all", "page", "own", "pull", "follow"],
)
def test_no_request_while_a_flush_is_sent(ask: Callable[[Link], object]) -> None:
    made, raw, seldom = desk()
    made.tick("quotes")
    made.read(flush=False)
    assert made.distributor.flush(made.now + MS)
    for link in (raw, seldom):
        with pytest.raises(AssertionError, match="while a flush is sent"):
            ask(link)
    link = made.links.pop(0)
    link.session.subscribers.marks()
    link.session.close()
    assert list(made.distributor.fan_out()) == []
    assert not made.distributor.sending
    later = made.link()
    later.subscribe("quotes", "X:A")
    ask(later)


def test_a_flush_is_sent_when_the_last_view_has_got_it() -> None:
    made, raw, seldom = desk()
    made.tick("quotes")
    made.read(flush=False)
    assert made.distributor.flush(made.now + 200 * MS)
    served = [subscriber.owner for _, subscribers in made.distributor.fan_out() for subscriber in subscribers]
    assert served == [raw, seldom]
    assert made.distributor.flush(made.now + 201 * MS) is False


def test_news_of_a_source_are_told_once_to_each_client() -> None:
    made, raw, seldom = desk()
    for at, (state, reason) in enumerate([("stale", "silent"), ("stale", "silent"), ("ok", None)]):
        made.hub.source_state("x/0@a", state, reason, at)  # type: ignore[arg-type]
        made.flush()
    for link in (raw, seldom):
        assert [word for word in link.types() if word == "state"] == ["state", "state"]
    made.hub.source_state("x/0@a", "stale", "silent", 9)
    made.flush()
    late = made.link()
    late.subscribe("quotes", "X:A", every_ms=1000)
    late.drain()
    assert late.types().count("state") == 1
