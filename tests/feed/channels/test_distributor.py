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


def test_a_view_is_one_for_all_who_see_so_and_gone_at_a_flush_without_them() -> None:
    made, _, seldom = desk()
    other = made.link()
    other.subscribe("quotes", "X:A", every_ms=100)
    other.drain()
    (view,) = made.distributor.views
    assert len(view.subscribers) == 2
    for link in (seldom, other):
        link.ask("unsubscribe")
    made.step("quotes")
    assert made.distributor.views == []


def test_a_flush_is_due_when_the_first_view_owes_something() -> None:
    made, _, _ = desk()
    assert made.distributor.due_ns is None
    for _ in range(2):
        made.step("quotes")
    due = made.distributor.due_ns
    assert due is not None
    assert made.now < due <= made.now + 100 * MS
    made.tick("quotes")
    made.read(flush=False)
    assert made.distributor.waiting_bytes == made.hub.waiting_bytes > 0


def test_who_waited_for_a_symbol_is_called_once_and_who_is_behind_is_counted() -> None:
    made, raw, seldom = desk()
    for link, every_ms in ((raw, 0), (seldom, 100)):
        link.subscribe("quotes", "X:NEW", every_ms=every_ms, wait=True)
    assert made.distributor.called() == []
    made.step("quotes", "X:NEW")
    assert {subscriber.owner for subscriber in made.distributor.called()} == {raw, seldom}
    assert made.distributor.called() == []
    assert made.distributor.behind == 2
    for link in (raw, seldom):
        while link.session.due:
            link.pull()
    assert made.distributor.behind == 0
