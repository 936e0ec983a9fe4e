"""The composition: what it names exists, its own processes are closed, nothing is reached from outside the machine.

That Docker takes it was not tried here: no daemon runs on this machine.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.ops.deployed import OPS, compose

SERVICES: Final[dict[str, dict[str, Any]]] = compose()["services"]
OURS: Final = {name: one for name, one in SERVICES.items() if one["image"] == "market-feed"}


def test_it_has_all_roles_and_what_looks_after_them() -> None:
    assert {one["command"][0] for one in OURS.values()} == {"normalize", "serve", "record"}
    assert SERVICES.keys() - OURS.keys() == {"kafka", "prometheus", "grafana"}


@pytest.mark.parametrize("name", OURS)
def test_our_processes_may_do_nothing_that_they_need_not(name: str) -> None:
    one = SERVICES[name]
    assert (one["read_only"], one["init"], one["cap_drop"]) == (True, True, ["ALL"])
    assert one["security_opt"] == ["no-new-privileges:true"]
    assert one["tmpfs"] == ["/tmp"]
    assert "http://127.0.0.1:9100/readyz" in one["healthcheck"]["test"][-1]
    compile(one["healthcheck"]["test"][-1], name, "exec")
    assert (OPS / "docker" / one["build"]["context"] / one["build"]["dockerfile"]).is_file()


@pytest.mark.parametrize("name", SERVICES)
def test_what_a_service_names_exists(name: str) -> None:
    one = SERVICES[name]
    for volume in one.get("volumes", []):
        source = volume.split(":")[0]
        assert source in compose()["volumes"] or (OPS / "docker" / source).exists()
    assert set(one.get("depends_on", {})) <= SERVICES.keys()
    for port in one.get("ports", []):
        assert port.startswith("127.0.0.1:")
    assert ":" in one["image"] or name in OURS  # a version, not whatever is the newest


def test_prometheus_scrapes_each_role_and_grafana_finds_its_source_and_board() -> None:
    scraped = yaml.safe_load((OPS / "prometheus" / "prometheus.yaml").read_text())["scrape_configs"]
    [names, ports] = zip(
        *[(one["dns_sd_configs"][0]["names"], one["dns_sd_configs"][0]["port"]) for one in scraped], strict=True
    )
    assert {name for [name] in names} == OURS.keys()
    assert set(ports) == {9100}
    assert all(one["job_name"].startswith("feed-") for one in scraped)
    [source] = yaml.safe_load((OPS / "grafana/provisioning/datasources/prometheus.yaml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    [provider] = yaml.safe_load((OPS / "grafana/provisioning/dashboards/feed.yaml").read_text())["providers"]
    boards = [Path(one.split(":")[1]) for one in SERVICES["grafana"]["volumes"] if "dashboard.json" in one]
    assert [board.parent for board in boards] == [Path(provider["options"]["path"])]
