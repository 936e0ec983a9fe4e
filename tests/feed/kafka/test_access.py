"""What the settings mean to a client: files are read once, and what cannot be read is named by its setting."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, load_pem_private_key
from cryptography.hazmat.primitives.serialization import Encoding as As
from cryptography.hazmat.primitives.serialization import PrivateFormat as Form

from feed.errors import ConfigError, NotLetIn, Unreachable
from feed.kafka import access
from feed.kafka.access import Entrance, entrance_of, entrance_to
from feed.runtime.settings import load

LOGIN = {"security_protocol": "SASL_SSL", "sasl_mechanism": "PLAIN", "sasl_username": "feed"}


def entrance(**given: str) -> Entrance:
    return entrance_of(load({f"kafka.{name}": value for name, value in given.items()}).settings.kafka)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A CA, a certificate of it, its key, and both in one file."""
    ca = trustme.CA()
    made = ca.issue_cert("feed")
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    made.cert_chain_pems[0].write_to_path(tmp_path / "own.pem")
    made.private_key_pem.write_to_path(tmp_path / "own.key")
    made.private_key_and_cert_chain_pem.write_to_path(tmp_path / "both.pem")
    loaded = load_pem_private_key(made.private_key_pem.bytes(), None)
    locked = loaded.private_bytes(As.PEM, Form.PKCS8, BestAvailableEncryption(b"word"))
    (tmp_path / "locked.key").write_bytes(locked)
    return tmp_path


def test_who_names_only_brokers_comes_by_an_open_door() -> None:
    options = entrance_to("a:1,b:2").options()
    assert options == {"bootstrap_servers": "a:1,b:2", "security_protocol": "PLAINTEXT", "ssl_context": None}
    made = entrance(bootstrap="a:1,b:2")
    assert made.options() == options
    assert entrance_to(made) is made
    assert entrance(bootstrap="a:1,b:2") is made  # one for all connections of a process


@pytest.mark.parametrize("own", [("own.pem", "own.key"), ("both.pem", "")])
def test_certificates_are_read(files: Path, own: tuple[str, str]) -> None:
    certificate, key = own
    options = entrance(
        security_protocol="SSL",
        ca_file=str(files / "ca.pem"),
        client_cert_file=str(files / certificate),
        client_key_file=str(files / key) if key else "",
    ).options()
    assert [one["subject"] for one in options["ssl_context"].get_ca_certs()]
    assert options["ssl_context"].check_hostname


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"ca_file": "none.pem"}, r"kafka.ca_file none.pem: no such file or directory"),
        ({"ca_file": "own.key"}, r"kafka.ca_file own.key: not a PEM file"),
        ({"client_cert_file": "own.pem"}, r"kafka.client_cert_file own.pem without kafka.client_key_file: not a PEM"),
        ({"client_cert_file": "none.pem"}, r"kafka.client_cert_file none.pem: no such file or directory"),
        (
            {"client_cert_file": "own.pem", "client_key_file": "none.key"},
            r"kafka.client_key_file none.key: no such file",
        ),
        (
            {"client_cert_file": "own.pem", "client_key_file": "ca.pem"},
            r"own.pem and kafka.client_key_file ca.pem: not a",
        ),
        ({"client_cert_file": "own.pem", "client_key_file": "locked.key"}, r"wanted one without a passphrase"),
    ],
)
def test_a_file_that_does_not_do_is_named(
    files: Path, given: dict[str, str], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(files)
    with pytest.raises(ConfigError, match=why):
        entrance(security_protocol="SSL", **given)


def test_a_password_comes_from_its_file(tmp_path: Path) -> None:
    (tmp_path / "word").write_text(" wörd \r\n")
    options = entrance(**LOGIN, sasl_password_file=str(tmp_path / "word")).options()
    assert (options["sasl_plain_username"], options["sasl_plain_password"]) == ("feed", " wörd ")


@pytest.mark.parametrize(
    ("content", "why"),
    [(None, "word: no such file"), (b"\n", "word is empty, wanted a password"), (b"secret \xff", "word: not UTF-8")],
)
def test_a_password_file_that_does_not_do_is_named(tmp_path: Path, content: bytes | None, why: str) -> None:
    if content is not None:
        (tmp_path / "word").write_bytes(content)
    with pytest.raises(ConfigError, match=f"kafka.sasl_password_file .*{why}") as told:
        entrance(**LOGIN, sasl_password_file=str(tmp_path / "word"))
    assert "secret" not in str(told.value)


def token() -> Any:
    """A provider of tokens."""


def test_a_token_provider_takes_the_place_of_a_password() -> None:
    provided = {"security_protocol": "SASL_SSL", "sasl_mechanism": "OAUTHBEARER"}
    options = entrance(**provided, token_provider=f"{__name__}:token").options()
    assert options["sasl_mechanism"] == "OAUTHBEARER"
    assert options["sasl_oauth_token_provider"] is not None
    assert "sasl_plain_password" not in options


@pytest.mark.anyio
async def test_why_we_are_not_let_in_any_more_is_asked_only_so_often(monkeypatch: pytest.MonkeyPatch) -> None:
    made = entrance(**LOGIN, sasl_password="word")
    now, asked = [1000.0], 0
    reasons: list[Unreachable] = [NotLetIn("a wrong password"), Unreachable("nobody answers")]

    async def reason() -> Unreachable:
        nonlocal asked
        asked += 1
        return reasons[asked - 1]

    monkeypatch.setattr(made, "reason", reason)
    monkeypatch.setattr(access.time, "monotonic", lambda: now[0])
    assert [str(await made.refusal()) for _ in range(3)] == ["a wrong password"] * 3
    assert asked == 1
    now[0] += 5
    assert await made.refusal() is None
    assert asked == 2


@pytest.mark.anyio
async def test_an_open_broker_refuses_nobody() -> None:
    assert await entrance_to("127.0.0.1:1").refusal() is None


@pytest.mark.anyio
async def test_a_broker_that_stands_still_is_not_said_to_speak_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "_ASK_MS", 50)
    held: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _, writer: held.append(writer), "127.0.0.1", 0)
    address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    reason = await entrance_to(address).reason()
    assert (type(reason), str(reason)) == (Unreachable, f"no kafka broker answers at {address}")
    assert held
    for writer in held:
        writer.close()
        await writer.wait_closed()
    server.close()
