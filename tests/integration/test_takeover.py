"""`feed takeover`: another normalizer goes on at once by an operator's word, and nothing happens by accident."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import pty
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest
from broker import free_port

from feed.runtime.tasks import end
from tests.integration.commands import FEED, running
from tests.integration.stage import MAIN, Stage, Viewer, said
from tests.integration.test_standstill import trade
from tests.integration.watching import Watch

pytestmark = [pytest.mark.anyio, pytest.mark.slow]
VENUE: Final = "desk"


async def sources(stage: Stage) -> list[str]:
    """The sources in each partition's log, newest last."""
    return [dict(raws[-1].headers)["source"].decode() for raws in await stage.records(stage.settings.feed_topic(VENUE))]


@asynccontextmanager
async def trading(stage: Stage) -> AsyncIterator[list[str]]:
    """Trades of A, one after the other: their ids."""
    ids: list[str] = []

    async def go_on() -> None:
        for number in itertools.count(1000):
            await stage.send(VENUE, [("A", trade(number))], partition=0)
            ids.append(f"t{number}")

    task = asyncio.ensure_future(go_on())
    try:
        yield ids
    finally:
        await end([task])


def held_ids(viewer: Viewer) -> set[str]:
    return {one["trade_id"] for one in viewer.channels["trades", "DESK:A"].holds()}


async def test_whoever_stands_by_goes_on_at_once_and_the_other_stands_by(
    kafka: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ports = [int(free_port()), int(free_port())]
    async with Stage(kafka, tmp_path, [VENUE], partitions=2) as stage:
        await stage.send(VENUE, [("A", trade(1))], partition=0)
        await stage.send(VENUE, [("B", trade(2))], partition=1)
        async with (
            stage.running("normalize", "--admin-port", str(ports[0])) as first,
            stage.running("serve", "--port", "0") as gateway,
        ):
            url = await said(gateway, r"ws://\S+")
            await Watch.at(ports[0]).until(
                "/readyz?verbose", lambda _, text: "partitions: 2 of 2 are written" in text, "both written"
            )
            before = await sources(stage)
            monkeypatch.setenv("FEED_NORMALIZE__BAR_GRACE_MS", "1500")
            async with (
                stage.running("normalize", "--admin-port", str(ports[1])) as second,
                Viewer(lambda: url, ["trades"]) as viewer,
            ):
                await said(second, r"desk: stands by: .* settings \(normalize.bar_grace_ms \(in ns\) 1000000000 there")
                status, lines = await Watch.at(ports[1]).verbose()
                assert (status, lines[1]) == (200, "[+] partitions: none is ours")
                assert any(line.startswith("[+] desk: stands by:") for line in lines)
                await viewer.until(lambda: len(viewer.channels) == 2, "both symbols")
                async with stage.running("takeover", VENUE, "--yes", "--json") as taking, trading(stage) as traded:
                    assert await asyncio.to_thread(taking.wait) == 0
                told = [json.loads(line) for line in taking.out]
                assert [one["partition"] for one in told] == [0, 1]
                assert told[1]["ends"] == before[1]
                assert [f"partition {n} of" in line for n, line in enumerate(taking.err[:2])] == [True, True]
                assert all(source in taking.err[n] for n, source in enumerate(before))
                assert "clients of desk are told a gap" in taking.err[2]
                await said(first, "desk: stands by: .* by an operator's word")
                new = {one["source"] for one in told}
                await stage.send(VENUE, [("A", trade(3))], partition=0)
                await stage.send(VENUE, [("B", trade(4))], partition=1)
                held = viewer.channels.values()
                await viewer.until(lambda: {channel.source for channel in held} == new, "the new sources")
                await viewer.until(lambda: all(channel.applied for channel in held), "the new trades")
                await viewer.until(lambda: "t3" in held_ids(viewer), "the last trade")
                assert set(await sources(stage)) == new
                # whoever wrote before goes on until it sees it: what it told is not told again
                applied = viewer.channels["trades", "DESK:A"].applied
                ids = [trade["trade_id"] for update in applied for trade in json.loads(update)["data"]]
                assert len(ids) == len(set(ids))
                assert set(ids) | held_ids(viewer) >= {*traded, "t3"}
                await Watch.at(ports[1]).until(
                    "/readyz?verbose", lambda _, text: "partitions: 2 of 2 are written" in text, "both written"
                )
                assert (await Watch.at(ports[0]).verbose())[1][1] == "[+] partitions: none is ours"


async def test_what_cannot_be_taken_over(kafka: str, tmp_path: Path) -> None:
    async with Stage(kafka, tmp_path, [VENUE]) as stage:
        for arguments, code, words in (
            (["dsk", "--yes"], 2, "; did you mean desk?"),
            (["elsewhere", "--yes"], 2, "nothing to take over"),
            ([VENUE], 2, "--yes does it without"),
            (["desk,kraken", "--yes"], 2, "wanted one venue"),
            (["KRAKEN:*", "--yes"], 2, "cannot be a venue"),
            ([VENUE, "--yes", "--kafka", "127.0.0.1:1"], 3, "no kafka broker answers"),
        ):
            with running(*FEED, "takeover", *arguments, cwd=stage.folder) as command:
                assert await asyncio.to_thread(command.wait) == code, command.err
            assert words in command.err[-1]
            assert command.out == []
            assert not any("Traceback" in line for line in command.err)
        assert await stage.records(stage.settings.feed_topic(VENUE)) == [[]]


@pytest.mark.parametrize(("answer", "code"), [(b"n\n", 1), (b"\n", 1), (b"y\n", 0)])
async def test_who_can_be_asked_is_asked(kafka: str, tmp_path: Path, answer: bytes, code: int) -> None:
    async with Stage(kafka, tmp_path, [VENUE]) as stage:
        terminal, other = pty.openpty()
        try:
            os.write(terminal, answer)
            command = [sys.executable, "-c", MAIN, "takeover", VENUE]
            done = await asyncio.to_thread(
                lambda: subprocess.run(
                    command, cwd=stage.folder, stdin=other, capture_output=True, text=True, timeout=60, check=False
                )
            )
        finally:
            os.close(terminal)
            os.close(other)
        assert done.returncode == code, done.stderr
        assert "go on? [y/N]" in done.stderr
        assert bool(done.stdout) is (not code)
        assert len((await stage.records(stage.settings.feed_topic(VENUE)))[0]) == (not code)
