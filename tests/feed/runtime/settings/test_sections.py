"""Sections: frozen, closed, and within their bounds."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from feed.errors import ConfigError
from feed.runtime.settings.loading import load
from feed.runtime.settings.sections import KafkaSettings, Section, ServeSettings


def test_a_section_is_frozen_and_has_no_other_names() -> None:
    with pytest.raises(ValidationError):
        ServeSettings().port = 1  # type: ignore[misc]
    with pytest.raises(ValidationError):
        KafkaSettings(bootstrp="x:1")  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("kafka.bootstrap", "a:1,b:2", "a:1, b:2"),
        ("kafka.compression", "zstd", "gzip"),
        ("normalize.trades_in_snapshot", 10_000, 10_001),
        ("normalize.keyframe_ratio", 10, 10.1),
        ("normalize.bar_grace_ms", 0, -1),
        ("serve.port", 65_535, 65_536),
        ("serve.workers", 256, 257),
        ("serve.heartbeat_ms", 100, 99),
        ("serve.deflate_level", 9, 10),
        ("serve.deflate_share", 0.9, 1.0),
        ("serve.requests.share", 1.0, 1.1),
        ("serve.requests.depth", [1], [0]),
        ("serve.limits.burst_seconds", 0.1, 0),
        ("serve.limits.http_per_second", 0, -1),
        ("record.kinds", "trades,book", "trades,prices"),
        ("record.keep_s", 0, -1),
        ("log.form", "text", "xml"),
    ],
)
def test_bounds(name: str, good: object, bad: object) -> None:
    assert load({name: good}).origins == {name: "flag"}
    with pytest.raises(ConfigError, match=rf"^{name}\b.*: .*, found "):
        load({name: bad})


def test_every_section_says_what_it_is() -> None:
    assert [section.__name__ for section in Section.__subclasses__() if not section.__doc__] == []
