"""What ops/ says of settings and commands is what the code takes: each name, each environment, each command line."""

from __future__ import annotations

import os
import re
import shlex
import tomllib
from pathlib import Path

import pytest
import yaml
from cyclopts import App, CycloptsError, MissingArgumentError

from feed.cli import app as feed_app
from feed.runtime.command import run
from feed.runtime.settings import described, load
from replay.cli import app as replay_app
from tests.contract.test_alerts import TOLD, check
from tests.ops.deployed import OPS, Process, compose, env_file, objects, pods, processes, unit

ROOT = Path(__file__).resolve().parents[2]
APPS = {"feed": feed_app, "replay": replay_app}
PROCESSES = list(processes())
# The broker of ops/kafka is of tests: it has a variable of its own.
TEXTS = sorted(
    path
    for path in OPS.rglob("*")
    if path.is_file()
    and path.suffix not in (".png", ".lock", ".json")
    and not {"__pycache__", "kafka"} & set(path.parts)
)
KNOWN = {f"FEED_{name.upper().replace('.', '__')}" for name, _ in described()} | {"FEED_CONFIG"}


def names_in(text: str) -> set[str]:
    """Every environment name of ours in a text."""
    return set(re.findall(r"\bFEED_[A-Z_]*[A-Z]\b", text))


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(OPS)))
def test_every_name_of_a_setting_is_one(path: Path) -> None:
    assert names_in(path.read_text("utf-8")) - KNOWN == set()


@pytest.fixture
def nothing_else(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting of this machine."""
    for name in [name for name in os.environ if name.startswith("FEED_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("nothing_else")
@pytest.mark.parametrize("process", PROCESSES, ids=lambda process: process.where)
def test_every_process_has_settings_that_can_work(
    process: Process, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in process.env.items():
        monkeypatch.setenv(name, value)
    assert run(feed_app, ["config", "check"]) == 0
    assert f"{len(process.env)} given" in capsys.readouterr().err
    settings = load().settings
    assert settings.admin.port > 0
    if not process.where.startswith("systemd"):  # of a container only what is bound to all addresses is reached
        assert (settings.admin.host, settings.serve.host, settings.admin.port) == ("0.0.0.0", "0.0.0.0", 9100)
    assert takes(APPS[process.command[0]], process.command[1:]) is None


@pytest.mark.usefixtures("nothing_else")
@pytest.mark.parametrize("name", ["FEED_SERVE__PROT", "FEED_SERV__PORT"])
def test_the_check_sees_a_name_that_is_none(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "1")
    assert run(feed_app, ["config", "check"]) == 2


def takes(app: App, arguments: list[str]) -> CycloptsError | None:
    """What a command's parser has against a line; that something is left out is nothing."""
    try:
        app.parse_args(arguments, exit_on_error=False, print_error=False)
    except MissingArgumentError:
        return None
    except CycloptsError as error:
        return error
    return None


def lines_in(text: str) -> set[str]:
    """The command lines in a text: in blocks of shell, in comments, and between backquotes."""
    text = re.sub(r"\\\n#?\s*", " ", text)
    found = re.findall(r"`((?:feed|replay) [a-z][^`]*)`", text)
    found += re.findall(r"^(?:#\s+|\$ )?(?:/\S+/)?((?:feed|replay) [a-z]+(?: -| [A-Z]|$).*)$", text, re.MULTILINE)
    found += re.findall(r"--entrypoint (replay|feed) \S+ (.+)$", text, re.MULTILINE)
    lines = [one if isinstance(one, str) else " ".join(one) for one in found]
    return {" ".join(re.split(r" [#&|>]", line)[0].split()) for line in lines if "…" not in line}


LINES = sorted({line for path in TEXTS for line in lines_in(path.read_text("utf-8"))})


def test_there_are_lines() -> None:
    assert "feed takeover VENUE --kafka HOST:PORT" in LINES
    assert any(line.startswith("replay publish /captures") for line in LINES)


@pytest.mark.parametrize("line", LINES)
def test_every_command_line_is_taken(line: str) -> None:
    command, *arguments = shlex.split(line)
    assert takes(APPS[command], arguments) is None


@pytest.mark.parametrize(
    "line", ["feed serve --prot 1", "feed nromalize", "feed normalize --port 1", "replay serve x --y"]
)
def test_the_parser_sees_a_line_that_is_wrong(line: str) -> None:
    command, *arguments = shlex.split(line)
    assert takes(APPS[command], arguments) is not None


# ---- numbers that have to fit each other


def seconds(text: str) -> int:
    return int(text.removesuffix("s"))


def test_whoever_ends_a_process_waits_for_it_to_end_well() -> None:
    drain_s = load().settings.serve.drain_ms / 1000
    cut_s = drain_s + 10  # `feed.run.workers` kills a worker then
    seal_s = 60  # `feed.run.recorder_process` waits so long
    services = compose()["services"]
    made = pods()
    pre_stop_s = int(made["feed-gateway"]["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][1])
    assert made["feed-gateway"]["terminationGracePeriodSeconds"] > pre_stop_s + cut_s
    assert made["feed-normalizer"]["terminationGracePeriodSeconds"] > 10
    assert made["feed-recorder"]["terminationGracePeriodSeconds"] > seal_s
    assert seconds(services["gateway"]["stop_grace_period"]) > cut_s
    assert seconds(services["recorder"]["stop_grace_period"]) > seal_s
    assert int(unit()["TimeoutStopSec"][0]) > max(cut_s, seal_s)


def test_there_are_descriptors_for_all_clients() -> None:
    limits = load().settings.serve.limits
    wanted = limits.connections_max + limits.http_connections_max + 512
    assert int(unit()["LimitNOFILE"][0]) >= wanted
    assert compose()["services"]["gateway"]["ulimits"]["nofile"]["hard"] >= wanted


def test_an_autoscaler_asks_for_a_number_that_is_told() -> None:
    [scaler] = [one for one in objects() if one["kind"] == "HorizontalPodAutoscaler"]
    [metric] = scaler["spec"]["metrics"]
    name = metric["pods"]["metric"]["name"]
    assert name in TOLD
    assert int(metric["pods"]["target"]["averageValue"]) < load().settings.serve.limits.connections_max
    [rule] = yaml.safe_load((OPS / "kubernetes" / "prometheus-adapter.yaml").read_text())["rules"]["custom"]
    assert rule["name"]["matches"] == name
    assert rule["seriesQuery"].partition("{")[0] == name
    assert set(re.findall(r"(\w+)!=", rule["seriesQuery"])) == {"namespace", "pod"}
    [scaled] = objects(OPS / "kubernetes" / "overlays" / "keda")
    [trigger] = scaled["spec"]["triggers"]
    check(trigger["metadata"]["query"].replace("vector(0)", ""))
    assert trigger["type"] == "prometheus"


def test_versions_are_those_of_the_project() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    kustomization = yaml.safe_load((OPS / "kubernetes" / "base" / "kustomization.yaml").read_text())
    assert kustomization["images"] == [{"name": "market-feed", "newName": "market-feed", "newTag": version}]
    kafka = re.findall(r"<kafka.version>(.+)</kafka.version>", (OPS / "kafka" / "pom.xml").read_text())
    assert compose()["services"]["kafka"]["image"] == f"apache/kafka:{kafka[0]}"


def test_the_ports_of_a_machine_are_not_shared() -> None:
    ports = [env_file(OPS / "systemd" / f"{role}.env")["FEED_ADMIN__PORT"] for role in ("normalize", "serve", "record")]
    assert len(set(ports)) == len(ports)
