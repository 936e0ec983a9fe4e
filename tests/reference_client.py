"""A client that applies the client's rule and nothing else, and is strict about what a server promised.

`receive` takes the payload of a text frame (a JSON array of messages), `ask` notes a request before it is sent. What
breaks a promise of the protocol raises `Broken`. It knows nothing of the server's code.

    client = Client()
    send(client.ask({"op": "subscribe", "channels": ["book"], "symbols": ["X:A"]}))
    client.receive(payload)
    client.channel("book", "X:A").book()
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import msgspec

Json = dict[str, Any]
View = tuple[int | None, int | None]
"""`every_ms` and `depth` of a request."""
Parameters = tuple[int, int, str]
"""`every_ms`, `depth` and `on_lag`, as results tell them."""
_RAWS = msgspec.json.Decoder(list[msgspec.Raw])


class Broken(AssertionError):
    """The server broke a promise."""


def require(holds: bool, message: str) -> None:
    """Raises `Broken` where it does not hold."""
    if not holds:
        raise Broken(message)


def payloads(frames: bytes) -> Iterator[bytes]:
    """The payloads of unmasked WebSocket text frames."""
    at = 0
    while at < len(frames):
        require(frames[at] == 0x81, f"frame starts with {frames[at]:#x}, wanted FIN and text")
        length = frames[at + 1]
        at += 2
        if length >= 126:
            size = 2 if length == 126 else 8
            length = int.from_bytes(frames[at : at + size])
            at += size
        require(at + length <= len(frames), "frame is cut")
        yield frames[at : at + length]
        at += length


class Channel:
    """One channel as the client knows it. `pos` and `waiting` are those of the client's rule."""

    def __init__(self, kind: str, symbol: str) -> None:
        self.kind = kind
        self.symbol = symbol
        self.source: str | None = None
        self.pos = -1
        self.waiting = False
        self.open = False
        self.chain: int | None = None
        """What `prev` of the next message must be, where this connection has said it."""
        self.needs_gap = False
        self.had = -1
        """Where it resumed on this connection: nothing at or below is sent again."""
        self.least: tuple[str, int] | None = None
        """The source and the position that an ack or a `joined` told: the snapshot that is awaited is no older."""
        self.marked = False
        """Whether the client's marks were told while it was in step; those told before it began are not about it."""
        self.view: View = (None, None)
        self.told: Parameters = (0, 0, "skip")
        self.partial = False
        """Whether it asked to know less than all: a snapshot of the last items, or updates from here on only."""
        self.data: Any = None
        self.state: tuple[int, str, str | None] = (-1, "ok", None)
        self.gaps: list[Json] = []
        self.applied: list[bytes] = []
        self.snapshots = 0
        self.from_first = False
        """Whether it was followed from its first update on."""
        self._parts: list[Json] = []
        self._raw_parts: list[bytes] = []

    @property
    def key(self) -> tuple[str, str]:
        """Kind and symbol."""
        return self.kind, self.symbol

    def __repr__(self) -> str:
        return f"<{self.kind} {self.symbol} pos={self.pos} waiting={self.waiting}>"

    def begin(self, told: Json) -> None:
        """An ack's result or a `joined`."""
        mode = told["mode"]
        self.open = True
        self._parts, self._raw_parts = [], []
        self.needs_gap = mode == "gap"
        self.marked = self.marked and mode == "resumed"
        self.had = told["seq"] if mode == "resumed" else -1
        self.chain = None
        self.least = (told["source"], told["seq"]) if mode == "snapshot" else None
        if mode == "snapshot":
            self.waiting = True
            self.partial = False
            self.source = told["source"]
        elif mode == "live":
            self.partial = self.partial or (self.waiting and told["seq"] != -1)
            if told["seq"] == -1:
                self.data, self.partial, self.pos = None, False, -1
                self.from_first = True
            if self.source != told["source"] or told["seq"] > self.pos:
                self.partial = self.partial or told["seq"] != -1
                self.pos, self.source = told["seq"], told["source"]
            self.waiting = False
            self.state = (-1, "ok", None)
            self.chain = told["seq"]
        elif mode == "resumed" and self.source is None:
            self.pos, self.source = told["seq"], told["source"]

    def see(self, every_ms: int | None, depth: int | None) -> None:
        """It is seen so often and so deep from now on."""
        view = every_ms, depth if self.kind == "book" else None
        if view != self.view:
            self.view = view
            if not self.waiting:
                self.chain = None  # what is merged next may begin before this client's position

    def snapshot(self, message: Json) -> None:
        part = message.get("part", [1, 1])
        if not self.waiting:
            self.chain = message["seq"] if part[0] == part[1] else None
            return
        if part[0] == 1:
            self._parts = []
        require(len(self._parts) == part[0] - 1, f"part {part} after {len(self._parts)} parts of {self}")
        self._parts.append(message)
        if part[0] < part[1]:
            return
        require(len({(p["seq"], p["source"]) for p in self._parts}) == 1, f"parts of different snapshots: {self}")
        if self.least is not None:
            source, least = self.least
            fresh = message["source"] != source or message["seq"] >= least
            require(fresh, f"snapshot at {message['seq']}, older than its ack at {least}: {self}")
        self.data = None
        for piece in self._parts:
            self._load(piece["data"], whole=True)
        self._parts = []
        self.pos, self.chain, self.source = message["seq"], message["seq"], message["source"]
        self.waiting = False
        self.state = (-1, "ok", None)
        self.snapshots += 1

    def update(self, message: Json, raw: bytes) -> bool:
        """Applies an update; False where it opens a hole of the client's own."""
        require(message["prev"] < message["seq"], f"prev is not below seq: {message}")
        require(not self.needs_gap, f"mode gap brought no gap before an update: {self}")
        require(message["seq"] > self.had, f"update at {message['seq']} after a resume at {self.had}: {self}")
        if self.chain is not None and not self.waiting and not self._parts:
            require(message["prev"] == self.chain, f"prev {message['prev']}, wanted {self.chain}: {self}")
        part = message.get("part", [1, 1])
        if self.waiting or message["seq"] <= self.pos:
            if part[0] == part[1] and not self.waiting:
                self.chain = message["seq"]
            return True
        if message["prev"] > self.pos:
            self.waiting = True
            return False
        if part[0] == 1:
            self._parts, self._raw_parts = [], []
        require(len(self._parts) == part[0] - 1, f"part {part} after {len(self._parts)} parts of {self}")
        self._parts.append(message)
        self._raw_parts.append(raw)
        if part[0] < part[1]:
            return True
        if message["prev"] == -1 and self.kind == "trades":
            self.data = None  # what a venue sent again at subscription stands in the first snapshot only
        for piece in self._parts:
            self._load(piece["data"], whole=False)
        self.applied += self._raw_parts
        self._parts = []
        self.pos = self.chain = message["seq"]
        return True

    def gap(self, message: Json) -> None:
        same = message["source"] == self.source
        if message["reason"] != "venue":
            self.had, self.least = -1, None  # it begins anew
        if same and message["reason"] == "venue" and message["seq"] == self.pos:
            self.gaps.append(message)
            return
        self.needs_gap = False
        self.chain = message["seq"] if message["lost"] else None
        if same and message["seq"] <= self.pos and message["reason"] != "seek":
            return
        self.gaps.append(message)
        self.pos, self.source = message["seq"], message["source"]
        self.waiting = self.waiting or not message["lost"]

    def told_state(self, message: Json) -> None:
        if message["source"] == self.source and message["seq"] >= self.state[0]:
            self.state = message["seq"], message["state"], message["reason"]

    def book(self) -> tuple[dict[str, str], dict[str, str]]:
        """Bids and asks, price text to size text."""
        require(self.kind == "book", f"no book: {self}")
        return self.data if self.data is not None else ({}, {})

    def holds(self) -> Any:
        """The state in a form that can be compared: of trades the last 100, of bars those that a snapshot keeps."""
        if self.kind == "trades":
            return (self.data or [])[-100:]
        if self.kind == "bars":
            bars = self.data or {}
            kept: list[Json] = []
            for interval in ("1m", "1s"):
                keys = sorted(key for key in bars if key[0] == interval)
                closed = [key for key in keys if bars[key]["closed"]]
                kept += [bars[key] for key in keys if key not in closed[:-5]]
            return kept
        return self.data

    def _load(self, data: Any, *, whole: bool) -> None:
        if self.kind == "book":
            sides = self.data = self.data if self.data is not None else ({}, {})
            for side, levels in zip(sides, (data["bids"], data["asks"]), strict=True):
                for price, size in levels:
                    if size == "0":
                        require(not whole, f"level of size 0 in a snapshot: {self}")
                        side.pop(price, None)
                    else:
                        side[price] = size
        elif self.kind == "trades":
            self.data = (self.data or []) + data
        elif self.kind == "bars":
            self.data = self.data if self.data is not None else {}
            for bar in data:
                self.data[bar["interval"], int(bar["open_time"])] = bar
        else:
            self.data = data


class Client:
    """A client over any number of connections, one at a time; `connect` begins the next one."""

    def __init__(self) -> None:
        self.channels: dict[tuple[str, str], Channel] = {}
        self.marks: dict[str, int] = {}
        self.lag_ms = 0
        """As the last heartbeat tells it."""
        self.sources: dict[str, Json] = {}
        self.welcome: Json | None = None
        self.goaway: Json | None = None
        self.errors: list[Json] = []
        self.answers: dict[str | int, Json] = {}
        self.caught_up: list[str | int] = []
        self.holes: list[Channel] = []
        self.messages = 0
        self._asked: list[Json] = []
        self._next_id = 0
        self._patterns: list[tuple[str, str]] = []
        self._views: dict[tuple[str, str], Parameters] = {}
        self._partly: set[tuple[str, str]] = set()
        self.awaited: dict[tuple[str, str], Parameters] = {}
        """What was asked for by name before it was known, and has not begun."""
        self._marks_here: dict[str, int] = {}
        self._waits_caught_up: dict[str | int, list[Channel]] = {}
        self._brings: dict[str | int, list[tuple[str, str]]] = {}
        """The patterns of requests that have a `caught_up`."""

    def connect(self) -> None:
        """A new connection: nothing is subscribed on it, and what the client holds stays."""
        self.welcome = self.goaway = None
        self._asked, self._patterns, self._marks_here, self._waits_caught_up = [], [], {}, {}
        self._views, self.awaited = {}, {}
        for channel in self.channels.values():
            channel.open = False
            channel.chain = None
            channel.needs_gap = False

    def ask(self, request: Json) -> bytes:
        """Gives a request an id (where it has none) and notes it; returns its text."""
        if "id" not in request:
            self._next_id += 1
            request = {**request, "id": self._next_id}
        self._asked.append(request)
        return json.dumps(request).encode()

    def resume(self, *, wait: bool = False) -> list[bytes]:
        """The requests that resume all channels after a drop, those that go on from the same place together."""
        more = {"wait": True} if wait else {}
        asked: dict[tuple[str, str], list[str]] = {}
        for channel in self.channels.values():
            asked.setdefault((channel.kind, json.dumps(self.start_of(channel))), []).append(channel.symbol)
        return [
            self.ask({"op": "subscribe", "channels": [kind], "symbols": symbols, "from": json.loads(start), **more})
            for (kind, start), symbols in asked.items()
        ]

    def start_of(self, channel: Channel) -> Any:
        """Where a channel goes on after a drop: from the marks that speak of it, else from its own position."""
        if channel.waiting or channel.source is None:
            return "snapshot"
        if channel.marked and channel.source in self.marks and self.marks[channel.source] >= channel.pos:
            return {"marks": self.marks}
        return {"marks": {channel.source: channel.pos}}

    def may_resume(self, channel: Channel) -> bool:
        """Whether a channel was in step when the marks were told."""
        return channel.marked and not channel.waiting and channel.source in self.marks

    def _catches_up(self, channel: Channel) -> bool:
        return any(channel in waiting for waiting in self._waits_caught_up.values())

    def channel(self, kind: str, symbol: str) -> Channel:
        """A channel that was begun."""
        return self.channels[kind, symbol]

    def receive(self, payload: bytes) -> None:
        """Takes the payload of one text frame."""
        raws = _RAWS.decode(payload)
        require(bool(raws), "an empty frame")
        for raw in raws:
            self.take(bytes(raw))

    def take(self, raw: bytes) -> None:
        """Takes one message."""
        message: Json = json.loads(raw)
        self.messages += 1
        kind = message["type"]
        if self.welcome is None:
            require(kind == "welcome", f"first message is {kind}, wanted welcome")
            self.welcome = message
            return
        if kind in ("snapshot", "update", "gap") or (kind == "state" and "channel" in message):
            self._data(kind, message, raw)
        elif kind == "state":
            self.sources[message["source"]] = message
        elif kind == "heartbeat":
            self.lag_ms = message["lag_ms"] or 0
            self._heartbeat(message["marks"])
        elif kind == "goaway":
            self.goaway = message
            self._heartbeat(message["marks"])
        elif kind == "joined":
            self._joined(message)
        elif kind == "caught_up":
            require(message["id"] in self._waits_caught_up, f"caught_up of nothing: {message}")
            del self._waits_caught_up[message["id"]]
            self.caught_up.append(message["id"])
        elif kind in ("ack", "error", "pong"):
            self._answer(kind, message)
        else:
            require(kind != "welcome", f"a second welcome: {message}")

    def _data(self, kind: str, message: Json, raw: bytes) -> None:
        channel = self.channels.get((message["channel"], message["symbol"]))
        require(channel is not None and channel.open, f"{kind} without ack or joined: {raw[:200]!r}")
        assert channel is not None
        if kind == "snapshot":
            channel.snapshot(message)
        elif kind == "update":
            if not channel.update(message, raw):
                self.holes.append(channel)
        elif kind == "gap":
            if message["reason"] == "seek":
                self._marks_here = {}
                if message["seq"] == -1:  # it had not begun there: `joined` tells when it does
                    self._patterns.append((message["channel"], message["symbol"]))
                    self._views.setdefault((message["channel"], message["symbol"]), channel.told)
            channel.gap(message)
        else:
            channel.told_state(message)

    def _heartbeat(self, marks: dict[str, int]) -> None:
        for source, seq in marks.items():
            before = self._marks_here.get(source, -1)
            require(seq >= before, f"mark of {source} goes back from {before} to {seq}")
            self._marks_here[source] = seq
        self.marks = dict(marks)
        for channel in self.channels.values():
            channel.marked = channel.open and not channel.waiting and not self._catches_up(channel)

    def _joined(self, message: Json) -> None:
        kind, symbol = message["channel"], message["symbol"]
        require(any(k == kind and _matches(p, symbol) for k, p in self._patterns), f"joined unasked: {message}")
        channel = self._begin(message)
        for id_, waiting in self._waits_caught_up.items():
            if any(k == kind and _matches(p, symbol) for k, p in self._brings[id_]):
                waiting.append(channel)
        self.awaited.pop((kind, symbol), None)
        told = _told(message)
        asked = [params for (k, pattern), params in self._views.items() if k == kind and _matches(pattern, symbol)]
        require(told in asked, f"joined tells {told}, asked for were {asked}: {message}")
        channel.told = told
        channel.see(told[0] or None, told[1] or None)
        # which of several requests brought it is not said, so one that asked for less is enough
        channel.partial |= any(k == kind and _matches(p, symbol) for k, p in self._partly)

    def _begin(self, told: Json) -> Channel:
        key = told["channel"], told["symbol"]
        channel = self.channels.setdefault(key, Channel(*key))
        channel.begin(told)
        return channel

    def _answer(self, kind: str, message: Json) -> None:
        if "id" not in message:
            self.errors.append(message)
            return
        require(bool(self._asked), f"answer to nothing: {message}")
        request = self._asked.pop(0)
        require(request["id"] == message["id"], f"answer to {message['id']}, wanted one to {request['id']}")
        self.answers[message["id"]] = message
        if kind == "error":
            self.errors.append(message)
        elif kind == "ack" and request["op"] == "subscribe":
            self._subscribed(request, message)
        elif kind == "ack" and request["op"] == "unsubscribe":
            self._unsubscribed(request, message)

    def _subscribed(self, request: Json, ack: Json) -> None:
        asked = [(k, s) for k in dict.fromkeys(request["channels"]) for s in dict.fromkeys(request["symbols"])]
        results = ack["results"]
        require([(r["channel"], r["symbol"]) for r in results] == asked, f"results {results}, wanted {asked}")
        require(ack["ok"] == all(r["ok"] for r in results), f"ok is wrong: {ack}")
        begun = []
        for result in results:
            if not result["ok"]:
                continue
            params = _asked(request, result["channel"])
            require(_told(result) == params, f"result tells {_told(result)}, asked for was {params}: {result}")
            if result.get("mode") == "awaited":
                require("source" not in result and "seq" not in result, f"awaited, and where it begins: {result}")
                require(request.get("wait") is True, f"awaited unasked: {result}")
                key = result["channel"], result["symbol"]
                self._patterns.append(key)
                self._views.pop(key, None)
                self._views[key] = params
                self.awaited[key] = params
                if request.get("from") == "live" or "last" in (request.get("from") or ()):
                    self._partly.add(key)
                if (known := self.channels.get(key)) is not None:
                    known.open = False  # `joined` tells how it goes on
            elif "mode" in result:
                self.awaited.pop((result["channel"], result["symbol"]), None)
                kept = "from" not in request and self._is_open(result) and result["mode"] != "snapshot"
                if not kept:
                    begun.append(self._begin(result))
                    begun[-1].partial |= result["mode"] == "snapshot" and "last" in (request.get("from") or ())
                    # it may have begun, without a state, when the connection was lost before that was told
                    begun[-1].partial |= result["mode"] == "resumed" and begun[-1].key in self._partly
                self.channels[result["channel"], result["symbol"]].told = params
                self.channels[result["channel"], result["symbol"]].see(*_view(request))
            else:
                self._patterns.append((result["channel"], result["symbol"]))
                # the last one that matches counts
                self._views.pop((result["channel"], result["symbol"]), None)
                self._views[result["channel"], result["symbol"]] = params
                if "last" in (request.get("from") or ()):
                    self._partly.add((result["channel"], result["symbol"]))
        if isinstance(request.get("from"), dict):
            self._waits_caught_up[request["id"]] = begun
            self._brings[request["id"]] = asked

    def _is_open(self, result: Json) -> bool:
        channel = self.channels.get((result["channel"], result["symbol"]))
        return channel is not None and channel.open

    def _unsubscribed(self, request: Json, ack: Json) -> None:
        for result in ack["results"]:
            if not result["ok"]:
                continue
            kind, symbol = result["channel"], result["symbol"]
            for (k, s), channel in self.channels.items():
                if k == kind and _matches(symbol, s):
                    channel.open = False
            for k, s in list(self.awaited):
                if k == kind and _matches(symbol, s):
                    del self.awaited[k, s]
        if "channels" not in request:
            self._patterns = []


def _view(request: Json) -> View:
    return request.get("every_ms") or None, request.get("depth") or None


def _asked(request: Json, kind: str) -> Parameters:
    """The parameters that a request gives a channel of a kind: only books have a depth."""
    depth = request.get("depth", 0) if kind == "book" else 0
    return request.get("every_ms", 0), depth, request.get("on_lag", "skip")


def _told(message: Json) -> Parameters:
    return message["every_ms"], message["depth"], message["on_lag"]


def _matches(pattern: str, symbol: str) -> bool:
    return pattern == symbol or (pattern.endswith("*") and symbol.startswith(pattern[:-1]))
