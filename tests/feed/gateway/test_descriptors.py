"""The limit on open files is raised as far as is needed, and where that is not allowed there are fewer connections."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from feed.gateway.descriptors import fitted as fitted_here
from feed.gateway.recordings import FILES_A_READER
from feed.runtime.settings import LimitSettings

PROGRAM = """
import logging, resource, sys
from feed.gateway.descriptors import fitted
from feed.runtime.settings import LimitSettings
logging.basicConfig(format="%(message)s")
limits = fitted(LimitSettings(connections_max=int(sys.argv[1]), http_connections_max=50))
print(limits.connections_max, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


def fitted(soft: int, hard: int, connections_max: int) -> tuple[str, str]:
    """What a process of these limits makes of them: what it says on stdout and on stderr."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(connections_max)],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard)),  # no threads
        capture_output=True,
        text=True,
        cwd=Path.cwd(),
        check=False,
    )
    return done.stdout.strip(), done.stderr.strip()


@pytest.mark.parametrize(
    ("soft", "hard", "connections", "left", "now"),
    [
        (2000, 2000, 500, 500, 2000),
        (400, 2000, 500, 500, 1062),
        (1062, 1062, 500, 500, 1062),
        (400, 1061, 500, 499, 1061),
        (656, 656, 500, 94, 656),
        (563, 563, 500, 1, 563),
    ],
)
def test_as_far_as_allowed(soft: int, hard: int, connections: int, left: int, now: int) -> None:
    told, said = fitted(soft, hard, connections)
    assert told == f"{left} {now}"
    assert bool(said) == (left < connections)
    if said:
        wanted = f"{now} file descriptors are allowed, 1062 wanted: connections_max is {left} instead of {connections}"
        assert said == f"{wanted}; raise the limit (ulimit -n)"


def test_readers_of_recordings_need_their_files() -> None:
    limits = LimitSettings(connections_max=10, http_connections_max=1, histories_max=2, replays_max=3, walks_max=1)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (600, before[1]))
        assert fitted_here(limits).connections_max == 10
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 600
        assert fitted_here(limits, files_a_reader=FILES_A_READER).connections_max == 10
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 10 + 1 + 512 + 6 * FILES_A_READER
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_not_one_connection_is_an_error() -> None:
    told, said = fitted(562, 562, 500)
    assert told == ""
    assert "ConfigError: 562 file descriptors are allowed, wanted 563 at least" in said
