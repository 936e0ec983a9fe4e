"""Moments as users of `replay.open` and of the command write them: to the nanosecond, or refused by name."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import replay
from feed.errors import ConfigError
from feed.runtime.command import USAGE, run
from replay.cli import app
from replay.times import ns_of

NOON = 1_795_953_600_000_000_000
MIDNIGHT = NOON - 12 * 3600 * 10**9


@pytest.mark.parametrize(
    ("moment", "ns"),
    [
        (NOON, NOON),
        (str(NOON), NOON),
        ("2026-11-29T12:00Z", NOON),
        (np.int64(NOON), NOON),
        (datetime(2026, 11, 29, 12), NOON),
        (datetime(2026, 11, 29, 12, microsecond=1, tzinfo=UTC), NOON + 1000),
        (datetime(2026, 11, 29, 13, 30, tzinfo=timezone(timedelta(hours=1.5))), NOON),
        (date(2026, 11, 29), MIDNIGHT),
        (np.datetime64("2026-11-29T12:00:00.123456789"), NOON + 123_456_789),
        (np.datetime64("2026-11-29T12"), NOON),
        (np.datetime64("2026-11-29"), MIDNIGHT),
        (np.datetime64("1985-01-01"), 473_385_600_000_000_000),
        (pd.Timestamp("2026-11-29T12:00:00.123456789"), NOON + 123_456_789),
        (pd.Timestamp("2026-11-29T13:00:00.000000001", tz="Europe/Berlin"), NOON + 1),
    ],
)
def test_every_moment_of_python_is_read_to_the_nanosecond(moment: Any, ns: int) -> None:
    assert ns_of(moment) == ns


@pytest.mark.parametrize(
    ("moment", "said"),
    [
        (1_795_973_660, "looks like seconds"),
        (np.int64(1_795_973_660_123), "looks like milliseconds"),
        ("1795973660123456", "looks like microseconds"),
        (0, "looks like seconds"),
        ("9" * 4400, "4400 digits"),
        ("\u0661" * 19, "wanted"),
        ("yesterday", "wanted"),
        (1.795973660e18, "of type float"),
        (None, "of type NoneType"),
        (datetime.max, "1677 and 2262"),
        (date.max, "1677 and 2262"),
        (np.datetime64("9999-01-01"), "none in nanoseconds"),
        (np.datetime64(5, "ps"), "none in nanoseconds"),
        (np.datetime64("NaT"), "NaT"),
        (np.datetime64("NaT", "s"), "NaT"),
        (pd.NaT, "NaT"),
    ],
)
def test_what_is_no_moment_is_a_wrong_value_and_a_wrong_option(moment: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said) as refused:
        ns_of(moment)
    assert isinstance(refused.value, ConfigError)


@pytest.mark.parametrize("flag", ["--start", "--end"])
@pytest.mark.parametrize("command", [["print", "."], ["export", ".", "--table", "trades", "--to", "x.csv"]])
def test_a_command_ends_with_2_and_names_the_unit(
    command: list[str],
    flag: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(app, [*command, flag, "1795973660"]) == USAGE
    assert "looks like seconds" in capsys.readouterr().err


def test_python_gets_a_value_error(tmp_path: Path) -> None:
    with replay.open(str(tmp_path)) as opened:
        with pytest.raises(ValueError, match="looks like milliseconds"):
            opened.trades(start=1_795_973_660_123)
        with pytest.raises(ValueError, match="looks like seconds"):
            opened.book_at("KRAKEN:XBT/USD", 0)
