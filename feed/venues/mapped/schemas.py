"""Schemas by their ids, as a registry gave them. An id means the same schema for ever, so what is here stays.

Owns which of them a record needs. Leaves fetching to whoever reads ticks (`feed.normalizer.registry`): nothing here
waits. A record whose schema is not here is never guessed at, and is no bad tick: it waits.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from typing import Any

from feed.errors import BadTick, SchemaAway
from feed.venues.mapped.formats import framed

Parse = Callable[[Sequence[bytes]], Any]
"""From the texts of a schema, those that it refers to before it; raises `ConfigError`."""


class Schemas:
    """`local`: ids that need no registry, because they are known or are refused."""

    def __init__(self, parse: Parse, local: Container[int]) -> None:
        self._parse = parse
        self._local = local
        self._parsed: dict[int, Any] = {}

    def missing(self, value: bytes) -> int | None:
        """The id of the schema that a record needs and that is not here; None where it needs none."""
        try:
            number, _ = framed(value)
        except BadTick:
            return None
        return None if number in self._local or number in self._parsed else number

    def supply(self, number: int, texts: Sequence[bytes]) -> None:
        """Takes a schema.

        Raises:
            ConfigError: it cannot be read.
        """
        self._parsed[number] = self._parse(texts)

    def get(self, number: int) -> Any:
        """The schema of an id.

        Raises:
            SchemaAway: it is not here.
        """
        try:
            return self._parsed[number]
        except KeyError:
            raise SchemaAway(number) from None
