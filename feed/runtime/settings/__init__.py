"""The settings of all server commands: one frozen tree, each value with where it came from.

- `sections`: every setting, declared once: its name, unit, bound, default and what it means.
- `access`: which settings of how brokers are reached contradict each other.
- `tree`: all sections together, and what the pure core is given of them.
- `values`: the types of single values, and the names of venues.
- `loading`: the sources and the order in which they win: flags, then environment (`FEED_KAFKA__BOOTSTRAP`), then
  `feed.toml` (or `FEED_CONFIG`), then defaults; and what is said of a value that cannot be.
- `listing`: the tree as a list, and as a file to fill in.
- `doubts`: what is allowed, and most likely not meant.

Only server commands import this package: it brings pydantic, half a second.
"""

from feed.runtime.settings.access import open_broker
from feed.runtime.settings.doubts import doubts, near_venue
from feed.runtime.settings.listing import described, given, leaves, template
from feed.runtime.settings.loading import Loaded, load
from feed.runtime.settings.sections import (
    AdminSettings,
    LimitSettings,
    NormalizeSettings,
    RecordSettings,
    RequestSettings,
    ServeSettings,
)
from feed.runtime.settings.tree import Settings
from feed.runtime.settings.values import KNOWN_VENUES, Venues

__all__ = [
    "KNOWN_VENUES",
    "AdminSettings",
    "LimitSettings",
    "Loaded",
    "NormalizeSettings",
    "RecordSettings",
    "RequestSettings",
    "ServeSettings",
    "Settings",
    "Venues",
    "described",
    "doubts",
    "given",
    "leaves",
    "load",
    "near_venue",
    "open_broker",
    "template",
]
