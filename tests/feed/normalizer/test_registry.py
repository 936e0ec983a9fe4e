"""A schema registry: what is asked of it, and what is said of one that does not give a schema."""

from __future__ import annotations

from typing import Any

import pytest

from feed.errors import ConfigError, SchemaAway, Unreachable
from feed.normalizer.registry import Registry, RegistrySchemas
from feed.venues.mapped.schemas import Schemas
from feed.venues.tick import Tick
from tests.registry import registry

pytestmark = pytest.mark.anyio


def ref(subject: str, version: int) -> dict[str, Any]:
    return {"name": subject, "subject": subject, "version": version}


async def test_a_schema_comes_behind_those_that_it_refers_to() -> None:
    with registry() as fake:
        fake.answers = {
            "/schemas/ids/7": {"schema": "whole", "references": [ref("a/b", 1), ref("c", 2)]},
            "/subjects/a%2Fb/versions/1": {"schema": "first", "references": [ref("c", 2)]},
            "/subjects/c/versions/2": {"schema": "inner", "schemaType": "AVRO", "more": 1},
        }
        assert await Registry(fake.url + "/").schema(7) == [b"inner", b"first", b"whole"]
        assert len(fake.asked) == 3
        assert Registry(fake.url.replace("http://", "http://me:p%40ss@")).read(7)[-1] == b"whole"
        assert fake.asked[-1][1] == "Basic bWU6cEBzcw=="


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (None, "answer 404"),
        (b"{", "truncated"),
        ({"schema": 5}, "Expected `str`"),
        ({"schema": "x", "schemaType": "JSON"}, "of the type 'JSON', wanted AVRO"),
        ({"schema": "x", "references": [ref("gone", 1)]}, "/subjects/gone/versions/1"),
    ],
)
async def test_what_is_no_schema_is_named(answer: Any, found: str) -> None:
    with registry() as fake:
        fake.answers = {"/schemas/ids/7": answer} if answer is not None else {}
        with pytest.raises(Unreachable, match=found):
            Registry(fake.url).read(7)


async def test_references_without_an_end_are_refused() -> None:
    with registry() as fake:
        fake.answers = {
            f"/subjects/s/versions/{number}": {"schema": "x", "references": [ref("s", number + 1)]}
            for number in range(300)
        }
        fake.answers["/schemas/ids/7"] = {"schema": "x", "references": [ref("s", 0)]}
        with pytest.raises(Unreachable, match="more schemas than 100"):
            Registry(fake.url).read(7)
        fake.answers["/subjects/s/versions/5"] = {"schema": "x", "references": [ref("s", 4)]}
        assert len(Registry(fake.url).read(7)) == 7


async def test_nobody_there() -> None:
    with pytest.raises(Unreachable, match=r"registry 127\.0\.0\.1: ConnectionRefusedError"):
        Registry("http://127.0.0.1:1").read(7)


@pytest.mark.parametrize("url", ["", "registry:8081", "ftp://x", "http://", "http://x:port"])
async def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="address of a schema registry"):
        Registry(url)


def tick(seq: int, number: int) -> Tick:
    return Tick(seq, "A", b"\0" + number.to_bytes(4, "big"), 1, 1)


async def test_ticks_before_the_one_that_waits_do_not() -> None:
    schemas = Schemas(lambda texts: list(texts), {1})
    with registry() as fake:
        needed = RegistrySchemas(schemas, fake.url)
        ticks = [tick(0, 1), tick(1, 2), tick(2, 1)]
        readable, away = needed.readable(ticks)
        assert readable == ticks[:1]
        assert isinstance(away, SchemaAway)
        told: list[Exception] = []
        assert not await needed.fetched(2, told.append)
        assert "answer 404" in str(told[0])
        fake.answers = {"/schemas/ids/2": {"schema": "x"}}
        assert await needed.fetched(2, told.append)
        assert needed.readable(ticks) == (ticks, None)
        assert len(told) == 1


async def test_what_needs_schemas_is_done_with_all_of_them() -> None:
    schemas = Schemas(lambda texts: list(texts), set())

    async def act() -> list[bytes]:
        return [*schemas.get(1), *schemas.get(2)]

    with registry() as fake:
        needed = RegistrySchemas(schemas, fake.url)
        fake.answers = {"/schemas/ids/1": {"schema": "a"}}
        with pytest.raises(Unreachable, match="/schemas/ids/2"):
            await needed.having(act)
        fake.answers["/schemas/ids/2"] = {"schema": "b"}
        assert await needed.having(act) == [b"a", b"b"]
    with pytest.raises(SchemaAway):
        await RegistrySchemas(None, "").having(Away().act)


class Away:
    """What nobody can give."""

    async def act(self) -> None:
        raise SchemaAway(1)


async def test_a_venue_without_a_registry_waits_for_nothing() -> None:
    without = RegistrySchemas(None, "")
    assert without.readable([tick(0, 5)]) == ([tick(0, 5)], None)
    assert await without.fetched(5, lambda error: None)
