"""Alerts, dashboard and runbook speak of what is there: numbers that a role tells, headings, tests that exist."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from feed.runtime.metrics import Metrics
from tests.contract.test_architecture import anchors
from tests.contract.test_metrics import FOUND

ROOT = Path(__file__).resolve().parents[2]
OPS = ROOT / "ops"
RULES = [
    rule for group in yaml.safe_load((OPS / "prometheus/alerts.yaml").read_text())["groups"] for rule in group["rules"]
]
ALERTS = {rule["alert"]: rule for rule in RULES}
TRIED = yaml.safe_load((OPS / "prometheus/alerts_test.yaml").read_text())["tests"]
RUNBOOK = (OPS / "runbook.md").read_text("utf-8")
HEADINGS = re.findall(r"^## (.+)$", RUNBOOK, re.MULTILINE)
PARTS = ("Means", "Look", "Do", "Tried")

HISTOGRAM = ("_bucket", "_sum", "_count")
PROMETHEUS_OWN = {"up"}
"""What Prometheus itself says of each target."""
ADDED = {"job", "instance", "worker", "le"}
"""Labels of any number: of the scrape, of workers, of a histogram's buckets."""


def told() -> dict[str, set[str]]:
    """Each number as it is scraped, with its labels: those that roles ask `Metrics` for, and those that it brings."""
    numbers: dict[str, set[str]] = {}
    for number in FOUND:
        names = [number.name + end for end in HISTOGRAM] if number.kind == "histogram" else [number.name]
        for name in names:
            numbers.setdefault(name, set()).update(number.labels)
    for family in Metrics().families():
        for name, labels, _ in family.samples:
            numbers.setdefault(name, set()).update(labels)
    return numbers


TOLD = told()
WORD = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
KEYWORDS = {"and", "or", "unless", "on", "by", "ignoring", "without", "group_left", "group_right", "offset", "bool"}
UNITS = re.compile(r"(?<![\w.])\d+(\.\d+)?(ms|[smhdwy])?\b")


def names_in(expression: str) -> set[str]:
    """The numbers that an expression of Prometheus speaks of."""
    bare = re.sub(r'"[^"]*"', "", expression)
    bare = re.sub(r"\{[^}]*\}|\[[^]]*\]", "", bare)
    bare = re.sub(r"\b(by|on|ignoring|without|group_left|group_right)\s*\([^)]*\)", "", bare)
    bare = UNITS.sub("", re.sub(r"\b[a-z_]+\s*(?=\()", "", bare))
    return {word for word in WORD.findall(bare) if word not in KEYWORDS}


def labels_in(expression: str) -> Iterator[tuple[str, set[str]]]:
    """Each number with braces, and the labels that stand there."""
    for name, inside in re.findall(r"([a-zA-Z_:]\w*)\{([^}]*)\}", expression):
        yield name, set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", inside))


def of_dashboard() -> dict[str, str]:
    """What each panel and each variable of the dashboard asks for."""
    board: dict[str, Any] = json.loads((OPS / "grafana" / "dashboard.json").read_text("utf-8"))
    found = {f"{p['title']}/{one['refId']}": one["expr"] for p in board["panels"] for one in p.get("targets", [])}
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            asked = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"]["query"])
            assert asked
            found[variable["name"]] = f'{asked[1]}{{{asked[2]}=""}}'
    return found


EXPRESSIONS = of_dashboard() | {name: rule["expr"] for name, rule in ALERTS.items()}


def test_the_reader_of_expressions_sees() -> None:
    assert names_in('sum by (a, b) (rate(feed_x_total{c="d e"}[5m])) > 0.05 * 2 and on (job) up offset 1h') == {
        "feed_x_total",
        "up",
    }
    assert list(labels_in('feed_x{a="b", c=~"d"} or y{}')) == [("feed_x", {"a", "c"}), ("y", set())]


@pytest.mark.parametrize("where", EXPRESSIONS)
def test_alerts_and_dashboard_ask_for_numbers_that_are_told(where: str) -> None:
    check(EXPRESSIONS[where])


def test_the_dashboard_shows_each_part() -> None:
    asked = " ".join(of_dashboard().values())
    assert {
        part for part in ("feed_source_", "feed_gateway_", "feed_record_", "feed_ticks_") if part not in asked
    } == set()


def check(expression: str) -> None:
    """Fails for a name or a label that no role tells."""
    names = names_in(expression)
    assert names
    assert names - TOLD.keys() - PROMETHEUS_OWN == set()
    for name, labels in labels_in(expression):
        assert labels <= TOLD.get(name, set()) | ADDED, name


@pytest.mark.parametrize(
    "fault", ["feed_gone_total > 0", 'feed_ready{venue="a"} == 0', "rate(feed_ready_total[1m]) > 0"]
)
def test_the_check_sees(fault: str) -> None:
    with pytest.raises(AssertionError):
        check(fault)


def test_every_alert_has_its_heading_and_every_heading_its_alert() -> None:
    assert list(ALERTS) == HEADINGS
    assert len(ALERTS) == len(RULES)


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_leads_to_its_heading(alert: str) -> None:
    rule = ALERTS[alert]
    file, _, anchor = rule["annotations"]["runbook_url"].partition("#")
    assert anchor in anchors((ROOT / file).read_text("utf-8"))
    assert anchor == alert.lower()
    assert rule["annotations"]["summary"]
    assert rule["labels"]["severity"] in ("critical", "warning")


@pytest.mark.parametrize("heading", HEADINGS)
def test_a_heading_says_what_to_do_and_how_it_was_tried(heading: str) -> None:
    text = RUNBOOK.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    assert tuple(re.findall(r"^\*\*(\w+):\*\*", text, re.MULTILINE)) == PARTS
    tried = text.partition("**Tried:**")[2]
    tests = re.findall(r"`([a-z/]+/test_\w+\.py|[a-z]+/test_\w+\.py)::(\w+)`", tried.replace("\n", " "))
    assert tests or "no fault was made" in tried
    for file, name in tests:
        assert re.search(rf"def {name}\b", (ROOT / "tests" / file).read_text("utf-8")), name


def test_every_alert_is_seen_to_fire_and_to_be_quiet() -> None:
    asked = [one for test in TRIED for one in test["alert_rule_test"]]
    assert {one["alertname"] for one in asked if one.get("exp_alerts")} == set(ALERTS)
    well = {one["alertname"] for one in TRIED[0]["alert_rule_test"] if not one.get("exp_alerts")}
    assert well == set(ALERTS)
