"""How a cluster is reached: its brokers, TLS, and who we are there; the same for every connection of a process.

Owns what the settings of `[kafka]` mean to a client, why a cluster does not let us in (a wrong name or password, a
certificate that is not believed), and that no secret is written out. Leaves what is done with a connection to the
clients of this package, and tokens to `tokens`.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING, Any, Final, Literal

from aiokafka.conn import create_conn
from aiokafka.errors import IllegalSaslStateError, KafkaError, SaslAuthenticationFailed, UnsupportedSaslMechanismError
from msgspec import Struct

from feed.errors import ConfigError, NotLetIn, Unreachable
from feed.kafka.tokens import TokenSource, token_source

if TYPE_CHECKING:
    from aiokafka.client import AIOKafkaClient

Protocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
Mechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"]
_ASK_MS: Final = 10_000


class Access(Struct, frozen=True, kw_only=True):
    """Where a cluster is and how it lets us in. Files are paths to PEM files; what is empty is not used.

    `ca_file`: the authorities that are believed, empty: those of the system. `client_cert_file`, `client_key_file`: our
    own certificate for mTLS; the key may lie in the certificate's file. `token_url`, `token_scope`: OAUTHBEARER by
    client credentials, with `sasl_username` and `sasl_password` as the client's; `token_provider`: `module:function` in
    its place, which returns a token. `rack`: where we are, for fetches from the nearest replica.
    """

    bootstrap: str
    security_protocol: Protocol = "PLAINTEXT"
    ca_file: str = ""
    client_cert_file: str = ""
    client_key_file: str = ""
    sasl_mechanism: Mechanism = "PLAIN"
    sasl_username: str = ""
    sasl_password: str = ""
    token_url: str = ""
    token_scope: str = ""
    token_provider: str = ""
    rack: str = ""

    def __repr__(self) -> str:
        return f"Access({self.bootstrap!r}, {self.security_protocol})"  # it has secrets

    __str__ = __repr__

    @property
    def encrypted(self) -> bool:
        """Whether connections are TLS."""
        return self.security_protocol in ("SSL", "SASL_SSL")

    @property
    def logs_in(self) -> bool:
        """Whether connections begin with SASL."""
        return self.security_protocol in ("SASL_PLAINTEXT", "SASL_SSL")


class Entrance:
    """An `Access` made ready: certificates read, a source of tokens; one for all clients of a process."""

    def __init__(self, access: Access) -> None:
        """Reads the files.

        Raises:
            ConfigError: a file cannot be read, is none of its kind, or a setting is missing.
        """
        self.access = access
        self._context = _context(access) if access.encrypted else None
        self._tokens: TokenSource | None = None
        if access.logs_in and access.sasl_mechanism == "OAUTHBEARER":
            self._tokens = token_source(access)
        elif access.logs_in and not (access.sasl_username and access.sasl_password):
            raise ConfigError(
                f"kafka.sasl_mechanism {access.sasl_mechanism} needs kafka.sasl_username and kafka.sasl_password"
            )

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
            hosts = [(host, port) for host, port, _ in client.hosts]
            await client.close()
            raise await self._reason(hosts) from error

    async def _reason(self, hosts: list[tuple[str, int]]) -> Exception:
        """Why nobody let us in: the client tells that only its log."""
        options = self.options()
        del options["bootstrap_servers"]
        for host, port in hosts:
            try:
                connection = await create_conn(host, port, request_timeout_ms=_ASK_MS, **options)
            except (SaslAuthenticationFailed, UnsupportedSaslMechanismError, IllegalSaslStateError) as error:
                return NotLetIn(self._refused(host, port, error))
            except ssl.SSLCertVerificationError as error:
                return NotLetIn(
                    f"the certificate of {host}:{port} is not believed: {error.verify_message} "
                    f"(kafka.ca_file is {self.access.ca_file or 'not set: the authorities of this system are asked'})"
                )
            except (KafkaError, OSError, TimeoutError):
                if await _listens(host, port):
                    return NotLetIn(
                        f"{host}:{port} is there and does not speak {self.access.security_protocol} "
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
    if access.client_key_file and not access.client_cert_file:
        raise ConfigError("kafka.client_key_file without kafka.client_cert_file")
    if access.client_cert_file:
        try:
            context.load_cert_chain(access.client_cert_file, access.client_key_file or None)
        except (OSError, ssl.SSLError) as error:
            files = " and ".join(filter(None, [access.client_cert_file, access.client_key_file]))
            raise ConfigError(f"kafka.client_cert_file {files}: {_why(error)}") from None
    return context


def _why(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return f"not a PEM file that belongs here ({error.reason or error})"
    return (error.strerror or str(error)).lower()
