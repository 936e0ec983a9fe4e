"""One request that begins in the past: its stages, from being asked until its channels are live.

Owns the stages, and which side brings it from one to the next. Leaves what a client is sent of the past to
`feed.backfill.past` and `feed.backfill.recorded`, the join to the live hub to `feed.backfill.cutover`, and what several
requests of one connection do to each other to `feed.backfill.requests`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from typing import TYPE_CHECKING, Final, Protocol

from feed.backfill.cutover import cut_over, tell_caught_up
from feed.backfill.past import LogCut, Past
from feed.channels.steps import STEP_CHANNELS

if TYPE_CHECKING:
    from feed.backfill.recorded import RecordedMessage, RecordedPart
    from feed.channels.hub import Hub
    from feed.channels.steps import Steps
    from feed.channels.subscriber import Subscriber
    from feed.channels.subscription import Ask, Limits
    from feed.errors import BadRequest
    from feed.wire.model import GapReason, Result

ATTEMPTS_MAX: Final = 40
"""So often the logs are read to their ends and memory does not hold what follows; then what lies between is taken for
lost."""


class Stage(Enum):
    """How far a request is; the table of `BackfillRequest` says what ends each."""

    FINDING = "finding"
    READY = "ready"
    RECORDED = "recorded"
    LOGS = "logs"
    AT_END = "at end"
    LIVE = "live"
    LEFT = "left"
    REFUSED = "refused"
    FAILED = "failed"


class BackfillRequest:
    """One request, from being asked until its channels are live.

    Two sides call it. The *connection* (`BackfillRequests`) does so in its client's turns. The *reader* is a task of
    whoever reads Kafka and recordings (`BackfillReader`); it has the connection's `pull` called after each of its
    calls. What ends each stage:

    ========  ==========================================  ===========================  ==========  ==============
    stage     what happens                                ended by                     called by   next stage
    ========  ==========================================  ===========================  ==========  ==============
    FINDING   the place in each log is looked for, and    `ready`                      reader      READY
              the log is read up to its cut               `fail`                       reader      REFUSED
    READY     the client can be answered                  `begin`                      connection  RECORDED if any
                                                                                                   was found, else
                                                                                                   LOGS
                                                          `fail`                       reader      REFUSED
    RECORDED  the recorded part is sent                   `pull`, the last of it sent  connection  LOGS
                                                          `fail`                       reader      FAILED
                                                          `leave`                      connection  LEFT
    LOGS      what the logs hold after the cut is read    `at_end`                     reader      AT_END
              and sent, until all were read to their      `fail`                       reader      FAILED
              ends                                        `leave`                      connection  LEFT
    AT_END    its channels are compared with the live     `pull`, they meet            connection  LIVE
              hub, some in each `pull`                    `pull`, they do not meet     connection  LOGS
                                                          `fail`                       reader      FAILED
                                                          `leave`                      connection  LEFT
    LIVE      over: the live hub sends all that follows,
              `caught_up` first
    LEFT      over: nobody wants its channels any more
    REFUSED   over: `refusal` is the answer
    FAILED    over: `pull` raises what happened, which
              ends the connection
    ========  ==========================================  ===========================  ==========  ==============

    Of any stage `close` makes LEFT: the connection is gone.

    In FINDING the reader opens a log of `past` for each of `cuts`, and says which sources `begin_late`. From RECORDED
    on it waits until it is asked for `more`, which `pull` does when the page before was sent; then it gives one page:
    while `wants_recorded`, by `give_recorded` or `end_recorded`, and after that by `give`, or `at_end` where the logs
    have no more for now. So what a client does not read is not read for it.
    """

    def __init__(self, ask: Ask, cuts: Mapping[str, LogCut], hub: Hub, subscriber: Subscriber) -> None:
        """`cuts`: by partition (`kraken/0`), where its log is cut. `hub`, `subscriber`: the live ones."""
        self.ask = ask
        self.cuts = cuts
        self.past = Past(ask.symbols, hub.settings)
        self._hub = hub
        self._subscriber = subscriber
        self._stage = Stage.FINDING
        self._recorded: RecordedPart | None = None
        self._late: dict[str, GapReason] = {}
        self._refusal: BadRequest | None = None
        self._error: Exception | None = None
        self._attempts = 0
        """How often it was at the end of its logs."""
        self._cutting: Steps[bool] | None = None
        """What is under way of the comparison with the live hub."""
        self._more: Callable[[], None] = _nothing
        self._stop: Callable[[], object] = _nothing

    @property
    def stage(self) -> Stage:
        """How far it is."""
        return self._stage

    @property
    def owner(self) -> object:
        """Whose `pull` is called after the reader's calls: the owner of the live subscriber."""
        return self._subscriber.owner

    @property
    def refusal(self) -> BadRequest | None:
        """The answer, where it is refused."""
        return self._refusal

    @property
    def answerable(self) -> bool:
        """Whether the client's answer is known, or can be worked out by `begin`."""
        return self._stage in (Stage.READY, Stage.REFUSED)

    @property
    def over(self) -> bool:
        """Whether nothing is sent for it any more."""
        return self._stage in (Stage.LIVE, Stage.LEFT, Stage.REFUSED)

    # ---- called by the reader

    def read_by(self, more: Callable[[], None], stop: Callable[[], object]) -> None:
        """A reader has begun: `more` asks it for a page, `stop` ends it."""
        self._more, self._stop = more, stop

    def begin_late(self, source: str, reason: GapReason) -> None:
        """Of a source too little is left: its channels begin with a gap of this reason, later than was asked for."""
        self._late[source] = reason

    def ready(self, recorded: RecordedPart | None = None) -> None:
        """Every log was read up to its cut. `recorded`: what is sent first; the cuts are then where that ends."""
        self._recorded = recorded
        self._stage = Stage.READY

    def fail(self, error: Exception, refusal: BadRequest) -> None:
        """It cannot be read. `refusal`: what the client is answered, if it waits for an answer still."""
        if self._stage in (Stage.FINDING, Stage.READY):
            self._refusal, self._stage = refusal, Stage.REFUSED
        else:
            self._error, self._stage = error, Stage.FAILED

    @property
    def wants_recorded(self) -> bool:
        """Whether the next page is one of the recorded part."""
        return self._recorded is not None and not self._recorded.ended

    def give_recorded(self, messages: list[RecordedMessage]) -> None:
        """The next recorded messages, in order."""
        assert self._recorded is not None
        self._recorded.give(messages)

    def end_recorded(self, *, broke_off: bool = False) -> None:
        """There is no more of the recorded part; `broke_off`: what follows of it cannot be read."""
        assert self._recorded is not None
        self._recorded.end(broke_off=broke_off)

    def at_end(self) -> None:
        """Every log was read to its end, and all of it was sent."""
        self._stage = Stage.AT_END

    # ---- called by the connection

    def begin(self, limits: Limits) -> Steps[list[Result]]:
        """Subscribes as of the cuts: the steps to the answer."""
        recorded = self._recorded
        # before the first step: what fails between two of them is no answer any more
        self._stage = Stage.LOGS if recorded is None else Stage.RECORDED
        return (yield from self.past.begin(self.ask, limits, self._late, recorded))

    @property
    def due(self) -> bool:
        """Whether `pull` has something to send or to do."""
        match self._stage:
            case Stage.RECORDED:
                assert self._recorded is not None
                return self._recorded.due or self._recorded.done
            case Stage.LOGS:
                return self.past.due
            case Stage.AT_END | Stage.FAILED:
                return True
        return False

    def pull(self, bytes_max: int) -> bytes:
        """The next page. Where all was sent the reader is asked for more, or the channels are joined to the live hub.

        Raises:
            Exception: what it failed of.
        """
        if self._error is not None:
            raise self._error
        page = self._page(bytes_max)
        if self._stage is Stage.AT_END and not self.past.due:
            self._cut_over()
        if not self.due and not self.over:
            self._more()
        return page

    def leave(self) -> None:
        """Nobody wants its channels any more: the client hears `caught_up`, so that it need not wait."""
        self._end(Stage.LEFT)
        tell_caught_up(self._hub, self._subscriber, self.ask.id)

    def close(self) -> None:
        """The connection is gone."""
        self._end(Stage.LEFT)

    # ---- inside

    def _page(self, bytes_max: int) -> bytes:
        recorded = self._recorded
        if recorded is None:
            return self.past.pull(bytes_max) if self.past.due else b""
        page = recorded.pull(bytes_max)
        if recorded.done:
            self.past.go_on_after(recorded)
            self._recorded, self._stage = None, Stage.LOGS
        return page

    def _cut_over(self) -> None:
        """Some steps of it."""
        if self._cutting is None:
            self._attempts += 1
            forced = self._attempts > ATTEMPTS_MAX
            self._cutting = cut_over(self.past, self._hub, self._subscriber, self.ask.id, forced=forced)
        room = STEP_CHANNELS
        try:
            while room > 0:
                room -= next(self._cutting)
        except StopIteration as ended:
            self._cutting = None
            if ended.value:
                self._end(Stage.LIVE)
            else:
                self._stage = Stage.LOGS

    def _end(self, stage: Stage) -> None:
        self._stage, self._cutting = stage, None
        self._stop()


class BackfillReader(Protocol):
    """What reads the past for requests: Kafka and recordings, in a task for each."""

    def start(self, request: BackfillRequest) -> None:
        """Begins with a request in FINDING; does not block."""
        ...


def _nothing() -> None:
    """Nothing is read."""
