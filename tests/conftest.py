"""Fixtures of all tests: captured data, and a real Apache Kafka broker.

- `data_dir`: captured market data (`FEED_TEST_DATA`, else `../shared/data`); skips where it is absent.
- `kafka`: `HOST:PORT` of a real broker for the whole session: `FEED_TEST_KAFKA`, else one from Maven's jars.
- `secured`: a real broker with certificates, passwords and rights (`ops/kafka/secured.py`), for the whole session.
- `own_broker`: starts brokers of the test's own, to be killed and paused.
- `fresh`: makes names that no other test uses, for topics and groups.

Without Java the tests of a real broker are skipped, and the summary says so in capitals; with
`FEED_TEST_REQUIRE_KAFKA=1` that is an error. The summary counts the tests that used a real broker.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from broker import Broker, NoBroker
from hypothesis import settings

if TYPE_CHECKING:
    from secured import SecuredBroker

ROOT: Final = Path(__file__).resolve().parent.parent
BROKER_FIXTURES: Final = frozenset({"kafka", "own_broker", "secured"})
USED: Final = "broker"

_ADDRESS: Final = pytest.StashKey[str]()

BrokerMaker = Callable[..., Broker]

# how long an example takes says more of the machine's other work than of the code
settings.register_profile("shared machine", deadline=None)
settings.load_profile("shared machine")


@pytest.fixture
def anyio_backend() -> str:
    """Asynchronous tests run on asyncio alone, as the service does."""
    return "asyncio"


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of captured market data, with its `facts.json`."""
    folder = Path(os.environ.get("FEED_TEST_DATA") or ROOT.parent / "shared" / "data")
    if not (folder / "facts.json").is_file():
        pytest.skip(f"NO CAPTURED DATA in {folder}: set FEED_TEST_DATA")
    return folder


@pytest.fixture(scope="session")
def kafka(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`HOST:PORT` of a real Apache Kafka; topics of the test are its own (`fresh`)."""
    if given := os.environ.get("FEED_TEST_KAFKA"):
        _must_answer(given)
        request.config.stash[_ADDRESS] = given
        yield given
        return
    broker = _started(Broker(tmp_path_factory.mktemp("kafka")))
    request.config.stash[_ADDRESS] = broker.address
    try:
        yield broker.address
    finally:
        broker.stop()


@pytest.fixture(scope="session")
def secured(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredBroker]:
    """A broker that lets in only whom it knows; users have the rights that their tests give them."""
    from secured import SecuredBroker

    names = ("feed", "normalizer", "gateway", "recorder", "publisher")
    users = {name: f"{secrets.token_hex(4)},w=1 ä" for name in names}
    broker = SecuredBroker(tmp_path_factory.mktemp("secured"), users=users)
    _started(broker)
    request.config.stash.setdefault(_ADDRESS, broker.address)
    yield broker
    broker.stop()


@pytest.fixture
def own_broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[BrokerMaker]:
    """Starts a broker that is the test's own: `own_broker(**{"log.retention.ms": "1000"})`; stopped at the end."""
    made: list[Broker] = []

    def make(**properties: str) -> Broker:
        made.append(_started(Broker(tmp_path / f"broker-{len(made)}", properties=properties)))
        request.config.stash.setdefault(_ADDRESS, made[-1].address)
        return made[-1]

    yield make
    for broker in made:
        broker.stop()


@pytest.fixture
def fresh() -> Callable[[str], str]:
    """`fresh("ticks")` is a name that nobody else has, for a topic, a group or a venue."""
    return lambda stem: f"{stem}-{secrets.token_hex(4)}"


def _started(broker: Broker) -> Broker:
    try:
        return broker.start()
    except NoBroker as reason:
        if os.environ.get("FEED_TEST_REQUIRE_KAFKA"):
            pytest.fail(f"a real Apache Kafka is required: {reason}", pytrace=False)
        pytest.skip(f"NO REAL KAFKA: {reason}")


def _must_answer(address: str) -> None:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except (OSError, ValueError) as error:
        pytest.fail(f"FEED_TEST_KAFKA={address} does not answer: {error}", pytrace=False)


def pytest_configure() -> None:
    """Where tests are run by `nohup`, they and the commands that they start hear a hangup all the same."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks `kafka` every test that takes a broker, directly or through another fixture."""
    for item in items:
        if BROKER_FIXTURES.intersection(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.kafka)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Notes on a test's report which broker it used; travels to the summary also from another process."""
    address = item.config.stash.get(_ADDRESS, None)
    if call.when == "call" and address and item.get_closest_marker("kafka"):
        item.user_properties.append((USED, address))
    return (yield)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says how many tests used the real broker, or loudly that none could."""
    used: list[str] = []
    missed = 0
    for outcome, reports in terminalreporter.stats.items():
        for report in reports:
            if outcome in ("passed", "failed") and getattr(report, "when", "") == "call":
                used += [address for name, address in report.user_properties if name == USED]
            if outcome == "skipped" and "NO REAL KAFKA" in str(getattr(report, "longrepr", "")):
                missed += 1
    if missed:
        terminalreporter.section("NO REAL KAFKA", red=True)
        terminalreporter.write_line(
            f"{missed} tests that need a real Apache Kafka did NOT run; what else ran used plain bytes or the demo's "
            "broker in memory. Install Java 17 and Maven, or set FEED_TEST_KAFKA=host:port."
        )
    if used:
        addresses = ", ".join(sorted(set(used)))
        terminalreporter.write_line(f"{len(used)} tests used the real Apache Kafka broker at {addresses}")
