"""Commands as processes: started, read line by line, ended by a signal."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from queue import Empty, Queue
from time import monotonic

FEED = (sys.executable, "-c", "from feed.cli import main; main()")
REPLAY = (sys.executable, "-c", "from replay.cli import main; main()")


class Command:
    """A running command; its lines can be waited for, and are all kept."""

    def __init__(self, *command: str, cwd: Path) -> None:
        self.process = subprocess.Popen(
            command,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        self.out: list[str] = []
        self.err: list[str] = []
        self._arrived: Queue[None] = Queue()
        self._threads = [
            threading.Thread(target=self._read, args=(self.process.stdout, self.out), daemon=True),
            threading.Thread(target=self._read, args=(self.process.stderr, self.err), daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def said(self, pattern: str, *, lines: list[str] | None = None, timeout_s: float = 20.0) -> re.Match[str]:
        """Waits for a line on stderr (or of `lines`) that matches."""
        deadline = monotonic() + timeout_s
        seen = 0
        looked_at = self.err if lines is None else lines
        while True:
            for line in looked_at[seen:]:
                seen += 1
                if found := re.search(pattern, line):
                    return found
            left = deadline - monotonic()
            assert left > 0, f"no {pattern!r} in {timeout_s} s; stderr: {self.err[-20:]}"
            assert self.process.poll() is None or seen < len(looked_at), f"ended without {pattern!r}: {self.err[-20:]}"
            with contextlib.suppress(Empty):
                self._arrived.get(timeout=min(left, 0.1))

    def end(self, how: signal.Signals = signal.SIGTERM, *, timeout_s: float = 20.0) -> int:
        """Ends it by a signal; its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        return self.wait(timeout_s)

    def wait(self, timeout_s: float = 20.0) -> int:
        """Its exit code, when it has ended and all it said was read."""
        code = self.process.wait(timeout_s)
        for thread in self._threads:
            thread.join(timeout_s)
        return code

    def _read(self, stream: object, lines: list[str]) -> None:
        for line in stream:  # type: ignore[attr-defined]  # a text file
            lines.append(line.rstrip("\n"))
            self._arrived.put(None)


@contextlib.contextmanager
def running(*command: str, cwd: Path) -> Iterator[Command]:
    """A command that is ended, one way or the other, when the block is left."""
    started = Command(*command, cwd=cwd)
    try:
        yield started
    finally:
        if started.process.poll() is None:
            started.process.kill()
        started.wait()
        for stream in (started.process.stdout, started.process.stderr):
            assert stream is not None
            stream.close()
