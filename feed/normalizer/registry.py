"""A schema registry, asked for the schema of an id, with those that it refers to; and which ticks wait for one.

Owns the HTTP of it, in a thread, so that the loop never waits for it. Leaves trying again to `partition`, and what a
schema says to the venue.

Confluent's REST API (docs.confluent.io/platform/current/schema-registry/develop/api.html): `GET /schemas/ids/{id}`,
`GET /subjects/{subject}/versions/{version}`.
"""

from __future__ import annotations

import asyncio
import base64
import http.client
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import quote, unquote, urlsplit

import msgspec
from msgspec import Struct

from feed.errors import ConfigError, SchemaAway, Unreachable, shown
from feed.wire.frames import UNREADABLE

if TYPE_CHECKING:
    from feed.venues.mapped.schemas import Schemas
    from feed.venues.tick import Tick

T = TypeVar("T")
_TIMEOUT_S: Final = 5.0
_ANSWER_BYTES_MAX: Final = 4 << 20
_SCHEMAS_MAX: Final = 100
_OK: Final = 200


class _Reference(Struct):
    name: str
    subject: str
    version: int


class _Answer(Struct, rename="camel"):
    schema: str
    schema_type: str = "AVRO"
    references: list[_Reference] = []


_ANSWER: Final = msgspec.json.Decoder(_Answer)


class Registry:
    """One at an address, `http://[USER:PASSWORD@]HOST:PORT[/PATH]` or https."""

    def __init__(self, url: str) -> None:
        """Raises `ConfigError` for what is no address."""
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise ConfigError(f"address of a schema registry: {error}") from error
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(f"address of a schema registry, found the scheme {parts.scheme!r}, wanted http or https")
        self._connection = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._host, self._port, self._path = parts.hostname, port, parts.path.rstrip("/")
        self._headers = {"accept": "application/vnd.schemaregistry.v1+json, application/json"}
        if parts.username is not None:
            named = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
            self._headers["authorization"] = f"Basic {base64.b64encode(named).decode()}"

    async def schema(self, number: int) -> list[bytes]:
        """The texts of a schema: those that it refers to, then its own.

        Raises:
            Unreachable: it cannot be had, for whatever reason.
        """
        return await asyncio.to_thread(self.read, number)

    def read(self, number: int) -> list[bytes]:
        """`schema`, for those who may wait."""
        found: dict[str, bytes] = {}
        self._gather(f"/schemas/ids/{number}", found, set())
        return list(found.values())

    def _gather(self, path: str, found: dict[str, bytes], asked: set[str]) -> None:
        asked.add(path)
        answer = self._get(path)
        if answer.schema_type != "AVRO":
            raise Unreachable(f"{path} of {self._where} is of the type {shown(answer.schema_type)}, wanted AVRO")
        for one in answer.references:
            if len(asked) >= _SCHEMAS_MAX:
                raise Unreachable(f"{path} of {self._where} refers to more schemas than {_SCHEMAS_MAX}")
            of_version = f"/subjects/{quote(one.subject, safe='')}/versions/{one.version}"
            if of_version not in asked:
                self._gather(of_version, found, asked)
        found[path] = answer.schema.encode()

    @property
    def _where(self) -> str:
        return f"schema registry {self._host}"

    def _get(self, path: str) -> _Answer:
        connection = self._connection(self._host, self._port, timeout=_TIMEOUT_S)
        try:
            connection.request("GET", self._path + path, headers=self._headers)
            answer = connection.getresponse()
            text = answer.read(_ANSWER_BYTES_MAX)
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(f"{path} of {self._where}: {error!r}") from error
        finally:
            connection.close()
        if answer.status != _OK:
            raise Unreachable(f"{path} of {self._where}: answer {answer.status}, {shown(text)}")
        try:
            return _ANSWER.decode(text)
        except UNREADABLE as error:
            raise Unreachable(f"{path} of {self._where}: {error}") from error


class RegistrySchemas:
    """What the ticks of a venue need from its registry, where it has one."""

    def __init__(self, schemas: Schemas | None, url: str) -> None:
        self._schemas = schemas
        self._registry = None if schemas is None else Registry(url)

    def readable(self, ticks: list[Tick]) -> tuple[list[Tick], SchemaAway | None]:
        """The ticks before the first one whose schema is not here, which do not wait with it; and what it waits for."""
        if self._schemas is not None:
            for index, tick in enumerate(ticks):
                number = self._schemas.missing(tick.value)
                if number is not None:
                    return ticks[:index], SchemaAway(number)
        return ticks, None

    async def having(self, act: Callable[[], Awaitable[T]]) -> T:
        """What comes of something that may need schemas, with all that it needs.

        Raises:
            Unreachable, ConfigError: one cannot be had.
        """
        while True:
            try:
                return await act()
            except SchemaAway as away:
                if self._schemas is None or self._registry is None:
                    raise
                self._schemas.supply(away.number, await self._registry.schema(away.number))

    async def fetched(self, number: int, tell: Callable[[Exception], None]) -> bool:
        """Fetches a schema; tells why where it cannot be had."""
        if self._schemas is None or self._registry is None:
            return True
        try:
            self._schemas.supply(number, await self._registry.schema(number))
        except Exception as error:  # whatever it is, the ticks wait and it is tried again
            tell(error)
            return False
        return True
