"""The sum of what was merged: some readers at a time, once for all who ask, and never less than before."""

from __future__ import annotations

import asyncio

import pytest

from feed.channels.subscriber import Subscriber
from feed.gateway.merged import Merged
from feed.runtime.settings import ServeSettings
from tests.feed.channels.desk import Desk
from tests.gateways import make_gateway

pytestmark = pytest.mark.anyio
MS = 1_000_000


def desk() -> Desk:
    """Thirty clients of a view that has merged something."""
    made = Desk()
    made.step("quotes")
    for link in [made.link() for _ in range(30)]:
        link.subscribe("quotes", "X:A", every_ms=50)
    go_on(made)
    return made


def go_on(made: Desk) -> None:
    for _ in range(40):
        made.now += 7 * MS
        made.step("quotes")
    made.now += 100 * MS
    made.flush()


async def test_it_is_the_sum_of_all_and_made_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    made, now, walked = desk(), 0.0, 0
    honest = Subscriber._sums

    def sums(self: Subscriber) -> tuple[int, int]:
        nonlocal now, walked
        now += 0.001
        walked += 1
        return honest(self)

    wanted = made.merged
    assert wanted > 300
    monkeypatch.setattr(Subscriber, "_sums", sums)
    merged = Merged(made.distributor, lambda: now)
    asking = [asyncio.ensure_future(merged.told()) for _ in range(5)]
    most = 0
    while not all(one.done() for one in asking):
        before = walked
        await asyncio.sleep(0)
        most = max(most, walked - before)
    assert most <= 3
    assert walked == 30
    assert merged.read() == wanted
    await merged.told()
    assert walked == 30  # it took long: not again at once
    go_on(made)
    now += 10
    assert merged.read() == wanted
    await merged.told()
    assert walked == 60
    now += 10
    assert merged.read() == made.merged > wanted


async def test_who_goes_meanwhile_takes_nothing_away() -> None:
    made = desk()
    now = 0.0
    merged = Merged(made.distributor, lambda: now)
    await merged.told()
    before = merged.read()
    now += 1000
    asking = asyncio.ensure_future(merged.told())
    await asyncio.sleep(0)
    for link in made.links[:10]:
        link.session.close()
    await asking
    assert merged.read() == before
    now += 1000
    await merged.told()
    assert merged.read() == before


async def test_figures_are_read_without_a_walk(monkeypatch: pytest.MonkeyPatch) -> None:
    made = desk()
    gateway = make_gateway(ServeSettings(), made.distributor)
    wanted = made.merged

    def figure() -> float:
        families = {family.name: family for family in gateway.metrics.families()}
        samples = families["feed_gateway_updates"].samples
        return next(value for _, labels, value in samples if labels == {"outcome": "merged"})

    with monkeypatch.context() as planted:
        planted.setattr(Subscriber, "_sums", None)
        figure()
    await gateway.merged.told()
    assert figure() == wanted
    assert f'outcome="merged"}} {wanted:.1f}'.encode() in await gateway.export()
