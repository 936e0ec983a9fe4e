"""What permessage-deflate saves and costs: the fan-out of `micro`, each buffer compressed once for all who get it.

W1: 200 clients share a selection, so each flush is compressed once. W2: 1,000 clients have each their own, so nothing
is shared: the most that it can cost. The gateway compresses no more than its share of time allows; here it may all.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from feed.gateway.deflate import Deflater
from feed.runtime.metrics import Metrics
from tests.bench.figures import Figure, Part, Result
from tests.bench.market import Corpus
from tests.bench.micro import CROWDS, Sent, through_hub
from tests.bench.stage import Stage

_UPDATES: Final = 20_000
_LEVEL: Final = 1
_BYTES_MIN: Final = 512
_ALL_OF_IT: Final = 1e9

SAVED: Final = {name: Figure(f"deflate: bytes to clients, {name}", "% of plain", None, True) for name, *_ in CROWDS}
COST: Final = {name: Figure(f"deflate: fan out, {name}", "ns a delivery", None, True, True) for name, *_ in CROWDS}
SPEED: Final = Figure("deflate: plain bytes compressed", "MB a CPU second", of_python=False)


def _measure(stage: Stage) -> Iterator[Result]:
    count = stage.scale.of(_UPDATES, 2_000)
    speed = 0.0
    for name, crowd, record_updates in CROWDS:
        corpus = Corpus(crowd.symbols, record_updates)
        lots = corpus.lots(count)
        crowd = crowd._replace(clients=stage.scale.of(crowd.clients))
        metrics = Metrics()
        deflater = Deflater(metrics, level=_LEVEL, bytes_min=_BYTES_MIN, share=_ALL_OF_IT)
        plain = through_hub(corpus.opening, lots, crowd)
        packed = through_hub(corpus.opening, lots, crowd, deflater.packed)
        frames = metrics.counter("feed_gateway_deflated", "").value
        compressed = metrics.counter("feed_gateway_deflated_bytes", "").value
        note = f"{frames:,} frames of {compressed / max(frames, 1):,.0f} bytes compressed, {packed.writes:,} sent"
        yield Result(SAVED[name], packed.bytes / plain.bytes * 100, note)
        yield Result(COST[name], _each(packed), f"plain {_each(plain):.0f}")
        speed = compressed / max(packed.sending - plain.sending, 1e-9) / 1e6
    yield Result(SPEED, speed, "with all that is around it")


def _each(sent: Sent) -> float:
    return sent.sending / max(sent.deliveries, 1) * 1e9


PART: Final = Part(
    "deflate", "compressed frames: bytes saved, CPU spent", (*SAVED.values(), *COST.values(), SPEED), _measure
)
