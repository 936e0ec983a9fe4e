"""The units as systemd's own tool reads them. That a role runs behind their walls was not tried: it needs systemd."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.ops.deployed import ROLES, UNIT, unit

ANALYZE: Final = shutil.which("systemd-analyze")
FEED: Final = Path(sys.executable).with_name("feed")
EXPOSURE_MAX: Final = 20
"""In tenths: 2.0 of 10 is `OK`."""
needs_systemd = pytest.mark.skipif(
    ANALYZE is None or not FEED.exists(), reason="NO SYSTEMD-ANALYZE: nobody read the units; install Debian's systemd"
)
TOLD: Final = unit()


def installed(folder: Path, role: str, text: str) -> Path:
    """The unit of a role, whose command is that of this checkout."""
    path = folder / f"feed@{role}.service"
    path.write_text(text.replace("/opt/feed/bin/feed", str(FEED)))
    return path


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    assert ANALYZE is not None
    command = [ANALYZE, "--no-pager", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def verified(path: Path) -> subprocess.CompletedProcess[str]:
    return analyze("verify", "--man=no", "--recursive-errors=no", path)


@needs_systemd
@pytest.mark.parametrize("role", [*ROLES, "up"])
def test_a_unit_can_be_read(role: str, tmp_path: Path) -> None:
    done = verified(installed(tmp_path, role, UNIT.read_text("utf-8")))
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@needs_systemd
@pytest.mark.parametrize(
    ("right", "wrong"), [("KillMode=mixed", "KillMode=some"), ("UMask=", "Umsk="), ("ExecStart=", "ExecStart=/nowhere")]
)
def test_the_reader_sees_what_is_wrong(right: str, wrong: str, tmp_path: Path) -> None:
    done = verified(installed(tmp_path, "serve", UNIT.read_text("utf-8").replace(right, wrong)))
    assert done.stdout + done.stderr


@needs_systemd
def test_a_role_is_shut_in(tmp_path: Path) -> None:
    path = installed(tmp_path, "serve", UNIT.read_text("utf-8"))
    done = analyze("security", "--offline=true", f"--threshold={EXPOSURE_MAX}", path)
    assert done.returncode == 0, done.stdout


def test_it_ends_as_a_role_wants_to_be_ended() -> None:
    # workers get the signal from their parent: a second one from systemd would cut their clients
    assert TOLD["KillMode"] == ["mixed"]
    assert TOLD["KillSignal"] == ["SIGTERM"]
    assert TOLD["Restart"] == ["on-failure"]
    assert TOLD["RestartPreventExitStatus"] == ["2"]
    # a gateway raises its own limit of open files
    assert not any("@resources" in line and line.startswith("~") for line in TOLD["SystemCallFilter"])
    assert "ProcSubset" not in TOLD
