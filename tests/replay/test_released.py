"""What is read for somebody goes with him at once: no cycle keeps blocks, pages or files until a full collection."""

from __future__ import annotations

import gc
import random
import time
import types
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from feed.backfill.past import LogCut
from feed.gateway.backfill_recorded import RecordedSource
from feed.gateway.recordings import RecordingIterator, Recordings
from feed.recording import merge
from feed.recording.files import RecordedFile
from feed.recording.filter import Filter
from feed.recording.recording import RecordingFiles
from feed.recording.state_at import ChannelState
from feed.runtime.settings import ServeSettings
from feed.wire.model import KINDS
from feed.wire.times import text_of
from replay.ahead import Ahead
from replay.flow import Flow
from replay.player import Player, RecordingReader
from replay.selection import ReplaySelection
from replay.session import ReplaySession
from tests.feed.recorder.made_up import MadeUp
from tests.feed.recorder.tape import Tape
from tests.gateways import Running
from tests.replay.desk import Desk
from tests.replay.test_player import Viewer

LARGE = (
    *(merge.Reading, merge._Table, merge._Lane, merge.Part, merge.RowPage, merge.Rows, Ahead, ChannelState),
    *(RecordingFiles, RecordedFile, RecordingIterator, RecordedSource, RecordingReader, Player),
)
"""What holds blocks, rows, texts or files."""
WALKS = ("merge.py", "history.py", "backfill_recorded.py")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    log = MadeUp("toy/0", ["TOY:A", "TOY:B", "TOY:C"], random.Random(5))
    log.grow(300)
    log.record()
    root = tmp_path_factory.mktemp("recordings")
    tape = Tape(root, [log.log])
    tape.play()
    tape.end()
    return root


def large() -> list[str]:
    """Which of them are alive, and generators that walk over them."""
    found = [(type(one), one) for one in gc.get_objects()]
    alive = [kind.__qualname__ for kind, _ in found if issubclass(kind, LARGE)]
    walks = [one.gi_code for kind, one in found if kind is types.GeneratorType]
    return sorted([*alive, *(code.co_qualname for code in walks if code.co_filename.endswith(WALKS))])


@pytest.fixture
def collected() -> Iterator[None]:
    """No cyclic garbage is collected while the test runs, and none is there before it."""
    gc.collect()
    assert large() == []
    gc.disable()
    yield
    gc.enable()


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not true() and time.monotonic() < deadline:
        time.sleep(0.01)


@pytest.mark.usefixtures("collected")
def test_a_reading_goes_with_its_iterator(folder: Path) -> None:
    recording = RecordingFiles(str(folder))
    pages = recording.pages(Filter())
    next(pages)
    assert "Reading" in large()
    del pages
    assert set(large()) == {"RecordedFile", "RecordingFiles"}
    recording.close()
    del recording
    assert large() == []


@pytest.mark.usefixtures("collected")
@pytest.mark.parametrize("arrow", [False, True])
def test_a_replay_goes_with_its_session(folder: Path, arrow: bool) -> None:
    desk = Desk(folder, arrow=arrow, page_bytes=256)
    desk.subscribe([*KINDS], ["*"])
    desk.replay("open", speed=1)
    assert desk.recorded is not None
    begin, end = desk.recorded.begin, desk.recorded.end
    for share in (2, 5, 3):
        desk.replay("seek", time=text_of(begin + (end - begin) // share))
        desk.replay("step", n=3)
    # in the middle of everything: pages wait, and a subscribe does for how its channels stood
    desk.reads = False
    desk.replay("seek", time=text_of(begin))
    assert desk.session.flow.out
    desk.close()
    del desk.session, desk._reader  # the desk is its clock
    assert large() == []
    assert not [one for one in gc.get_objects() if type(one) in (ReplaySession, Flow, ReplaySelection)]


@pytest.mark.usefixtures("collected")
def test_what_a_client_seeks_goes_with_its_connection(folder: Path) -> None:
    settings = ServeSettings(port=0, heartbeat_ms=60_000, ping_interval_ms=60_000)
    with Running(settings, recordings=folder) as running:
        for ends in (True, False):
            with Viewer(running) as viewer:
                viewer.ask(op="subscribe", channels=[*KINDS], symbols=["*"])
                viewer.replay("open", speed=1)
                viewer.state("ready")
                for share in (1, 3, 2):
                    viewer.replay("seek", time=text_of(share))
                    if ends:
                        viewer.replay("step", n=2)
                if not ends:
                    viewer.socket.socket.close()
        until(lambda: not large())
        assert large() == []


@pytest.mark.usefixtures("collected")
@pytest.mark.parametrize("accept", ["application/vnd.apache.arrow.stream", "application/x-ndjson", "text/csv"])
def test_a_history_goes_with_its_answer(folder: Path, accept: str) -> None:
    with Running(ServeSettings(port=0), recordings=folder) as running:
        url = f"http://127.0.0.1:{running.port}/v1/history?channel=trades"
        with urllib.request.urlopen(urllib.request.Request(url, headers={"accept": accept})) as answer:
            assert answer.read()
        until(lambda: not large())
        assert large() == []


@pytest.mark.anyio
@pytest.mark.usefixtures("collected")
async def test_what_is_read_for_a_request_goes_with_it(folder: Path) -> None:
    recordings = Recordings(str(folder))
    recorded = RecordedSource(recordings, [*KINDS], ["*"], {"toy/0": LogCut(time=50)})
    assert await recorded.open()
    assert await recorded.next()
    assert "Reading" in large()
    recorded.close()
    del recorded
    await recordings.run(lambda: None)
    recordings.close()
    until(lambda: not large())
    assert large() == []
