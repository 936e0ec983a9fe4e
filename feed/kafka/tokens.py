"""Tokens for SASL OAUTHBEARER: asked for once, used by all connections until they are about to expire.

Owns when a new one is fetched, and two ways to get one: client credentials at a token URL (RFC 6749, section 4.4), or
somebody's own function. No token is ever logged.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import time
import urllib.error
import urllib.parse
import urllib.request
from base64 import b64encode
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

from aiokafka.abc import AbstractTokenProvider
from aiokafka.errors import SaslAuthenticationFailed

from feed.errors import ConfigError

if TYPE_CHECKING:
    from feed.kafka.access import Access

_EARLY_SHARE: Final = 0.2
"""A new token is fetched when so much of the life of the last one is left: a connection may take its time."""
_LIFE_S: Final = 300.0
"""Of a token that does not say how long it lives."""
_TIMEOUT_S: Final = 10.0
_ANSWER_BYTES_MAX: Final = 1 << 20


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """What we are known by is for the host that was named, and no other."""

    def redirect_request(self, *_: Any) -> None:
        return None


_OPENER: Final = urllib.request.build_opener(_NoRedirect)
Token = tuple[str, float]
"""A token, and for how many seconds it is good."""


class TokenSource(AbstractTokenProvider):  # type: ignore[misc]  # aiokafka has no types
    """Gives aiokafka a token that is good. One fetch at a time, whoever asks."""

    def __init__(self, fetch: Callable[[], Awaitable[Token]], clock: Callable[[], float] = time.monotonic) -> None:
        self._fetch = fetch
        self._clock = clock
        self._token = ""
        self._until = 0.0
        self._lock = asyncio.Lock()

    async def token(self) -> str:
        """The token.

        Raises:
            SaslAuthenticationFailed: none could be got; the text says why.
        """
        async with self._lock:
            if self._clock() >= self._until:
                token, life_s = await self._fetch()
                self._token, self._until = token, self._clock() + life_s * (1 - _EARLY_SHARE)
            return self._token


def token_source(access: Access) -> TokenSource:
    """The source that the settings name.

    Raises:
        ConfigError: the function is not there.
    """
    if access.token_provider:
        return TokenSource(_of_function(access.token_provider))
    return TokenSource(lambda: asyncio.to_thread(_client_credentials, access))


def _of_function(named: str) -> Callable[[], Awaitable[Token]]:
    module, _, name = named.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"kafka.token_provider {named!r}: {error} (wanted module:function)") from None
    if not callable(found):
        raise ConfigError(f"kafka.token_provider {named!r} is no function")

    async def fetch() -> Token:
        try:
            got = await found() if inspect.iscoroutinefunction(found) else await asyncio.to_thread(found)
        except Exception as error:
            raise SaslAuthenticationFailed(f"kafka.token_provider {named} failed: {error!r}") from error
        if isinstance(got, str):
            return got, _LIFE_S
        if isinstance(got, tuple) and len(got) == 2 and isinstance(got[0], str):
            return got[0], float(got[1])
        raise SaslAuthenticationFailed(
            f"kafka.token_provider {named} gave {type(got).__name__}, wanted a token, or it and its life in seconds"
        )

    return fetch


def _client_credentials(access: Access) -> Token:
    fields = {"grant_type": "client_credentials"}
    if access.token_scope:
        fields["scope"] = access.token_scope
    name, word = urllib.parse.quote(access.sasl_username), urllib.parse.quote(access.sasl_password)
    request = urllib.request.Request(  # noqa: S310  # the operator's own setting, which begins with http
        access.token_url,
        urllib.parse.urlencode(fields).encode(),
        {
            "authorization": "Basic " + b64encode(f"{name}:{word}".encode()).decode(),
            "accept": "application/json",
            "content-type": "application/x-www-form-urlencoded",
        },
    )
    where = f"kafka.token_url {access.token_url}"
    try:
        with _OPENER.open(request, timeout=_TIMEOUT_S) as answer:
            told: Any = json.loads(answer.read(_ANSWER_BYTES_MAX))
    except urllib.error.HTTPError as error:
        raise SaslAuthenticationFailed(f"{where} answers {error.code}") from None
    except (OSError, ValueError) as error:
        raise SaslAuthenticationFailed(f"{where} gives no token: {error}") from None
    if not isinstance(told, dict) or not isinstance(told.get("access_token"), str):
        raise SaslAuthenticationFailed(f"{where} answers without an access_token")
    life = told.get("expires_in")
    return told["access_token"], float(life) if isinstance(life, int | float) and life > 0 else _LIFE_S
