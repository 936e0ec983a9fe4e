"""The form of requests, and the words for what is wrong with one."""

from __future__ import annotations

import json

import pytest

from feed.channels.subscription import Start
from feed.errors import BadRequest
from feed.protocol.request import Subscribe, id_of, ignored_in, request_of, start_of

SUBSCRIBE = '{"op":"subscribe","id":1,"channels":["book"],"symbols":["X:A"]%s}'


def start(text: str) -> object:
    request = request_of((SUBSCRIBE % f',"from":{text}').encode())
    assert isinstance(request, Subscribe)
    return start_of(request)


@pytest.mark.parametrize(
    ("text", "id_"),
    [
        ('{"id":7}', 7), ('{"id":-9007199254740991}', -9007199254740991), ('{"id":""}', ""), ('{"id":"ä"}', "ä"),
        ('{"id":9007199254740992}', None), ('{"id":1.5}', None), ('{"id":null}', None), ('{"id":true}', None),
        ('{"id":["x"]}', None), ("{}", None), ("7", None), ('{"id":1', None),
    ],
)  # fmt: skip
def test_usable_ids(text: str, id_: object) -> None:
    assert id_of(text.encode()) == id_


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ('{"op":"nonesuch","id":1}', "unknown_op"),
        ('{"op":7,"id":1}', "bad_message"),
        ('{"id":1}', "bad_message"),
        ('{"op":"list"}', "bad_message"),
        ("[1]", "bad_message"),
        ('"x"', "bad_message"),
        ('{"op":"subscribe","id":1}', "bad_message"),
        ('{"op":"subscribe","id":1,"channels":"book","symbols":["X:A"]}', "bad_message"),
        ('{"op":"subscribe","id":1,"channels":[],"symbols":["X:A"]}', "bad_message"),
        ('{"op":"subscribe","id":1,"channels":["book"],"symbols":[7]}', "bad_message"),
        (SUBSCRIBE % ',"on_lag":"maybe"', "bad_message"),
        ('{"op":"auth","id":1}', "bad_message"),
    ],
)
def test_what_cannot_be_read(text: str, code: str) -> None:
    with pytest.raises(BadRequest) as refused:
        request_of(text.encode())
    assert refused.value.code == code


@pytest.mark.parametrize(
    ("text", "ignored"),
    [
        (SUBSCRIBE % "", []),
        (SUBSCRIBE % ',"evry_ms":50,"depth":1', ["evry_ms"]),
        (SUBSCRIBE % ',"from":{"last":5,"mrks":{}},"colour":{"of":1}', ["colour", "from.mrks"]),
        (SUBSCRIBE % ',"from": {"marks":{"a":1,"b":2}}', []),
        (SUBSCRIBE % ',"from":"live","":1', [""]),
        ('{"op":"unsubscribe","id":1,"symbol":"X:A"}', ["symbol"]),
        ('{"op":"list","id":1,"kind":7}', ["kind"]),
        ('{"op":"ping","id":1,"time":7}', ["time"]),
        ('{"op":"auth","id":1,"token":"x","key":null}', ["key"]),
        ('{"op":"replay","id":1,"do":"open","form":"2026"}', ["form"]),
        ('{"op":"list","id":1,"%s":1}' % ("x" * 100), ["x" * 64]),
        (json.dumps({"op": "list", "id": 1} | {str(n): 1 for n in range(99)}), [str(n) for n in range(16)]),
    ],
)
def test_unknown_fields_are_ignored_and_named(text: str, ignored: list[str]) -> None:
    assert ignored_in(request_of(text.encode()), text.encode()) == ignored


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('"snapshot"', Start("snapshot")),
        ('"live"', Start("live")),
        ('{"marks":{}}', Start("marks")),
        ('{"marks":{"x/0@a":-1,"y":9007199254740991}}', Start("marks", marks={"x/0@a": -1, "y": 9007199254740991})),
        ('{"last":5,"colour":1}', Start("last", last=5)),
        ('{"time":"1795467600003417000"}', 1795467600003417000),
        ('{"time":"2026-11-23T21:00:00.123456789+01:00"}', 1795464000123456789),
        ('{"time":"2026-11-23t20:00z"}', 1795464000000000000),
        ('{"time":"2026-11-23"}', 1795392000000000000),
    ],
)
def test_where_to_begin(text: str, wanted: object) -> None:
    assert start(text) == wanted


@pytest.mark.parametrize(
    "text",
    [
        '"now"', "7", "null", "[]", "{}", '{"last":0}', '{"last":-1}', '{"last":9007199254740992}', '{"last":1e99}',
        '{"last":"5"}', '{"marks":[]}', '{"marks":{"x":-2}}', '{"marks":{"x":9007199254740992}}', '{"marks":{"x":"5"}}',
        '{"marks":{"x":99999999999999999999999}}', '{"marks":{},"last":1}', '{"time":""}', '{"time":"yesterday"}',
        '{"time":5}', '{"time":"0"}', '{"time":"2026-11-31"}',
    ],
)  # fmt: skip
def test_positions_that_cannot_be_one(text: str) -> None:
    with pytest.raises(BadRequest) as refused:
        start(text)
    assert refused.value.code == "bad_position"


@pytest.mark.parametrize(
    ("time", "unit"),
    [
        ("1795973660", "seconds"),
        ("1795973660123", "milliseconds"),
        ("1795973660123456", "microseconds"),
        ("0", "seconds"),
        ("9" * 4400, "4400 digits"),
    ],
)
def test_a_time_in_another_unit_is_refused_by_the_unit_that_it_looks_like(time: str, unit: str) -> None:
    with pytest.raises(BadRequest, match=unit) as refused:
        start(f'{{"time":"{time}"}}')
    assert refused.value.code == "bad_position"


def test_no_from() -> None:
    request = request_of((SUBSCRIBE % "").encode())
    assert isinstance(request, Subscribe)
    assert start_of(request) is None
