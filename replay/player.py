"""The task of one replay: reads what its session orders, a page ahead, and tells the socket when something is due.

Owns the recording that the connection has for itself, and the threads' part. There is one job in a thread at a time,
and each is short: how channels stand at a moment, or the next page. Leaves all decisions to `session`, and sending to
the gateway's fan-out: a replay gets its turn there beside those who catch up on the live stream, a page at a time and
only while its socket has room.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Final

from feed.errors import BadRequest
from feed.gateway.recordings import Recordings
from feed.recording.filter import ChannelFilter
from feed.recording.recording import RecordingFiles
from feed.recording.state_at import ChannelState
from feed.recording.table_files import RecordingCut
from replay.ahead import SEPARATOR, Ahead
from replay.arrow_ahead import ArrowReading
from replay.flow import Order
from replay.selection import Channel
from replay.session import Recorded, ReplaySession

if TYPE_CHECKING:
    from feed.gateway.gateway import Gateway
    from feed.gateway.ws import StreamProtocol

_TURN_NS_MIN: Final = 1_000_000
"""What is due within it goes out together."""
_logger = logging.getLogger("feed.gateway")


class RecordingReader:
    """A recording and where it is being read; methods block, and are called by one thread at a time."""

    def __init__(self, recordings: Recordings, *, arrow: bool = False) -> None:
        """`arrow`: pages are rows instead of messages."""
        self.arrow = arrow
        self._lock = threading.Lock()
        self._closed = False
        self._recordings = recordings
        self._recording: RecordingFiles | None = None
        self._pages: Iterator[Ahead] = iter(())

    def open(self) -> Recorded | None:
        """What there is; None where nothing was recorded yet.

        Raises:
            CorruptRecording: a file is damaged.
        """
        with self._lock:
            try:
                self._recording = self._recordings.open()
                found = self._recordings.range_of(self._recording)
            except BadRequest:
                return None
            channels = frozenset(self._recordings.catalog.channels(self._recording))
            return Recorded(found.begin, found.end, channels)

    def start(self, order: Order) -> Mapping[Channel, ChannelState]:
        """Carries out an order: how its channels stand; the pages that follow come by `next`.

        Raises:
            CorruptRecording, CorruptLog: a batch is damaged.
        """
        with self._lock:
            if self._closed or self._recording is None:
                return {}
            after = RecordingCut(order.after)
            standing: Mapping[Channel, ChannelState] = {}
            if order.standing:
                standing = self._recording.standing(ChannelFilter(order.standing), after)
            until = RecordingCut(order.until)
            if self.arrow:
                self._pages = ArrowReading(self._recording.files_by_table, order.picked, after, until).aheads()
            else:
                self._pages = map(Ahead, self._recording.pages(order.picked, after, until, separator=SEPARATOR))
            return standing

    def next(self) -> Ahead | None:
        """The next page; None at the end.

        Raises:
            CorruptRecording: a batch is damaged.
        """
        with self._lock:
            return None if self._closed else next(self._pages, None)

    def close(self) -> None:
        """Closes the recording, after what is being read right now."""
        with self._lock:
            self._closed = True
            self._pages = iter(())
            if self._recording is not None:
                self._recording.close()
                self._recording = None


class Player:
    """One connection's reading; `run` is its task, which ends with the session."""

    def __init__(
        self, gateway: Gateway, recordings: Recordings, reader: RecordingReader, recorded: Recorded | None
    ) -> None:
        self._gateway = gateway
        self._recordings = recordings
        self._reader = reader
        self._woken = asyncio.Event()
        self.session = ReplaySession(gateway.told, recorded, changed=self._woken.set, steady_ns=time.monotonic_ns)

    async def run(self, connection: StreamProtocol) -> None:
        """Reads and wakes until the connection is gone."""
        session = self.session
        job: asyncio.Task[Callable[[], None]] | None = None
        try:
            while not session.closed:
                self._woken.clear()
                if job is not None and job.done():
                    job.result()()
                    job = None
                if job is None and (wanted := self._wanted()) is not None:
                    job = asyncio.create_task(self._recordings.run(wanted), name="replay-read")
                    job.add_done_callback(lambda _: self._woken.set())
                if session.due:
                    self._gateway.fanout.catch_up(connection)
                await self._rest(session.wait_ns)
        except Exception:  # whatever it is, the client must not wait for ever
            _logger.exception("a replay cannot go on")
            session.fail()
            self._gateway.fanout.catch_up(connection)
        finally:
            if job is not None:
                job.cancel()
            self._recordings.later(self._reader.close)

    def _wanted(self) -> Callable[[], Callable[[], None]] | None:
        """What is to be done in a thread now; it gives what is to be done with the result on the loop."""
        session, order = self.session, self.session.order
        if order is not None:

            def start() -> Callable[[], None]:
                standing = self._reader.start(order)
                return lambda: session.stands(standing)

            return start
        if not session.hungry:
            return None

        def read() -> Callable[[], None]:
            page = self._reader.next()
            return lambda: session.take(page) if session.order is None else None

        return read

    async def _rest(self, wait_ns: int | None) -> None:
        """Waits until somebody wakes it, or for so long."""
        if wait_ns is None:
            await self._woken.wait()
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(wait_ns, _TURN_NS_MIN) / 1e9):
                await self._woken.wait()
