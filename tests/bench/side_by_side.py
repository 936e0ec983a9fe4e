"""W1 and W2: what our gateway delivers for a CPU second beside what others do, on the same core in the same run.

Each server is offered higher and higher rates until it does not carry one: at least 95 % of the load, p99 from the time
at which an update was due at most 100 ms. Its figure is what it delivered for a CPU second of its process at the top
rate. The limit is a C program that makes our gateway's writes of that run, as many, as large, as often, and nothing
else; its best of some runs.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any, Final, NamedTuple

from broker import free_port

from tests.bench.contenders.servers import BROADCAST, CONTENDERS, LOOP, NATS, OURS, Contender
from tests.bench.figures import QUIET_CORES, Figure, Part, Result
from tests.bench.machine import BenchFailed, server
from tests.bench.search import TopRate
from tests.bench.stage import Stage
from tests.bench.trial import READY_S, Crowd, Publisher, Running, clients, played, publisher, seconds_of, soon_ns

P99_MS_MAX: Final = 100.0
CARRIED_SHARE_MIN: Final = 0.95
"""A run that brings less of what is offered is not the workload: a server that is kept from running flushes seldom,
and seldom is cheap."""
_OTHER_CORE_FULL: Final = 0.9
_LIMIT: Final = Path(__file__).with_name("contenders") / "limit.c"


class Workload(NamedTuple):
    """A crowd, a rate that has a figure of its own, and how many updates a record has.

    Those of 10 to 20 ms of a partition: shorter ones cost the broker more, and the core that it shares with publisher
    and clients would be full first.
    """

    name: str
    crowd: Crowd
    rate: float
    record_updates: int
    count_every: int
    at_rate: Figure
    at_top: Figure
    half_p99: Figure
    to_limit: Figure
    to_loop: Figure
    to_broadcast: Figure
    to_nats: Figure

    @property
    def figures(self) -> tuple[Figure, ...]:
        """All of them."""
        return tuple(value for value in self if isinstance(value, Figure))


def _workload(
    name: str,
    crowd: Crowd,
    rate: float,
    record_updates: int,
    count_every: int,
    *,
    at_rate: float,
    at_top: float,
    half_p99_ms: float | None,
    to_limit: float,
    to_loop: float,
) -> Workload:
    return Workload(
        name,
        crowd,
        rate,
        record_updates,
        count_every,
        Figure(f"{name}: deliveries at {rate:,.0f} updates/s", "/CPU-s", at_rate, of_python=True),
        Figure(f"{name}: deliveries at the top rate", "/CPU-s", at_top, of_python=True),
        Figure(f"{name}: p99 at half of the top rate", "ms", half_p99_ms, less_is_better=True, of_python=True),
        Figure(f"{name}: of the limit (C program)", "%", to_limit),
        Figure(f"{name}: to the FastAPI loop", "x", to_loop),
        Figure(f"{name}: to websockets.broadcast", "x"),
        Figure(f"{name}: to nats-server", "x", 3.5),
    )


W1: Final = _workload(
    "W1", Crowd(200, 100, 20, same=True), 100_000, 512, 20,
    at_rate=4e6, at_top=8e6, half_p99_ms=15, to_limit=45, to_loop=60,
)  # fmt: skip
W2: Final = _workload(
    "W2", Crowd(1000, 500, 10, same=False), 40_000, 128, 10,
    at_rate=1e6, at_top=1.8e6, half_p99_ms=None, to_limit=25, to_loop=25,
)  # fmt: skip


class _Searched(NamedTuple):
    top: dict[str, Any]
    tries: list[dict[str, Any]]


class _SideBySide:
    """One workload through all servers."""

    def __init__(self, stage: Stage, workload: Workload, publishers: ExitStack) -> None:
        self._stage = stage
        self._workload = workload
        self._stack = publishers
        self._publishers: dict[int, Publisher] = {}
        crowd = workload.crowd
        self.crowd = crowd._replace(clients=stage.scale.of(crowd.clients, 2))

    def search(self, contender: Contender) -> _Searched:
        """The top rate of a server; its run at that rate."""
        top = TopRate(self._workload.rate * contender.first_share, tries=self._stage.scale.tries)
        tries: list[dict[str, Any]] = []
        while (rate := top.next) is not None:
            found = self.attempt(contender, rate)
            tries.append(found)
            top.told(rate, carried=carried(found), share=found["share"], delivered=max(found["delivered_share"], 0.05))
        good = [found for found in tries if carried(found)]
        return _Searched(max(good or tries, key=lambda found: found["rate"] if good else -found["rate"]), tries)

    def attempt(self, contender: Contender, rate: float) -> dict[str, Any]:
        """One run; again where others disturbed it, as long as the stage is patient."""
        found = self._once(contender, rate)
        while not carried(found) and found["others_cores"] > QUIET_CORES and self._stage.patient():
            found = self._once(contender, rate)
        return found

    def limit(self, ours: dict[str, Any]) -> dict[str, Any]:
        """The writes of one of our gateway's runs, made by the C program."""
        compiler = shutil.which("cc")
        if compiler is None:
            raise BenchFailed("NO C COMPILER: no `cc` on the search path; the limit is not measured")
        stage = self._stage
        program = stage.folder / "limit"
        subprocess.run([compiler, "-O2", "-o", str(program), str(_LIMIT)], check=True)
        batches, seconds = ours["batching"], seconds_of(stage)
        size = round(batches["bytes"] / batches["writes"])
        writes = batches["writes"] / batches["flushes"]
        flushes_a_second = ours["bytes"] / ours["seconds"] / size / writes
        port = free_port()
        count = self.crowd.clients
        with server([str(program), str(port), str(count)], log=stage.log) as child:
            child.hear(READY_S)
            running = Running(port, child, "bytes", {})
            with clients(stage, running, [[]] * count, expected=1, count_every=count + 1) as watching:
                child.hear(READY_S)
                child.write(f"{flushes_a_second} {writes} {size} {seconds}\n")
                found = watching.measure(soon_ns(), stage.scale.warmup_s, stage.scale.measure_s)
        cpu = found["cpu"]["server"]
        found |= {"write_bytes": size, "writes_a_flush": writes, "flushes_a_second": flushes_a_second}
        found |= {"share": cpu / found["seconds"], "bytes_a_cpu_second": found["bytes"] / cpu}
        stage.keep(f"{self._workload.name} limit", found)
        stage.say(
            f"{self._workload.name} limit: {flushes_a_second:,.0f} flushes/s of {writes:.0f} writes of {size:,} bytes "
            f"at {found['share']:.0%} of the core"
        )
        return found

    def _once(self, contender: Contender, rate: float) -> dict[str, Any]:
        stage, workload = self._stage, self._workload
        stage.quiet()
        record_updates = max(1, round(workload.record_updates * contender.records_share))
        if record_updates not in self._publishers:
            self._publishers[record_updates] = self._stack.enter_context(
                publisher(stage, self.crowd.symbols, record_updates)
            )
        publishing = self._publishers[record_updates]
        with contender.start(stage, publishing, rate, seconds_of(stage), self.crowd.symbols) as running:
            found = played(stage, running, publishing, self.crowd, rate, count_every=workload.count_every)
        stage.keep(f"{workload.name} {contender.name}", found)
        stage.say(f"{workload.name} {contender.name} at {rate:,.0f} updates/s: {words(found)}")
        return found


def carried(found: dict[str, Any]) -> bool:
    """Whether the server kept up with what was offered."""
    return bool(found["delivered_share"] >= CARRIED_SHARE_MIN and _p99_ms(found) <= P99_MS_MAX)


def words(found: dict[str, Any]) -> str:
    """A run in one line."""
    due = found["from_due"] or {}
    return (
        f"{found['deliveries_a_cpu_second'] / 1e6:.2f}M/CPU-s, {found['deliveries_a_second'] / 1e6:.2f}M/s "
        f"({found['delivered_share']:.0%}) at {found['share']:.0%} of the core, p99 {due.get('p99_ms', 0):.0f} ms; "
        f"waited {found['waited']['server']:.0%}, the other core {found['other_core']:.0%}, others "
        f"{found['others_cores']:.1f} cores"
    )


def _measure(stage: Stage, workload: Workload) -> Iterator[Result]:
    with ExitStack() as publishers:
        bench = _SideBySide(stage, workload, publishers)
        searched = {OURS: bench.search(OURS)}
        top = searched[OURS].top
        named = max((found for found in searched[OURS].tries if found["rate"] == workload.rate), key=carried)
        yield _deliveries(workload.at_rate, named)
        # a window's p99 is now and then twice that of the next one: the run in the middle
        halves = sorted((bench.attempt(OURS, top["rate"] / 2) for _ in range(stage.scale.rounds)), key=_p99_ms)
        half = halves[len(halves) // 2]
        stage.keep(f"{workload.name} half", half)
        p99_ms = _p99_ms(half)
        note = f"from append {(half['from_append'] or {}).get('p99_ms', 0):.1f}; {words(half)}"
        yield Result(workload.half_p99, p99_ms, note, carried(half), half["others_cores"])
        for contender in CONTENDERS[1:]:
            try:
                searched[contender] = bench.search(contender)
            except BenchFailed as error:
                stage.say(f"{workload.name} {contender.name}: NO FIGURE: {error}")
        # once more in turn, so that a change of the machine's mood meets all of them
        for _ in range(min(1, stage.scale.rounds - 1)):
            for contender, found in searched.items():
                again = bench.attempt(contender, found.top["rate"])
                if carried(again) and (not carried(found.top) or _a_cpu_second(again) > _a_cpu_second(found.top)):
                    searched[contender] = found._replace(top=again)
        top = searched[OURS].top
        at_top = _deliveries(workload.at_top, top)
        full = [found["other_core"] for found in searched[OURS].tries if not carried(found)]
        if full and max(full) > _OTHER_CORE_FULL:
            at_top = at_top._replace(note=f"THE OTHER CORE WAS FULL at a higher rate; {at_top.note}")
        yield at_top
        yield from _ratios(workload, {contender: found.top for contender, found in searched.items()})
        tops = {contender.name: _a_cpu_second(found.top) for contender, found in searched.items()}
        try:
            limit = max((bench.limit(top) for _ in range(stage.scale.rounds)), key=itemgetter("bytes_a_cpu_second"))
        except BenchFailed as error:
            stage.say(f"{workload.name} limit: NO FIGURE: {error}")
        else:
            tops["C program"] = limit["bytes_a_cpu_second"] / top["bytes_a_delivery"]
            share = 100 * top["bytes"] / top["cpu"]["server"] / limit["bytes_a_cpu_second"]
            note = f"{tops['C program'] / 1e6:.2f}M/CPU-s in writes of "
            note += f"{limit['write_bytes']:,} bytes at {limit['share']:.0%} of the core"
            yield Result(workload.to_limit, share, note, carried(top), top["others_cores"])
        stage.keep(f"{workload.name} tops", tops)


def _deliveries(figure: Figure, found: dict[str, Any]) -> Result:
    note = f"at {found['rate']:,.0f} updates/s of {found['bytes_a_delivery']:.0f} bytes: {words(found)}"
    return Result(figure, _a_cpu_second(found), note, carried(found), found["others_cores"])


def _ratios(workload: Workload, tops: dict[Contender, dict[str, Any]]) -> Iterator[Result]:
    ours = tops[OURS]
    for contender, figure in ((LOOP, workload.to_loop), (BROADCAST, workload.to_broadcast), (NATS, workload.to_nats)):
        if contender in tops:
            its = tops[contender]
            note = f"{contender.about}; at {its['rate']:,.0f} updates/s: {words(its)}"
            others = max(ours["others_cores"], its["others_cores"])
            valid = carried(ours) and carried(its)
            yield Result(figure, _a_cpu_second(ours) / _a_cpu_second(its), note, valid, others)


def _p99_ms(found: dict[str, Any]) -> float:
    return float((found["from_due"] or {}).get("p99_ms", float("inf")))


def _a_cpu_second(found: dict[str, Any]) -> float:
    return float(found["deliveries_a_cpu_second"])


PARTS: Final = tuple(
    Part(workload.name, about, workload.figures, partial(_measure, workload=workload))
    for workload, about in (
        (W1, "200 clients on the same 20 of 100 symbols, beside other servers"),
        (W2, "1,000 clients on 10 random of 500 symbols, beside other servers"),
    )
)
