"""Records as lines: what is written is read back."""

from __future__ import annotations

from pathlib import Path

import pytest

from feed.run.map_check import Record, sample
from feed.run.map_sample import line


@pytest.mark.parametrize("binary", [True, False])
def test_a_line_is_read_back(tmp_path: Path, binary: bool) -> None:
    file = tmp_path / "sample"
    file.write_bytes(line(b"A", b'{"a":1}', binary=binary) + line(None, b"[\n1]", binary=binary))
    wanted = [Record(1, "A", b'{"a":1}'), Record(2, "", b"[\n1]" if binary else b"[ 1]")]
    assert sample(file, keyed=True, binary=binary) == wanted


def test_a_key_never_breaks_a_line() -> None:
    assert line(b"a\tb\nc", None, binary=False) == b"a b c\t\n"
