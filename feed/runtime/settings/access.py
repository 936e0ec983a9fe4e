"""The settings of `[kafka]` that say how brokers are spoken to and who we are there: what contradicts what.

Owns what is said of settings that cannot work together, and these settings at their defaults: an open broker. Leaves
what they mean to a client, and whether a file can be read, to `feed.kafka.access`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from feed.runtime.settings.sections import KafkaSettings

ENCRYPTED: Final = ("SSL", "SASL_SSL")
LOGS_IN: Final = ("SASL_PLAINTEXT", "SASL_SSL")
_FILES: Final = ("ca_file", "client_cert_file", "client_key_file")
_PASSWORD: Final = ("sasl_password", "sasl_password_file")
_TOKENS: Final = ("token_url", "token_scope", "token_provider")
_WHO: Final = ("sasl_mechanism", "sasl_username", *_PASSWORD, *_TOKENS)


def open_broker() -> dict[str, object]:
    """What makes any settings those of a broker that takes whoever comes, as flags."""
    plain = KafkaSettings()
    return {
        "kafka.security_protocol": plain.security_protocol,
        **{f"kafka.{name}": "" for name in (*_FILES, *_WHO)},
    }


def contradiction(kafka: KafkaSettings) -> str:
    """The first thing that cannot work, what was found and what is wanted; empty where all can."""
    return next(_contradictions(kafka), "")


def _contradictions(kafka: KafkaSettings) -> Iterator[str]:
    protocol = f"found kafka.security_protocol {kafka.security_protocol}"
    if kafka.security_protocol not in ENCRYPTED and (given := _given(kafka, _FILES)):
        yield f"{given[0]} is given, {protocol}: wanted {' or '.join(ENCRYPTED)}"
    if kafka.client_key_file and not kafka.client_cert_file:
        yield "kafka.client_key_file is given, kafka.client_cert_file is not: wanted both"
    if kafka.security_protocol not in LOGS_IN:
        if given := _given(kafka, _WHO):
            yield f"{given[0]} is given, {protocol}: wanted {' or '.join(LOGS_IN)}"
        return
    if not kafka.sasl_mechanism:
        yield f"{protocol}, which needs kafka.sasl_mechanism: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER"
    if len(_given(kafka, _PASSWORD)) == 2:
        yield "kafka.sasl_password and kafka.sasl_password_file are both given: wanted one"
    found = f"found kafka.sasl_mechanism {kafka.sasl_mechanism}"
    if kafka.sasl_mechanism != "OAUTHBEARER":
        if given := _given(kafka, _TOKENS):
            yield f"{given[0]} is given, {found}: wanted OAUTHBEARER"
        if missing := _missing(kafka):
            yield f"{found}, which needs {missing}"
        return
    if len(_given(kafka, ("token_url", "token_provider"))) != 1:
        yield f"{found}, which needs one of kafka.token_url and kafka.token_provider"
    if kafka.token_provider:
        if given := _given(kafka, ("sasl_username", *_PASSWORD, "token_scope")):
            yield f"{given[0]} is given, which kafka.token_provider is not told: wanted kafka.token_url"
    else:
        if not kafka.token_url.startswith(("https://", "http://")):
            yield f"found kafka.token_url {kafka.token_url!r}, wanted a URL that begins with https:// or http://"
        if missing := _missing(kafka):
            yield f"kafka.token_url is given, which needs {missing}, as the client's id and secret"


def _given(kafka: KafkaSettings, names: tuple[str, ...]) -> list[str]:
    return [f"kafka.{name}" for name in names if getattr(kafka, name)]


def _missing(kafka: KafkaSettings) -> str:
    if not kafka.sasl_username:
        return "kafka.sasl_username"
    return "" if _given(kafka, _PASSWORD) else "kafka.sasl_password or kafka.sasl_password_file"
