"""How brokers are reached: what contradicts what is said before anything starts, and no secret is ever shown."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from feed.cli import app
from feed.errors import ConfigError
from feed.runtime.settings import given, leaves, load, open_broker, template

WORD = "hunter2 ä"
LOGIN = {
    "kafka.security_protocol": "SASL_SSL",
    "kafka.sasl_mechanism": "SCRAM-SHA-512",
    "kafka.sasl_username": "feed",
    "kafka.sasl_password": WORD,
}
TOKENS = {**LOGIN, "kafka.sasl_mechanism": "OAUTHBEARER", "kafka.token_url": "https://idp/token"}
PROVIDED = {
    "kafka.security_protocol": "SASL_SSL",
    "kafka.sasl_mechanism": "OAUTHBEARER",
    "kafka.token_provider": "desk:token",
}
GOOD: tuple[dict[str, str], ...] = (
    {},
    {"kafka.security_protocol": "SSL"},
    {"kafka.security_protocol": "SSL", "kafka.client_cert_file": "both.pem"},
    {**LOGIN, "kafka.ca_file": "ca.pem", "kafka.client_cert_file": "c.pem", "kafka.client_key_file": "c.key"},
    {**LOGIN, "kafka.sasl_password": "", "kafka.sasl_password_file": "word"},
    {**LOGIN, "kafka.security_protocol": "SASL_PLAINTEXT"},
    {**TOKENS, "kafka.token_scope": "kafka"},
    PROVIDED,
)


@pytest.mark.parametrize("flags", GOOD)
def test_what_fits_together_is_taken(flags: dict[str, str]) -> None:
    load(flags)


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        ({"kafka.security_protocol": "TLS"}, r"kafka.security_protocol \(flag\): input should be 'PLAINTEXT', 'SSL'"),
        ({"kafka.ca_file": "ca.pem"}, "kafka.ca_file is given, found kafka.security_protocol PLAINTEXT: wanted SSL or"),
        (
            {"kafka.security_protocol": "SASL_PLAINTEXT", "kafka.client_cert_file": "c.pem"},
            "kafka.client_cert_file is given, found kafka.security_protocol SASL_PLAINTEXT: wanted SSL or SASL_SSL",
        ),
        (
            {"kafka.security_protocol": "SSL", "kafka.client_key_file": "c.key"},
            "kafka.client_key_file is given, kafka.client_cert_file is not: wanted both",
        ),
        (
            {"kafka.sasl_mechanism": "PLAIN"},
            "kafka.sasl_mechanism is given, found kafka.security_protocol PLAINTEXT: wanted SASL_PLAINTEXT or SASL_SSL",
        ),
        ({**LOGIN, "kafka.security_protocol": "SSL"}, "kafka.sasl_mechanism is given, .* SSL: wanted SASL_PLAINTEXT"),
        (
            {"kafka.security_protocol": "SASL_SSL"},
            "found kafka.security_protocol SASL_SSL, which needs kafka.sasl_mech",
        ),
        ({**LOGIN, "kafka.sasl_username": ""}, "found kafka.sasl_mechanism SCRAM-SHA-512, which needs kafka.sasl_user"),
        ({**LOGIN, "kafka.sasl_password": ""}, "which needs kafka.sasl_password or kafka.sasl_password_file"),
        (
            {**LOGIN, "kafka.sasl_password_file": "word"},
            "kafka.sasl_password and kafka.sasl_password_file are both given",
        ),
        ({**LOGIN, "kafka.token_url": "https://idp"}, "kafka.token_url is given, found .* SCRAM-SHA-512: wanted OAUTH"),
        ({**TOKENS, "kafka.token_url": ""}, "which needs one of kafka.token_url and kafka.token_provider"),
        ({**TOKENS, "kafka.token_provider": "desk:token"}, "needs one of kafka.token_url and kafka.token_provider"),
        (
            {**TOKENS, "kafka.token_url": "idp/token"},
            "found kafka.token_url 'idp/token', wanted a URL that begins with",
        ),
        ({**TOKENS, "kafka.sasl_password": ""}, "kafka.token_url is given, which needs kafka.sasl_password or"),
        (
            {**PROVIDED, "kafka.sasl_username": "feed"},
            "kafka.sasl_username is given, which kafka.token_provider is not",
        ),
    ],
)
def test_what_contradicts_is_said_with_what_was_found_and_wanted(flags: dict[str, str], why: str) -> None:
    with pytest.raises(ConfigError, match=why) as told:
        load(flags)
    assert WORD not in str(told.value)
    assert WORD not in str(told.value.__cause__)


def test_a_secret_is_shown_nowhere(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name, value in LOGIN.items():
        monkeypatch.setenv(f"FEED_{name.upper().replace('.', '__')}", value)
    settings = load().settings
    for arguments in (["config", "show"], ["config", "show", "--json"], ["config", "check"]):
        app(arguments, result_action="return_value", exit_on_error=False)
    said = capsys.readouterr()
    texts = [said.out, said.err, repr(settings), str(settings), f"{settings.kafka!r}", str(dict(leaves(settings)))]
    assert [text for text in texts if WORD in text or "hunter2" in text] == []
    assert said.out.count("**********") == 2
    assert "sasl_password = " in template()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[kafka]\nsasl_password = 12345", r"kafka.sasl_password \(feed.toml\): input should be .*, found a secret"),
        ("[kafka.sasl_password]\nword = 12345", r"kafka.sasl_password \(feed.toml\): .*, found a secret"),
    ],
)
def test_nor_is_one_that_cannot_be(text: str, why: str) -> None:
    Path("feed.toml").write_text(text)
    with pytest.raises(ConfigError, match=why) as told:
        load()
    assert "12345" not in str(told.value) + str(told.value.__cause__)


def test_nor_one_that_somebody_takes_for_a_section(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("feed.toml").write_text('[kafka]\nsasl_password = "12345"')
    with pytest.raises(ConfigError, match="which has the value a secret") as told:
        load({"kafka.sasl_password.word": "x"})
    assert "12345" not in str(told.value)


@pytest.mark.parametrize("flags", GOOD)
def test_a_child_process_is_given_all_of_it(flags: dict[str, str]) -> None:
    settings = load(flags).settings
    line = msgspec.json.encode(given(settings))
    assert load(msgspec.json.decode(line, type=dict[str, object])).settings == settings
    assert settings.kafka.sasl_password.get_secret_value() == flags.get("kafka.sasl_password", "")


@pytest.mark.parametrize("flags", GOOD)
def test_the_demo_has_an_open_broker_whatever_is_set(flags: dict[str, str]) -> None:
    assert load({**flags, **open_broker()}).settings == load().settings
