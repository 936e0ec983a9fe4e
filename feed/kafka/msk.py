"""Tokens of AWS's IAM for Amazon MSK: `kafka.token_provider = "feed.kafka.msk:token"`.

Owns the region and the form of the answer; who we are is found as everywhere with AWS. The signer is installed beside
(`pip install aws-msk-iam-sasl-signer-python`) and is no extra of ours: it holds packages back that others need newer.
"""

from __future__ import annotations

import os
import time
from typing import Final

from aws_msk_iam_sasl_signer import MSKAuthTokenProvider

from feed.errors import ConfigError

_REGIONS: Final = ("AWS_REGION", "AWS_DEFAULT_REGION")


def token() -> tuple[str, float]:
    """A token for the region of the environment, and its life in seconds.

    Raises:
        ConfigError: there is no region.
    """
    region = next((found for name in _REGIONS if (found := os.environ.get(name))), None)
    if region is None:
        raise ConfigError(f"none of {' and '.join(_REGIONS)} is set, wanted the region of the cluster")
    signed, expires_ms = MSKAuthTokenProvider.generate_auth_token(region)
    return signed, expires_ms / 1000 - time.time()
