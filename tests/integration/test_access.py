"""Every way into a cluster, and why one is not let in, on a real broker with certificates, passwords and rights."""

from __future__ import annotations

import base64
import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.metadata import MetadataRequest
from confluent_kafka.admin import AdminClient, NewTopic
from msgspec.structs import replace
from secured import SecuredBroker

from feed.errors import ConfigError, NotLetIn, Unreachable
from feed.kafka.access import Access, Entrance
from feed.kafka.tokens import TokenSource

pytestmark = [pytest.mark.anyio, pytest.mark.slow]
TOPIC = "ticks.toy"


def unsigned(who: str, life_s: int = 300) -> str:
    """A token as the broker's own test validator takes it."""
    now = int(time.time())
    parts = [{"alg": "none"}, {"sub": who, "iat": now, "exp": now + life_s}]
    return ".".join([*(base64.urlsafe_b64encode(json.dumps(p).encode()).rstrip(b"=").decode() for p in parts), ""])


def token_for_feed() -> tuple[str, float]:
    """A token provider, as somebody would write it."""
    return unsigned("feed"), 300.0


@pytest.fixture(scope="module")
def tokens() -> Iterator[HTTPServer]:
    """A token URL: client credentials of feed, and nobody else's."""

    class Handler(BaseHTTPRequestHandler):
        asked = 0

        def do_POST(self) -> None:
            Handler.asked += 1
            body = self.rfile.read(int(self.headers["content-length"])).decode()
            known = base64.b64encode(b"feed:word").decode()
            good = self.headers["authorization"] == f"Basic {known}" and "grant_type=client_credentials" in body
            self.send_response(200 if good else 401)
            self.end_headers()
            if good:
                self.wfile.write(json.dumps({"access_token": unsigned("feed"), "expires_in": 300}).encode())

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


def by_password(broker: SecuredBroker, **changed: Any) -> Access:
    fields: dict[str, Any] = {
        "bootstrap": broker.sasl_address,
        "security_protocol": "SASL_SSL",
        "ca_file": str(broker.ca_file),
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_username": "feed",
        "sasl_password": broker.users["feed"],
    }
    return Access(**fields | changed)


async def seen(access: Access) -> set[str]:
    """The topics that we may see."""
    entrance = Entrance(access)
    client = AIOKafkaClient(**entrance.options())
    await entrance.connect(client)
    try:
        node = client.get_random_node()
        answer = await client.send(node, MetadataRequest(None))
        return {topic[1] for topic in answer.topics}
    finally:
        await client.close()


@pytest.fixture(scope="module")
def topic(secured: SecuredBroker) -> str:
    admin = AdminClient({"bootstrap.servers": secured.address})
    admin.create_topics([NewTopic(TOPIC, 1, 1)])[TOPIC].result(30)
    secured.grant("feed", "topic", TOPIC, "READ")
    return TOPIC


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
async def test_a_name_and_a_password_let_us_in(secured: SecuredBroker, topic: str, mechanism: str) -> None:
    assert await seen(by_password(secured, sasl_mechanism=mechanism)) == {topic}


async def test_a_certificate_lets_us_in(secured: SecuredBroker, topic: str) -> None:
    certificate, key = secured.certificate("feed")
    access = Access(
        bootstrap=secured.tls_address,
        security_protocol="SSL",
        ca_file=str(secured.ca_file),
        client_cert_file=str(certificate),
        client_key_file=str(key),
    )
    assert await seen(access) == {topic}


async def test_tokens_let_us_in(secured: SecuredBroker, tokens: HTTPServer, topic: str) -> None:
    url = f"http://127.0.0.1:{tokens.server_port}/token"
    credentials = by_password(secured, sasl_mechanism="OAUTHBEARER", token_url=url, sasl_password="word")
    assert await seen(credentials) == {topic}
    given = by_password(secured, sasl_mechanism="OAUTHBEARER", token_provider=f"{__name__}:token_for_feed")
    assert await seen(given) == {topic}
    wrong = by_password(secured, sasl_mechanism="OAUTHBEARER", token_url=url, sasl_password="other")
    with pytest.raises(NotLetIn, match="answers 401"):
        await seen(wrong)


async def test_why_we_are_not_let_in_is_said(secured: SecuredBroker, tmp_path: Path) -> None:
    with pytest.raises(NotLetIn, match=r"does not let us in as feed by SCRAM-SHA-512") as told:
        await seen(by_password(secured, sasl_password="secret-word"))
    assert "secret-word" not in str(told.value)
    with pytest.raises(NotLetIn, match=r"is not believed: .*authorities of this system are asked"):
        await seen(by_password(secured, ca_file=""))
    with pytest.raises(NotLetIn, match="does not speak SASL_SSL"):
        await seen(by_password(secured, bootstrap=secured.address))
    with pytest.raises(NotLetIn, match="does not speak PLAINTEXT"):
        await seen(Access(bootstrap=secured.sasl_address, security_protocol="PLAINTEXT"))
    with socket.create_server(("127.0.0.1", 0)) as closed:
        nobody = f"127.0.0.1:{closed.getsockname()[1]}"
    with pytest.raises(Unreachable, match=f"no kafka broker answers at {nobody}"):
        await seen(by_password(secured, bootstrap=nobody))


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "OAUTHBEARER"])
async def test_no_secret_is_logged_whatever_the_level(
    secured: SecuredBroker, topic: str, mechanism: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    access = by_password(secured, sasl_mechanism=mechanism)
    if mechanism == "OAUTHBEARER":
        access = replace(access, sasl_password="", token_provider=f"{__name__}:token_for_feed")
    assert await seen(access) == {topic}
    assert "SaslAuthenticate" in caplog.text
    word = secured.users["feed"].partition(",")[0]
    assert [line for line in caplog.text.splitlines() if word in line or unsigned("feed")[:40] in line] == []


async def test_that_our_certificate_is_not_taken_is_said(secured: SecuredBroker, tmp_path: Path) -> None:
    stranger = trustme.CA().issue_cert("feed", common_name="feed")
    stranger.private_key_and_cert_chain_pem.write_to_path(tmp_path / "stranger.pem")
    access = Access(bootstrap=secured.tls_address, security_protocol="SSL", ca_file=str(secured.ca_file))
    with pytest.raises(
        NotLetIn, match=r"does not take us without a certificate: .* \(kafka.client_cert_file is not set"
    ):
        await seen(access)
    with pytest.raises(NotLetIn, match=r"does not take the certificate kafka.client_cert_file .*stranger.pem: "):
        await seen(replace(access, client_cert_file=str(tmp_path / "stranger.pem")))


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"ca_file": "/nowhere/ca.pem"}, r"kafka.ca_file /nowhere/ca.pem: no such file or directory"),
        ({"ca_file": __file__}, r"kafka.ca_file .*: not a PEM file"),
        ({"client_cert_file": "/nowhere/c.pem"}, r"kafka.client_cert_file /nowhere/c.pem: no such file or directory"),
        (
            {"sasl_mechanism": "OAUTHBEARER", "token_provider": "nowhere:f"},
            "'nowhere:f': No module",
        ),
        ({"sasl_mechanism": "OAUTHBEARER", "token_provider": "json:nothing"}, r"'json:nothing': .*no attribute"),
        ({"sasl_mechanism": "OAUTHBEARER", "token_provider": "json:__name__"}, r"is no function"),
    ],
)
async def test_what_is_missing_is_named(changed: dict[str, str], why: str, secured: SecuredBroker) -> None:
    with pytest.raises(ConfigError, match=why):
        Entrance(by_password(secured, **changed))


def test_no_secret_is_written_out(secured: SecuredBroker) -> None:
    access = by_password(secured)
    for text in (repr(access), str(access), f"{access}"):
        assert access.sasl_password not in text


async def test_a_token_is_fetched_once_and_again_before_it_expires() -> None:
    now, fetched = 0.0, 0

    async def fetch() -> tuple[str, float]:
        nonlocal fetched
        fetched += 1
        return f"token {fetched}", 100.0

    source = TokenSource(fetch, clock=lambda: now)
    assert [await source.token(), await source.token()] == ["token 1"] * 2
    now = 79.0
    assert await source.token() == "token 1"
    now = 81.0
    assert await source.token() == "token 2"
