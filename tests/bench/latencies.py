"""How long an update takes to a client: through the gateway alone, and from the tick through the normalizer.

From the append: a feed log of 1,000 updates a second, 100 clients, the gateway on its own core. Four updates share an
append, as 1,000 appends a second fill the other of two cores by themselves (broker 47 %, publisher 32 %, clients 21 %),
and then it is that core which is measured. From the tick: 5,000 ticks a second through both roles, nothing pinned, as
two servers that share one core would wait for each other.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from broker import free_port

from tests.bench.contenders.servers import ours
from tests.bench.figures import Figure, Part, Result
from tests.bench.machine import FEED, all_cores, broker_pids, server, tool, wait_for_symbols
from tests.bench.market import VENUE
from tests.bench.stage import Stage, best
from tests.bench.trial import (
    READY_S,
    Crowd,
    Running,
    clients,
    environment,
    played,
    publisher,
    seconds_of,
    soon_ns,
    topics,
)

SHARE_MIN: Final = 0.95
TICKS_CROWD: Final = Crowd(100, 100, 20, same=False)
_UPDATES: Final = 1_000.0
_UPDATES_AN_APPEND: Final = 4
_TICKS: Final = 5_000.0
TICKS_STEP_MS: Final = 2

APPEND_P50: Final = Figure("append to client, 1,000 updates/s: p50", "ms", 2, less_is_better=True, of_python=True)
APPEND_P99: Final = Figure("append to client, 1,000 updates/s: p99", "ms", 8, less_is_better=True, of_python=True)
TICK_P50: Final = Figure("tick to client, 5,000 ticks/s: p50", "ms", 5, less_is_better=True, of_python=True)
TICK_P99: Final = Figure("tick to client, 5,000 ticks/s: p99", "ms", 25, less_is_better=True, of_python=True)


def _from_append(stage: Stage) -> Iterator[Result]:
    crowd = TICKS_CROWD._replace(clients=stage.scale.of(TICKS_CROWD.clients, 2))
    runs = []
    with publisher(stage, crowd.symbols, _UPDATES_AN_APPEND) as publishing:
        for _ in range(stage.scale.rounds):
            stage.quiet()
            with ours(stage, publishing, _UPDATES, seconds_of(stage), crowd.symbols) as running:
                runs.append(played(stage, running, publishing, crowd, _UPDATES))
            stage.keep("latency append", runs[-1])
            stage.say(f"append to client: {_words(runs[-1], 'from_append')}")
    found = best(runs, lambda run: _key(run, "from_append"))
    note = f"{_words(found, 'from_append')}; from due p99 {found['from_due']['p99_ms']:.1f}"
    yield from _results(APPEND_P50, APPEND_P99, found, "from_append", note)


def _from_tick(stage: Stage) -> Iterator[Result]:
    crowd = TICKS_CROWD._replace(clients=stage.scale.of(TICKS_CROWD.clients, 2))
    runs = []
    for _ in range(stage.scale.rounds):
        stage.quiet()
        runs.append(_tick_run(stage, crowd))
        stage.keep("latency tick", runs[-1])
        stage.say(f"tick to client: {_words(runs[-1], 'from_due')}")
    found = best(runs, lambda run: _key(run, "from_due"))
    note = (
        f"{_words(found, 'from_due')}; waited: normalizer {found['waited']['normalizer']:.0%}, gateway "
        f"{found['waited']['server']:.0%}; publisher at most {found['publisher']['late_ms']:.0f} ms late"
    )
    yield from _results(TICK_P50, TICK_P99, found, "from_due", note)


def _tick_run(stage: Stage, crowd: Crowd) -> dict[str, Any]:
    """One run of ticks through a normalizer and a gateway to clients."""
    with topics(stage, "ticks") as own, all_cores(broker_pids().values()):
        port = free_port()
        roles = environment(own)
        publishing = {
            "kafka": stage.kafka,
            "topic": f"{own}.ticks.{VENUE}",
            "symbols": crowd.symbols,
            "ticks_a_second": _TICKS,
            "seconds": seconds_of(stage),
            "step_ms": TICKS_STEP_MS,
        }
        common = ["--kafka", stage.kafka, "--venues", VENUE]
        normalize, serve = [FEED, "normalize", *common], [FEED, "serve", *common, "--port", str(port)]
        with (
            server(normalize, log=stage.log, environment=roles, pinned=False) as normalizer,
            server(serve, log=stage.log, environment=roles, pinned=False) as child,
            tool("publish_ticks", publishing, log=stage.log) as sender,
        ):
            sender.hear(READY_S)
            wait_for_symbols(port, crowd.symbols, READY_S)
            running = Running(port, child, "feed", {})
            expected = _TICKS * crowd.deliveries_an_update
            pids = {"normalizer": normalizer.pid, "publisher": sender.pid}
            with clients(stage, running, crowd.subscriptions(), expected=expected, pids=pids) as watching:
                start_ns = soon_ns()
                sender.say(start_ns=start_ns)
                found = watching.measure(start_ns, stage.scale.warmup_s, stage.scale.measure_s)
                published = sender.hear(READY_S)
    return {
        **found,
        "delivered_share": found["deliveries"] / found["seconds"] / expected,
        "others_cores": found["others_cpu"] / found["seconds"],
        "publisher": published,
    }


def _key(run: dict[str, Any], of: str) -> tuple[bool, float]:
    times = run[of]
    return run["delivered_share"] >= SHARE_MIN, -times["p99_ms"] if times else float("-inf")


def _words(run: dict[str, Any], of: str) -> str:
    times = run[of] or {"p50_ms": 0, "p99_ms": 0, "p99.9_ms": 0, "max_ms": 0}
    shares = ", ".join(f"{name} {cpu / run['seconds']:.0%}" for name, cpu in run["cpu"].items())
    return (
        f"p50 {times['p50_ms']:.1f}, p99 {times['p99_ms']:.1f}, p99.9 {times['p99.9_ms']:.1f}, max "
        f"{times['max_ms']:.1f} ms; of a core: {shares}, clients {run['client_cpu'] / run['seconds']:.0%}, others "
        f"{run['others_cores']:.0%}"
    )


def _results(p50: Figure, p99: Figure, run: dict[str, Any], of: str, note: str) -> Iterator[Result]:
    valid = run["delivered_share"] >= SHARE_MIN and run[of] is not None
    for figure, name in ((p50, "p50_ms"), (p99, "p99_ms")):
        value = run[of][name] if run[of] else float("nan")
        yield Result(figure, value, note if figure is p50 else "", valid, run["others_cores"])


PARTS: Final = (
    Part("append", "from Kafka's append to the client, little load", (APPEND_P50, APPEND_P99), _from_append),
    Part("tick", "from the tick through the normalizer to the client", (TICK_P50, TICK_P99), _from_tick),
)
