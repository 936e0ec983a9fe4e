"""`replay serve`: a gateway over recordings alone, as a process, and a client that knows only its URL."""

from __future__ import annotations

import asyncio
import errno
import json
import random
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import FastAPI
from httpx import ASGITransport, AsyncClient
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from feed.gateway.recordings import Recordings
from feed.recording import files
from feed.recording.folder import Folder
from replay import alone
from tests.feed.recorder.made_up import MadeUp
from tests.feed.recorder.tape import Tape
from tests.integration.commands import REPLAY, running

SYMBOLS = ["TOY:A", "TOY:B"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    log = MadeUp("toy/0", SYMBOLS, random.Random(5))
    log.grow(100)
    log.record()
    root = tmp_path_factory.mktemp("recordings")
    tape = Tape(root, [log.log])
    tape.play()
    tape.end()
    return root


@pytest.fixture(scope="module")
def at(folder: Path) -> Iterator[str]:
    """Where it listens."""
    with running(*REPLAY, "serve", str(folder), "--port", "0", cwd=folder) as command:
        yield command.said(r"replay  ws://(\S+)/v1/replay")[1]
        assert command.end() == 0, command.err


def get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.read().decode(errors="replace")
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_a_client_that_knows_only_the_url_plays_it(at: str) -> None:
    updates = 0
    with connect(f"ws://{at}/v1/replay") as socket:
        for request in (
            {"op": "subscribe", "id": 1, "channels": ["trades", "book"], "symbols": ["*"]},
            {"op": "replay", "id": 2, "do": "open", "speed": "max"},
            {"op": "replay", "id": 3, "do": "play"},
        ):
            socket.send(json.dumps(request))
        state = ""
        while state != "ended":
            for message in json.loads(socket.recv(timeout=10)):
                updates += message["type"] == "update"
                state = message["state"] if message["type"] == "replay" else state
    assert updates > 20


@pytest.mark.slow
def test_a_folder_that_is_moved_away_is_not_ready(folder: Path, tmp_path: Path) -> None:
    root, elsewhere = tmp_path / "recordings", tmp_path / "elsewhere"
    shutil.copytree(folder, root)
    with running(*REPLAY, "serve", str(root), "--port", "0", cwd=tmp_path) as command:
        at = command.said(r"replay  ws://(\S+)/v1/replay")[1]
        assert get(f"http://{at}/readyz")[0] == 200
        root.rename(elsewhere)
        _until(lambda: get(f"http://{at}/readyz")[0] == 503)
        assert f"[-] recording: no recording in {root}" in get(f"http://{at}/readyz")[1]
        elsewhere.rename(root)
        _until(lambda: get(f"http://{at}/readyz")[0] == 200)


def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_what_it_says_over_http(at: str) -> None:
    assert get(f"http://{at}/livez") == (200, "ok\n")
    status, ready = get(f"http://{at}/readyz?verbose=1")
    assert status == 200
    assert "kafka" not in ready
    assert "[+] recording: 1970-01-01T00:00:00Z to 1970" in ready
    listed: Any = json.loads(get(f"http://{at}/v1/symbols")[1])
    assert [row["symbol"] for row in listed] == SYMBOLS
    assert set(listed[0]) == {"symbol", "channels", "source"}
    assert json.loads(get(f"http://{at}/v1/status")[1])["ready"]
    page = get(f"http://{at}/")[1]
    assert "no live data" in page
    assert "/v1/replay" in page
    assert "/v1/history" in get(f"http://{at}/docs")[1]
    assert get(f"http://{at}/v1/history?channel=trades")[0] == 200
    assert get(f"http://{at}/v1/snapshot/book/TOY:A")[0] == 404
    assert "feed_gateway_replays" in get(f"http://{at}/metrics")[1]


def test_there_is_no_live_stream_and_it_says_where_the_replay_is(at: str) -> None:
    with pytest.raises(InvalidStatus) as refused, connect(f"ws://{at}/v1/stream"):
        pass
    assert refused.value.response.status_code == 404
    assert b"/v1/replay" in refused.value.response.body


def test_no_such_folder_is_a_usage_error(tmp_path: Path) -> None:
    with running(*REPLAY, "serve", str(tmp_path / "nowhere"), "--port", "0", cwd=tmp_path) as command:
        assert command.wait(30) == 2
        assert "nowhere" in "".join(command.err)


@pytest.mark.anyio
@pytest.mark.parametrize("where", ["listing", "opening"])
async def test_a_disk_that_fails_for_a_moment_ends_nothing(
    where: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recordings, failing = Recordings(str(folder)), True

    def fails(act: Any) -> Any:
        def acted(*of: Any) -> Any:
            if failing:
                raise OSError(errno.EIO if where == "listing" else errno.EMFILE, "planted")
            return act(*of)

        return acted

    monkeypatch.setattr(Folder, "_listed", fails(Folder._listed)) if where == "listing" else monkeypatch.setattr(
        files, "hold", fails(files.hold)
    )
    monkeypatch.setattr(alone, "_LOOK_SECONDS", 0.001)
    app = FastAPI()
    alone.add_alone(app, SimpleNamespace(recordings=recordings))  # type: ignore[arg-type]  # nothing else is asked
    watch = alone._Watch(None)
    watching = asyncio.create_task(watch.run(recordings))
    async with AsyncClient(transport=ASGITransport(app), base_url="http://here") as client:
        async with asyncio.timeout(20):
            while watch.check().ok:
                await asyncio.sleep(0.001)
        assert "planted" in watch.check().found
        assert {(await client.get(path)).status_code for path in ("/", "/v1/symbols")} == {503}
        failing = False
        async with asyncio.timeout(20):
            while not watch.check().ok:
                await asyncio.sleep(0.001)
        assert "1970-01-01" in watch.check().found
        assert {(await client.get(path)).status_code for path in ("/", "/v1/symbols")} == {200}
    assert not watching.done()
    watching.cancel()
    recordings.close()
