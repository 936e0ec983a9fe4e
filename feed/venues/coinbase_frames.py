"""What the frames of Coinbase's two sockets have in common: how their kind is known, and how a kind is read.

Owns the head of a frame, the products that it speaks of, and the rows of the tables of kinds. Leaves those tables, the
shapes and what they mean to `coinbase_exchange` and `coinbase_advanced`. Field names are the venue's. A field that may
be left out is unset then, which is neither null nor zero.

- Exchange: frames with a `type` and no `channel`; their kind is the type.
- Advanced Trade: frames with a `channel`; their kind is `channel NAME`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, Any, Final

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from feed.errors import BadTick
from feed.wire.model import Kind

Id = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Text = str | UnsetType | None
Flag = bool | UnsetType
Item = tuple[str, Any]
"""What a frame says of one product, with the type of its event: an empty text where there is none."""


class Product(Struct, gc=False):
    """Of a status frame of either socket."""

    id: str
    base_currency: Text = UNSET
    quote_currency: Text = UNSET
    base_increment: Text = UNSET
    quote_increment: Text = UNSET
    display_name: Text = UNSET
    product_type: Text = UNSET
    status: Text = UNSET
    status_message: Text = UNSET
    post_only: Flag = UNSET
    limit_only: Flag = UNSET
    cancel_only: Flag = UNSET
    auction_mode: Flag = UNSET
    trading_disabled: Flag = UNSET


class NamedItem(Struct, gc=False):
    product_id: str = ""
    id: str = ""


class EventHead(Struct, gc=False):
    product_id: str = ""
    trades: list[NamedItem] = []
    tickers: list[NamedItem] = []
    products: list[NamedItem] = []
    candles: list[NamedItem] = []


class CoinbaseHead(Struct, gc=False):
    """What tells a frame from the others, and the products that it speaks of."""

    type: str = ""
    channel: str = ""
    product_id: str = ""
    products: list[NamedItem] = []
    events: list[EventHead] = []

    @property
    def kind(self) -> str:
        """The kind of the frame."""
        return f"channel {self.channel}" if self.channel else self.type


class OneProduct(Struct, frozen=True):
    """A kind of frames that speak of one product: how they are read, and of which channel they are. `longer` reads
    those with longer rows than are known."""

    decode: Callable[[bytes], Any]
    channel: Kind
    longer: Callable[[bytes], Any] | None = None


class SeveralProducts(Struct, frozen=True):
    """A kind of frames that may speak of several products.

    `all` reads a whole frame, and `own` finds in that what it says of one product. Where `all` fails, `raw` gives the
    time of the frame and each item unread, with its product and the type of its event; `one` reads an item.
    """

    all: Callable[[bytes], Any]
    own: Callable[[Any, str], list[Item]]
    raw: Callable[[bytes], tuple[str | None, Iterator[tuple[str, str, Raw]]]]
    one: Callable[[Raw], Any]
    channel: Kind


HEAD: Final = msgspec.json.Decoder(CoinbaseHead).decode
NAMED: Final = msgspec.json.Decoder(NamedItem).decode


def products_of(head: CoinbaseHead) -> list[str]:
    """The products that a frame speaks of.

    Raises:
        BadTick: it is neither Exchange's nor Advanced Trade's.
    """
    if not head.type and not head.channel:
        raise BadTick("frame without `type` or `channel`")
    named = [head.product_id, *(product.id for product in head.products)]
    for event in head.events:
        named.append(event.product_id)
        named += [entry.product_id for entry in (*event.trades, *event.tickers, *event.candles)]
        named += [product.id for product in event.products]
    return [name for name in dict.fromkeys(named) if name]


def listed(items: list[Raw] | UnsetType, name: str) -> list[Raw]:
    """A list that has to be there: left out, it does not say that nothing is in it."""
    if items is UNSET:
        raise BadTick(f"`{name}` is left out, wanted a list")
    return items
