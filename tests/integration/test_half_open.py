"""A peer that vanishes without a word: a link that goes down between two network namespaces, made for real.

Needs root and `ip` (Debian's iproute2); without them the test is skipped, and says so.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from feed.runtime.settings import ServeSettings
from feed.wire.model import Trade
from tests.gateways import Running
from tests.market import SYMBOL, Market

pytestmark = pytest.mark.slow
HERE: Final = f"10.213.{secrets.randbelow(256)}.1"
THERE: Final = HERE[:-1] + "2"
CLIENT: Final = """
import socket, sys
from tests.raw_client import PING, PONG, RawClient, frame, text
host, port, symbol = sys.argv[1], int(sys.argv[2]), sys.argv[3]
client = RawClient(port, host=host).open()
client.send(text('{"op":"subscribe","id":1,"channels":["trades"],"symbols":["%s"]}' % symbol))
client.frame()
print("here", flush=True)
while (found := client.frame()) is not None:
    if found.opcode == PING:
        client.send(frame(PONG, found.payload))
"""


def ip(*words: str) -> None:
    """Runs `ip`, loudly."""
    subprocess.run(["ip", *words], check=True, capture_output=True, timeout=10)


@pytest.fixture
def namespace() -> Iterator[str]:
    """A network namespace with a link to ours."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("NO NETWORK NAMESPACES: needs root and iproute2")
    name = f"feed-{secrets.token_hex(3)}"
    link = f"fd{secrets.token_hex(3)}"
    try:
        ip("netns", "add", name)
        ip("link", "add", link, "type", "veth", "peer", "name", "there", "netns", name)
    except subprocess.CalledProcessError as error:
        subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
        pytest.skip(f"NO NETWORK NAMESPACES: {error.stderr.decode().strip()}")
    try:
        ip("addr", "add", f"{HERE}/30", "dev", link)
        ip("link", "set", link, "up")
        ip("-n", name, "addr", "add", f"{THERE}/30", "dev", "there")
        ip("-n", name, "link", "set", "there", "up")
        yield name
    finally:
        ip("link", "del", link)  # at once; a namespace takes its own time
        ip("netns", "del", name)


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "under data"])
def test_a_peer_behind_a_dead_link_is_dropped(namespace: str, busy: bool) -> None:
    """Within three pings; it is 30 s with the settings as they are."""
    settings = ServeSettings(host=HERE, port=0, heartbeat_ms=250, ping_interval_ms=500)
    with Running(settings) as running:
        market = Market(running)
        market.open()
        command = ["ip", "netns", "exec", namespace, sys.executable, "-c", CLIENT, HERE, str(running.port), SYMBOL]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path.cwd())
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == b"here\n"
            time.sleep(1.2)
            assert len(running.gateway.connections) == 1
            ip("-n", namespace, "link", "set", "there", "down")
            began = time.monotonic()
            while running.gateway.connections and time.monotonic() - began < 5:
                if busy:
                    market.tick("trades", SYMBOL, [Trade("1", "1", "buy", "x" * 500, None)])
                time.sleep(0.005)
            assert time.monotonic() - began < 1.7
            dropped = running.gateway.counts.dropped
            assert dropped.of("silent").value + dropped.of("stalled").value == 1
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
