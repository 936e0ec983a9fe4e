"""Bad neighbours: what a stalled, a slow and a flooding client cost the others, and what they cost in memory.

The p99 of 200 clients is taken in windows of one run, in turn with and without the three; how much those without them
differ among each other is told beside it. A stalled client's memory is that of fifty of them, each on symbols of its
own choice. The soak has clients that read a third of what is for them, for minutes: resident memory must not move. The
resume window is short here, so that it is full before anything is measured.
"""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Iterator
from typing import Any, Final

from tests.bench.contenders.servers import gateway
from tests.bench.figures import Figure, Part, Result
from tests.bench.latency import merged, told
from tests.bench.machine import Child, memory_bytes, tool
from tests.bench.stage import Stage
from tests.bench.trial import READY_S, Crowd, Running, clients, publisher, soon_ns

_CROWD: Final = Crowd(200, 100, 20, same=True)
_RATE: Final = 10_000.0
_RECORD_UPDATES: Final = 25
_COUNT_EVERY: Final = 10
_STALLED: Final = 50
_SLOW: Final = 20
_SOAK_RATE: Final = 2_000.0
_UPDATE_BYTES: Final = 225
_TOO_MUCH: Final = 3
_SETTLE_S: Final = 1.0
_SHORT: Final = {"FEED_SERVE__RESUME_WINDOW_S": "2"}
# clients of the load answer no pings: they would be dropped, as they should, when the second one comes after 20 s
_UNPINGED: Final = {"FEED_SERVE__PING_INTERVAL_MS": "600000"}

OTHERS: Final = Figure("p99 of 197 clients with a stalled, slow and flooding one, to without", "x", 1.10, True)
STALLED: Final = Figure("memory of a stalled client", "KiB", 256, True)
SOAKED: Final = Figure("memory of a client offered three times what it takes", "KiB", 256, True)
DRIFT: Final = Figure("soak: memory in the last fifth to the second fifth", "x", 1.02, True)


def _others(stage: Stage) -> Iterator[Result]:
    turns, window_s = 4 * stage.scale.rounds, stage.scale.measure_s
    clients_count = stage.scale.of(_CROWD.clients, 4) - 3
    crowd = _CROWD._replace(clients=clients_count)
    seconds = (window_s + _SETTLE_S + 1.0) * 2 * turns + 5
    stage.quiet()
    own = crowd.subscriptions()[0]
    slow = {"slow_bytes_a_second": _RATE * crowd.chosen / crowd.symbols * _UPDATE_BYTES / _TOO_MUCH}
    expected = _RATE * crowd.deliveries_an_update
    found: dict[bool, list[dict[str, Any]]] = {False: [], True: []}
    with (
        publisher(stage, crowd.symbols, _RECORD_UPDATES) as publishing,
        gateway(stage, publishing, _RATE, seconds, crowd.symbols, **_UNPINGED) as running,
        clients(stage, running, crowd.subscriptions(), expected=expected, count_every=_COUNT_EVERY) as watching,
        _odd(stage, running, {"stalled": [own], "slow": [own], "flooding": [own], **slow}) as odd,
    ):
        publishing.play(soon_ns())
        time.sleep(stage.scale.warmup_s)
        for turn in range(turns):
            for bad in (False, True) if turn % 2 else (True, False):
                if bad:
                    odd.say(do="on")
                    odd.hear(READY_S)
                found[bad].append(watching.measure(time.time_ns(), _SETTLE_S, window_s))
                if bad:
                    odd.say(do="off")
                    did = odd.hear(READY_S)
    stage.keep("neighbours", {"with": found[True], "without": found[False], "odd": did})
    p99_ms = {bad: statistics.median(window["from_due"]["p99_ms"] for window in found[bad]) for bad in found}
    of_all = {bad: told(merged(window["from_due"]["hdr"] for window in found[bad])) or {} for bad in found}
    same = [statistics.median(window["from_due"]["p99_ms"] for window in found[False][half::2]) for half in (0, 1)]
    others = max(window["others_cpu"] / window["seconds"] for windows in found.values() for window in windows)
    note = (
        f"median of {turns} windows {p99_ms[True]:.1f} to {p99_ms[False]:.1f} ms (of all samples "
        f"{of_all[True]['p99_ms']:.1f} to {of_all[False]['p99_ms']:.1f}; half of those without them to the other half "
        f"{same[0]:.1f} to {same[1]:.1f}) at {_RATE:,.0f} updates/s; the flooding one "
        f"sent {did['sent'] / 1024:,.0f} KiB and was thrown out {did['thrown_out']} times"
    )
    delivered = min(window["deliveries"] / window["seconds"] for windows in found.values() for window in windows)
    yield Result(OTHERS, p99_ms[True] / p99_ms[False], note, delivered > 0.9 * expected, others)


def _stalled(stage: Stage) -> Iterator[Result]:
    count = stage.scale.of(_STALLED, 2)
    crowd = Crowd(count, 100, 20, same=False)
    window_s = stage.scale.measure_s
    with (
        publisher(stage, crowd.symbols, _RECORD_UPDATES) as publishing,
        gateway(stage, publishing, _RATE, 3 * window_s + 6, crowd.symbols, **_SHORT) as running,
        _odd(stage, running, {"stalled": crowd.subscriptions()}) as odd,
    ):
        publishing.play(soon_ns())
        time.sleep(window_s + 2)
        before = memory_bytes(running.child.pid)
        time.sleep(window_s)
        control = memory_bytes(running.child.pid)
        odd.say(do="on")
        odd.hear(READY_S)
        time.sleep(window_s)
        after = memory_bytes(running.child.pid)
    stage.keep("stalled", {"before": before, "control": control, "after": after, "clients": count})
    own_kib = (after - control) / count / 1024
    moved_kib = (control - before) / 1024
    note = f"of {count}, {window_s:.0f} s stalled; as long without them all of it moved {moved_kib:,.0f} KiB"
    yield Result(STALLED, own_kib, note)


def _soak(stage: Stage) -> Iterator[Result]:
    count = stage.scale.of(_SLOW, 2)
    crowd = Crowd(count, 100, 20, same=False)
    a_client = _SOAK_RATE * crowd.chosen / crowd.symbols * _UPDATE_BYTES
    told_ = {"slow": crowd.subscriptions(), "slow_bytes_a_second": a_client / _TOO_MUCH}
    with (
        publisher(stage, crowd.symbols, _RECORD_UPDATES) as publishing,
        gateway(stage, publishing, _SOAK_RATE, stage.soak_s + 8, crowd.symbols, **_SHORT) as running,
        _odd(stage, running, told_) as odd,
    ):
        publishing.play(soon_ns())
        time.sleep(2 + stage.scale.warmup_s)  # the resume window is full
        before = memory_bytes(running.child.pid)
        odd.say(do="on")
        odd.hear(READY_S)
        every_s = min(1.0, stage.soak_s / 20)
        samples = _sampled(running, stage.soak_s, every_s)
        odd.say(do="off")
        did = odd.hear(READY_S)
    stage.keep("soak", {"before": before, "memory_bytes": samples, "every_s": every_s, "clients": count})
    fifth = max(1, len(samples) // 5)
    drift = statistics.mean(samples[-fifth:]) / statistics.mean(samples[fifth : 2 * fifth] or samples)
    share = did["read"] / count / stage.soak_s / a_client
    note = f"{count} clients for {stage.soak_s / 60:.1f} minutes, each took {share:.0%} of what was for it"
    yield Result(SOAKED, (max(samples) - before) / count / 1024, note, share < 0.5)
    yield Result(DRIFT, drift, f"at {samples[-1] / 2**20:.1f} MiB", share < 0.5)


def _sampled(running: Running, seconds: float, every_s: float) -> list[int]:
    samples = []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(every_s)
        samples.append(memory_bytes(running.child.pid))
    return samples


@contextlib.contextmanager
def _odd(stage: Stage, running: Running, told_: dict[str, Any]) -> Iterator[Child]:
    with tool("odd_clients", {"port": running.port, **told_}, log=stage.log) as child:
        child.hear(READY_S)
        yield child


PARTS: Final = (
    Part("neighbours", "the others' p99 beside a stalled, a slow and a flooding client", (OTHERS,), _others),
    Part("stalled", "what a client that does not read costs in memory", (STALLED,), _stalled),
    Part("soak", "clients that take a third, for minutes", (SOAKED, DRIFT), _soak),
)
