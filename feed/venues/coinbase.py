"""Coinbase: which of its two sockets a frame comes from.

Owns the machine of one product. It reads each frame as the table of its socket says, `coinbase_exchange` or
`coinbase_advanced`, and hands it to what knows that socket. Both tell the same `coinbase_product`, so a collector may
change from one socket to the other, or write both. Symbols are alike in both: `BTC-USD`.

Frames of other kinds (heartbeats, candles, the full channel's orders, answers) are read and mean nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from msgspec import Raw, Struct

from feed.errors import BadTick, shown
from feed.venues import coinbase_advanced, coinbase_exchange
from feed.venues.coinbase_advanced import CoinbaseAdvanced
from feed.venues.coinbase_exchange import CoinbaseExchange
from feed.venues.coinbase_frames import HEAD, Item, OneProduct, products_of
from feed.venues.coinbase_product import ProductState
from feed.venues.legible import IN_DOUBT, leading
from feed.venues.times import iso_ns
from feed.wire.frames import UNREADABLE

if TYPE_CHECKING:
    from feed.venues.symbol import Symbol, Tick
    from feed.wire.model import Action, Kind

ONE: Final = coinbase_exchange.ONE
SEVERAL: Final = {**coinbase_exchange.SEVERAL, **coinbase_advanced.SEVERAL}
"""The kinds of frames that mean something, of both sockets."""
_KIND_CHARS_MAX: Final = 40
_STARTS: Final = {
    (
        f'{{"channel":"{kind.removeprefix("channel ")}' if kind.startswith("channel ") else f'{{"type":"{kind}'
    ).encode(): kind
    for kind in (*ONE, *SEVERAL)
}
"""How frames of these kinds usually begin."""


class CoinbaseEntry(Struct, gc=False, frozen=True):
    """What a frame says of one product: the whole frame where it is of one, else its items, unread."""

    kind: str
    frame: bytes
    time: str | None = None
    items: list[tuple[str, Raw]] = []


class Coinbase:
    """What reads the ticks of one product."""

    def __init__(self, symbol: Symbol) -> None:
        self._symbol = symbol
        self._name = symbol.venue_symbol
        self._product = ProductState(symbol)
        exchange, advanced = CoinbaseExchange(self._product), CoinbaseAdvanced(self._product)
        self._one = exchange.one
        self._several = {**exchange.several, **advanced.several}

    def apply(self, tick: Tick) -> None:
        """Tells the symbol what the tick meant; raises as `Machine.apply` says."""
        frame = tick.value
        try:
            kind = kind_of(frame)
            if kind in ONE:
                self._apply_one(kind, frame, tick.ts_recv)
                return
            several = SEVERAL.get(kind)
            if several is None:
                products_of(HEAD(frame))
                return
        except UNREADABLE as error:
            raise BadTick(f"frame cannot be read: {error}") from error
        try:
            found = several.all(frame)
        except UNREADABLE:
            entry = _entries(frame).get(self._name)
            if entry is not None:
                self.apply_entry(tick, entry)
        else:
            items = several.own(found, self._name)
            if items:
                self._apply_several(kind, found.timestamp, items)

    def apply_entry(self, tick: Tick, entry: CoinbaseEntry) -> None:
        """What a frame says of this product, as `entries` gave it; raises as `Machine.apply` says."""
        if entry.kind in ONE:
            self._apply_one(entry.kind, entry.frame, tick.ts_recv)
            return
        several = SEVERAL[entry.kind]
        try:
            items = [(type_, several.one(raw)) for type_, raw in entry.items]
        except UNREADABLE as error:
            raise self._symbol.spoiled(several.channel, error) from error
        self._apply_several(entry.kind, entry.time, items)

    def refused(self, tick: Tick) -> None:
        """Puts in doubt what the tick may have held."""
        self._symbol.in_doubt(*_legible(tick.value))

    def save(self) -> bytes:
        """The private state: positions, and whether the product trades."""
        return self._product.save()

    def load(self, saved: bytes) -> None:
        """Takes up a private state."""
        self._product.load(saved)

    def _apply_one(self, kind: str, frame: bytes, ts_recv: int) -> None:
        one = ONE[kind]
        try:
            found = one.decode(frame)
        except UNREADABLE as error:
            self._must_be_mine(HEAD(frame).product_id)
            found = self._longer(one, frame, error)
        self._must_be_mine(found.product_id)
        try:
            self._one[kind](found, ts_recv)
        except BadTick as error:
            raise self._symbol.spoiled(one.channel, error) from error

    def _apply_several(self, kind: str, time: str | None, items: list[Item]) -> None:
        try:
            self._several[kind](items, iso_ns(time))
        except BadTick as error:
            raise self._symbol.spoiled(SEVERAL[kind].channel, error) from error

    def _longer(self, one: OneProduct, frame: bytes, why: Exception) -> Any:
        """A frame whose rows are longer than is known."""
        if one.longer is None:
            raise self._symbol.spoiled(one.channel, why) from why
        try:
            return one.longer(frame)
        except UNREADABLE:
            raise self._symbol.spoiled(one.channel, why) from why

    def _must_be_mine(self, product_id: str) -> None:
        if product_id != self._name:
            raise BadTick(f"frame of {shown(product_id)}, wanted {self._name}")


def keys(frame: bytes) -> list[str]:
    """The products that a frame speaks of; none for heartbeats and answers to the client.

    Raises:
        BadTick: it cannot be read, or is neither Exchange's nor Advanced Trade's.
    """
    try:
        return products_of(HEAD(frame))
    except UNREADABLE as error:
        raise BadTick(f"frame cannot be read: {error}") from error


def entries(tick: Tick) -> dict[str, CoinbaseEntry]:
    """What a frame says of each product; raises `BadTick`."""
    return _entries(tick.value)


def venue_status(frame: bytes) -> tuple[Action, str | None] | None:
    """Nothing: Coinbase does not say what becomes of all products at once.

    Raises:
        BadTick: the frame cannot be read, or is neither Exchange's nor Advanced Trade's.
    """
    keys(frame)
    return None


def kind_of(frame: bytes) -> str:
    """The kind of a frame: of its first bytes where they say it, else by reading it; raises one of `UNREADABLE`."""
    known = _STARTS.get(frame[: frame.find(b'",', 0, _KIND_CHARS_MAX)])
    return HEAD(frame).kind if known is None else known


def _entries(frame: bytes) -> dict[str, CoinbaseEntry]:
    """What a frame says of each product; nothing where it is of a kind that means nothing.

    Raises:
        BadTick: it cannot be read, or an item does not name its product.
    """
    try:
        head = HEAD(frame)
        kind = head.kind
        if kind in ONE:
            return {head.product_id: CoinbaseEntry(kind, frame)} if head.product_id else {}
        if kind not in SEVERAL:
            products_of(head)
            return {}
        time, items = SEVERAL[kind].raw(frame)
        found: dict[str, CoinbaseEntry] = {}
        for name, type_, raw in items:
            if not name:
                raise BadTick(f"entry {bytes(raw)[:_KIND_CHARS_MAX]!r} without a product")
            entry = found.get(name)
            if entry is None:
                entry = found[name] = CoinbaseEntry(kind, frame, time, [])
            entry.items.append((type_, raw))
        return found
    except UNREADABLE as error:
        raise BadTick(f"frame cannot be read: {error}") from error


def _legible(frame: bytes) -> Sequence[Kind]:
    """The channels that a refused frame may be of: `IN_DOUBT` where nothing says what it is."""
    try:
        kind = kind_of(frame)
    except UNREADABLE:
        said = leading(frame)
        kind = f"channel {said['channel']}" if said.get("channel") else said.get("type", "")
    if not kind:
        return IN_DOUBT
    known = ONE.get(kind) or SEVERAL.get(kind)
    return [] if known is None else [known.channel]
