"""How a log goes on: in the incarnation that wrote it, or in a new one, from which tick, and with what state.

Owns the reasons for a new incarnation, in order. A source's positions are offsets of its ticks, so they mean something
only as long as the ticks are those that were read: the last one is compared by its CRC, and where it is gone or another
one, the place is looked for up to which they still are the same (`Kept`). Leaves reading to `restore`, and who may
write at all to `rivals`.
"""

from __future__ import annotations

from typing import Final, NamedTuple, Protocol

from msgspec import Struct

from feed.feedlog.writer import Restored, Trace

_TRACES_COMPARED_MAX: Final = 64


class TakeUpPlan(Struct, frozen=True, kw_only=True):
    """How the log goes on: as `source` where that is not empty, else in a new incarnation that replaces `ends`.

    `pos`: the last tick that counts as read. `carries`: the old state goes on. `missing`: it is not known that nothing
    is missing in between. `gone`: ticks up to `pos`, or up to where the old one was, cannot be run again: what they did
    is taken from what the log says of them, and no book can be trusted.
    """

    source: str = ""
    ends: str = ""
    pos: int = -1
    carries: bool = False
    missing: bool = False
    gone: bool = False
    reason: str = ""


class Bounds(NamedTuple):
    """Begin and end of the tick log, and how many partitions the topic has."""

    begin: int
    end: int
    partitions: int


class Ticks(Protocol):
    """What can be asked of the tick log."""

    async def crc(self, seq: int) -> int | None:
        """The CRC-32C of a tick's value; None where there is no such tick."""
        ...

    async def first_of_epoch_after(self, epoch: int, begin: int, end: int) -> int | None:
        """The first offset in [begin, end) that was written in a later leader epoch; None where there is none."""
        ...


async def plan_for(restored: Restored, bounds: Bounds, version: str, ticks: Ticks, *, whole: bool) -> TakeUpPlan:
    """How the log goes on. `whole`: all that its last record asks for is still there; `version`: our own."""
    last = restored.last
    begin, end, partitions = bounds
    if last is None:
        return TakeUpPlan(pos=begin - 1, missing=begin > 0, reason="the log is empty")
    ends, pos = restored.reader.source, restored.reader.pos
    if pos + 1 < begin:
        gone = f"ticks {pos + 1} to {begin - 1} are gone"
        return TakeUpPlan(ends=ends, pos=begin - 1, carries=whole, missing=True, gone=True, reason=gone)
    if pos >= end or await _is_another(last.crc, last.last, pos, begin, ticks):
        kept = await _kept(restored, bounds, ticks)
        if kept is None:
            return TakeUpPlan(ends=ends, pos=begin - 1, missing=True, reason="the tick topic was made anew")
        cut = f"ticks {kept + 1} to {pos} were taken back"
        return TakeUpPlan(ends=ends, pos=kept, carries=whole, missing=True, gone=True, reason=cut)
    opening = restored.opening
    unbegun = opening is not None and opening.carries  # whoever opened it was gone before all of its state was written
    if opening is not None and unbegun and opening.missing:
        # and that cannot be made again from ticks
        return TakeUpPlan(ends=ends, pos=pos, carries=whole, missing=True, gone=True, reason=f"{ends} has not begun")
    if not whole:
        return TakeUpPlan(ends=ends, pos=pos, missing=True, reason=f"the log from {last.floor} on is gone")
    if last.since < pos and last.since + 1 < begin:
        gone = f"ticks from {last.since + 1} on are gone"
        return TakeUpPlan(ends=ends, pos=pos, carries=True, gone=True, reason=gone)
    if unbegun:
        # the one before it may have gone on until then
        return TakeUpPlan(ends=ends, pos=max(pos, restored.stood), carries=True, reason=f"{ends} has not begun")
    if last.partitions != partitions:
        return TakeUpPlan(ends=ends, pos=pos, carries=True, reason=f"{last.partitions} partitions became {partitions}")
    if last.version != version:
        return TakeUpPlan(ends=ends, pos=pos, carries=True, reason=f"version {last.version} became {version}")
    return TakeUpPlan(source=ends, pos=pos, carries=True)


async def _is_another(crc: int, seq: int, pos: int, begin: int, ticks: Ticks) -> bool:
    """Whether another tick lies where the last one was read, or none."""
    if crc == -1 or seq != pos or pos < begin:
        return False
    return await ticks.crc(pos) != crc


async def _kept(restored: Restored, bounds: Bounds, ticks: Ticks) -> int | None:
    """The last of the ticks that were read that is still there, with all before it; None: the topic is another one.

    A log that loses its end gets a new leader epoch, so where that begins is where it was cut. The ticks before it must
    be those that were read: the newest records tell by their CRCs.
    """
    last = restored.last
    assert last is not None
    cut = min(bounds.end, restored.reader.pos + 1)
    known = last.epoch != -1
    if known:
        began = await ticks.first_of_epoch_after(last.epoch, bounds.begin, cut)
        cut = cut if began is None else began
    same = await _newest_same(restored, bounds.begin, cut, ticks)
    if same is None:
        return None
    # without epochs nobody knows which of the ticks behind it are new: rather twice than never
    return cut - 1 if known else same.seq


async def _newest_same(restored: Restored, begin: int, cut: int, ticks: Ticks) -> Trace | None:
    compared = 0
    for trace in reversed(restored.traces):
        if not begin <= trace.seq < cut or trace.crc == -1:
            continue
        if await ticks.crc(trace.seq) == trace.crc:
            return trace
        compared += 1
        if compared >= _TRACES_COMPARED_MAX:
            return None
    return None
