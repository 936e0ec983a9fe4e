"""The board in a real browser: first quote on screen, stale made loud, and back after a restart of the gateway.

Needs Debian's `chromium` (or FEED_TEST_CHROMIUM); without it the tests are skipped, and say so.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from feed.runtime.settings import ServeSettings
from feed.wire.model import Quote, Trade
from tests.browser.chromium import EXECUTABLE, Chromium, Page
from tests.gateways import Running
from tests.market import OTHER, SYMBOL, Market

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(not EXECUTABLE, reason="NO BROWSER: install Debian's chromium, or set FEED_TEST_CHROMIUM"),
]


SETTINGS: Final = ServeSettings(port=0, heartbeat_ms=200, reconnect_spread_ms=200)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """One browser for all."""
    with Chromium(tmp_path_factory.mktemp("chromium")) as chromium:
        yield chromium.page()


@pytest.fixture
def page(browser: Page) -> Iterator[Page]:
    """Its tab, emptied."""
    browser.open("about:blank")
    browser.events.clear()
    yield browser
    browser.open("about:blank")


def cell(column: str, symbol: str = SYMBOL) -> str:
    """JavaScript for the text of a cell."""
    return f"document.querySelector('tr[data-symbol=\"{symbol}\"] td.{column}')?.textContent"


BADGE: Final = "document.getElementById('badge')?.textContent"


def test_quotes_are_live(page: Page, tmp_path: Path) -> None:
    with Running(SETTINGS) as running:
        market = Market(running)
        market.open()
        began = time.monotonic()
        page.open(f"http://127.0.0.1:{running.port}/")
        page.wait_for(f"{cell('bid')} === '60000.1'")
        assert time.monotonic() - began < 5
        page.wait_for(f"{BADGE} === 'live'")
        assert page.evaluate(cell("ask")) == "60000.3"
        assert page.evaluate(cell("spread")) == "0.2"
        assert page.evaluate(cell("last")) == "60000.5"
        market.tick("quotes", SYMBOL, Quote("60001.25", "3", "60001.5", "0.5"))
        market.tick("trades", SYMBOL, [Trade("60001.5", "0.25", "buy", "2", None)])
        page.wait_for(f"{cell('bid')} === '60001.25'")
        page.wait_for(f"{cell('last')} === '60001.50'")
        assert page.evaluate(f"document.querySelector('tr[data-symbol=\"{SYMBOL}\"] td.last').className").startswith(
            "last up"
        )
        assert page.evaluate(cell("bid", OTHER)) == "60000.1"
        assert page.problems() == []
        own = f"http://127.0.0.1:{running.port}/"
        assert all(url.startswith(own) for url in page.requested() if url.startswith("http"))
        page.picture(tmp_path / "board.png")


def test_the_filter_is_in_the_address(page: Page) -> None:
    with Running(SETTINGS) as running:
        Market(running).open()
        page.open(f"http://127.0.0.1:{running.port}/?symbol=eth")
        page.wait_for(f"{cell('bid', OTHER)} === '60000.1'")
        hidden = f"document.querySelector('tr[data-symbol=\"{SYMBOL}\"]').hidden"
        assert page.evaluate(hidden) is True
        page.evaluate(
            "(s => { s.value = 'xbt'; s.dispatchEvent(new Event('input')) })(document.getElementById('search'))"
        )
        assert page.evaluate(hidden) is False
        assert page.evaluate("location.search") == "?symbol=xbt"


def test_escape_clears_the_field_and_the_filter(page: Page) -> None:
    with Running(SETTINGS) as running:
        Market(running).open()
        page.open(f"http://127.0.0.1:{running.port}/?symbol=eth")
        page.wait_for(f"{cell('bid', OTHER)} === '60000.1'")
        hidden = f"document.querySelector('tr[data-symbol=\"{SYMBOL}\"]').hidden"
        assert page.evaluate(hidden) is True
        page.evaluate("document.getElementById('search').focus()")
        for kind in ("rawKeyDown", "keyUp"):
            page.ask("Input.dispatchKeyEvent", type=kind, key="Escape", code="Escape", windowsVirtualKeyCode=27)
        page.wait_for(f"!{hidden}")
        assert page.evaluate("document.getElementById('search').value") == ""
        assert page.evaluate("location.search") == ""
        assert page.evaluate("document.activeElement === document.body")


def test_the_badge_tells_within_two_seconds_that_nobody_answers(page: Page) -> None:
    """A connection that died without a word: no heartbeat is due for long, and TCP says nothing."""
    slow = SETTINGS.model_copy(update={"heartbeat_ms": 30_000})
    with Running(slow) as running:
        Market(running).open()
        page.open(f"http://127.0.0.1:{running.port}/")
        page.wait_for(f"{BADGE} === 'live'")
        time.sleep(2.5)
        assert page.evaluate(BADGE) == "live"  # quiet is not dead
        running.loop.call_soon_threadsafe(time.sleep, 4.0)
        stopped = time.monotonic()
        page.wait_for(f"{BADGE} === 'no answer'", 3)
        assert time.monotonic() - stopped < 2.2
        assert page.evaluate("document.body.classList.contains('down')")
        assert "what you see is old" in page.evaluate("document.getElementById('notice').textContent")
        page.wait_for(f"{BADGE} === 'live'")
        assert not page.evaluate("document.body.classList.contains('down')")
        assert page.evaluate("stream.tries") == 0
        assert page.problems() == []


def test_signed_prices_keep_their_sign_their_places_and_their_direction(page: Page) -> None:
    with Running(SETTINGS) as running:
        market = Market(running)
        market.open()
        page.open(f"http://127.0.0.1:{running.port}/")
        page.wait_for(f"{BADGE} === 'live'")
        last = f"document.querySelector('tr[data-symbol=\"{OTHER}\"] td.last')"
        market.tick("quotes", OTHER, Quote("-37.63", "3", "-0.05", "0.5"))
        market.tick("trades", OTHER, [Trade("-37.63", "0.25", "buy", "2", None)])
        page.wait_for(f"{cell('bid', OTHER)} === '-37.63'")
        assert page.evaluate(cell("ask", OTHER)) == "-0.05"
        assert page.evaluate(cell("spread", OTHER)) == "37.58"
        page.wait_for(f"{last}.className.startsWith('last down')")
        market.tick("trades", OTHER, [Trade("-37.6299999999999999", "1", "buy", "3", None)])
        page.wait_for(f"{last}.className.startsWith('last up')")
        market.tick("trades", OTHER, [Trade("0", "1", "buy", "4", None)])
        page.wait_for(f"{last}.textContent.startsWith('0.00')")
        assert page.evaluate(f"{last}.className").startswith("last up")
        market.tick("trades", OTHER, [Trade("-2", "1", "sell", "5", None)])
        page.wait_for(f"{last}.className.startsWith('last down')")
        assert page.evaluate(cell("last", OTHER)).startswith("-2.00")
        market.tick("quotes", OTHER, Quote("0", "1", "-1.5", "1"))
        page.wait_for(f"{cell('spread', OTHER)} === '-1.5'")
        assert page.evaluate(cell("bid", OTHER)).startswith("0.00")


@pytest.mark.parametrize("reason", ["silent", "disconnected", "stalled"])
def test_every_reason_of_a_stale_source_shows(page: Page, reason: str) -> None:
    with Running(SETTINGS) as running:
        market = Market(running)
        market.open()
        page.open(f"http://127.0.0.1:{running.port}/")
        page.wait_for(f"{BADGE} === 'live'")
        market.source_state(reason)
        page.wait_for(f"{cell('state')} === 'STALE: {reason}'")
        market.source_state(None)
        page.wait_for(f"{cell('state')} === ''")


def test_a_hole_of_the_page_s_own_is_mended_with_the_channel_s_parameters(page: Page) -> None:
    with Running(SETTINGS) as running:
        Market(running).open()
        page.open(f"http://127.0.0.1:{running.port}/")
        page.wait_for(f"{BADGE} === 'live'")
        hole = f"{{type: 'update', channel: 'quotes', symbol: '{SYMBOL}', prev: 900, seq: 901, data: {{}}}}"
        asked = page.evaluate(
            "(() => { const asked = [], send = stream.send; stream.view = {every_ms: 250, on_lag: 'close'};"
            "stream.send = (request) => asked.push(request);"
            f"stream.update({hole}); stream.send = send; return asked }})()"
        )
        wanted = {"op": "subscribe", "channels": ["quotes"], "symbols": [SYMBOL], "from": "snapshot"}
        assert asked == [wanted | {"every_ms": 250, "on_lag": "close"}]


def test_stale_is_loud(page: Page) -> None:
    with Running(SETTINGS) as running:
        market = Market(running)
        market.open()
        page.open(f"http://127.0.0.1:{running.port}/")
        page.wait_for(f"{BADGE} === 'live'")
        market.source_state("disconnected")
        page.wait_for(f"{cell('state')} === 'STALE: disconnected'")
        row = f"document.querySelector('tr[data-symbol=\"{SYMBOL}\"]')"
        assert page.evaluate(f"{row}.classList.contains('stale')")
        assert page.evaluate(f"getComputedStyle({row}.querySelector('.bid')).textDecorationLine") == "line-through"
        market.source_state(None)
        page.wait_for(f"{cell('state')} === ''")
        assert not page.evaluate(f"{row}.classList.contains('stale')")
        page.wait_for(f"{row}.classList.contains('old')", 5)
        assert page.evaluate(cell("age")).endswith(" s")


def test_a_phone_shows_price_and_state_without_scrolling(page: Page) -> None:
    with Running(SETTINGS) as running:
        Market(running).open()
        page.ask("Emulation.setDeviceMetricsOverride", width=390, height=844, deviceScaleFactor=1, mobile=False)
        page.open(f"http://127.0.0.1:{running.port}/")
        page.wait_for(f"{cell('bid')} && {cell('last')}")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        page.ask("Emulation.clearDeviceMetricsOverride")


def test_back_after_a_restart_of_the_gateway(page: Page) -> None:
    """The page resumes from its marks: what came meanwhile is there, and nothing is asked for anew."""
    with Running(SETTINGS) as running:
        market = Market(running)
        market.open()
        page.open(f"http://127.0.0.1:{running.port}/")
        page.wait_for(f"{BADGE} === 'live'")
        page.wait_for("stream.marks !== null")
        port = running.port
    page.wait_for(f"({BADGE} ?? '').startsWith('reconnecting')")
    assert page.evaluate("document.body.classList.contains('down')")
    assert page.evaluate("!document.getElementById('notice').hidden")
    said = "document.getElementById('notice').textContent"
    since = page.evaluate(said)
    assert page.evaluate("document.getElementById('lag').textContent") == "–"
    page.evaluate("window.Later = class extends Date { constructor() { super(Date.now() + 3600e3) } }; Date = Later; 0")
    tries = page.evaluate("stream.tries")
    page.wait_for(f"stream.tries > {tries} && {BADGE} !== 'live'")
    assert page.evaluate(said) == since
    page.evaluate(
        "window.snapshots = 0; window.inside = stream.snapshot;"
        "stream.snapshot = function (m) { snapshots += 1; inside.call(stream, m) }"
    )
    with Running(SETTINGS.model_copy(update={"port": port})) as running:
        market.running, market.seq = running, 0
        market.open()
        market.tick("quotes", SYMBOL, Quote("60005", "3", "60006", "0.5"))
        page.wait_for(f"{cell('bid')} === '60005.0'")
        page.wait_for(f"{BADGE} === 'live'")
        assert not page.evaluate("document.body.classList.contains('down')")
        assert page.evaluate("window.snapshots") == 0


def test_the_reference_works_without_a_network(page: Page) -> None:
    with Running(SETTINGS) as running:
        page.open(f"http://127.0.0.1:{running.port}/docs")
        page.wait_for("document.body?.innerText.includes('/v1/snapshot/{channel}/{symbol}')")
        own = f"http://127.0.0.1:{running.port}/"
        assert all(url.startswith(own) for url in page.requested() if url.startswith("http"))
        assert page.problems() == []
