"""The machine of a benchmark: which core is whose, processes with lines of JSON between them, and what they use.

Owns starting, pinning and ending of processes. The server that is measured has the first core for itself, everything
else (broker, publisher, clients) the others, as far as there are any.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import psutil

ROOT: Final = Path(__file__).resolve().parents[2]
_CORES: Final = frozenset(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else frozenset()
_PINS: Final = len(_CORES) > 1
_STOP_SECONDS: Final = 20.0
_POLL_SECONDS: Final = 0.05
FEED: Final = str(Path(sys.executable).parent / "feed")
"""The command of the service, as it is installed."""


class BenchFailed(RuntimeError):
    """A process ended early or did not answer in time, or something is not there: there is no figure."""


def pin_this() -> None:
    """This process and those that it starts from now on leave the first core alone."""
    if _PINS:
        os.sched_setaffinity(0, _CORES - {min(_CORES)})


def set_nice(nice: int) -> None:
    """How this process and those that it starts stand to others.

    A kernel that groups by session (autogroup) takes `nice` for the order inside the session alone.
    """
    os.nice(nice)
    with contextlib.suppress(OSError):
        if nice:
            Path("/proc/self/autogroup").write_text(str(nice))


@contextlib.contextmanager
def all_cores(pids: Iterable[int]) -> Iterator[None]:
    """Lets this process, those that it starts and these run on every core.

    For latency: two servers that share one core would wait for each other and not for their work.
    """
    if not _PINS:
        yield
        return
    pinned = os.sched_getaffinity(0)
    processes = (0, *pids)
    try:
        _spread(processes, _CORES)
        yield
    finally:
        _spread(processes, pinned)


def _spread(pids: Iterable[int], cores: Collection[int]) -> None:
    for pid in pids:
        tasks = [int(task.name) for task in Path(f"/proc/{pid or os.getpid()}/task").iterdir()]
        for task in tasks:
            with contextlib.suppress(ProcessLookupError):
                os.sched_setaffinity(task, cores)


def cpu_seconds(pid: int) -> float:
    """CPU time of a process so far, all its threads, user and system.

    By its CPU clock where there is one: `cpu_times` counts in steps of 10 ms.
    """
    with contextlib.suppress(OSError):
        return time.clock_gettime(~pid << 3 | 2)  # clock_getcpuclockid(3)
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def waited_seconds(pid: int) -> float:
    """How long a process' threads have been ready to run and were not let, so far; 0 where nobody tells."""
    waited = 0
    for task in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with contextlib.suppress(OSError):
            waited += int(task.read_text().split()[1])
    return waited / 1e9


def busy_seconds() -> float:
    """CPU time that all processes of the machine have used so far."""
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system + getattr(times, "irq", 0) + getattr(times, "softirq", 0))


def broker_pids() -> dict[str, int]:
    """The broker that this process started, if it did."""
    found = [child.pid for child in psutil.Process().children() if child.name() == "java"]
    return {"broker": found[0]} if found else {}


def memory_bytes(pid: int) -> int:
    """Resident memory of a process."""
    return int(psutil.Process(pid).memory_info().rss)


def anonymous_bytes(pid: int) -> int:
    """Resident memory of a process without what it has mapped of files: those pages can go at any time."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return memory_bytes(pid)


@contextlib.contextmanager
def _on_first_core() -> Iterator[None]:
    """What is started meanwhile runs there with all its threads, from its first instruction on."""
    if not _PINS:
        yield
        return
    own = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(_CORES)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, own)


class Child:
    """A process of ours: a server on the first core, or a tool that speaks a line of JSON at a time."""

    def __init__(
        self, arguments: list[str], *, log: Path, environment: Mapping[str, str] | None = None, pinned: bool = False
    ) -> None:
        self._name = " ".join(arguments[:3])
        self._log = log
        with log.open("ab") as errors, _on_first_core() if pinned else contextlib.nullcontext():
            self._process = subprocess.Popen(
                arguments,
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**os.environ, **(environment or {})},
            )
        self._unread = b""

    @property
    def pid(self) -> int:
        """Its number."""
        return self._process.pid

    def say(self, **what: Any) -> None:
        """Sends it a line of JSON."""
        self.write(json.dumps(what) + "\n")

    def write(self, text: str) -> None:
        """Sends it this."""
        assert self._process.stdin is not None
        self._process.stdin.write(text.encode())
        self._process.stdin.flush()

    def hear(self, seconds: float) -> dict[str, Any]:
        """The next line that it says.

        Raises:
            BenchFailed: it ended, or says nothing.
        """
        assert self._process.stdout is not None
        deadline = time.monotonic() + seconds
        while b"\n" not in self._unread:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._process.stdout], [], [], left)[0]:
                raise BenchFailed(f"{self._name} says nothing for {seconds:.0f} s: {self._tail()}")
            piece = os.read(self._process.stdout.fileno(), 65536)
            if not piece:
                raise BenchFailed(f"{self._name} ended: {self._tail()}")
            self._unread += piece
        line, self._unread = self._unread.split(b"\n", 1)
        found: dict[str, Any] = json.loads(line)
        return found

    def stop(self) -> None:
        """Ends it, cleanly if it can."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _tail(self) -> str:
        return self._log.read_text(errors="replace")[-2000:]


@contextlib.contextmanager
def tool(module: str, told: Mapping[str, Any], *, log: Path) -> Iterator[Child]:
    """A process of the benchmark's own, beside the server; its first line says what it is to do."""
    child = Child([sys.executable, "-m", f"tests.bench.{module}"], log=log)
    try:
        child.say(**told)
        yield child
    finally:
        child.stop()


@contextlib.contextmanager
def server(
    arguments: list[str], *, log: Path, environment: Mapping[str, str] | None = None, pinned: bool = True
) -> Iterator[Child]:
    """What is measured, on the first core: `[FEED, "serve", …]`."""
    child = Child(arguments, log=log, environment=environment, pinned=pinned)
    try:
        yield child
    finally:
        child.stop()


def wait_for_port(port: int, seconds: float) -> None:
    """Waits until somebody listens there."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=2):
            return
        time.sleep(_POLL_SECONDS)
    raise BenchFailed(f"nobody listens on port {port} after {seconds:.0f} s")


def wait_for_symbols(port: int, count: int, seconds: float) -> None:
    """Waits until a gateway is ready and knows so many symbols."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, ValueError, urllib.error.URLError):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2):
                pass
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/symbols", timeout=2) as answer:
                if answer.read().count(b'"symbol":') >= count:
                    return
        time.sleep(_POLL_SECONDS)
    raise BenchFailed(f"the gateway has no {count} symbols after {seconds:.0f} s")
