"""Recordings, opened: `replay.open("recordings/").trades("COINBASE:BTC-USD")`.

`open` and `floats` are what users import. What an opened recording can do is in `replay.opened.Recording`; several read
as one are a `replay.together.CombinedRecording`. The other modules are the commands, replays over the protocol, and
repairs: ARCHITECTURE.md has them by what they serve.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, overload

if TYPE_CHECKING:
    import pyarrow as pa

    from replay.opened import Recording
    from replay.together import CombinedRecording


@overload
def open(path: str, /, *, verify: bool = True) -> Recording: ...


@overload
def open(path: str, another: str, /, *more: str, verify: bool = True) -> CombinedRecording: ...


def open(path: str, /, *more: str, verify: bool = True) -> Recording | CombinedRecording:  # reads as `replay.open`
    """A recording in a folder, or at any URI that pyarrow knows; still being written, or torn by a crash.

    Several recordings of the same feed logs are read as one: each message once, and what one lacks from another.
    `verify`: each batch is compared with its checksum before it is used.

    Raises:
        ConfigError: there is no such folder.
        CorruptRecording: a file is damaged.
    """
    if more:
        from replay.together import CombinedRecording

        return CombinedRecording([str(one) for one in (path, *more)], verify=verify)
    from replay.opened import Recording

    return Recording(str(path), verify=verify)


def floats(table: pa.Table) -> pa.Table:
    """The same table with float64 for every exact decimal, also within the levels of books: for arithmetic.

    Exact decimals have 38 digits and leave no room for a product: `size * price` of them overflows in most libraries.
    """
    from replay.opened import with_floats

    return with_floats(table)
