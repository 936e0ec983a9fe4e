"""How a cluster is reached: its brokers, TLS, and who we are there; the same for every connection of a process.

Owns what the settings of `[kafka]` mean to a client, why a cluster does not let us in (a wrong name or password, a
certificate that is not believed), and that no secret is written out. Leaves what is done with a connection to the
clients of this package, tokens to `tokens`, and what we may do there to `rights`. Which settings contradict each other
is known before (`feed.runtime.settings.access`).
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from aiokafka.conn import collect_hosts, create_conn
from aiokafka.errors import IllegalSaslStateError, KafkaError, SaslAuthenticationFailed, UnsupportedSaslMechanismError
from msgspec import Struct

from feed.errors import ConfigError, NotLetIn, Unreachable
from feed.kafka.tokens import TokenSource, token_source
from feed.runtime.settings.access import ENCRYPTED, LOGS_IN

if TYPE_CHECKING:
    from aiokafka.client import AIOKafkaClient

    from feed.runtime.settings.sections import KafkaSettings

Protocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
Mechanism = Literal["", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"]
_ASK_MS: Final = 3_000
_ASK_EVERY_S: Final = 5.0
_REFUSAL_S: Final = 2.0
"""A broker that does not like our certificate says so at once."""
_ALERTS: Final = ("ALERT_UNKNOWN_CA", "ALERT_HANDSHAKE_FAILURE", "ALERT_DECRYPT_ERROR", "CERTIFICATE")
_PASSWORD_BYTES_MAX: Final = 64 * 1024


class Access(Struct, frozen=True, kw_only=True):
    """Where a cluster is and how it lets us in. Files are paths to PEM files; what is empty is not used.

    `ca_file`: the authorities that are believed, empty: those of the system. `client_cert_file`, `client_key_file`: our
    own certificate for mTLS; the key may lie in the certificate's file. `token_url`, `token_scope`: OAUTHBEARER by
    client credentials, with `sasl_username` and `sasl_password` as the client's; `token_provider`: `module:function` in
    its place, which returns a token.
    """

    bootstrap: str
    security_protocol: Protocol
    ca_file: str = ""
    client_cert_file: str = ""
    client_key_file: str = ""
    sasl_mechanism: Mechanism = ""
    sasl_username: str = ""
    sasl_password: str = ""
    token_url: str = ""
    token_scope: str = ""
    token_provider: str = ""

    def __repr__(self) -> str:
        return f"Access({self.bootstrap!r}, {self.security_protocol})"  # it has secrets

    __str__ = __repr__

    @property
    def encrypted(self) -> bool:
        """Whether connections are TLS."""
        return self.security_protocol in ENCRYPTED

    @property
    def logs_in(self) -> bool:
        """Whether connections begin with SASL."""
        return self.security_protocol in LOGS_IN


class Entrance:
    """An `Access` made ready: certificates read, a source of tokens; one for all clients of a process."""

    def __init__(self, access: Access) -> None:
        """Reads the files.

        Raises:
            ConfigError: a file cannot be read or is none of its kind, or there is no such token provider.
        """
        self.access = access
        self._context = _context(access) if access.encrypted else None
        self._asked_at = float("-inf")
        self._refusal = ""
        self._tokens: TokenSource | None = None
        if access.logs_in and access.sasl_mechanism == "OAUTHBEARER":
            self._tokens = token_source(access)

    def options(self) -> dict[str, Any]:
        """What every client of aiokafka is made with."""
        access = self.access
        options: dict[str, Any] = {
            "bootstrap_servers": access.bootstrap,
            "security_protocol": access.security_protocol,
            "ssl_context": self._context,
        }
        if access.logs_in:
            options |= {"sasl_mechanism": access.sasl_mechanism, "sasl_oauth_token_provider": self._tokens}
            if self._tokens is None:
                options |= {"sasl_plain_username": access.sasl_username, "sasl_plain_password": access.sasl_password}
        return options

    async def connect(self, client: AIOKafkaClient) -> None:
        """Connects a client that was made with these options.

        Raises:
            NotLetIn: a broker answered and refuses us, or we refuse it; the text says why.
            Unreachable: no broker answers.
        """
        try:
            await client.bootstrap()
        except asyncio.CancelledError:
            await client.close()
            raise
        except (KafkaError, OSError) as error:
            await client.close()
            raise await self.reason() from error

    async def refusal(self) -> NotLetIn | None:
        """Why we are not let in any more; None where that is not it. For a while what was heard last is said again."""
        if self.access.security_protocol == "PLAINTEXT":
            return None
        now = time.monotonic()
        if now - self._asked_at >= _ASK_EVERY_S:
            self._asked_at = now
            reason = await self.reason()
            self._refusal = str(reason) if isinstance(reason, NotLetIn) else ""
        return NotLetIn(self._refusal) if self._refusal else None

    async def reason(self) -> Unreachable:
        """Why no broker answers, or lets us in: a client tells that only its log."""
        options = self.options()
        del options["bootstrap_servers"]
        for host, port, _ in collect_hosts(self.access.bootstrap):
            try:
                connection = await create_conn(host, port, request_timeout_ms=_ASK_MS, **options)
            except (SaslAuthenticationFailed, UnsupportedSaslMechanismError, IllegalSaslStateError) as error:
                return NotLetIn(self._refused(host, port, error))
            except ssl.SSLCertVerificationError as error:
                return NotLetIn(
                    f"the certificate of {host}:{port} is not believed: {error.verify_message} "
                    f"(kafka.ca_file is {self.access.ca_file or 'not set: the authorities of this system are asked'})"
                )
            except TimeoutError:
                continue  # a broker that stands still takes connections, too
            except (KafkaError, OSError):
                if self._context is not None and (why := await asyncio.to_thread(_alert, host, port, self._context)):
                    own = self.access.client_cert_file
                    certificate = f"the certificate kafka.client_cert_file {own}" if own else "us without a certificate"
                    return NotLetIn(
                        f"{host}:{port} does not take {certificate}: {why}"
                        + ("" if own else " (kafka.client_cert_file is not set)")
                    )
                if await _listens(host, port):
                    return NotLetIn(
                        f"{host}:{port} is there and does not speak {self.access.security_protocol}, or not now "
                        "(kafka.security_protocol: PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL)"
                    )
                continue
            connection.close()
        return Unreachable(f"no kafka broker answers at {self.access.bootstrap}")

    def _refused(self, host: str, port: int, error: KafkaError) -> str:
        access = self.access
        who = f" as {access.sasl_username}" if access.sasl_username else ""
        if isinstance(error, UnsupportedSaslMechanismError):
            return f"{host}:{port} does not know kafka.sasl_mechanism {access.sasl_mechanism}: {error}"
        return f"{host}:{port} does not let us in{who} by {access.sasl_mechanism}: {error}"


def entrance_to(broker: Entrance | str) -> Entrance:
    """The entrance itself; of `HOST:PORT[,HOST:PORT]` that to brokers which take whoever comes."""
    return broker if isinstance(broker, Entrance) else Entrance(Access(bootstrap=broker, security_protocol="PLAINTEXT"))


@lru_cache(maxsize=1)
def entrance_of(settings: KafkaSettings) -> Entrance:
    """The entrance that the settings of a process describe, one for all its connections.

    Raises:
        ConfigError: a file cannot be read or is none of its kind, or there is no such token provider.
    """
    word = settings.sasl_password.get_secret_value()
    if settings.sasl_password_file:
        word = _password(settings.sasl_password_file)
    return Entrance(
        Access(
            bootstrap=settings.bootstrap,
            security_protocol=settings.security_protocol,
            ca_file=settings.ca_file,
            client_cert_file=settings.client_cert_file,
            client_key_file=settings.client_key_file,
            sasl_mechanism=settings.sasl_mechanism,
            sasl_username=settings.sasl_username,
            sasl_password=word,
            token_url=settings.token_url,
            token_scope=settings.token_scope,
            token_provider=settings.token_provider,
        )
    )


def _password(file: str) -> str:
    try:
        with Path(file).open(encoding="utf-8") as opened:
            word = opened.read(_PASSWORD_BYTES_MAX).rstrip("\r\n")
    except UnicodeDecodeError:
        raise ConfigError(f"kafka.sasl_password_file {file}: not UTF-8") from None  # the cause would show it
    except OSError as error:
        raise ConfigError(f"kafka.sasl_password_file {file}: {_why(error)}") from None
    if not word:
        raise ConfigError(f"kafka.sasl_password_file {file} is empty, wanted a password")
    return word


def _alert(host: str, port: int, context: ssl.SSLContext) -> str:
    """What a broker says of our certificate; empty where it says nothing. With TLS 1.3 that comes after the handshake,
    in place of its first answer, and the client's reader sees only that the connection ends."""
    try:
        with (
            socket.create_connection((host, port), timeout=_REFUSAL_S) as raw,
            context.wrap_socket(raw, server_hostname=host) as encrypted,
        ):
            encrypted.recv(1)
    except ssl.SSLError as error:
        reason = error.reason or ""
        return reason.lower().replace("_", " ") if any(word in reason for word in _ALERTS) else ""
    except OSError:
        pass
    return ""


async def _listens(host: str, port: int) -> bool:
    """Whether anybody takes a connection there."""
    try:
        async with asyncio.timeout(_ASK_MS / 1000):
            _, writer = await asyncio.open_connection(host, port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True


def _context(access: Access) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if access.ca_file:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            context.load_verify_locations(cafile=access.ca_file)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"kafka.ca_file {access.ca_file}: {_why(error)}") from None
    if access.client_cert_file:
        certificate, key = access.client_cert_file, access.client_key_file
        for name, file in (("client_cert_file", certificate), ("client_key_file", key)):
            _must_open(f"kafka.{name}", file)
        try:
            context.load_cert_chain(certificate, key or None, password=_no_passphrase)
        except (OSError, ssl.SSLError) as error:
            beside = f"and kafka.client_key_file {key}" if key else "without kafka.client_key_file"
            raise ConfigError(f"kafka.client_cert_file {certificate} {beside}: {_why(error)}") from None
    return context


def _must_open(name: str, file: str) -> None:
    try:
        if file:
            Path(file).open("rb").close()
    except OSError as error:
        raise ConfigError(f"{name} {file}: {_why(error)}") from None


def _no_passphrase() -> str:
    """A key that asks for one would ask whoever sits at the terminal."""
    raise OSError("the key is encrypted, wanted one without a passphrase")


def _why(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return f"not a PEM file that belongs here ({error.reason or error})"
    return (error.strerror or str(error)).lower()
