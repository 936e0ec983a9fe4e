"""Every connection to Kafka is made by the options of an `Entrance`: nobody opens one past TLS, a login and its errors.

Read from the source. A client of a Kafka library is made with `**….options()` alone as its way in; only the door
imports what makes connections; `kafka.bootstrap` is read by the entrance alone; and whatever connects is given what
`entrance_of` says, or passes on what it was given itself.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CODE = sorted([*(ROOT / "feed").rglob("*.py"), *(ROOT / "replay").rglob("*.py")])
CLIENTS = {"AIOKafkaClient", "AIOKafkaConsumer", "AIOKafkaProducer", "AIOKafkaAdminClient"}
CONNECTS = {"Cluster", "Appender", "Producer", "Appenders", "DeadLetters", "Follower", "Recorder", "RawRecorder"}
CONNECTS |= {"FeedLogs", "GroupMember", "Normalizer"}
PASSED_ON = ("broker", "self._broker", "target.broker")
CONNECTIONS = {"create_conn", "AIOKafkaConnection"}
OTHER_LIBRARIES = ("confluent_kafka", "kafka")
WAYS_IN = ("bootstrap_servers", "security_protocol", "ssl_context", "sasl_")
ACCESS = Path("feed/kafka/access.py")
CORRECTS = Path("feed/kafka/connection.py")  # patches the class of connections, and makes none
# that say where brokers are, and connect to none
TELLS = (
    Path("feed/run/doctor.py"),
    Path("feed/run/topics_shown.py"),
    Path("feed/runtime/settings/tree.py"),
)
DEMO = Path("feed/demo/broker.py")  # the broker in memory: confluent-kafka makes it, and nothing connects by it


def past_the_entrance(path: Path, text: str) -> Iterator[str]:
    """What opens a connection, or knows where one would lead, without the entrance."""
    for node in ast.walk(ast.parse(text)):
        where = f"{path}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.ImportFrom | ast.Import):
            module = getattr(node, "module", None) or ""
            names = {alias.name for alias in node.names}
            roots = {name.split(".")[0] for name in ({module} if module else names)}
            if roots & set(OTHER_LIBRARIES) and path != DEMO:
                yield f"{where}: another library, {roots}"
            if names & CONNECTIONS and path not in (ACCESS, CORRECTS):
                yield f"{where}: imports {names & CONNECTIONS}"
            if CLIENTS & {alias.name for alias in node.names if alias.asname}:
                yield f"{where}: a client under another name"
        if isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in CLIENTS and not _by_options(node):
                yield f"{where}: {called} without the options of an entrance"
            if called in CONNECTS and path != DEMO and not _is_passed_on(node):
                yield f"{where}: {called} is not given an entrance"
            if called == "bootstrap" and path != ACCESS:
                yield f"{where}: connects by itself, and so without its errors"
        if isinstance(node, ast.Attribute) and node.attr == "bootstrap" and path not in (ACCESS, *TELLS):
            yield f"{where}: reads kafka.bootstrap"


def _is_passed_on(call: ast.Call) -> bool:
    """Whether what is called gets an entrance."""
    first = ast.unparse(call.args[0]) if call.args else ""
    return first in PASSED_ON or first.startswith("entrance_of(")


def _by_options(call: ast.Call) -> bool:
    """Whether all that it says of the way in comes from `options()`."""
    spread = [keyword.value for keyword in call.keywords if keyword.arg is None]
    named = [keyword.arg for keyword in call.keywords if keyword.arg is not None]
    return (
        len(spread) == 1
        and isinstance(spread[0], ast.Call)
        and isinstance(spread[0].func, ast.Attribute)
        and spread[0].func.attr == "options"
        and not any(name.startswith(WAYS_IN) for name in named)
    )


@pytest.mark.parametrize("path", CODE, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_nobody_connects_past_the_entrance(path: Path) -> None:
    assert list(past_the_entrance(path.relative_to(ROOT), path.read_text("utf-8"))) == []


def test_there_are_connections() -> None:
    made = [path for path in CODE if any(f"{client}(" in path.read_text("utf-8") for client in CLIENTS)]
    assert {path.stem for path in made} == {"cluster", "produce", "membership"}


@pytest.mark.parametrize(
    "text",
    [
        "AIOKafkaClient(bootstrap_servers=address)",
        "aiokafka.AIOKafkaProducer(acks='all')",
        "AIOKafkaConsumer(**entrance.options(), security_protocol='PLAINTEXT')",
        "AIOKafkaAdminClient(**given)",
        "from aiokafka import AIOKafkaClient as Client",
        "from aiokafka.conn import create_conn",
        "from confluent_kafka.admin import AdminClient",
        "import confluent_kafka",
        "await client.bootstrap()",
        "Cluster(settings.kafka.bootstrap)",
        "Appender(broker.address, compression='zstd')",
        "Follower('127.0.0.1:9092', topics)",
    ],
)
def test_what_goes_past_it_is_found(text: str) -> None:
    assert list(past_the_entrance(Path("feed/run/other.py"), text))
