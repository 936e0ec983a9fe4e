"""The loader finds every file and says what is missing."""

from __future__ import annotations

import json
from importlib.resources import files

import pytest

import schemas


def test_every_json_file_is_a_schema_or_one_of_the_two_tables() -> None:
    found = {file.name.removesuffix(".json") for file in files("schemas").iterdir() if file.name.endswith(".json")}
    assert found == {*schemas.names(), "errors", "arrow"}


def test_schema_is_read_by_name() -> None:
    assert schemas.schema("update")["title"] == "update"


@pytest.mark.parametrize("read", [schemas.schema, schemas.example])
def test_a_missing_name_is_an_error(read: object) -> None:
    assert callable(read)
    with pytest.raises(FileNotFoundError):
        read("nonesuch")


def test_examples_are_read_as_bytes_without_a_line_end() -> None:
    assert schemas.example("caught_up") == b'{"type":"caught_up","id":9}'
    assert all(json.loads(schemas.example(name)) for name in schemas.examples())


def test_codes_are_found_by_word_and_number() -> None:
    assert schemas.errors()["rate_limited"].retry
    assert not schemas.closes()[1009].resume


def test_references_of_asyncapi_can_be_moved() -> None:
    assert "$ref: ./update.json" in schemas.asyncapi()
    assert "$ref: /v1/schemas/update.json" in schemas.asyncapi(files_at="/v1/schemas/")
    assert "$ref: ./" not in schemas.asyncapi(files_at="/v1/schemas/")
