"""Debian's Chromium, headless, spoken to over its own debugging protocol: no driver, no download.

Owns starting and ending the browser, and evaluating JavaScript in a page.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Final
from urllib.request import urlopen

from websockets.sync.client import ClientConnection, connect

EXECUTABLE: Final = os.environ.get("FEED_TEST_CHROMIUM") or shutil.which("chromium") or ""
_FLAGS: Final = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--remote-debugging-port=0",
    "--window-size=1280,800",
)
_START_SECONDS: Final = 20.0

Json = dict[str, Any]  # the debugging protocol's own business


class Page:
    """One tab."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._last = 0
        self.events: list[Json] = []
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **parameters: object) -> Json:
        """Sends a command and returns its result; events that come meanwhile are kept."""
        self._last += 1
        self._connection.send(json.dumps({"id": self._last, "method": method, "params": parameters}))
        while True:
            found: Json = json.loads(self._connection.recv(timeout=20))
            if found.get("id") == self._last:
                assert "error" not in found, found
                result: Json = found["result"]
                return result
            if "method" in found:
                self.events.append(found)

    def open(self, url: str) -> None:
        """Goes to a page."""
        self.ask("Page.navigate", url=url)

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        answer = self.ask("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait_for(self, expression: str, seconds: float = 10.0) -> Any:
        """The first value of an expression that is true in JavaScript's eyes."""
        deadline = time.monotonic() + seconds
        while True:
            found = self.evaluate(expression)
            if found:
                return found
            assert time.monotonic() < deadline, (
                f"never true: {expression}; the page says {self.evaluate('document.body.innerText')}"
            )
            time.sleep(0.03)

    def problems(self) -> list[str]:
        """Errors that the page has made or logged."""
        found = []
        for event in self.events:
            if event["method"] == "Runtime.exceptionThrown":
                found.append(str(event["params"]["exceptionDetails"]))
            elif event["method"] == "Log.entryAdded" and event["params"]["entry"]["level"] == "error":
                found.append(event["params"]["entry"]["text"] + " " + event["params"]["entry"].get("url", ""))
        return found

    def requested(self) -> list[str]:
        """The addresses that the page has asked for."""
        return [
            event["params"]["request"]["url"] for event in self.events if event["method"] == "Network.requestWillBeSent"
        ]

    def picture(self, path: Path) -> None:
        """Takes a screenshot."""
        path.write_bytes(base64.b64decode(self.ask("Page.captureScreenshot")["data"]))


class Chromium:
    """A browser with a profile of its own, while the block runs."""

    def __init__(self, profile: Path) -> None:
        self._profile = profile
        self._process: subprocess.Popen[bytes] | None = None
        self._stack = ExitStack()

    def __enter__(self) -> Chromium:
        command = [EXECUTABLE, *_FLAGS, f"--user-data-dir={self._profile}", "about:blank"]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
        assert self._process is not None
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)

    def page(self) -> Page:
        """The browser's tab."""
        port = self._port()
        with urlopen(f"http://127.0.0.1:{port}/json/list", timeout=10) as answer:
            tab = next(found for found in json.load(answer) if found["type"] == "page")
        return Page(self._stack.enter_context(connect(tab["webSocketDebuggerUrl"], max_size=None)))

    def _port(self) -> int:
        told = self._profile / "DevToolsActivePort"
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            if told.exists() and (lines := told.read_text().split()):
                return int(lines[0])
            time.sleep(0.05)
        raise TimeoutError("chromium did not start")
