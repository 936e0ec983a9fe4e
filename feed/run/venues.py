"""The venue of a name as the settings have it: one that is known, our own tick, or a mapping's.

Owns that the files of a mapping are read, once, before anything runs: a decoder never waits for a disk. Leaves what
they say to `feed.venues.mapped`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from feed.errors import ConfigError
from feed.venues.table import MAPPED
from feed.venues.table import venue as venue_named

if TYPE_CHECKING:
    from feed.runtime.settings import Settings
    from feed.venues.venue import Venue


def venue_of(settings: Settings, name: str) -> Venue:
    """The venue of that name.

    Raises:
        ConfigError: its mapping cannot be read, or says what none can say.
    """
    own = settings.venue(name)
    if own.format != MAPPED:
        return venue_named(name, own.format)
    venue = mapped(name, Path(own.mapping))
    if venue.schemas is not None and not own.schema_registry:
        raise ConfigError(f"{own.mapping} has registry = true, wanted venues.{name}.schema_registry too")
    return venue


def silent_after_s(settings: Settings, name: str) -> float:
    """After how many seconds without a tick its sources are silent."""
    own = settings.venue(name)
    # what a mapping's records are is no matter of whoever follows the log
    known = venue_named(name, None if own.format == MAPPED else own.format)
    return float(settings.silent_after_s(name, known.silent_after_s))


def mapped(name: str, file: Path) -> Venue:
    """A venue by a mapping's file; the schemas that it names are beside it.

    Raises:
        ConfigError: a file cannot be read, or the mapping says what none can say.
    """
    from feed.venues.mapped.machine import mapped_venue
    from feed.venues.mapped.shape import mapping_file

    try:
        text = file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"mapping {file} cannot be read: {error}") from error
    try:
        files = {schema: (file.parent / schema).read_bytes() for schema in mapping_file(text).files}
        return mapped_venue(name, text, files)
    except OSError as error:
        raise ConfigError(f"schema of {file} cannot be read: {error}") from error
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}") from error
