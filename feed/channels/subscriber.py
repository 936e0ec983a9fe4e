"""A subscriber: one client's place in the log of updates.

Owns what is sent to it alone: joins, resumes, catching up after its socket was full, and the gap when the log has moved
on. Leaves subscribers in step to `selection`, what was asked for to `interest`, what a channel gives to `channel`.

A subscriber is *in step* when it has everything up to the last flush. Else it is a cursor (the flush up to which it was
sent its selection) and joins: channels that it does not have yet, each with where it goes on from. `pull` first
follows the flushes to the newest one, then does joins there, so that what is in step moves together and in order of
`seq`. All state is bounded by what the client asked for; nothing is rendered before there is room for it.

Longer than most modules: leaving step, catching up and joining change the same few fields, and only together keep them
right.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING, Final

from feed.channels.channel import Channel, Listing
from feed.channels.flush import NOWHERE, Birth, Flush, joined
from feed.channels.interest import Interest
from feed.channels.join import Join, JoinGroup, Move, Page, Rest, Start, arriving
from feed.channels.log import REBASE_SEQ
from feed.channels.marks import Hold, Holds, marks_at
from feed.channels.selection import Selection
from feed.channels.shared import BLOCK_SYMBOLS, OpeningBlock
from feed.channels.tally import Account, Tally, hidden_in, updates_in
from feed.wire.frames import message_frame
from feed.wire.message import frame
from feed.wire.model import NO_SEQ, CaughtUp, GapReason, Mode, OnLag

if TYPE_CHECKING:
    from feed.channels.hub import Hub


_IDS_A_LOOK: Final = 32


class Subscriber:
    """One client, in one hub."""

    def __init__(self, hub: Hub, owner: object) -> None:
        self.owner = owner
        """The hub's user's, handed back with each buffer."""
        self.in_step = True
        """It has everything up to the last flush, and gets the next one by its selection. Ended by a socket that is
        full (`leave_behind`) and by each change of what it has (`own`)."""
        self.too_slow = False
        """It lagged on a channel with `on_lag: close`: nothing more is sent, and its connection is to be closed."""
        self.closed = False
        """Its client is gone."""
        self.interest = Interest()
        """What its client has asked for; changed by requests, and as awaited channels arrive."""
        self.selection = Selection()
        """The channels that it is sent with flushes; shared with others (`Selection.shared`) from when it was in step
        until it changes."""
        self.holds: Holds = {}
        """Channels that resumed ahead of this gateway: their updates up to a mark are held back, as the client has
        them. Ended when the source has passed the mark."""
        self.joins: list[Join] = []
        """Channels on their way into its selection, in the order in which they are sent."""
        self.told: dict[str, int] = {}
        """The marks that were told last, by source: they never go back."""
        self._hub = hub
        self._cursor = hub.current
        """Out of step: the flush up to which it was sent its selection. In step: `NOWHERE`, but at the very first."""
        self._rest: Rest | None = None
        """A channel of which the first messages were sent, and the rest did not fit the page."""
        self._rebased: set[tuple[int, int]] = set()
        """Channels that the flush rendered last has rebased: their holds end when it is sent."""
        self._rendered = (0, 0)
        """What was rendered and is not counted as sent yet: updates, and those that were held back."""
        self._tally = Tally()
        """What it was sent, but for what it was sent in step since `_sent_before`."""
        self._sent_before = 0
        """What its selection had been sent (`Selection.sent`) when it came into step."""
        self._left_some = False
        """It has left channels, of whose updates some may be counted as pending: set right when it is in step."""

    # ---- in and out of step

    def leave_behind(self) -> None:
        """Takes it out of the fan-out: it did not get the flush that is being sent, and will pull it."""
        if self.in_step and not self.closed:
            self._step_out(self._hub.served)

    def close(self) -> None:
        """The client is gone."""
        if self.closed:
            return
        had, hidden = self._sums()
        if self.in_step:
            self._step_out(self._hub.current)
        else:
            self._leave(had, hidden)
        self._tally.end(had, hidden)
        self._hub.counts.merge(self._tally.merged)
        self.closed = True
        self.interest.clear()
        self.heed()
        self._hub.forget(self, self._cursor)
        self._cursor = NOWHERE
        if self.selection.shared:
            self._hub.selections.release(self.selection)
        self.selection = Selection()
        self.joins, self._rest = [], None
        self.holds.clear()

    def own(self) -> Selection:
        """The selection, for changing it: out of step and nobody else's."""
        assert not self._hub.sending, "a subscriber changes its channels while a flush is sent"
        if self.in_step:
            self._step_out(self._hub.current)
        shared = self.selection
        if shared.shared:
            self.selection = shared.copy()
            self._hub.selections.release(shared)
        return self.selection

    def _step_out(self, cursor: Flush) -> None:
        self.in_step = False
        self._cursor = cursor
        if self.selection.leave(self):
            self._tally.deliver(self.selection.sent - self._sent_before)
        self._hub.step_out(self, cursor)

    def _move_to(self, flush: Flush) -> None:
        self._hub.step_on(self, self._cursor, flush)
        self._cursor = flush

    def step_in(self) -> None:
        """Nothing is missing: from the next flush on it shares its buffer with all that have the same channels."""
        self._drop_holds()
        self._hub.step_in(self, self._cursor)
        self._cursor = NOWHERE
        self.in_step = True
        if self._left_some:
            self._leave(*self._sums())
        if self.holds:
            self._hub.hold(self)
        else:
            self._share()

    def _share(self) -> None:
        if not self.selection.shared:
            self.selection = self._hub.selections.share(self.selection, self.interest.pattern_interest())
        self.selection.enter(self)
        self._sent_before = self.selection.sent

    def ease(self) -> None:
        """In step, after a flush that it got: ends the holds that the sources have passed."""
        self._took()
        self._drop_holds()
        if not self.holds:
            self._hub.let_go(self)
            self._share()

    def empty(self) -> None:
        """Has nothing any more."""
        self.own()
        had, hidden = self._sums()
        self._tally.end(had, hidden)
        self._left_some = True
        self.selection = Selection()
        self.interest.clear()
        self.heed()
        self.holds.clear()
        self._rest = None
        for join in self.joins:
            join.pending.clear()

    # ---- channels

    def drop(self, id_: int, bit: int) -> None:
        """Takes a channel away, wherever it is."""
        own = self.own()
        mask = own.masks.get(id_, 0)
        begun = bool(mask & bit)
        if begun:
            own.set(id_, mask & ~bit)
        held = self.holds.pop((id_, bit), None) is not None
        # of a channel in step nothing is left unsent, so its sums need not be taken, which is a walk over all channels
        left_some = held or self._cursor is not self._hub.current
        for join in self.joins:
            if join.pending.kinds(id_) & bit:
                if join.lag and not join.pending.announced(id_) & bit:
                    begun = left_some = True
                join.pending.remove(id_, bit)
        if self._rest is not None and self._rest.channel.id == id_ and self._rest.channel.bit == bit:
            self._rest = None
            begun = left_some = True
        channel = self._hub.listings[id_].channels[bit.bit_length() - 1]
        if begun and channel is not None:
            self._tally.end(channel.updates, channel.hidden)
            self._left_some |= left_some

    def take_silent(self, id_: int, bit: int) -> None:
        """Has a channel that has not begun: its first update comes with a flush."""
        own = self.own()
        own.set(id_, own.masks.get(id_, 0) | bit)

    def wait_for(self, listing: Listing, bit: int) -> None:
        """Is told of a silent kind of a symbol that it is live: it has it from its first update on."""
        self.interest.add_silent(listing, bit)
        listing.promise(bit)
        self.take_silent(listing.id, bit)

    def await_(self, name: str, bit: int, on_lag: OnLag, start: Start | None) -> None:
        """Waits for a channel of a symbol that is not known yet; `start`: how it begins."""
        self.interest.await_(name, bit, on_lag, start)
        self.heed()

    def arrive(self, channel: Channel) -> bool:
        """A channel has begun that this subscriber may wait for; whether it is to be pulled."""
        interest, listing, bit = self.interest, channel.listing, channel.bit
        if self.closed or not interest.awaits(listing.name, bit):
            return False
        comes = interest.has_exact(listing, bit) or bool(interest.by_pattern(listing) & bit)
        start = interest.arrive(listing, bit)
        self.heed()
        if comes:
            return False  # as what a pattern brings, with the flush
        self.own()
        join = arriving(channel, self._hub.current, start)
        self.joins.append(join)
        self.enter(channel, join, announce=True)
        return True

    def take_over_awaited(self, other: Subscriber) -> None:
        """Waits for what another subscriber waits for, in its place."""
        for name, kinds in other.interest.awaited.items():
            for bit, told in kinds.items():
                self.interest.await_(name, bit, "close" if told.close else "skip", told.start)
        for name, kinds in list(other.interest.awaited.items()):
            for bit in list(kinds):
                other.interest.refuse(name, bit)
        self.heed()
        other.heed()

    def heed(self) -> None:
        """The hub is to call it when a symbol appears that it waits for, and for no other."""
        awaiting, awaited, turned = self._hub.awaiting, self.interest.awaited, self.interest.turned
        for name in turned:
            waiting = awaiting.get(name, {})
            if name in awaited:
                awaiting.setdefault(name, waiting)[self] = None
            elif waiting.pop(self, self) is None and not waiting:
                del awaiting[name]
        turned.clear()

    def enter(self, channel: Channel, join: Join, *, announce: bool) -> None:
        """Has a channel as soon as this join comes to it."""
        join.pending.add(channel.id, channel.bit, announce=announce)

    def pending(self, id_: int, bit: int) -> Join | None:
        """The join that a channel waits in, if any."""
        for join in self.joins:
            if join.pending.kinds(id_) & bit:
                return join
        rest = self._rest
        return rest.join if rest is not None and rest.channel.id == id_ and rest.channel.bit == bit else None

    def having(self, ids: Iterable[int]) -> list[int]:
        """Those of some symbols that it has anything of, in step or on the way."""
        masks, pendings = self.selection.masks, [join.pending for join in self.joins]
        rest = None if self._rest is None else self._rest.channel.id
        return [id_ for id_ in ids if id_ == rest or id_ in masks or any(id_ in pending for pending in pendings)]

    def knows(self, channel: Channel) -> bool:
        """Whether its client was told of a channel: not while a `joined` is still to tell of it."""
        # a selection is shared: while this subscriber lags, it may have channels that began after its cursor
        heard = self.in_step or channel.born <= self._cursor.number
        if heard and self.selection.masks.get(channel.id, 0) & channel.bit:
            return True
        join = self.pending(channel.id, channel.bit)
        return join is not None and not join.pending.announced(channel.id) & channel.bit

    def stands(self, channel: Channel) -> int:
        """The `seq` of the last update that it was sent, or will be with its selection, of a channel in it."""
        cursor = self._cursor
        if self.in_step or cursor is self._hub.current or channel.switched > cursor.number:
            return channel.position
        at = channel.standing_at(cursor)
        return channel.position if channel.missed(at) else channel.standing(at)[0]

    # ---- what it is sent alone

    @property
    def cursor(self) -> Flush:
        """Out of step: the flush up to which it was sent its selection."""
        return self._cursor

    def pull(self, bytes_max: int) -> bytes:
        """The next page of WebSocket frames: what it missed, then its joins.

        About `bytes_max` long: over it by at most one flush or one message. Shorter, or empty, where much had to be
        looked at: as long as it is not in step there is another page.
        """
        assert not self._hub.sending, "a subscriber pulls while a flush is sent"
        if self.in_step or self.closed or self.too_slow:
            return b""
        page = Page(bytes_max)
        if not self._hub.window.reaches(self._cursor) and not self._lose():
            return b""
        self._follow(page)
        while not page.full and self._cursor is self._hub.current:
            if self._rest is not None:
                self._give(self._rest, page)
            elif self.joins:
                self._join(self.joins[0], page)
            else:
                self.step_in()
                break
        return page.joined()

    @property
    def follows(self) -> bool:
        """Whether `follow` has something to give.

        Where a channel has begun or been rebased since, what its client is told of that depends on the answer to its
        request.
        """
        cursor, hub = self._cursor, self._hub
        if self.in_step or self.closed or self.too_slow or cursor is hub.current:
            return False
        return hub.rebased <= cursor.number and hub.window.reaches(cursor)

    def follow(self, bytes_max: int) -> bytes:
        """While a request of its client is under way: what it has already goes on, and nothing begins."""
        assert not self._hub.sending, "a subscriber follows while a flush is sent"
        page = Page(bytes_max)
        if self.follows:
            self._follow(page)
        return page.joined()

    def render(self, flush: Flush, page: Page) -> None:
        """Adds what its selection gets of one flush; subscribers with the same one that are behind share it.

        It may be rendered again, when it could not be sent: what it ends is ended afterwards.
        """
        selection = self.selection
        self._rebased = set()
        kept = None if self.holds else selection.kept.get(flush.number)
        held = 0
        if kept is None:
            own = Page(0)
            count, held = self._render(flush, own)
            kept = own.joined(), count
            if not self.holds:
                selection.keep(flush.number, *kept)
        page.add(kept[0])
        self._rendered = kept[1], held

    def _render(self, flush: Flush, page: Page) -> tuple[int, int]:
        """Returns how many updates it gets, and how many more there are that it has already."""
        hub, masks = self._hub, self.selection.masks
        for birth in flush.births:
            self._hear_of(birth, page)
        ids = masks if len(masks) < len(flush.changed) + len(flush.runs) else chain(flush.changed, flush.runs)
        count = held = 0
        for id_ in ids:
            mask = masks.get(id_, 0)
            if not mask:
                continue
            messages, updates = flush.said(id_, mask)
            if self.holds and messages:
                before = updates
                entries = [entry for entry in flush.entries(id_) if not self._held(id_, entry[1], entry[0])]
                messages = [entry[2] for entry in entries if entry[1] & mask]
                updates = sum(map(updates_in, messages))
                held += before - updates
            if messages:
                page.add(frame(messages))
                count += updates
        for source, message, _, _ in flush.notices:
            if source in self.selection.sources(hub.listings, hub.moves):
                page.add(frame([message]))
        return count, held

    def _took(self) -> None:
        """What was rendered is sent: counts it, and ends what it ended."""
        (count, held), self._rendered = self._rendered, (0, 0)
        self._tally.deliver(count)
        self._tally.begin(held, 0)
        self._hub.counts.deliver(count)
        self._end_rebased()

    def _hear_of(self, birth: Birth, page: Page) -> None:
        channel = birth.channel
        pattern_interest = self.interest.pattern_interest()
        if (
            pattern_interest is None
            or not pattern_interest.wants(channel)
            or self.pending(channel.id, channel.bit) is not None
        ):
            return
        if pattern_interest.announces(channel):
            page.add(frame([birth.joined(pattern_interest.on_lag(channel))]))
        if not self.selection.shared:
            self.selection.set(channel.id, self.selection.masks.get(channel.id, 0) | channel.bit)

    def _held(self, id_: int, bit: int, seq: int) -> bool:
        """Whether an entry is at or below the mark that its channel resumed from."""
        hold = self.holds.get((id_, bit))
        if hold is None or (id_, bit) in self._rebased:
            return False
        if seq == REBASE_SEQ:
            self._rebased.add((id_, bit))
            return False
        return seq <= hold[1]

    def _end_rebased(self) -> None:
        """Positions start anew for channels that were rebased in the flush that it was sent."""
        for key in self._rebased:
            self.holds.pop(key, None)
        self._rebased = set()

    def _drop_holds(self) -> None:
        current = self._hub.current
        for key in [key for key, hold in self.holds.items() if current.position(hold.source) >= hold.mark]:
            del self.holds[key]

    def doubt_holds(self) -> None:
        """Positions that turn out to be of none of this log: their channels begin anew. Not while a flush is sent."""
        hub = self._hub
        beyond = {key: hold.mark for key, hold in self.holds.items() if hold.beyond(hub.read(hold.source))}
        if not beyond:
            return
        marks = {self.holds[key].source.name: mark for key, mark in beyond.items()}
        join = Join(hub.current.number, marks=marks, beyond=frozenset(marks))
        for id_, bit in beyond:
            channel = hub.listings[id_].channels[bit.bit_length() - 1]
            self.drop(id_, bit)
            if channel is not None:
                self.enter(channel, join, announce=False)
        self.joins.append(join)

    def _follow(self, page: Page) -> None:
        window = self._hub.window
        while not page.full:
            following = window.after(self._cursor)
            if following is None:
                if self._cursor is not self._hub.current:
                    # all flushes after it are gone, and it missed none of them
                    self._move_to(self._hub.current)
                return
            page.look(1 + min(len(self.selection.masks), len(following.changed) + len(following.runs)) // _IDS_A_LOOK)
            self.render(following, page)
            self._took()
            self._move_to(following)

    def _lose(self) -> bool:
        """The window has moved past the cursor: each channel goes on from its log, or with a gap.

        False where it does not: a channel with `on_lag: close` has lost something.
        """
        hub, cursor = self._hub, self._cursor
        own = self.own()
        if not self.interest.never_closes:
            for id_, mask in own.masks.items():
                listing = hub.listings[id_]
                for channel in listing.channels:
                    if (
                        channel is not None
                        and channel.bit & mask
                        and self.interest.closes(listing, channel.bit)
                        and (channel.switched > cursor.number or channel.missed(channel.standing_at(cursor)))
                    ):
                        self.too_slow = True
                        return False
        join = Join(cursor.number, flush=cursor, lag=True)
        self._find_births(join)
        silent: dict[int, int] = {}
        for id_, mask in own.masks.items():
            begun = sum(channel.bit for channel in hub.listings[id_].channels if channel is not None)
            if mask & begun:
                join.pending.add(id_, mask & begun)
            if mask & ~begun:
                silent[id_] = mask & ~begun
        kept = Selection()
        for id_, mask in silent.items():
            kept.set(id_, mask)
        self.selection = kept
        self.joins.insert(0, join)
        self._move_to(hub.current)
        return True

    def _find_births(self, join: Join) -> None:
        """Channels that began in flushes that are gone: they are joined as a pattern's are."""
        pattern_interest = self.interest.pattern_interest()
        if pattern_interest is not None:
            for channel in pattern_interest.born_after(self._cursor.number, self._hub.listings):
                if self.pending(channel.id, channel.bit) is None:
                    join.pending.add(channel.id, channel.bit, announce=True)

    # ---- joins

    def _join(self, join: Join, page: Page) -> None:
        """Does the next symbol of a join, or ends it."""
        if not join.pending:
            self.joins.remove(join)
            tells = join.tells
            if isinstance(tells, JoinGroup):
                tells = tells.id if tells.ended() else None
            if tells is not None:
                page.add(message_frame(CaughtUp(tells)))
            return
        if join.shares is not None and self._join_block(join, page):
            return
        self._join_next(join, page)

    def _join_block(self, join: Join, page: Page) -> bool:
        """Does the next symbols of a join as many others do; False where they have to be done one by one."""
        assert join.shares is not None
        openings, way, changes = join.shares
        pending, hub = join.pending, self._hub
        index = pending.block(BLOCK_SYMBOLS)
        if index is None:
            return False
        if self.interest.changes != changes or self.holds or hub.openings(openings.plan) is not openings:
            # what was kept is not true for it, or nobody tells it any more what changes
            join.stop_sharing()
            return False
        block = openings.find(index, way, self._cursor.number, join.number)
        if block is None:
            return self._make_block(join, page, index)
        if any(source.notice is not None and source not in join.noticed for source in block.sources):
            return False
        if page.over(len(block.frames)):
            if page.size:
                page.close()
            return bool(page.size)
        page.look(1)
        page.add(block.frames)
        pending.pass_block(BLOCK_SYMBOLS)
        selection, tally = self.selection, self._tally
        for id_, mask in block.masks:
            selection.set(id_, selection.masks.get(id_, 0) | mask)
        tally.deliver(block.delivered)
        tally.end(block.settled, block.merged)
        hub.counts.deliver(block.delivered)
        hub.counts.join(block.joins)
        return True

    def _make_block(self, join: Join, page: Page, index: int) -> bool:
        """Does the next symbols one by one, and keeps what came of it for others, where it holds for them."""
        assert join.shares is not None
        if page.size > 3 * page.room:
            page.close()  # so that there is room for all of them
            return True
        openings, way, _ = join.shares
        hub, tally, number = self._hub, self._tally, join.number
        ids = join.pending.ids(index, BLOCK_SYMBOLS)
        kinds = {id_: join.pending.kinds(id_) for id_ in ids}
        channels = [c for id_ in ids for c in hub.listings[id_].channels if c is not None and c.bit & kinds[id_]]
        since = max([max(channel.born, channel.switched) for channel in channels], default=-1)
        alike = since <= number and not (way.live and not openings.unchanged(index, number))
        before = tally.delivered, tally.settled, tally.merged, hub.counts.joins, tally.gaps, len(join.noticed)
        own = Page(page.room)
        for _ in ids:
            self._join_next(join, own)
            if own.full or self._rest is not None:
                break
        page.look(len(channels))
        page.add(own.joined())
        after = tally.delivered, tally.settled, tally.merged, hub.counts.joins, tally.gaps, len(join.noticed)
        if alike and not (own.full or self._rest is not None or self.holds) and before[4:] == after[4:]:
            delivered, settled, merged, joins = [new - old for new, old in zip(after[:4], before[:4], strict=True)]
            masks = tuple((id_, mask) for id_ in ids if (mask := sum(c.bit for c in channels if c.id == id_)))
            sources = frozenset(channel.source for channel in channels)
            block = OpeningBlock(own.joined(), masks, sources, since, delivered, settled, merged, joins)
            openings.keep(index, way, block)
        return True

    def _join_next(self, join: Join, page: Page) -> None:
        """Does the next symbol of a join."""
        pending = join.pending
        id_ = pending.next()
        kinds, announced = pending.kinds(id_), pending.announced(id_)
        for channel in self._hub.listings[id_].channels:
            if channel is None or not channel.bit & kinds:
                continue
            pending.remove(id_, channel.bit)
            self._begin(channel, join, page, announce=bool(announced & channel.bit))
            if page.full:
                return

    def _begin(self, channel: Channel, join: Join, page: Page, *, announce: bool) -> None:
        hub = self._hub
        page.look(1)
        if join.exact and join.folds(channel):
            channel.folded(hub.rules)
        anew = announce and join.before(channel)
        if announce:
            if anew:
                mode, at = channel.begins, channel.joined_at(hub.rules)
            else:
                mode, at = self._told_of(channel, join)
            on_lag: OnLag = "close" if self.interest.closes(channel.listing, channel.bit) else "skip"
            page.add(frame([joined(channel, mode, channel.source.name, at, on_lag, hub.spec)]))
        messages, gapped = self._messages(channel, join, announced=announce, anew=anew)
        if (notice := join.notice(channel.source)) is not None:
            messages.append(notice)
        rest = Rest(channel, messages, self._cursor, join)
        begins = not join.lag or (announce and channel.born > join.number)
        self._count_missed(rest, begins=begins, gapped=gapped)
        self._give(rest, page)

    def _told_of(self, channel: Channel, join: Join) -> tuple[Mode, int]:
        """Mode and position of the `joined` of a channel that has been since the join was asked for."""
        mode = join.mode(channel)
        if mode == "snapshot":
            return mode, channel.joined_at(self._hub.rules)
        if mode == "live" and join.flush is not None:
            at = channel.standing_at(join.flush)
            return mode, at if channel.missed(at) else channel.standing(at)[0]
        return mode, join.goes_on_at(channel)

    # What a channel begins with when its turn has come: the first row that holds. `at` is where its client stands in it
    # (`Join.after`, and what a hold of it says). The mode is what the client is told, by an answer or a `joined`: that
    # is `Join.mode`, for rows 2 to 7. Beside each row stands what locks it, in tests/feed/channels.
    #
    #     holds                                        mode           is sent                        locked by
    #  1  rebased since the request was answered,      what it was    gap `source`, and what the     test_a_step_joins_
    #     and not announced                            then           new source has                 as_of_the_flush_...
    #  2  its mark lies beyond all that there is       gap            gap `seek`, its state          TestDoubt
    #  3  its mark is of a source that was replaced    gap            gap `source`, and what the     TestIncarnations
    #                                                                 new source has
    #  4  a past is broken there (`Join.broken`)       gap            gap of that reason, its        (A)
    #                                                                 state or what is left
    #  5  it has begun (anew) since the request, has   snapshot, or   its state and what came        TestJoin
    #     no state yet, or its client has no position  live: silent   after; `last`: so much of it
    #  6  its log does not reach back to `at`          gap, or live   gap `lag`, `evicted` or        TestLag
    #                                                                 `source`, and how it goes on
    #  7  its log does                                 resumed, or    what came after `at`; of a     TestResume
    #                                                  live           client ahead that is held      TestAhead
    #
    # (A): tests/feed/gateway/test_backfill_recorded.py. Rows 2 to 4 do not hold for a channel that was announced as one
    # that has begun since: nobody has had it. In row 7 a channel that is live has before it an empty book, where the
    # client may hold one of another depth, and a state that is not ok. A lag is a join whose positions are those of a
    # flush (`Join.flush`): row 1, 6 or 7.

    def _messages(self, channel: Channel, join: Join, *, announced: bool, anew: bool) -> tuple[list[bytes], bool]:
        """What it is sent of a channel whose turn has come, and whether the updates that are not in it are in a gap.

        `anew`: it was told of as one that has begun since.
        """
        hub = self._hub
        after = join.after(channel.source)
        if join.flush is not None and after is not None:
            after = channel.standing_at(join.flush)
        hold = self.holds.pop((channel.id, channel.bit), None)
        held = hold is not None and hold[0] is channel.source and after is not None
        if hold is not None and after is not None and held:
            after = max(after, hold[1])
        if channel.switched > join.number and not announced:
            # row 1: what the client was told is of another source
            at = NO_SEQ if after is None else after
            return channel.gap_after(at, "source", hub.rules, prev=None, first=None), True
        # rows 2 to 4
        if (beyond := join.beyond_of(channel)) is not None and not anew:
            return channel.elsewhere(beyond, hub.rules), False
        if (replaced := join.replaced_of(channel)) is not None and not anew and channel.born <= join.number:
            return channel.replaced(replaced.prev, hub.rules, complete=replaced.complete), False
        if (channel.id, channel.bit) in join.broken and not (anew or channel.waits) and channel.born <= join.number:
            return channel.broken(*join.broken[channel.id, channel.bit], hub.rules), False
        if after is None or channel.waits or anew:
            # row 5
            hub.counts.join()
            if join.cuts(channel):
                folded = channel.folded(hub.rules, join.last)
                return [] if folded is None else folded.messages, False
            return channel.fresh(hub.rules), False
        if channel.missed(after):
            # row 6; what a resume ahead holds back is no gap: how many are then is not known
            prev, first = join.standing(channel) if join.lag and not held else (None, None)
            reason: GapReason = "source" if after < channel.begun else "lag" if join.lag or join.live else "evicted"
            return channel.gap_after(after, reason, hub.rules, prev=prev, first=first), first is not None
        # row 7
        if after > self._cursor.position(channel.source):
            self.holds[channel.id, channel.bit] = Hold(channel.source, after, self._hub.read(channel.source).confirms)
        emptied = [channel.nothing()] if (channel.id, channel.bit) in join.emptied else []
        return emptied + (channel.doubt_at(after) if join.live else []) + channel.after(after), False

    def _give(self, rest: Rest, page: Page) -> None:
        """Sends a channel's messages as far as there is room; then the channel is in step, or goes on from there."""
        first = rest.next
        if group := rest.take(page):
            page.add(frame(group))
            delivered = sum(rest.counts[first : rest.next])
            self._tally.deliver(delivered)
            self._hub.counts.deliver(delivered)
        channel = rest.channel
        if not rest.done:
            self._rest = rest
            return
        self._rest = None
        if rest.flush is self._cursor:
            self.selection.set(channel.id, self.selection.masks.get(channel.id, 0) | channel.bit)
        else:
            rest.flush.note_standing(channel, rest.standing)
            more = Join(rest.flush.number, flush=rest.flush, lag=True)
            more.pending.add(channel.id, channel.bit)
            self.joins.insert(0, more)

    # ---- what it was sent, of all that there was

    def account(self) -> Account:
        """How it stands; walks over all its channels."""
        account = self._tally.account(*self._sums())
        if self in self.selection.subscribers:
            sent = self.selection.sent - self._sent_before
            account = account._replace(delivered=account.delivered + sent, pending=account.pending - sent)
        return account

    @property
    def gapped(self) -> int:
        """Updates that it was told of only in gaps."""
        return self._tally.gapped

    @property
    def channels(self) -> int:
        """How many channels it has begun."""
        return sum(mask.bit_count() for _, mask in self._begun())

    @property
    def merged(self) -> int:
        """Updates that were merged into later ones for it; walks over all its channels."""
        return self._tally.merged + self._sums()[1]

    def _sums(self) -> tuple[int, int]:
        """How many updates the channels have had that it has begun, and how many more a view has merged."""
        had = hidden = 0
        for channel in self._begun_channels():
            had += channel.updates
            hidden += channel.hidden
        return had, hidden

    def _begun_channels(self) -> Iterator[Channel]:
        for id_, mask in self._begun():
            for channel in self._hub.listings[id_].channels:
                if channel is not None and channel.bit & mask:
                    yield channel

    def _begun(self) -> Iterator[tuple[int, int]]:
        """Its channels, of whose updates it was sent some or will be."""
        yield from self.selection.masks.items()
        for join in self.joins:
            if join.lag:
                for id_, kinds in join.pending.items():
                    yield id_, kinds & ~join.pending.announced(id_)
        if self._rest is not None:
            yield self._rest.channel.id, self._rest.channel.bit

    def _count_missed(self, rest: Rest, *, begins: bool, gapped: bool) -> None:
        """A channel's turn has come: what it is not sent was before its beginning, or is in the gap that it is sent."""
        channel, hidden = rest.channel, 0
        missed = channel.updates - sum(rest.counts)
        if not begins:
            missed -= rest.join.standing(channel)[1]
        elif channel.hidden:
            hidden = channel.hidden - sum(map(hidden_in, rest.messages))
        lost = missed if gapped and not begins else 0
        if gapped:
            self._tally.gap(lost)
            self._hub.counts.gap(lost)
        # of what is held back the client has said that it has it
        self._tally.begin(missed - lost, hidden)

    def _leave(self, had: int, hidden: int) -> None:
        """What is still pending will never be sent; `had` and `hidden` are its sums."""
        pending = self._tally.account(had, hidden).pending
        self._tally.leave(pending)
        self._hub.counts.leave(pending)
        self._left_some = False

    def marks(self) -> dict[str, int]:
        """For each source: everything up to this position was sent, on the channels in step. Never goes back."""
        told = self.told
        marks = {n: seq for n, seq in self.standing().items() if seq >= told.get(n, NO_SEQ)}
        told.update(marks)
        return marks

    def standing(self) -> dict[str, int]:
        """Up to which position of each source everything was sent; `UNSAID` where nothing can be said of it."""
        hub = self._hub
        cursor = hub.served if self.in_step else self._cursor
        followed = hub.followed(self.interest.venues())
        return marks_at(hub, cursor, self.selection, self.joins, self._rest, followed)

    def place(self, listing: Listing, bit: int) -> Move | None:
        """Where its client stands in a channel; None where it has no state of it yet."""
        channel = listing.channels[bit.bit_length() - 1]
        if channel is None or channel.waits:
            return None
        cursor = self._hub.served if self.in_step else self._cursor
        if self.selection.masks.get(listing.id, 0) & bit:
            hold = self.holds.get((listing.id, bit))
            if hold is not None:
                return Move(hold[0].name, hold[1])
            if channel.switched > cursor.number:
                return None
            return Move(channel.source.name, channel.standing_at(cursor))
        join = self.pending(listing.id, bit)
        if join is None or (self._rest is not None and join is self._rest.join and channel is self._rest.channel):
            return None
        after = join.after(channel.source)
        if after is None or channel.switched > join.number or join.pending.announced(listing.id) & bit:
            return None
        return Move(channel.source.name, after if join.flush is None else channel.standing_at(join.flush))
