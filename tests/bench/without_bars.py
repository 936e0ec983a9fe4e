"""The command `feed` with a normalizer that makes no bars: there is no such setting, but a figure without them.

python -m tests.bench.without_bars normalize …
"""

from __future__ import annotations

from msgspec.structs import replace

from feed.cli import main
from feed.settings import Settings
from feed.venues.bars import BarRules
from feed.venues.symbol import Rules

_rules = Settings.rules


def _without_bars(self: Settings, venue: str) -> Rules:
    return replace(_rules(self, venue), bars=BarRules(intervals=()))


if __name__ == "__main__":
    Settings.rules = _without_bars  # type: ignore[method-assign]  # only here
    main()
