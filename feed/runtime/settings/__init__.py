"""The settings of all server commands: one frozen tree, each value with where it came from.

- `tree`: every setting, declared once: name, unit, bound, default and what it means.
- `values`: the types of single values, and the names of venues.
- `loading`: the sources and the order in which they win: flags, then environment (`FEED_KAFKA__BOOTSTRAP`), then
  `feed.toml` (or `FEED_CONFIG`), then defaults; and what is said of a value that cannot be.
- `listing`: the tree as a list, and as a file to fill in.
- `doubts`: what is allowed, and most likely not meant.

Only server commands import this package: it brings pydantic, half a second.
"""

from feed.runtime.settings.doubts import doubts, near_venue
from feed.runtime.settings.listing import convert, described, leaves, template
from feed.runtime.settings.loading import Loaded, load
from feed.runtime.settings.tree import (
    AdminSettings,
    KafkaSettings,
    LimitSettings,
    NormalizeSettings,
    RecordSettings,
    RequestSettings,
    ServeSettings,
    Settings,
)
from feed.runtime.settings.values import KNOWN_VENUES, Venues

__all__ = [
    "KNOWN_VENUES",
    "AdminSettings",
    "KafkaSettings",
    "LimitSettings",
    "Loaded",
    "NormalizeSettings",
    "RecordSettings",
    "RequestSettings",
    "ServeSettings",
    "Settings",
    "Venues",
    "convert",
    "described",
    "doubts",
    "leaves",
    "load",
    "near_venue",
    "template",
]
