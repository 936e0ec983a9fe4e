"""What a gateway gives to its clients: one hub of the raw channels, and the views of it, side by side.

Owns the cycle of all of them together. Records go into the raw `hub`; `flush` makes visible what came in, first there,
then in each view, which takes what the raw hub has committed; `fan_out` sends it to the subscribers in step; `due_ns`
says when a view has to be flushed though nothing came in. Leaves what a hub does by itself to `hub`, what a view says
and when to `views`, and who of a client's subscribers has a channel to `subscribers`.

A hub knows nothing of views: what only folds records (a recorder, a past that is read again) has a `Hub` and no
`Distributor`.

From `flush` to the end of `fan_out` (`sending`) no client may subscribe, unsubscribe or pull: it would get data after
its ack, or miss a flush. `close`, `leave_behind` and `marks` may be called. An assertion in each of those calls holds
it (`test_no_request_while_a_flush_is_sent`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from feed.channels.hub import Hub
from feed.channels.subscriber import Subscriber
from feed.channels.view_spec import ViewSpec
from feed.channels.views import View
from feed.wire.frames import Frames

_VIEW_WINDOW_PART: Final = 4
"""Of what is kept for resumes a view keeps so small a part: it says less."""


class Distributor:
    """A raw hub and its views. `hub` is the raw one, into which records go."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self._views: dict[ViewSpec, View] = {}
        self._flushed: list[Hub] = []
        """Hubs with a flush that is not sent yet."""
        self._called: list[Subscriber] = []

    @property
    def views(self) -> list[View]:
        """All views that there are."""
        return list(self._views.values())

    def view(self, spec: ViewSpec) -> View:
        """The view that sees channels so; made for its first subscriber, and gone when it has none at a flush."""
        found = self._views.get(spec)
        if found is None:
            found = self._views[spec] = View(self.hub, spec, self._hub_of(spec))
        return found

    def _hub_of(self, spec: ViewSpec) -> Hub:
        raw = self.hub
        bytes_max = raw.settings.resume_window_bytes_max // _VIEW_WINDOW_PART
        settings = msgspec.structs.replace(raw.settings, resume_window_bytes_max=bytes_max)
        return Hub(settings, spec=spec, counts=raw.counts, logs=raw.sources)

    # ---- flushes

    @property
    def waiting_bytes(self) -> int:
        """What came in since the last flush."""
        return self.hub.waiting_bytes

    @property
    def due_ns(self) -> int | None:
        """When `flush` is to be called though nothing came in, by the clock of its `now_ns`; None: no view waits."""
        return min((view.due_ns for view in self._views.values() if view.due_ns is not None), default=None)

    def flush(self, now_ns: int) -> bool:
        """Makes visible what came in; False when there is nothing for any subscriber."""
        changed = self.hub.flush(now_ns)
        for spec in [spec for spec, view in self._views.items() if not view.subscribers]:
            self._views.pop(spec).close()
        for view in self._views.values():
            view.flush(self.hub.current if changed else None, now_ns)
        self._flushed = [hub for hub in (self.hub, *[view.hub for view in self._views.values()]) if hub.sending]
        return bool(self._flushed)

    def fan_out(self) -> Iterator[tuple[Frames, Sequence[Subscriber]]]:
        """After `flush`: whole WebSocket frames, and the subscribers that get them, each subscriber at most once.

        A subscriber that cannot take its buffer is to `leave_behind`. A client with channels in several views has a
        subscriber in each.
        """
        for hub in self._flushed:
            yield from hub.fan_out()
            self._called += hub.called()
        self._flushed = []

    def called(self) -> list[Subscriber]:
        """After `fan_out`: subscribers that were in step and have something to pull now, symbols that they waited
        for."""
        called, self._called = self._called, []
        return called

    @property
    def sending(self) -> bool:
        """Whether a flush is not sent to all yet."""
        return bool(self._flushed)

    # ---- how it stands

    @property
    def behind(self) -> int:
        """How many subscribers are not in step."""
        return self.hub.behind + sum(view.hub.behind for view in self._views.values())
