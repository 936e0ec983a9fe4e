"""A replay without sockets, threads and time: a session, a reader that carries out its orders at once, a clock to turn.

`Desk` has a client of `tests.reference_client` on it, which is strict about every promise, and keeps what was sent.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from feed.gateway.recordings import Recordings
from feed.protocol.session import SessionSettings
from replay.player import RecordingReader
from replay.session import ReplaySession
from tests.reference_client import Client, payloads

Json = dict[str, Any]
S = 1_000_000_000
_DATA = tuple(b'{"type":"%s"' % type_ for type_ in (b"update", b"snapshot", b"gap", b"state"))


class Desk:
    """One connection to a recording's replay; `page_bytes` is what the client's socket takes at a time."""

    def __init__(
        self,
        folder: Path,
        *,
        page_bytes: int = 1 << 20,
        settings: SessionSettings | None = None,
        now_ns: int = 0,
        arrow: bool = False,
    ) -> None:
        self.now = 0
        self.page_bytes = page_bytes
        self.client = Client()
        self.sent: list[bytes] = []
        self.rows: list[tuple[int, pa.Table]] = []
        """Tables of rows, and how many messages were sent before each."""
        self.reads = True
        recordings = Recordings(str(folder))
        self._reader = RecordingReader(recordings, arrow=arrow)
        self.recorded = self._reader.open()
        self.session = ReplaySession(
            settings or SessionSettings(page_bytes=page_bytes, requests_per_second=10**9, requests_burst=10**9),
            self.recorded,
            changed=lambda: None,
            steady_ns=lambda: self.now,
        )
        self.told(self.session.open(now_ns))

    def told(self, frames: bytes) -> None:
        """What the session said goes to the client; rows, where they come as Arrow, are kept."""
        while frames and self._reader.arrow:
            length, head = frames[1], 2
            if length >= 126:
                head += 2 if length == 126 else 8
                length = int.from_bytes(frames[2:head])
            frame, frames = frames[: head + length], frames[head + length :]
            if frame[0] == 0x82:
                self.rows.append((len(self.sent), pa.ipc.open_stream(frame[head:]).read_all()))
            else:
                self._told(frame)
        self._told(frames)

    def _told(self, frames: bytes) -> None:
        for payload in payloads(frames):
            self.client.receive(payload)
            self.sent += [
                json.dumps(m, separators=(",", ":"), ensure_ascii=False).encode() for m in json.loads(payload)
            ]

    def ask(self, **request: Any) -> Json:
        """A request, and all that follows from it now; its answer."""
        request = {name.rstrip("_"): value for name, value in request.items()}
        text = self.client.ask(request)
        id_ = json.loads(text)["id"]
        self.told(self.session.receive(text, self.now))
        self.settle()
        answer: Json = self.client.answers[id_]
        return answer

    def replay(self, do: str, **more: Any) -> Json:
        """A request to steer."""
        return self.ask(op="replay", do=do, **more)

    def subscribe(self, channels: list[str], symbols: list[str], **more: Any) -> Json:
        """A request for channels."""
        return self.ask(op="subscribe", channels=channels, symbols=symbols, **more)

    def settle(self) -> None:
        """Reads and sends until nothing more is due now."""
        session = self.session
        while True:
            if session.order is not None:
                session.stands(self._reader.start(session.order))
            elif session.hungry:
                session.take(self._reader.next())
            elif self.reads and session.due:
                self.told(session.pull(self.page_bytes, self.now))
            else:
                return

    def turn(self, ns: int) -> None:
        """Time passes; the session is woken when it asked for it."""
        until = self.now + ns
        while self.reads and (wait := self.session.wait_ns) is not None and self.now + max(wait, 1) <= until:
            self.now += max(wait, 1)
            self.settle()
        self.now = until
        self.settle()

    def messages(self, *types: str) -> list[Json]:
        """What was sent of some types."""
        starts = tuple(f'{{"type":"{type_}"'.encode() for type_ in types)
        return [json.loads(message) for message in self.sent if message.startswith(starts)]

    @property
    def states(self) -> list[str]:
        """The states told, in order."""
        return [message["state"] for message in self.messages("replay")]

    @property
    def time(self) -> int:
        """The position that was told last."""
        return int(self.messages("replay")[-1]["time"])

    def data(self) -> Iterator[bytes]:
        """What was sent of channels, in order."""
        return (message for message in self.sent if message.startswith(_DATA))

    def close(self) -> None:
        """The connection is gone."""
        self.session.close()
        self._reader.close()
