"""Any order of ticks, flushes, joins, resumes, lags and sources: every client ends with the truth.

The model is `tests.truth`: a plain list for each channel. Clients are strict (`tests.reference_client`): they check the
chain of `prev`, the order of answers, that nothing comes unasked, and that marks rise. At the end what each client
holds is what the market holds, and the bytes of every update are the market's.
"""

from __future__ import annotations

import json
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from feed.channels.distributor import Distributor
from feed.channels.hub import Hub, HubSettings
from feed.channels.subscriber import Subscriber
from feed.protocol.session import Session, SessionSettings
from feed.wire.model import KINDS
from tests.reference_client import Client, payloads
from tests.truth import TrueSource, some_data

SYMBOLS = ("X:A", "X:B", "Y:C", "X:D", "Y:E")
"""Of which the first two are there from the start."""
TARGETS = (*SYMBOLS, "X:*", "Y:*", "*")
WINDOWS = (2_000, 6_000, 100_000_000)


class Link:
    """A client, its session and its socket; `full`: the socket takes nothing."""

    def __init__(self) -> None:
        self.client = Client()
        self.session: Session | None = None
        self.full = False
        # what came over this connection: updates, and those that gaps told of, None where one did not tell
        self.updates = 0
        self.gapped: int | None = 0

    def take(self, frames: bytes) -> None:
        for payload in payloads(frames):
            self.client.receive(payload)
            for message in json.loads(payload):
                part, parts = message.get("part", (1, 1))
                if message["type"] == "update" and part == parts:
                    self.updates += 1
                if message["type"] == "gap" and message["reason"] in ("lag", "source", "evicted"):
                    known = self.gapped is not None and message["count"] is not None
                    self.gapped = (self.gapped or 0) + message["count"] if known else None


class Gateways(RuleBasedStateMachine):
    """Two gateways that read the same log, one of them late, and clients that go from one to the other."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1
        self.number = 0
        self.incarnation = 0
        self.busy = False
        """Whether something happens between the steps of requests."""
        self.follows = False
        """Whether clients are sent what they have while their requests are under way."""
        self.page = 64 * 1024
        self.market = TrueSource("x/0@0")
        self.records: list[tuple[str, tuple[Any, ...]]] = [("opened", (self.market.source, "", False))]
        self.read = [0, 0]
        self.links: list[Link] = []
        self.history: dict[tuple[str, str, str, int], list[bytes]] = {}

    @initialize(
        window=st.sampled_from(WINDOWS),
        clients=st.integers(1, 3),
        busy=st.booleans(),
        page=st.sampled_from([1, 3_000, 64 * 1024]),
        follows=st.booleans(),
    )
    def start(
        self, window: int, clients: int, busy: bool = False, page: int = 64 * 1024, follows: bool = False
    ) -> None:
        self.busy, self.page, self.follows = busy, page, follows
        self.distributors = [Distributor(Hub(HubSettings(resume_window_bytes_max=window))) for _ in range(2)]
        self.hubs = [distributor.hub for distributor in self.distributors]
        self.subscribers: list[list[Subscriber]] = [[], []]
        self.ticks_of([("X:A", list(KINDS)), ("X:B", [kind for kind in KINDS if kind != "book"])])
        self.book_state("X:B", "gap", with_update=False)  # all that is known of it
        self.read_all(0)
        for _ in range(clients):
            self.connect(0)
            self.subscribe(len(self.links) - 1, list(KINDS), ["X:A", "X:B", "Y:*"], None, wait=False)
            self.subscribe(len(self.links) - 1, ["trades", "book"], ["X:D"], None, wait=True)

    # ---- the log

    @rule(
        changes=st.lists(
            st.tuples(st.sampled_from(SYMBOLS), st.lists(st.sampled_from(KINDS), min_size=1, max_size=3, unique=True)),
            min_size=1,
            max_size=4,
        ),
        skip=st.integers(1, 3),
        hole=st.booleans(),
        parts=st.booleans(),
        split=st.booleans(),
        readers=st.sampled_from([(0,), (0,), (0, 1), (1,), ()]),
    )
    def ticks(
        self, changes: list[Any], skip: int, hole: bool, parts: bool, split: bool, readers: tuple[int, ...]
    ) -> None:
        self.ticks_of(changes, skip=skip, hole=hole, parts=parts, split=split)
        for which in readers:
            self.read_all(which)

    def ticks_of(
        self, changes: list[Any], *, skip: int = 1, hole: bool = False, parts: bool = False, split: bool = False
    ) -> None:
        for symbol, kinds in changes:
            self.number += 1
            made = [(kind, symbol, some_data(kind, self.number)) for kind in kinds]
            self.market.tick(made, skip=skip, hole=hole, parts=parts)
            for kind in kinds:
                truth = self.market.truth(kind, symbol)
                self.history[self.market.source, kind, symbol, truth.seq] = truth.updates[-1][2]
        self._write(split)

    def read_all(self, which: int) -> None:
        """A gateway reads to the end and tells its readers."""
        self.read_on(which, len(self.records))
        self._flush(self.distributors[which])

    @rule(symbol=st.sampled_from(SYMBOLS), reason=st.sampled_from(["gap", "checksum", None]), with_update=st.booleans())
    def book_state(self, symbol: str, reason: str | None, with_update: bool) -> None:
        """Also of a book that has had nothing else: a change came before any snapshot."""
        known = self.market.truths.get(("book", symbol))
        if reason is None and (known is None or known.seq == -1):
            return
        self.number += 1
        if with_update:
            self.market.tick([("book", symbol, some_data("book", self.number))])
            truth = self.market.truth("book", symbol)
            self.history[self.market.source, "book", symbol, truth.seq] = truth.updates[-1][2]
        self.market.stale(symbol, reason, skip=0 if with_update else 1)
        self._write(split=False)

    @rule(symbol=st.sampled_from(SYMBOLS))
    def keyframe(self, symbol: str) -> None:
        value = self.market.keyframe(symbol)
        if value != b"[]":
            self.records.append(("keyframe", (self.market.source, symbol, value)))

    @rule(carries=st.booleans(), dies=st.sampled_from([None, None, 0, 1, 3]))
    @precondition(lambda self: self.incarnation < 4)
    def incarnation_ends(self, carries: bool, dies: int | None = None) -> None:
        """`dies`: between both one began whose writer was gone after so many keyframes."""
        if dies is not None:
            self._begin_incarnation(carries=True, keyframes=dies)
        self._begin_incarnation(carries=carries)
        self._write(split=False)

    def _begin_incarnation(self, *, carries: bool, keyframes: int | None = None) -> None:
        before = self.market
        self.incarnation += 1
        self.market = TrueSource(f"x/0@{self.incarnation}", before.seq if carries else -1)
        self.records.append(("opened", (self.market.source, before.source, carries)))
        if carries:
            self.market.carry(before)
            values = [(symbol, self.market.keyframe(symbol)) for symbol in SYMBOLS]
            made = [(self.market.source, symbol, value) for symbol, value in values if value != b"[]"]
            self.records += [("keyframe", arguments) for arguments in made[:keyframes]]

    def _write(self, split: bool) -> None:
        for pos, last, value in self.market.records() if split else [self.market.record()]:
            self.records.append(("data", (self.market.source, pos, last, value, last + 1)))

    # ---- the gateways

    @rule(which=st.integers(0, 1), records=st.integers(1, 6))
    def read_on(self, which: int, records: int) -> None:
        for name, arguments in self.records[self.read[which] :][:records]:
            getattr(self.hubs[which], name)(*arguments)
            self.read[which] += 1

    @rule(which=st.integers(0, 1))
    def flush(self, which: int) -> None:
        self._flush(self.distributors[which])

    def _flush(self, distributor: Distributor) -> None:
        self.now += 1_000_000
        if not distributor.flush(self.now):
            return
        seen: set[int] = set()
        for buffer, readers in distributor.fan_out():
            _check_order(buffer)
            for reader in readers:
                assert id(reader) not in seen or distributor.hub.holders is None
                seen.add(id(reader))
                link = reader.owner
                assert isinstance(link, Link)
                if link.full:
                    reader.leave_behind()
                else:
                    link.take(buffer)
        for link in self.links:
            session = link.session
            if session is not None and session._hub is distributor.hub and not (link.full or session.under_way):
                self._catch_up(link, 10_000)

    # ---- the clients

    @rule(which=st.integers(0, 1))
    @precondition(lambda self: len(self.links) < 5)
    def connect(self, which: int) -> None:
        link = Link()
        self.links.append(link)
        self._open(link, which)

    def _open(self, link: Link, which: int) -> None:
        link.session = Session(
            self.distributors[which], link, SessionSettings(requests_burst=10_000, page_bytes=self.page)
        )
        self.subscribers[which].append(link.session.subscriber)
        link.full, link.updates, link.gapped = False, 0, 0
        link.take(link.session.open(self.now))

    def _ask(self, link: Link, text: bytes) -> None:
        assert link.session is not None
        if link.full:
            self.drain(self.links.index(link), 1 << 20)
        link.take(link.session.receive(text, self.now))
        self._go_on(link)
        self._catch_up(link, 1 << 20)

    def _go_on(self, link: Link) -> None:
        """A request is done in steps: the market and the other clients go on between them."""
        assert link.session is not None
        while link.session.under_way:
            if self.busy:
                self.ticks_of([(SYMBOLS[self.number % len(SYMBOLS)], ["trades", "book"])])
                for which in range(2):
                    self.read_all(which)
            if self.follows and link.session.due:
                link.take(link.session.pull(self.page, self.now))
            if self.follows and self.number % 5 == 0:
                link.take(link.session.heartbeat(self.now))
            link.take(link.session.wake(self.now))

    def _catch_up(self, link: Link, bytes_max: int) -> None:
        assert link.session is not None
        for _ in range(10_000):
            if link.session.subscriber.in_step:
                return
            link.take(link.session.pull(bytes_max, self.now))
        raise AssertionError("pull does not come to an end")

    def _link(self, index: int) -> Link | None:
        return self.links[index % len(self.links)] if self.links else None

    @rule(
        index=st.integers(0, 3),
        kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=3, unique=True),
        symbols=st.lists(st.sampled_from(TARGETS), min_size=1, max_size=2, unique=True),
        start=st.sampled_from([None, "snapshot", "live", {"last": 2}, "marks"]),
        wait=st.booleans(),
    )
    def subscribe(self, index: int, kinds: list[str], symbols: list[str], start: Any, wait: bool) -> None:
        if link := self._link(index):
            if start == "marks":
                # a client that has nothing of a channel has no marks that speak of it, where it has begun
                assert link.session is not None
                begun = {*link.session._hub.names, *(channel.symbol for channel in link.client.channels.values())}
                symbols = [name for name in symbols if "*" not in name and name not in begun] or ["X:D"]
                if begun & set(symbols):
                    return
                start = {"marks": link.client.marks}
            request = {"op": "subscribe", "channels": kinds, "symbols": symbols, "wait": wait}
            self._ask(link, link.client.ask(request if start is None else {**request, "from": start}))

    @rule(
        index=st.integers(0, 3),
        kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=3, unique=True),
        symbols=st.lists(st.sampled_from(TARGETS), min_size=1, max_size=2, unique=True),
        everything=st.booleans(),
    )
    def unsubscribe(self, index: int, kinds: list[str], symbols: list[str], everything: bool) -> None:
        if link := self._link(index):
            request: dict[str, Any] = {"op": "unsubscribe"}
            if not everything:
                request |= {"channels": kinds, "symbols": symbols}
            self._ask(link, link.client.ask(request))

    @rule(
        kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=6, unique=True),
        symbols=st.lists(st.sampled_from(["*", "X:*", "Y:*", "Z:*"]), min_size=1, max_size=2, unique=True),
        start=st.sampled_from([None, "snapshot", "live", {"last": 2}]),
        page=st.sampled_from([1, 2_000, 20_000]),
        others=st.integers(0, 3),
        ticks=st.booleans(),
    )
    def join_alike(self, kinds: list[str], symbols: list[str], start: Any, page: int, others: int, ticks: bool) -> None:
        """All clients join the same, and each takes it as its socket does: the first a page, the others later.

        `others` come meanwhile, who ask for something else and go.
        """
        for link in self.links:
            self._ask(link, link.client.ask({"op": "unsubscribe"}))
            request = {"op": "subscribe", "channels": kinds, "symbols": symbols}
            assert link.session is not None
            link.take(link.session.receive(link.client.ask(request if start is None else request | {"from": start}), 1))
            self._go_on(link)
            link.full = True
        if not self.links:
            return
        first = self.links[0].session
        assert first is not None
        self.links[0].take(first.pull(page, self.now))
        for number in range(others):
            self.other(first._hub, ["*", f"U{number}:*"])
        if ticks:
            self.ticks_of([(symbol, ["trades", "book"]) for symbol in ("X:A", "X:B")])
            for which in range(2):
                self.read_all(which)

    def other(self, hub: Hub, symbols: list[str]) -> None:
        """A client that asks for something, and goes."""
        link = Link()
        link.session = Session(self.distributors[self.hubs.index(hub)], link, SessionSettings())
        self.subscribers[self.hubs.index(hub)].append(link.session.subscriber)
        request = {"op": "subscribe", "id": 1, "channels": ["trades"], "symbols": symbols}
        link.session.receive(json.dumps(request).encode(), self.now)
        while link.session.under_way:
            link.session.wake(self.now)
        link.session.close()

    @rule(
        index=st.integers(0, 3), flushes=st.integers(0, 6), drains=st.booleans(), page=st.sampled_from([1, 300, 5_000])
    )
    def socket_fills(self, index: int, flushes: int, drains: bool, page: int) -> None:
        """Its socket is full for some flushes; perhaps the window moves past it."""
        if link := self._link(index):
            link.full = True
            for _ in range(flushes):
                self.ticks_of([("X:A", ["trades", "book"])])
                for which in range(2):
                    self.read_all(which)
            if drains:
                self.drain(index, page)

    @rule(index=st.integers(0, 3), page=st.sampled_from([1, 300, 5_000]))
    def drain(self, index: int, page: int) -> None:
        if link := self._link(index):
            link.full = False
            self._catch_up(link, page)

    @rule(index=st.integers(0, 3), pages=st.integers(1, 3))
    def drain_a_little(self, index: int, pages: int) -> None:
        link = self._link(index)
        if link is not None and link.full and link.session is not None:
            for _ in range(pages):
                link.take(link.session.pull(200, self.now))

    @rule(index=st.integers(0, 3))
    def heartbeat(self, index: int) -> None:
        link = self._link(index)
        if link is not None and link.session is not None:
            link.take(link.session.heartbeat(self.now))

    @rule(index=st.integers(0, 3), which=st.integers(0, 1), beats=st.booleans())
    def drop_and_resume(self, index: int, which: int, beats: bool) -> None:
        link = self._link(index)
        if link is None or link.session is None:
            return
        if beats:
            self.heartbeat(index)
        link.session.subscriber.close()
        client = link.client
        kept = {key: channel for key, channel in client.channels.items() if channel.open or key in client.awaited}
        client.channels = kept
        awaited, marks = [key for key in client.awaited if key not in kept], dict(client.marks)
        client.connect()
        self._open(link, which)
        for text in client.resume(wait=True):
            self._ask(link, text)
        for kind, symbol in awaited:
            request = {"op": "subscribe", "channels": [kind], "symbols": [symbol], "wait": True}
            self._ask(link, client.ask(request | ({"from": {"marks": marks}} if marks else {})))

    # ---- what must be so

    @invariant()
    def nobody_found_a_hole(self) -> None:
        for link in self.links:
            assert not link.client.holes, link.client.holes

    def teardown(self) -> None:
        if not hasattr(self, "hubs"):
            return
        for which in range(2):
            self.read_all(which)
            self._flush(self.distributors[which])
        for link in self.links:
            link.full = False
            self._catch_up(link, 4_000)
            self._check(link.client)
            assert link.session is not None
            self._check_sums(link, link.session.subscriber)
            link.session.subscriber.close()
        for hub, readers in zip(self.hubs, self.subscribers, strict=True):
            assert list(hub.sources) == [self.market.source]
            for name in ("delivered", "merged", "gapped", "left", "gaps"):
                assert getattr(hub.counts, name) == sum(getattr(reader.account(), name) for reader in readers), name
            assert hub.behind == 0
            assert not hub.awaiting
            assert len(hub.selections) == 0
            assert not hub.holders

    def _check_sums(self, link: Link, reader: Subscriber) -> None:
        """Every update of its channels was delivered or is in a gap, as the client counts them."""
        account = reader.account()
        assert account.pending == account.merged == 0, account
        # what came between the steps of a request that begins a channel anew, or ends it, is not sent
        assert self.busy or not account.left, account
        assert account.all == account.delivered + account.gapped + account.left, account
        assert account.delivered == link.updates, account
        assert link.gapped is None or account.gapped == link.gapped, account

    def _check(self, client: Client) -> None:
        for kind, symbol in client.awaited:
            truth = self.market.truths.get((kind, symbol))
            assert truth is None or not (truth.begun or truth.stale), f"{kind} of {symbol} has begun"
        for (kind, symbol), channel in client.channels.items():
            self._check_bytes(kind, symbol, channel)
            if not channel.open:
                continue
            truth = self.market.truths.get((kind, symbol))
            if truth is not None and truth.stale:
                assert not channel.waiting and channel.state[1] == "stale", f"{channel} is stale and was not told so"
            if truth is None or not truth.begun:
                assert channel.waiting or channel.pos == -1, channel
                assert channel.waiting or channel.state[1] == ("stale" if truth and truth.stale else "ok"), channel
                continue
            assert not channel.waiting, f"{channel} waits, market is at {truth.seq}"
            assert channel.source == self.market.source, channel
            assert channel.pos == truth.seq, f"{channel}, market is at {truth.seq}"
            assert channel.state[1] == ("stale" if truth.stale else "ok"), f"{channel} is told {channel.state}"
            whole = (
                (channel.snapshots or channel.from_first)
                and not channel.partial
                and not any(gap["lost"] for gap in channel.gaps if gap["reason"] != "venue")
            )
            if whole:
                held = channel.holds()
                wanted = json.loads(market_state(truth))
                if kind == "book":
                    wanted = (dict(wanted["bids"]), dict(wanted["asks"]))
                if kind == "trades":
                    held = held[-len(wanted) :] if len(wanted) < len(held) else held
                    wanted = wanted[-len(held) :]
                assert held == wanted, f"{channel}: {held} != {wanted}"

    def _check_bytes(self, kind: str, symbol: str, channel: Any) -> None:
        messages: dict[int, list[bytes]] = {}
        for raw in channel.applied:
            messages.setdefault(json.loads(raw)["seq"], []).append(raw)
        known = [
            set(map(bytes, wanted))
            for (_, k, s, seq), wanted in self.history.items()
            if (k, s) == (kind, symbol) and seq in messages
        ]
        every = set().union(*known) if known else set()
        for raws in messages.values():
            for raw in raws:
                assert raw in every, raw


def market_state(truth: Any) -> bytes:
    """The market's state as JSON."""
    import msgspec

    return msgspec.json.encode(truth.data())


def _check_order(buffer: bytes) -> None:
    """Promise 6: in one flush the channels of a symbol come in order."""
    last: dict[str, int] = {}
    for payload in payloads(buffer):
        for message in json.loads(payload):
            if message["type"] == "gap" and message["reason"] == "source":
                last.pop(message["symbol"], None)
            if message["type"] == "update":
                symbol = message["symbol"]
                assert message["seq"] >= last.get(symbol, -1), f"{symbol}: {message['seq']} after {last[symbol]}"
                last[symbol] = message["seq"]


def test_one_that_lags_hears_of_a_channel_that_began_and_began_anew() -> None:
    gateways = Gateways()
    gateways.start(window=2000, clients=1)
    gateways.socket_fills(index=0, flushes=0, drains=False, page=1)
    one = {"skip": 1, "hole": False, "parts": False, "readers": (0,)}
    gateways.ticks([("X:A", ["trades"])], split=False, **one)
    gateways.ticks([("Y:C", ["trades"])], split=True, **one)
    gateways.incarnation_ends(carries=False)
    gateways.ticks([("X:A", ["trades"])], split=False, **one)
    gateways.socket_fills(index=0, flushes=0, drains=True, page=1)
    gateways.ticks([("Y:C", ["trades"])], split=False, **one)
    gateways.teardown()


def test_a_silent_kind_that_begins_in_a_new_source_is_live() -> None:
    gateways = Gateways()
    gateways.start(window=6000, clients=3)
    one = {"skip": 1, "hole": False, "parts": False, "split": False}
    gateways.ticks([("Y:C", ["book", "status"])], readers=(0,), **one)
    gateways.subscribe(index=2, kinds=["bars"], symbols=["*", "Y:C"], start="live", wait=False)
    gateways.incarnation_ends(carries=False)
    gateways.ticks([("Y:C", ["status", "bars", "instruments"])], readers=(), **one)
    gateways.teardown()


def test_a_source_that_ended_before_its_keyframes_leaves_its_channels_to_the_next() -> None:
    gateways = Gateways()
    gateways.start(window=6000, clients=1)
    one = {"skip": 1, "hole": False, "parts": False, "split": False}
    gateways.incarnation_ends(carries=True, dies=1)
    gateways.read_all(0)
    gateways.ticks([("X:A", ["trades"])], readers=(0, 1), **one)
    hub = gateways.hubs[0]
    assert list(hub.sources) == [gateways.market.source]
    assert {channel.source.name for listing in hub.names.values() for channel in listing.channels if channel} == {
        gateways.market.source
    }
    gateways.teardown()


def test_a_mark_of_a_source_before_its_first_tick_is_no_position_in_it() -> None:
    gateways = Gateways()
    gateways.start(window=6000, clients=1)
    gateways.incarnation_ends(carries=True)
    gateways.incarnation_ends(carries=False)
    gateways.read_on(which=0, records=5)
    gateways.ticks([("Y:C", ["status"])], skip=1, hole=False, parts=False, split=False, readers=(1,))
    gateways.flush(which=0)
    gateways.drop_and_resume(index=0, which=1, beats=True)
    assert min(gateways.links[0].client.marks.values()) == -1
    gateways.teardown()


TestGateways = Gateways.TestCase
TestGateways.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
