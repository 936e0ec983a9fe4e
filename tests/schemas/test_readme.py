"""The protocol's page says what the files say, and its programs do what it says."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import threading
from importlib.resources import files
from typing import Any, Final

import pytest
from websockets.sync.server import ServerConnection, serve

import schemas

FOLDER = files("schemas")
TEXT: Final = (FOLDER / "README.md").read_text("utf-8")
BLOCK: Final = re.compile(r"\[`(\w+)`\]\(examples/\w+\.json\)\n\n```json\n(.*?)```", re.DOTALL)
EXAMPLES: Final[dict[str, str]] = dict(BLOCK.findall(TEXT))
RULES: Final = [name for name in schemas.examples() if name.startswith("rule_")]


def program(language: str, name: str) -> str:
    """The program of that name on the page."""
    found = re.search(rf"<!-- {name} -->\n```{language}\n(.*?)```", TEXT, re.DOTALL)
    assert found, f"no program {name} in {language}"
    return found[1]


def rows(after: str) -> list[list[str]]:
    """The cells of the table whose head begins with `after`, without code marks."""
    table = TEXT[TEXT.index(after) :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in table]


@pytest.mark.parametrize("name", EXAMPLES)
def test_example_is_that_of_the_file(name: str) -> None:
    shown, filed = json.loads(EXAMPLES[name]), json.loads(schemas.example(name))
    assert json.dumps(shown) == json.dumps(filed)  # as texts: the order of fields counts


def test_every_block_of_json_is_an_example_with_its_name() -> None:
    assert TEXT.count("```json") == len(EXAMPLES) > 40
    named = re.findall(r"\[`(\w+)`\]\(examples/(\w+)\.json\)\n\n```json", TEXT)
    assert all(shown == file for shown, file in named)


def test_every_message_and_request_is_shown() -> None:
    shown = [json.loads(text) for text in EXAMPLES.values()]
    types = set(schemas.schema("message")["properties"]["type"]["enum"])
    ops = set(schemas.schema("request")["properties"]["op"]["enum"]) - {"auth"}
    assert types <= {value.get("type") for value in shown}
    assert ops <= {value.get("op") for value in shown if "type" not in value}


def test_every_link_leads_somewhere() -> None:
    heads = re.findall(r"^#+ (.*)", TEXT, re.MULTILINE)
    anchors = {re.sub(r"[^a-z0-9 -]", "", head.lower()).replace(" ", "-") for head in heads}
    for link in re.findall(r"\]\(([^)]+)\)", TEXT):
        if link.startswith("#"):
            assert link[1:] in anchors, link
        else:
            assert (FOLDER / link).is_file() or (FOLDER / link).is_dir(), link


def test_every_rule_scenario_and_session_is_linked() -> None:
    for name in schemas.examples():
        if name.startswith(("rule_", "session_")):
            assert f"(examples/{name}.json)" in TEXT, name


def test_errors_are_those_of_the_table() -> None:
    wanted = [[*error[:4], "yes" if error.retry else "no"] for error in schemas.errors().values()]
    assert rows("| code | meaning |") == wanted


def test_close_codes_are_those_of_the_table() -> None:
    assert rows("| close code | name |") == [[str(close.code), *close[1:4]] for close in schemas.closes().values()]


@pytest.mark.parametrize("name", RULES)
def test_the_python_program_keeps_the_clients_rule(name: str) -> None:
    space: dict[str, Any] = {}
    exec(program("python", "rule"), space)
    scenario = json.loads(schemas.example(name))
    channel = space["Channel"](lambda data, whole: None, **scenario["start"])
    for step in scenario["steps"]:
        message, then = step["message"], step["then"]
        did = "marks" if message["type"] == "heartbeat" else channel.take(message)
        assert (did, channel.pos, channel.source, channel.waiting) == tuple(then.values())


@pytest.mark.parametrize(
    ("mode", "seq", "source", "then"),
    [
        ("snapshot", 90, "s", (80, "s", True)),
        ("live", 90, "s", (90, "s", False)),
        ("live", 70, "s", (80, "s", False)),
        ("live", -1, "t", (-1, "t", False)),
        ("resumed", 75, "s", (80, "s", True)),
        ("resumed", 90, "s", (80, "s", True)),
        ("resumed", 90, "t", (90, "t", True)),
        ("gap", 90, "s", (80, "s", True)),
    ],
)
def test_the_python_program_begins_as_the_ack_says(mode: str, seq: int, source: str, then: tuple[Any, ...]) -> None:
    space: dict[str, Any] = {}
    exec(program("python", "rule"), space)
    channel = space["Channel"](lambda data, whole: None, 80, "s", waiting=True)
    channel.begin({"mode": mode, "seq": seq, "source": source})
    assert (channel.pos, channel.source, channel.waiting) == then


def test_the_javascript_program_keeps_the_clients_rule() -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("NO NODE: the JavaScript of schemas/README.md was not run")
    scenarios = {name: json.loads(schemas.example(name)) for name in RULES}
    check = """
for (const [name, {start, steps}] of Object.entries(SCENARIOS)) {
  const channel = new Channel(() => {}, start.pos, start.source, start.waiting);
  for (const {message, then} of steps) {
    const did = message.type === "heartbeat" ? "marks" : channel.take(message);
    const now = JSON.stringify([did, channel.pos, channel.source, channel.waiting]);
    if (now !== JSON.stringify(Object.values(then))) throw new Error(`${name}: ${now}`);
    if (did === then.do) count += 1;
  }
}
console.log(count);
"""
    text = f"{program('js', 'rule')}\nlet count = 0;\nconst SCENARIOS = {json.dumps(scenarios)};\n{check}"
    done = subprocess.run([node, "-"], input=text, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == sum(len(scenario["steps"]) for scenario in scenarios.values())


def test_the_python_programs_follow_a_session() -> None:
    """A server that plays a session; the page's programs connect to it and end with its book."""
    session = json.loads(schemas.example("session_join"))["steps"]
    wrong: list[Any] = []

    def play(socket: ServerConnection) -> None:
        for step in session:
            if step["from"] == "server":
                socket.send(json.dumps(step["frame"]))
            elif (found := json.loads(socket.recv())) != step["frame"]:
                wrong.append(found)

    space: dict[str, Any] = {}
    for name in ("connect", "fold", "rule"):
        exec(program("python", name), space)
    book: dict[str, dict[str, str]] = {"bids": {}, "asks": {}}

    def fold(data: Any, whole: bool) -> None:
        if whole:
            book.update(bids={}, asks={})
        space["fold_book"](book, data)

    channel = space["Channel"](fold, waiting=True)
    requests = [step["frame"] for step in session if step["from"] == "client"]
    with serve(play, "127.0.0.1", 0, subprotocols=["feed.v1.json"]) as server:  # type: ignore[list-item]  # a NewType
        threading.Thread(target=server.serve_forever, daemon=True).start()
        port = server.socket.getsockname()[1]
        for message in space["messages"](f"ws://127.0.0.1:{port}", *requests):
            if message.get("channel") == "book":
                channel.take(message)
        server.shutdown()
    assert not wrong
    assert channel.pos == 88131
    assert book == {"bids": {"67187.47": "1.2", "67187.39": "0.75"}, "asks": {"67187.48": "0.29786", "67188": "2"}}
