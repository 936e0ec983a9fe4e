"""Workers find each other in a folder, and what one has counted is counted when it is gone."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import socket
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from feed.gateway import worker_stats as module
from feed.gateway.worker_stats import PARENT, Report, WorkerStats, retire
from feed.runtime.checks import Check
from feed.runtime.metrics import Family, Metrics, merged_families, prometheus_text

pytestmark = pytest.mark.anyio


class Worker:
    """One of three, in this process; `pid` is made up."""

    def __init__(self, folder: Path, number: int, pid: int) -> None:
        self.metrics = Metrics()
        self.sent = self.metrics.counter("feed_sent", "Sent")
        self.closed = self.metrics.labelled("feed_closed", "Closed", "code")
        self.took = self.metrics.histogram("feed_took_seconds", "Took", (0.1, 1.0))
        self.metrics.gauge("feed_open", "Open", lambda: number)
        self.number = number
        self.pid = pid
        self.ready = True
        self.listens = True
        self.siblings = WorkerStats(folder, number, (1, 2, 3), self.metrics)
        self.siblings._name = f"{number}-{pid}{module._STATE}"

    async def report(self, clients: int) -> Report:
        return Report(
            worker=self.number,
            pid=self.pid,
            ready=self.ready,
            listens=self.listens,
            found="" if self.ready else "lag: 7",
            uptime_s=1,
            families=self.metrics.families(),
            connections=self.number,
            clients=[{"id": number} for number in range(clients)],
        )


async def others(siblings: WorkerStats) -> list[Check]:
    return siblings.checks_of(await siblings.ask())


def samples(families: list[Family]) -> dict[tuple[str, str], float]:
    return {(name, ",".join(labels.values())): value for family in families for name, labels, value in family.samples}


def ours(found: dict[tuple[str, str], float]) -> dict[tuple[str, str], float]:
    return {key: value for key, value in found.items() if key[0].startswith("feed_")}


async def test_numbers_add_up_and_do_not_go_down_when_one_dies(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        first, second, third = (Worker(tmp_path, number, 100 + number) for number in (1, 2, 3))
        for worker in (first, third):
            await stack.enter_async_context(worker.siblings.listening(worker.report))
        async with AsyncExitStack() as life:
            await life.enter_async_context(second.siblings.listening(second.report))
            for number, worker in enumerate((first, second, third), 1):
                worker.sent.value += 10**number
                worker.closed.of("1000").value += number
                worker.took.observe(0.05 * number)
            second.closed.of("1012").value += 5
            for asked in (first, second, third):
                found = samples(await asked.siblings.families())
                assert found["feed_sent_total", ""] == 1110
                assert found["feed_closed_total", "1000"] == 6
                assert found["feed_closed_total", "1012"] == 5
                assert found["feed_took_seconds_bucket", "0.1"] == 2
                assert found["feed_took_seconds_count", ""] == 3
                assert {found["feed_open", str(number)] for number in (1, 2, 3)} == {1, 2, 3}
                assert ("process_resident_memory_bytes", "2") in found
            assert [report.worker for report in await first.siblings.reports(2)] == [1, 2, 3]
            assert [len(report.clients) for report in await first.siblings.reports(2)] == [2, 2, 2]
            # what was told is kept: as if it were killed now
            kept = (tmp_path / second.siblings._name).read_bytes()
            second.sent.value += 5
        (tmp_path / second.siblings._name).write_bytes(kept)
        found = samples(await first.siblings.families())
        assert found["feed_sent_total", ""] == 1110
        assert ("feed_open", "2") not in found
        retire(tmp_path, 2, 102)
        assert ours(samples(await first.siblings.families())) == ours(found)
        assert not (tmp_path / second.siblings._name).exists()
        # one in its place, and a file that is there again while it is in the sum already
        (tmp_path / second.siblings._name).write_bytes(kept)
        again = Worker(tmp_path, 2, 202)
        async with again.siblings.listening(again.report):
            again.sent.value += 1
            assert samples(await third.siblings.families())["feed_sent_total", ""] == 1111
        for _ in range(3):
            retire(tmp_path, 2, 202)
        retire(tmp_path, 2, 303)
        assert samples(await third.siblings.families())["feed_sent_total", ""] == 1111
        assert "feed_sent_total 1111.0" in prometheus_text(await first.siblings.families()).decode()


async def test_all_that_get_connections_must_be_ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_ANSWER_SECONDS", 0.2)
    first, second = Worker(tmp_path, 1, os.getpid()), Worker(tmp_path, 2, 7)
    async with first.siblings.listening(first.report):
        async with second.siblings.listening(second.report):
            second.ready = False
            assert await others(first.siblings) == [
                Check("worker_2", False, "lag: 7"),
                Check("worker_3", True, "not there, the others serve its clients"),
            ]
            second.listens = False
            assert (await others(first.siblings))[0] == Check(
                "worker_2", True, "not yet there, the others serve its clients: lag: 7"
            )
            second.ready = second.listens = True
            assert (await others(first.siblings))[0] == Check("worker_2", True, "ready")
        assert (await others(first.siblings))[0].ok
        # one that stands still has its port open
        with socket.socket(socket.AF_UNIX) as silent:
            silent.bind(str(tmp_path / "3.socket"))
            silent.listen()
            assert (await others(first.siblings))[1] == Check("worker_3", False, "does not answer")
        # left behind by one that was killed
        assert (await others(first.siblings))[1].ok


async def test_without_the_parent_nobody_is_ready(tmp_path: Path) -> None:
    alone = Worker(tmp_path, 1, 7)
    alone.siblings.numbers = (PARENT, 1)
    async with alone.siblings.listening(alone.report):
        assert await others(alone.siblings) == [Check("parent", False, "does not answer")]


def test_what_has_no_sum_is_told_by_worker() -> None:
    families = [
        Family("feed_open", "gauge", "Open", [("feed_open", {}, 3.0)]),
        Family("process_cpu_seconds", "counter", "CPU", [("process_cpu_seconds_total", {}, 1.5)]),
    ]
    found = samples(merged_families({"1": families, "2": families}, [families], "worker"))
    assert found == {
        ("feed_open", "1"): 3.0,
        ("feed_open", "2"): 3.0,
        ("process_cpu_seconds_total", "1"): 1.5,
        ("process_cpu_seconds_total", "2"): 1.5,
    }


async def test_a_full_disk_makes_nobody_unready_and_loses_no_count_that_was_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_KEEP_SECONDS", 0.01)
    first, second = Worker(tmp_path, 1, 101), Worker(tmp_path, 2, 102)

    def full(path: Path, what: object) -> None:
        raise OSError(errno.ENOSPC, "planted")

    async with first.siblings.listening(first.report):
        async with second.siblings.listening(second.report):
            second.sent.value += 5
            await second.siblings.families()
            with monkeypatch.context() as planted:
                planted.setattr(module, "_write", full)
                await asyncio.sleep(0.05)
                assert (await others(first.siblings))[0] == Check("worker_2", True, "ready")
                assert samples(await first.siblings.families())["feed_sent_total", ""] == 5
                retire(tmp_path, 2, 102)
                assert (tmp_path / second.siblings._name).exists()
            # room again
            first.sent.value += 2
            async with asyncio.timeout(5):
                while not any("2.0" in str(family) for family in module._families_in(tmp_path / first.siblings._name)):
                    await asyncio.sleep(0.01)
        assert samples(await first.siblings.families())["feed_sent_total", ""] == 7


async def test_a_worker_ends_well_whose_folder_is_cleared_away(tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    worker = Worker(folder, 1, 101)
    async with worker.siblings.listening(worker.report):
        shutil.rmtree(folder)
