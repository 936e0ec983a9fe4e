"""Tokens of AWS, by a signer that is put in the place of AWS's own: that needs no more than credentials."""

from __future__ import annotations

import importlib
import sys
import time
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from feed.errors import ConfigError
from feed.kafka.access import Access, Entrance

ACCESS = Access(
    bootstrap="b-1:9098",
    security_protocol="SASL_SSL",
    sasl_mechanism="OAUTHBEARER",
    token_provider="feed.kafka.msk:token",
)


@pytest.fixture
def msk(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module, over a signer that signs for fifteen minutes."""

    def generate_auth_token(region: str) -> tuple[str, int]:
        return f"signed for {region}", int((time.time() + 900) * 1000)

    signer: Any = ModuleType("aws_msk_iam_sasl_signer")
    signer.MSKAuthTokenProvider = SimpleNamespace(generate_auth_token=generate_auth_token)
    monkeypatch.setitem(sys.modules, "aws_msk_iam_sasl_signer", signer)
    monkeypatch.delitem(sys.modules, "feed.kafka.msk", raising=False)
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    return importlib.import_module("feed.kafka.msk")


@pytest.mark.anyio
async def test_a_token_is_signed_for_the_region(msk: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="none of AWS_REGION and AWS_DEFAULT_REGION is set, wanted the region"):
        msk.token()
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    signed, life_s = msk.token()
    assert (signed, round(life_s, -1)) == ("signed for eu-west-1", 900)
    assert await Entrance(ACCESS).options()["sasl_oauth_token_provider"].token() == signed


def test_without_the_signer_it_is_said_which_package_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "aws_msk_iam_sasl_signer", None)
    monkeypatch.delitem(sys.modules, "feed.kafka.msk", raising=False)
    with pytest.raises(ConfigError, match=r"kafka.token_provider 'feed.kafka.msk:token': .*aws_msk_iam_sasl_signer"):
        Entrance(ACCESS)
