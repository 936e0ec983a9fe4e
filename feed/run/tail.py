"""`feed tail`: follows channels of a gateway and prints what they say.

Owns the connection of a simple client: subscribe, apply the client's rule, come back after a loss and resume by marks.
Data goes to stdout, words to stderr. A message that the rule drops is not printed, so over any number of reconnections
every update is printed once.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI

from feed.errors import ConfigError, FeedError, Unreachable
from feed.runtime.command import say
from feed.wire.hashes import Hashes
from feed.wire.model import KINDS, NO_SEQ
from feed.wire.times import ns_of

FIRST_PAUSE_S: Final = 0.25
PAUSE_MAX_S: Final = 10.0
OPEN_TIMEOUT_S: Final = 10.0
FRAME_BYTES_MAX: Final = 64 * 1024 * 1024
_ID: Final = 1
_SYMBOLS_MAX: Final = 1_000
"""Of one request; gateways take more."""
_LEVELS_SHOWN: Final = 3
_FRAME: Final = msgspec.json.Decoder(list[msgspec.Raw])

Message = dict[str, Any]


class TailRule:
    """The client's rule for all channels of one subscription: which messages count, and where each channel stands."""

    def __init__(self) -> None:
        self._pos: dict[tuple[str, str], int] = {}
        self._source: dict[tuple[str, str], str] = {}
        self._state: dict[tuple[str, str], int] = {}
        self.waiting: set[tuple[str, str]] = set()
        self.marks: dict[str, int] = {}
        self.marked: set[tuple[str, str]] = set()
        """The channels that the marks speak of: those in step when they were told."""
        self.pending: set[int] = set()
        """Requests from marks or a time that have not caught up."""
        self.holes: list[tuple[str, str]] = []

    def joined(self, result: Message) -> None:
        """A result of an ack, or a `joined`: how a channel begins."""
        channel = result["channel"], result["symbol"]
        if result.get("mode") == "snapshot":
            self.waiting.add(channel)
        if result.get("mode") == "live":
            self._state.pop(channel, None)
        self._pos.setdefault(channel, result.get("seq", NO_SEQ) if result.get("mode") == "live" else NO_SEQ)
        if "source" in result:
            self._source.setdefault(channel, result["source"])

    def source(self, channel: tuple[str, str]) -> str:
        """The source of a channel, as far as it was told."""
        return self._source.get(channel, "")

    def unmarked(self) -> tuple[list[str], dict[str, int]]:
        """Symbols that the marks do not speak of and that wait for nothing, and the lowest position of each source.

        From there they go on after a drop: what they have of it already they drop.
        """
        symbols: list[str] = []
        lowest: dict[str, int] = {}
        for channel, source in self._source.items():
            if channel not in self.waiting and not (channel in self.marked and source in self.marks):
                symbols.append(channel[1])
                lowest[source] = min(self._pos[channel], lowest.get(source, self._pos[channel]))
        return symbols, lowest

    def takes(self, message: Message) -> bool:
        """Whether a message counts; moves the channel if it does."""
        kind: str = message["type"]
        if kind in ("heartbeat", "goaway"):
            if not (self.pending or self.waiting):
                self.marks = message["marks"]  # else they do not speak of all channels
                self.marked = set(self._source)
            return False
        if kind == "caught_up":
            self.pending.discard(message["id"])
            return False
        if "channel" not in message or "seq" not in message:
            return kind == "state"
        channel = message["channel"], message["symbol"]
        seq: int = message["seq"]
        if kind == "update":
            return self._takes_update(channel, message)
        if kind == "snapshot":
            return self._takes_snapshot(channel, message)
        if kind == "gap":
            return self._takes_gap(channel, message)
        if kind == "state" and seq > self._state.get(channel, NO_SEQ):
            self._state[channel] = seq
            return True
        return False

    def _takes_update(self, channel: tuple[str, str], message: Message) -> bool:
        pos = self._pos.get(channel, NO_SEQ)
        if channel in self.waiting or message["seq"] <= pos:
            return False
        if message["prev"] > pos:  # a hole of our own: only a snapshot mends it
            self.waiting.add(channel)
            self.holes.append(channel)
            return False
        if _is_last_part(message):
            self._pos[channel] = message["seq"]
        return True

    def _takes_snapshot(self, channel: tuple[str, str], message: Message) -> bool:
        if channel not in self.waiting:
            return False
        if _is_last_part(message):
            self.waiting.discard(channel)
            self._state.pop(channel, None)
            self._pos[channel] = message["seq"]
            self._source[channel] = message["source"]
        return True

    def _takes_gap(self, channel: tuple[str, str], message: Message) -> bool:
        pos = self._pos.get(channel, NO_SEQ)
        seq: int = message["seq"]
        same = self._source.get(channel) == message["source"]
        if message["reason"] == "venue" and same:
            return seq >= pos
        if same and seq <= pos and message["reason"] != "seek":
            return False
        self._pos[channel] = seq
        self._source[channel] = message["source"]
        if not message["lost"]:
            self.waiting.add(channel)
        return True


class Tail:
    """One subscription, kept over any number of connections."""

    def __init__(
        self,
        url: str,
        channel: str,
        symbols: list[str],
        *,
        out: Callable[[bytes, Message], None],
        start: str | None = None,
        every_ms: int | None = None,
        depth: int | None = None,
        wait: bool = False,
    ) -> None:
        """`start`: a time to begin from, nanoseconds or RFC 3339; None: now.

        `every_ms` and `depth`: a view instead of every update; the gateway says which it offers. `wait`: for symbols
        that are not known yet.
        """
        if channel not in KINDS:
            raise ConfigError(f"channel {channel!r} is none of {', '.join(KINDS)}")
        if start is not None:
            try:
                ns_of(start)
            except ValueError as error:
                raise ConfigError(f"--from: {error}") from error
        self._url = url
        given = {"every_ms": every_ms, "depth": depth}
        self._view = {name: value for name, value in given.items() if value is not None}
        self._request: Message = {"op": "subscribe", "id": _ID, "channels": [channel], "symbols": symbols, **self._view}
        if wait:
            self._request["wait"] = True
        self._out = out
        self._start = start
        self._rule = TailRule()
        self._pause_s = 0.0
        self._was_connected = False
        self._ids = itertools.count(_ID + 1)

    async def run(self) -> None:
        """Follows until it is cancelled.

        Raises:
            Unreachable: the first connection failed; later ones are tried again for ever.
            FeedError: the gateway refused the subscription.
        """
        while True:
            connection = await self._connected()
            if connection is not None:
                # What fails in here and is no lost connection is our output: who read it has gone, or its disk is full.
                try:
                    await self._follow(connection)
                except ConnectionClosed as error:
                    say(f"connection closed: {error}")
                finally:
                    await connection.close()  # as one who is done, not as one who failed
            await asyncio.sleep(self._next_pause())

    async def _connected(self) -> ClientConnection | None:
        """A new connection; None where a later one can be tried."""
        try:
            return await connect(
                self._url,
                subprotocols=["feed.v1.json"],  # type: ignore[list-item]  # a NewType of str
                compression=None,
                max_size=FRAME_BYTES_MAX,
                open_timeout=OPEN_TIMEOUT_S,
            )
        except InvalidURI as error:
            raise ConfigError(f"{self._url} is no address of a stream, wanted ws://HOST:PORT/v1/stream") from error
        except (OSError, InvalidHandshake, TimeoutError) as error:
            if not self._was_connected:
                raise Unreachable(f"no stream at {self._url}: {error}") from error
            say(f"no stream at {self._url}: {error}")
            return None

    async def _follow(self, connection: ClientConnection) -> None:
        rule = self._rule
        waiting = list(rule.waiting)
        unmarked, lowest = rule.unmarked()
        marks = rule.marks
        if not marks and self._start is not None:
            marks, unmarked = lowest, []  # what is still to come of the past comes from where the others are
        rule.pending.clear()
        start: Message = {"marks": marks} if marks else {} if self._start is None else {"time": self._start}
        if start:
            await self._ask(connection, self._request, start)
        for at in range(0, len(unmarked), _SYMBOLS_MAX):
            named = {"id": next(self._ids), "symbols": unmarked[at : at + _SYMBOLS_MAX]}
            await self._ask(connection, self._request | named, {"marks": lowest})
        if not start:
            await self._ask(connection, self._request, start)  # what it has by now keeps its position
        # neither says anything of channels that had no snapshot yet
        await self._ask_for_snapshots(connection, waiting)
        async for frame in connection:
            for raw in _FRAME.decode(frame):
                self._take(bytes(raw), msgspec.json.decode(raw))
            sys.stdout.flush()
            if self._rule.holes:
                holes, self._rule.holes = self._rule.holes, []
                await self._ask_for_snapshots(connection, holes)
        raise ConnectionClosed(connection.protocol.close_rcvd, connection.protocol.close_sent)

    async def _ask(self, connection: ClientConnection, request: Message, start: Message) -> None:
        if start:
            self._rule.pending.add(request["id"])
        await connection.send(json.dumps(request | ({"from": start} if start else {})))

    async def _ask_for_snapshots(self, connection: ClientConnection, channels: list[tuple[str, str]]) -> None:
        for channel, symbol in channels:
            request = {"op": "subscribe", "id": next(self._ids), "channels": [channel], "symbols": [symbol]}
            await connection.send(json.dumps(request | self._view | {"from": "snapshot"}))

    def _take(self, raw: bytes, message: Message) -> None:
        kind = message["type"]
        if kind == "ack":
            self._acknowledged(message)
        elif kind == "joined":
            self._rule.joined(message)
        elif kind == "error":
            raise FeedError(f"{message['code']}: {message['message']}")
        elif self._rule.takes(message):
            if kind == "update":
                message["source"] = self._rule.source((message["channel"], message["symbol"]))
            self._out(raw, message)
        if kind == "goaway":
            self._pause_s = message["after_ms"] / 1000
            say(f"the gateway goes away: {message['reason']}")

    def _acknowledged(self, ack: Message) -> None:
        self._pause_s = 0.0
        self._was_connected = True
        refused = [result for result in ack["results"] if not result["ok"]]
        for result in refused:
            say(f"{result['channel']} of {result['symbol']}: {result['code']}")
        if refused and len(refused) == len(ack["results"]) and ack["id"] == _ID:
            raise FeedError("nothing of it can be subscribed")
        for result in ack["results"]:
            if result.get("mode") == "awaited":
                say(f"{result['channel']} of {result['symbol']}: waiting for it")
            elif result["ok"] and "matched" not in result:
                self._rule.joined(result)

    def _next_pause(self) -> float:
        """What `goaway` asked for, else twice the last pause; part of it random, so that not all come at once."""
        if self._pause_s:
            pause, self._pause_s = self._pause_s, min(PAUSE_MAX_S, self._pause_s * 2)
        else:
            pause = self._pause_s = FIRST_PAUSE_S
        return pause * random.uniform(0.75, 1.25)  # noqa: S311  # no secret


class Hashing:
    """Instead of lines a hash of each channel and one of all, said at the end: what `replay print --hash` says too."""

    def __init__(self) -> None:
        self._hashes = Hashes()

    def take(self, raw: bytes, message: Message) -> None:
        """A message that counts; an update too has its `source`, though it was not sent."""
        if "channel" not in message or "seq" not in message:
            return
        kind = message["type"]
        if kind in ("update", "state") or (kind == "gap" and message["reason"] == "venue"):
            channel, part = (message["channel"], message["symbol"]), message.get("part", (0, 0))[0]
            self._hashes.take(*channel, message["source"], kind, message["seq"], raw, part)

    def say(self) -> None:
        """The lines."""
        for found, kind, symbol in self._hashes.lines():
            sys.stdout.write(f"{found} {kind} {symbol}\n")
        sys.stdout.write(f"{self._hashes.total()}\n")


def as_json(raw: bytes, message: Message) -> None:
    """A message as one line, byte for byte as it was sent."""
    sys.stdout.buffer.write(raw + b"\n")


def as_text(raw: bytes, message: Message) -> None:
    """A message as one readable line."""
    sys.stdout.write(f"{line_of(message)}\n")


def line_of(message: Message) -> str:
    """What a person reads of a message: time, symbol, what happened."""
    if "channel" not in message:
        return f"-- {message['source']} is {message.get('state')}: {message.get('reason')}"
    head = f"{_clock(message.get('ts_event') or message.get('ts_recv'))} {message['symbol']}"
    kind = message["type"]
    if kind == "gap":
        count = message["count"] if message["count"] is not None else "an unknown number of"
        return (
            f"{head} gap ({message['reason']}): {count} updates, {'lost' if message['lost'] else 'a snapshot follows'}"
        )
    if kind == "state":
        return f"{head} {message['channel']} is {message.get('state')}: {message.get('reason')}"
    told = "; ".join(_told(message["channel"], message["data"]))
    return f"{head} {'= ' if kind == 'snapshot' else ''}{told}"


def _told(channel: str, data: Any) -> Iterator[str]:
    if channel == "trades":
        yield from (f"{trade['side'] or '?':4} {trade['size']} @ {trade['price']}" for trade in data)
    elif channel == "quotes":
        yield f"{data['bid_size']} @ {data['bid_price']} | {data['ask_price']} @ {data['ask_size']}"
    elif channel == "book":
        for side in ("bids", "asks"):
            shown = " ".join(f"{price}:{size}" for price, size in data[side][:_LEVELS_SHOWN])
            more = len(data[side]) - _LEVELS_SHOWN
            yield f"{side} {shown or '-'}{f' (+{more})' if more > 0 else ''}"
    elif channel == "bars":
        for bar in data:
            figures = " ".join(bar[name] for name in ("open", "high", "low", "close", "volume"))
            yield f"{bar['interval']} {_clock(bar['open_time'])} {figures}{' closed' if bar['closed'] else ''}"
    else:
        yield " ".join(f"{name}={value}" for name, value in data.items() if value not in (None, []))


def _clock(ns: str | None) -> str:
    if ns is None:
        return "--:--:--.---"
    return datetime.fromtimestamp(int(ns) / 1e9, UTC).strftime("%H:%M:%S.%f")[:-3]


def _is_last_part(message: Message) -> bool:
    part = message.get("part")
    return part is None or part[0] == part[1]
