"""Checks of a process, and the answer of `/readyz`."""

from __future__ import annotations

from feed.runtime.checks import Check, failing, in_one_line, is_ready, readyz_text

GOOD = Check("kafka", True, "answered 3 ms ago")
BAD = Check("hub", False, "not read yet")
TOLD = Check("kraken/1", False, "silent", counts=False)


def test_ready_hangs_on_what_counts() -> None:
    assert is_ready([])
    assert is_ready([GOOD, TOLD])
    assert not is_ready([GOOD, BAD, TOLD])
    assert failing([GOOD, BAD, TOLD]) == [BAD]


def test_the_answer_says_what_is_in_the_way_or_each_check() -> None:
    checks = [GOOD, BAD, TOLD]
    assert readyz_text([GOOD, TOLD], verbose=False) == "ok\n"
    assert readyz_text(checks, verbose=False) == "[-] hub: not read yet\nnot ready\n"
    assert readyz_text(checks, verbose=True) == (
        "[+] kafka: answered 3 ms ago\n[-] hub: not read yet\n[!] kraken/1: silent\nnot ready\n"
    )
    assert in_one_line(checks) == "kafka: answered 3 ms ago; hub: not read yet; kraken/1: silent"
