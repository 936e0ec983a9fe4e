"""Views: channels seen less often, or a book less deep; made for their first subscriber and shared by all of them.

Owns when a view's updates are due and what a view knows of each channel. A view is a hub of its own that is fed by the
hub of all raw channels instead of by records: its channels have logs, keyframes and positions as any have, so joining,
resuming, lagging and fanning out are what they are everywhere. What merged updates say is `conflation`'s.

A view stands at the position up to which all that it was given has been sent. So marks are held back below what is
still pending without further ado, and a subscriber that goes from the raw channel to a view (or back) goes on by
position.

(Over 400 lines: what a view owes, when that is due and who wants it is one state.)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from msgspec import UNSET

from feed.channels.channel import Channel, Listing
from feed.channels.conflation import Best, Merger, merger
from feed.channels.log import ChannelLog, Entry
from feed.channels.rebase import Rebase
from feed.channels.state import Body, Folded, body_of
from feed.channels.steps import STRIDE, Steps
from feed.wire.message import JOINT, bare
from feed.wire.model import NO_SEQ, Update
from feed.wire.parts import parted

if TYPE_CHECKING:
    from feed.channels.flush import Flush
    from feed.channels.hub import Hub
    from feed.channels.source import Source
    from feed.channels.subscriber import Subscriber
    from feed.channels.view_spec import ViewSpec

_NS_PER_MS: Final = 1_000_000
_SWEEP_NS: Final = 1_000 * _NS_PER_MS
_KNOWN_A_CHANNEL: Final = 8
_MADE_COST: Final = 4
_BYTES_A_CHANNEL: Final = 128
_ENTRIES_A_CHANNEL: Final = 8
"""What making a channel costs, in channels that are there: more where a book is read and ranked, by its bytes, and
where its log is taken apart."""
_SWEEP_NAMES: Final = 2_000
_SWEEP_SYMBOLS: Final = 500
"""So much is looked at in a piece of a look at which channels are interest: half a millisecond."""
_DONE: Final = object()
_TELL_BYTES: Final = 256 * 1024
"""About so much is told at a time: it is one write to each client, and a flush waits for it."""


class _Seen:
    """One channel in a view: what has come of the raw one (`raw`) and is not told yet.

    `chain`: the `seq` of the last update told. `_count`: raw updates since the last one told, of which `_merged` up to
    the last one that is seen.
    """

    __slots__ = ("_count", "_depth", "_gap", "_last", "_merged", "_merger", "came", "chain", "channel", "raw")

    def __init__(self, raw: Channel, channel: Channel, depth: int) -> None:
        self.raw = raw
        self.channel = channel
        self.chain = NO_SEQ
        self.came: list[Entry] = []
        self._depth = depth if raw.kind == "book" else 0
        self._merger: Merger | None = merger(raw.kind, self._depth)
        self._count = self._merged = 0
        self._last: tuple[Body, bytes] | None = None
        self._gap = b""

    def take_came(self) -> list[Entry]:
        """What has come; it is not pending any more."""
        came, self.came = self.came, []
        return came

    def told(self, entries: list[Entry]) -> Iterator[Entry]:
        """What the view says of these entries of the raw channel, none of them a rebase."""
        if self._merger is None:
            for seq, bit, message, _ in entries:
                if not message.startswith(b"state"):
                    self.chain = seq
                yield seq, bit, message, None
            return
        for seq, bit, message, _ in entries:
            state = b""
            for one in message.split(JOINT):
                if one.startswith(b"update"):
                    self._take(one)
                elif one.startswith(b"gap"):
                    yield from self._close(b"")
                    self._gap = one
                else:
                    state = one
            if state and self._last is not None and self._last[0].seq == seq:
                yield from self._close(state)
            elif state:
                yield from self._close(b"")
                yield seq, bit, state, None
        yield from self._close(b"")

    def start(self) -> int:
        """Begins with what the raw channel holds now. Returns as how many channels that counts."""
        raw, channel = self.raw, self.channel
        cost = _MADE_COST
        if self._depth and isinstance(self._merger, Best):
            if raw.base is not None:
                self.chain = raw.base.seq
                base = self._merger.start(raw.kind, raw.listing.name, raw.source.name, raw.base)
                tail = [entry for entry in raw.log if entry[0] > raw.base.covers]
                channel.copy_from(raw, base, ChannelLog(self.told(tail)), raw.base.covers)
                read = sum(map(len, raw.base.messages)) + sum([len(entry[2]) for entry in tail])
                cost += read // _BYTES_A_CHANNEL + raw.log.updates // _ENTRIES_A_CHANNEL
            else:
                channel.copy_from(raw, None, ChannelLog(), NO_SEQ)
        else:
            self.chain = raw.position
            channel.copy_from(raw, raw.base, raw.log.copy(), raw.log_from)
        return cost

    def rebased(self, rebase: Rebase) -> tuple[Folded | None, list[Entry]]:
        """What a rebase of the raw channel comes to here: the state to go on from, and the entries after it."""
        base, tail = rebase.base, rebase.tail
        self._count, self._last, self._gap = 0, None, b""
        if base is None:
            self.chain = NO_SEQ
            return None, []
        self.chain = base.seq
        if isinstance(self._merger, Best):
            base = self._merger.start(self.raw.kind, self.raw.listing.name, self.raw.source.name, base)
        else:
            self._merger = merger(self.raw.kind, self._depth)
        return base, [told for entry in tail for told in self.told([entry])]

    def _take(self, message: bytes) -> None:
        assert self._merger is not None
        body = body_of(message)
        seen = self._merger.take(body)
        if body.part is None or body.part[0] == body.part[1]:
            self._count += 1
        if seen:
            # all views of a book stand at updates that are seen, so one may go on where another one stopped
            self._last, self._merged = (body, message), self._count

    def _close(self, state: bytes) -> Iterator[Entry]:
        """One update for all that was taken; where it is just one that hides nothing, as it came."""
        if self._last is None or self._merger is None:
            return
        (body, message), self._last = self._last, None
        gap, self._gap = self._gap, b""
        data, count = self._merger.give(), self._merged
        said: list[bytes] = [gap] if gap else []
        if count == 1 and not self._depth and body.part is None:
            said.append(message)
        else:
            update = Update(
                self.raw.kind,
                self.raw.listing.name,
                self.chain,
                body.seq,
                body.ts_event,
                body.ts_recv or "",
                data,  # type: ignore[arg-type]  # a quote is passed on unread
                count=count if count > 1 else UNSET,
            )
            said += [bare(part) for part in parted(update)]
        self.chain, self._count = body.seq, self._count - count
        self.channel.hidden += count - 1
        if state:
            said.append(state)
        yield body.seq, self.raw.bit, JOINT.join(said), None


class View:
    """The channels that are seen in one way. `hub` is where its subscribers are."""

    def __init__(self, raw: Hub, spec: ViewSpec, hub: Hub) -> None:
        """`raw`: the hub that it is a view of."""
        self.spec = spec
        self.hub = hub
        self.subscribers: dict[Subscriber, None] = {}
        self.due_ns: int | None = None
        """When what is pending has to be told, by the clock of `flush`."""
        self.left = False
        """Whether a subscriber has left a channel since the last look at which are interest."""
        self.asking = 0
        """Requests under way that have asked for channels which their subscribers do not have yet."""
        self._needed: dict[tuple[str, int], int] = {}
        """Patterns all of whose channels are here, and how the raw hub's channels stood then (`moves`)."""
        self._raw = raw
        self._every_ns = spec.every_ms * _NS_PER_MS
        self._told_ns = 0
        self._swept_ns = 0
        self._sweeping: Iterator[None] | None = None
        self._asked: dict[int, int] | None = None
        """While it is looked which channels are interest: those by name, and all that are asked for meanwhile."""
        self._stood = 0
        """Of how many sources it has looked where they stand."""
        self._seen: dict[int, dict[int, _Seen]] = {}
        self._pending: dict[_Seen, None] = {}
        self._telling: dict[_Seen, None] = {}
        """What was due and is still to be told, some with each flush."""
        self._rebased_pending: set[str] = set()
        self._rebased_telling: set[str] = set()
        """Sources that channels have gone over to: of what is pending, and of what is being told."""
        for source in raw.sources.values():
            self._know(source)
        self._stand()
        hub.stand_at_once()

    # ---- subscribers

    def subscriber(self, owner: object) -> Subscriber:
        """A client's subscriber in this view; it has no channels yet."""
        subscriber = self.hub.subscriber(owner)
        self.subscribers[subscriber] = None
        return subscriber

    def give_back(self, subscriber: Subscriber) -> None:
        """A client's subscriber is closed."""
        del self.subscribers[subscriber]
        self.left = True

    def note_left(self) -> None:
        """A subscriber may have left channels: it is to be looked which are still wanted."""
        self.left = True

    @property
    def rebasing(self) -> set[str]:
        """Sources that channels have gone over to without their subscribers having been told yet."""
        return self._rebased_pending | self._rebased_telling

    # ---- channels

    def need(self, name: str, bit: int) -> int:
        """A subscriber is about to ask for a channel: it is made where the raw one is there. Returns as how many
        channels that counts."""
        raw = self._raw.names.get(name)
        if raw is None:
            return 1
        listing = self._listing(raw)
        self.hub.roster.add(listing)
        self._keep(listing.id, bit)
        channel, cost = raw.channels[bit.bit_length() - 1], 1
        if channel is not None and bit not in self._seen.get(raw.id, {}):
            seen = self._add(channel, listing)
            cost = seen.start()
            self.hub.adopt(seen.channel)
        if len(self.hub.intake.by_index) != self._stood:
            # of the sources that were known it stands where the last flush left it
            self._stand()
            if self.hub.intake.open.empty:
                self.hub.stand_at_once()
        return cost

    @contextmanager
    def asked(self) -> Iterator[None]:
        """While a request is under way: its subscriber does not have yet what it has asked for."""
        self.asking += 1
        try:
            yield
        finally:
            self.asking -= 1

    def need_all(self, prefix: str, bit: int) -> Steps[None]:
        """The same for all symbols of a pattern; `asking` keeps them until their subscriber has them."""
        raw, cost = self._raw, 0
        while not self.has_all(prefix, bit):
            moves, swept = raw.moves, self._swept_ns
            for at, channel in enumerate(raw.matching(prefix, bit.bit_length() - 1)):
                cost += at % _KNOWN_A_CHANNEL == 0
                if bit not in self._seen.get(channel.id, {}):
                    cost += self.need(channel.listing.name, bit)
                if cost >= STRIDE:
                    yield cost
                    cost = 0
            if (moves, swept) == (raw.moves, self._swept_ns):
                self._needed[prefix, bit] = moves

    def has_all(self, prefix: str, bit: int) -> bool:
        """Whether no channel has begun since all of a pattern were made."""
        return self._needed.get((prefix, bit)) == self._raw.moves

    def _listing(self, raw: Listing) -> Listing:
        return self.hub.intake.listing(raw.name, self._know(raw.owner))

    def _know(self, source: Source) -> Source:
        """The view's own of a source."""
        known = source.name in self.hub.sources
        own = self.hub.intake.source(source.name)
        if not known:
            own.begin_as(source)
        return own

    def _add(self, raw: Channel, listing: Listing) -> _Seen:
        channel = Channel(listing, raw.kind, self._know(raw.source))
        listing.enter(channel)
        seen = _Seen(raw, channel, self.spec.depth)
        self._seen.setdefault(raw.id, {})[raw.bit] = seen
        self._keep(listing.id, raw.bit)
        return seen

    def _keep(self, id_: int, bit: int) -> None:
        """Somebody asks for a channel, who may not have been asked whether he does."""
        if self._asked is not None:
            self._asked[id_] = self._asked.get(id_, 0) | bit

    # ---- time

    def flush(self, flush: Flush | None, now_ns: int) -> bool:
        """What the raw hub has committed (None: nothing); whether there is something to fan out."""
        owes = self._pending or self._telling or self.asking
        if self._sweeping is None and self.left and not owes and abs(now_ns - self._swept_ns) >= _SWEEP_NS:
            self._swept_ns = now_ns
            self._sweeping = self._sweep()
        if self._sweeping is not None and not owes and next(self._sweeping, _DONE) is _DONE:
            self._sweeping = None
        if flush is not None:
            self._hear(flush)
        if self._pending and self.due_ns is None:
            self.due_ns = max(now_ns, self._told_ns + self._every_ns)
        if self.due_ns is not None:
            # a clock that was set back delays nothing
            self.due_ns = min(self.due_ns, now_ns + self._every_ns)
            if now_ns >= self.due_ns:
                self._tell(now_ns)
        self._stand()
        return self.hub.flush(now_ns)

    def _hear(self, flush: Flush) -> None:
        """What the raw hub has committed, for the channels that are here and those that are wanted."""
        born: list[_Seen] = []
        for birth in flush.births:
            raw = birth.channel
            if self._wants(raw):
                seen = self._add(raw, self._listing(raw.listing))
                self.hub.intake.open.begin(seen.channel)
                born.append(seen)
        for notice in flush.notices:
            self.hub.take_notice(notice._replace(source=self._know(notice.source)))
        changed, own = flush.changed, self._seen
        for id_ in own.keys() & flush.runs.keys():
            for run in flush.runs[id_]:
                found = own[id_].get(run.bit)
                if found is not None:
                    found.came += run.entries()  # as below itself: for each run of each view
                    if found not in self._telling:
                        self._pending[found] = None
        for id_ in own.keys() & changed.keys():
            channels = own[id_]
            for entry in changed[id_]:
                found = channels.get(entry[1])
                if found is not None:
                    found.came.append(entry)
                    telling = found in self._telling
                    if entry[3] is not None:
                        (self._rebased_telling if telling else self._rebased_pending).add(entry[3].source.name)
                    if not telling:
                        self._pending[found] = None
        for seen in born:
            # a beginning is told at once: who asks for the channel in the meantime would find nothing
            self._pending.pop(seen, None)
            self._give(seen)
            seen.channel.make_at(seen.chain)
        if not self._pending:
            self._rebased_pending = set()

    def _wants(self, raw: Channel) -> bool:
        """Whether a channel that begins was asked for while silent, or by a pattern."""
        listing = self.hub.names.get(raw.listing.name)
        if raw.bit in self._seen.get(raw.id, {}):
            return False
        if listing is not None and raw.bit in listing.told:
            return True
        if any(
            subscriber.interest.awaits(raw.listing.name, raw.bit)
            for subscriber in self.hub.awaiting.get(raw.listing.name, ())
        ):
            return True
        if self.spec.depth and raw.kind != "book":
            return False
        return any(subscriber.interest.brings(raw.listing.venue, raw.bit) for subscriber in self.subscribers)

    def _tell(self, now_ns: int) -> None:
        """What is pending, in the order in which it came; what is too much for one flush comes with the next ones."""
        if not self._telling:
            self._telling, self._pending = self._pending, {}
            self._rebased_telling, self._rebased_pending = self._rebased_pending, set()
            self._told_ns = now_ns
        told = 0
        for seen in self._telling:
            self._give(seen)
            told += 1
            if self.hub.waiting_bytes >= _TELL_BYTES:
                break
        self._telling = dict.fromkeys([*self._telling][told:])
        self.due_ns = now_ns if self._telling else None
        if not self._telling:
            self._rebased_telling = set()

    def _give(self, seen: _Seen) -> None:
        """What is pending of a channel goes into the view's log."""
        intake, channel = self.hub.intake, seen.channel
        came = seen.take_came()
        group: list[Entry] = []
        for entry in came:
            rebase = entry[3]
            if rebase is None:
                group.append(entry)
                continue
            intake.give(channel, seen.told(group))
            group = []
            prev = seen.chain
            base, tail = seen.rebased(rebase)
            source = self._know(rebase.source)
            if channel.tail_of is not source:
                channel.make_at(NO_SEQ)
            channel.listing.move_to(source)
            reason, complete, floor = rebase.reason, rebase.complete, rebase.floor
            intake.rebase(Rebase(channel, source, base, tail, reason=reason, prev=prev, complete=complete, floor=floor))
        intake.give(channel, seen.told(group))

    def _stand(self) -> None:
        """Stands where the raw hub does, of each source of which nothing is pending."""
        raw, held = self._raw, set()
        if self.hub.intake.openings != raw.intake.openings or len(self.hub.sources) < len(raw.sources):
            self.hub.intake.follow_openings(raw.intake.openings)
            for source in raw.sources.values():
                self._know(source).stop(over=source.over)
        for seen in (*self._pending, *self._telling):
            held |= {seen.channel.source.name, seen.raw.source.name}
        for source in list(self.hub.sources.values()):
            known = raw.sources.get(source.name)
            if known is not None and source.name not in held:
                source.stand(raw.current.position(known))
            elif known is None:
                self.hub.intake.forget(source)
        self._stood = len(self.hub.intake.by_index)

    # ---- what nobody wants any more

    def _sweep(self) -> Iterator[None]:
        """Drops channels that no subscriber has, some at a time: what is not read costs nothing.

        What is asked for between two pieces stays (`_asked`), and no request is under way at any of them.
        """
        self.left = False
        exact: dict[int, int] = {}
        self._asked = exact
        looked = 0
        for subscriber in list(self.subscribers):
            for id_, mask in list(subscriber.interest.exact()):
                exact[id_] = exact.get(id_, 0) | mask
                looked += 1
            if looked >= _SWEEP_NAMES:
                yield
                looked = 0
        patterns = self._patterns()
        for at, (id_, channels) in enumerate(list(self._seen.items())):
            if at % _SWEEP_SYMBOLS == _SWEEP_SYMBOLS - 1:
                yield
                patterns = self._patterns()
            for bit, seen in list(channels.items()):
                listing = seen.channel.listing
                interest = exact.get(listing.id, 0) | patterns.get("", 0) | patterns.get(listing.venue, 0)
                if not interest & bit:
                    self._needed.clear()
                    del channels[bit]
                    self.hub.drop(seen.channel)
            if not channels:
                self._seen.pop(id_, None)
        self._asked = None

    def _patterns(self) -> dict[str, int]:
        """The kinds that anybody has a pattern of, by what it starts with."""
        found: dict[str, int] = {}
        for subscriber in self.subscribers:
            for rule in subscriber.interest.rules:
                if rule.add:
                    found[rule.prefix] = found.get(rule.prefix, 0) | rule.mask
        return found

    def close(self) -> None:
        """Nobody reads it any more; what it does in pieces holds it."""
        self._sweeping = None
        self.hub.close()
