"""What a gateway tells of its settings."""

from __future__ import annotations

import msgspec

from feed.gateway.gateway import told_settings
from feed.protocol.session import SessionSettings
from feed.runtime.settings import LimitSettings, RequestSettings, ServeSettings


def test_sessions_tell_and_allow_what_is_set() -> None:
    requests = RequestSettings(requests_burst=7, depth=(3,))
    serve = ServeSettings(
        server="gw-7", heartbeat_ms=700, requests=requests, limits=LimitSettings(message_bytes_max=70)
    )
    told = told_settings(serve)
    assert (told.server, told.heartbeat_ms, told.message_bytes_max) == ("gw-7", 700, 70)
    assert (told.requests_burst, told.depth) == (7, (3,))


def test_sessions_have_the_same_defaults_without_a_gateway() -> None:
    told = told_settings(ServeSettings(server=SessionSettings().server))
    assert msgspec.convert(told, SessionSettings, from_attributes=True) == SessionSettings()
