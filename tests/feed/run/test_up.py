"""Roles put together: who answers for a process, and what it tells of the roles beside."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from feed.run import up
from feed.run.up import Roles, build, run_together
from feed.run.watched import Watched
from feed.runtime.settings import Settings, load

pytestmark = pytest.mark.anyio
FLAGS = {"serve.port": 0, "normalize.venues": "kraken", "kafka.bootstrap": "127.0.0.1:1"}


def settings(**more: Any) -> Settings:
    return load({**FLAGS, **more}).settings


async def test_a_gateway_answers_for_all_roles_of_its_process() -> None:
    roles = build(settings(), normalizes=True, serves=True, records=True)
    assert roles.normalizer is not None
    assert roles.recorder is not None
    assert roles.server is not None
    gateway = roles.server.gateway
    assert roles.probed() is gateway
    assert gateway.health.others == roles.checks == [roles.normalizer.check, roles.recorder.check]


async def test_a_normalizer_alone_answers_for_itself() -> None:
    roles = build(settings(), normalizes=True, serves=False)
    assert (roles.server, roles.recorder) == (None, None)
    assert isinstance(roles.probed(), Watched)
    assert b"\nfeed_ready " in roles.metrics.export()


def test_a_parent_of_workers_tells_of_the_roles_that_it_has() -> None:
    roles = build(settings(), normalizes=False, serves=False, records=True)
    assert roles.recorder is not None
    assert roles.checks == [roles.recorder.check]
    assert build(settings(), normalizes=False, serves=False).checks == []


class Ends:
    """Something that runs; says what has begun and what was ended."""

    def __init__(self, said: list[str], name: str, ends: asyncio.Event) -> None:
        self._said, self._name, self._ends = said, name, ends
        self.check = lambda: None

    async def run(self, *_: object) -> None:
        self._said.append(f"{self._name} begins")
        try:
            await self._ends.wait()
        finally:
            self._said.append(f"{self._name} ends")


@pytest.mark.parametrize("given", [False, True])
async def test_all_run_until_one_of_them_ends_and_the_port_tells_of_who_answers(given: bool) -> None:
    said: list[str] = []
    never, soon = asyncio.Event(), asyncio.Event()
    recorder, beside = Ends(said, "recorder", never), Ends(said, "beside", soon)
    own = build(settings(), normalizes=True, serves=False)
    probed = SimpleNamespace() if given else None
    asked: list[object] = []

    class Port:
        async def run(self, who: object, metrics: object) -> None:
            asked.append(who)
            assert metrics is own.metrics
            soon.set()
            await never.wait()

    roles = Roles(own.metrics, None, None, recorder)  # type: ignore[arg-type]  # runs, as a recorder does
    if not given:
        roles = roles._replace(normalizer=own.normalizer)
        assert own.normalizer is not None
        own.normalizer.run = Ends(said, "normalizer", never).run  # type: ignore[method-assign]
    await run_together(
        settings(),
        roles,
        beside.run(),
        admin=Port(),  # type: ignore[arg-type]  # as far as it is asked
        probed=probed,  # type: ignore[arg-type]  # handed on
        at_signal=False,
    )
    running = ["beside", "recorder", *([] if given else ["normalizer"])]
    assert said[: len(running)] == [f"{name} begins" for name in running]
    assert sorted(said[len(running) :]) == sorted(f"{name} ends" for name in running)
    assert asked == [probed] if given else isinstance(asked[0], Watched)


async def test_what_one_raises_ends_all(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails() -> None:
        raise ZeroDivisionError

    said: list[str] = []
    waits = Ends(said, "beside", asyncio.Event())
    with pytest.raises(ZeroDivisionError):
        await run_together(settings(), Roles(up.Metrics(), None, None, None), waits.run(), fails())
    assert said == ["beside begins", "beside ends"]
