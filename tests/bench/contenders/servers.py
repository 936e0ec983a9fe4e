"""The servers that are measured side by side, each ready to be published to and joined."""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from broker import free_port

from tests.bench.machine import FEED, BenchFailed, server, wait_for_port, wait_for_symbols
from tests.bench.market import VENUE
from tests.bench.stage import Stage
from tests.bench.trial import READY_S, Publisher, Running, environment, topics

Opened = contextlib.AbstractContextManager[Running]


class Contender(NamedTuple):
    """A server, and what is needed to find the rate that it carries."""

    name: str
    about: str
    first_share: float
    """Of the rate that a workload names: where the search begins."""
    records_share: float
    """Of the updates in a record that a workload names: records come at about the same pace at the rates it carries."""
    start: Callable[[Stage, Publisher, float, float, int], Opened]
    """Opens a log of (rate, seconds) on so many symbols, and starts the server on it."""


@contextlib.contextmanager
def ours(stage: Stage, publishing: Publisher, rate: float, seconds: float, symbols: int) -> Iterator[Running]:
    """`feed serve`."""
    with gateway(stage, publishing, rate, seconds, symbols) as running:
        yield running


@contextlib.contextmanager
def gateway(
    stage: Stage, publishing: Publisher, rate: float, seconds: float, symbols: int, **settings: str
) -> Iterator[Running]:
    """`feed serve` with these settings, as environment variables."""
    with topics(stage, "serve") as own:
        to = {"kafka": stage.kafka, "topic": f"{own}.feed.{VENUE}"}
        publishing.open(to, rate, seconds)
        port = free_port()
        command = [FEED, "serve", "--kafka", stage.kafka, "--venues", VENUE, "--port", str(port)]
        with server(command, log=stage.log, environment=environment(own, **settings)) as child:
            wait_for_symbols(port, symbols, READY_S)
            yield Running(port, child, "feed", to)


def _consumer(module: str) -> Callable[[Stage, Publisher, float, float, int], Opened]:
    @contextlib.contextmanager
    def start(stage: Stage, publishing: Publisher, rate: float, seconds: float, symbols: int) -> Iterator[Running]:
        with topics(stage, module) as own:
            to = {"kafka": stage.kafka, "topic": f"{own}.feed.{VENUE}"}
            publishing.open(to, rate, seconds)
            port = free_port()
            command = [sys.executable, "-m", f"tests.bench.contenders.{module}", json.dumps({**to, "port": port})]
            with server(command, log=stage.log) as child:
                wait_for_port(port, READY_S)
                yield Running(port, child, "loop", to)

    return start


@contextlib.contextmanager
def nats(stage: Stage, publishing: Publisher, rate: float, seconds: float, symbols: int) -> Iterator[Running]:
    """`nats-server` with WebSocket, from the search path or `--nats`."""
    program = shutil.which(stage.nats or "nats-server")
    if program is None:
        raise BenchFailed("NO nats-server: not on the search path and not given by --nats; nothing to compare with")
    port, plain = free_port(), free_port()
    configuration = stage.folder / f"nats-{port}.conf"
    configuration.write_text(
        f'listen: "127.0.0.1:{plain}"\nwebsocket {{ listen: "127.0.0.1:{port}", no_tls: true, compression: false }}\n'
    )
    with server([program, "-c", str(configuration)], log=stage.log) as child:
        wait_for_port(plain, READY_S)
        wait_for_port(port, READY_S)
        to = {"nats": plain}
        publishing.open(to, rate, seconds)
        yield Running(port, child, "nats", to)


OURS: Final = Contender("gateway", "feed serve, its reading of Kafka included", 1, 1, ours)
LOOP: Final = Contender(
    "fastapi loop", "await send_text to each, its aiokafka included", 0.005, 1 / 64, _consumer("fastapi_loop")
)
BROADCAST: Final = Contender(
    "broadcast", "websockets.broadcast, its aiokafka included", 0.03, 1 / 16, _consumer("broadcast")
)
NATS: Final = Contender("nats-server", "without Kafka: it is published to directly", 0.2, 1, nats)
CONTENDERS: Final = (OURS, LOOP, BROADCAST, NATS)
