"""A real broker that lets in only whom it knows: TLS with client certificates, SASL over TLS, and rights by topic.

Owns the certificates of a CA of its own, the listeners, the users and the rights, on top of `broker`. Three doors:

- `address` (PLAINTEXT, loopback): who comes here may do everything; tests set the cluster up by it.
- `tls_address` (SSL): a client shows a certificate of the CA; it is `User:<its common name>`.
- `sasl_address` (SASL_SSL): `PLAIN`, `SCRAM-SHA-256`, `SCRAM-SHA-512`, and `OAUTHBEARER` with any unsigned
  token; it is `User:<name>`, or the token's `sub`.

A user may do nothing until it is granted: `grant` and `revoke` take effect at once.

    python ops/kafka/secured.py [--data FOLDER]     # prints the addresses and the files, runs until Ctrl-C
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal, Self

import trustme
from broker import Broker, NoBroker, free_port
from confluent_kafka import KafkaException
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

Kind = Literal["topic", "group", "cluster"]
_RESOURCES: Final = {"topic": ResourceType.TOPIC, "group": ResourceType.GROUP, "cluster": ResourceType.BROKER}
_SCRAM_ROUNDS: Final = 4096
_TIMEOUT_S: Final = 30.0


class SecuredBroker(Broker):
    """As `Broker`, with the doors that the module names. `users`: names and passwords of those who may log in."""

    def __init__(
        self,
        folder: Path,
        *,
        users: Mapping[str, str],
        port: int | None = None,
        properties: Mapping[str, str] | None = None,
    ) -> None:
        self.users = dict(users)
        self.tls_port, self.sasl_port = free_port(), free_port()
        self._ca = trustme.CA(organization_name="market-feed tests")
        self.files = folder / "tls"
        super().__init__(folder, port=port, properties=properties)
        plain = f"127.0.0.1:{self.port}"
        listed = f"PLAINTEXT://{plain},SSL://127.0.0.1:{self.tls_port},SASL_SSL://127.0.0.1:{self.sasl_port}"
        logins = " ".join(f'user_{name}="{_escaped(password)}"' for name, password in self.users.items())
        self._properties = {
            "listeners": f"{listed},CONTROLLER://127.0.0.1:{self._controller}",
            "advertised.listeners": listed,
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SSL:SSL,SASL_SSL:SASL_SSL",
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(self.files / "broker.pem"),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(self.ca_file),
            "listener.name.ssl.ssl.client.auth": "required",
            "ssl.principal.mapping.rules": r"RULE:^.*CN=([^,]+).*$/$1/,DEFAULT",
            "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER",
            "listener.name.sasl_ssl.plain.sasl.jaas.config": (
                f"org.apache.kafka.common.security.plain.PlainLoginModule required {logins};"
            ),
            "listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config": (
                "org.apache.kafka.common.security.scram.ScramLoginModule required;"
            ),
            "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config": (
                "org.apache.kafka.common.security.scram.ScramLoginModule required;"
            ),
            "listener.name.sasl_ssl.oauthbearer.sasl.jaas.config": (
                "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required;"
            ),
            "listener.name.sasl_ssl.oauthbearer.sasl.server.callback.handler.class": (
                "org.apache.kafka.common.security.oauthbearer.internals.unsecured"
                ".OAuthBearerUnsecuredValidatorCallbackHandler"
            ),
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS",
            **self._properties,
        }

    @property
    def tls_address(self) -> str:
        """`HOST:PORT` for clients with a certificate."""
        return f"127.0.0.1:{self.tls_port}"

    @property
    def sasl_address(self) -> str:
        """`HOST:PORT` for clients with a name and a password."""
        return f"127.0.0.1:{self.sasl_port}"

    @property
    def ca_file(self) -> Path:
        """The certificate of the CA, as clients are told it."""
        return self.files / "ca.pem"

    def certificate(self, name: str) -> tuple[Path, Path]:
        """A client's certificate and its key, as two files; it is `User:<name>`."""
        made = self._ca.issue_cert(name, common_name=name)
        certificate, key = self.files / f"{name}.pem", self.files / f"{name}.key"
        certificate.write_bytes(b"".join(one.bytes() for one in made.cert_chain_pems))
        key.write_bytes(made.private_key_pem.bytes())
        key.chmod(0o600)
        return certificate, key

    def start(self) -> Self:
        """Starts it, and makes its users known.

        Raises:
            NoBroker: it ended or did not answer in time.
        """
        if not self.ca_file.is_file():
            self.files.mkdir(parents=True, exist_ok=True)
            self._ca.cert_pem.write_to_path(self.ca_file)
            made = self._ca.issue_cert("127.0.0.1", "localhost")
            chain = b"".join(one.bytes() for one in made.cert_chain_pems)
            (self.files / "broker.pem").write_bytes(_pkcs8(made.private_key_pem.bytes()) + chain)
        super().start()
        admin = self._admin()  # its requests end with it
        for mechanism in (ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512):
            known = ScramCredentialInfo(mechanism, _SCRAM_ROUNDS)
            upserts: list[Any] = [
                UserScramCredentialUpsertion(name, known, word.encode()) for name, word in self.users.items()
            ]
            for done in admin.alter_user_scram_credentials(upserts).values():
                done.result(_TIMEOUT_S)
        return self

    def grant(self, user: str, kind: Kind, name: str, *rights: str) -> None:
        """Lets a user (`alice`) do something: `READ`, `WRITE`, `DESCRIBE`, `DESCRIBE_CONFIGS`, …"""
        bindings = [self._binding(user, kind, name, right) for right in rights]
        admin = self._admin()
        for done in admin.create_acls(bindings).values():
            done.result(_TIMEOUT_S)

    def revoke(self, user: str, kind: Kind, name: str, *rights: str) -> None:
        """Takes it back."""
        filters = [
            AclBindingFilter(
                _RESOURCES[kind],
                name,
                ResourcePatternType.LITERAL,
                f"User:{user}",
                "*",
                AclOperation[right],
                AclPermissionType.ALLOW,
            )
            for right in rights
        ]
        admin = self._admin()
        for done in admin.delete_acls(filters).values():
            done.result(_TIMEOUT_S)

    def _binding(self, user: str, kind: Kind, name: str, right: str) -> AclBinding:
        return AclBinding(
            _RESOURCES[kind],
            name,
            ResourcePatternType.LITERAL,
            f"User:{user}",
            "*",
            AclOperation[right],
            AclPermissionType.ALLOW,
        )

    def _admin(self) -> AdminClient:
        return AdminClient({"bootstrap.servers": self.address})


def _escaped(text: str) -> str:
    """As a file of Java properties has it, which is no UTF-8."""
    return "".join(one if one.isascii() else f"\\u{ord(one):04x}" for one in text)


def _pkcs8(key: bytes) -> bytes:
    """A private key in the only form that Java reads."""
    loaded = load_pem_private_key(key, None)
    return loaded.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def main() -> int:
    """Runs one in the foreground, with a user `feed` who may do nothing yet."""
    parser = argparse.ArgumentParser(description="Run one Apache Kafka broker with TLS, SASL and rights until Ctrl-C.")
    parser.add_argument("--data", type=Path, help="folder that is kept (default: a temporary one)")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="kafka-") as scratch:
        broker = SecuredBroker(arguments.data or Path(scratch), users={"feed": "feed-secret"})
        try:
            with broker:
                certificate, key = broker.certificate("feed")
                print(f"PLAINTEXT {broker.address} SSL {broker.tls_address} SASL_SSL {broker.sasl_address}")
                print(f"ca {broker.ca_file} certificate {certificate} key {key}", flush=True)
                broker.wait()
        except (NoBroker, KafkaException) as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
