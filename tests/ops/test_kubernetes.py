"""What ops/ has for Kubernetes: objects that are valid, closed to what they do not need, asked at paths that exist."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
import yaml
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.structs import TopicPartition
from broker import free_port
from fastapi import FastAPI

from feed.gateway.probes import add_probes
from feed.runtime.metrics import Metrics
from tests.integration.stage import Stage
from tests.integration.test_standstill import trade
from tests.integration.watching import Watch
from tests.ops.deployed import OPS, objects, pods

FOLDER: Final = OPS / "kubernetes"
KUBECTL: Final = shutil.which("kubectl")
VERSIONS: Final = ("1.30", "1.34", "1.37")
BASE: Final = objects()
PODS: Final = pods()
OF_OTHERS: Final = {"ScaledObject": "keda.sh/v1alpha1", "PodMonitor": "monitoring.coreos.com/v1"}
"""Kinds that a cluster has only where their makers were installed; their schemas are not here."""


def name_of(one: dict[str, Any]) -> str:
    return f"{one['kind']} {one['metadata']['name']}"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("one", BASE, ids=name_of)
def test_each_object_is_valid(one: dict[str, Any], version: str) -> None:
    validate = pytest.importorskip("kubernetes_validate", reason="NO KUBERNETES-VALIDATE: install the extra `dev`")
    validate.validate(one, version, strict=True)


def test_the_schemas_see_a_word_that_is_none() -> None:
    validate = pytest.importorskip("kubernetes_validate", reason="NO KUBERNETES-VALIDATE: install the extra `dev`")
    [budget, *_] = [one for one in BASE if one["kind"] == "PodDisruptionBudget"]
    with pytest.raises(validate.ValidationError):
        validate.validate({**budget, "spec": {**budget["spec"], "maxUnavalable": 1}}, "1.34", strict=True)


@pytest.mark.parametrize("overlay", ["keda", "prometheus-operator"])
def test_what_overlays_add_is_of_a_kind_that_is_known(overlay: str) -> None:
    for one in objects(FOLDER / "overlays" / overlay):
        assert one["apiVersion"] == OF_OTHERS[one["kind"]]


@pytest.mark.slow
@pytest.mark.skipif(KUBECTL is None, reason="NO KUBECTL: nobody put the objects for Kubernetes together; install it")
@pytest.mark.parametrize("folder", ["base", "overlays/keda", "overlays/prometheus-operator"])
def test_they_are_put_together(folder: str) -> None:
    assert KUBECTL is not None
    command = [KUBECTL, "kustomize", str(FOLDER / folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    made = list(yaml.safe_load_all(done.stdout))
    kinds = [one["kind"] for one in made]
    assert kinds.count("Deployment") == 2
    assert kinds.count("StatefulSet") == 1
    [settings] = [one for one in made if one["kind"] == "ConfigMap"]
    for one in made:
        if "template" in one.get("spec", {}):
            [container] = one["spec"]["template"]["spec"]["containers"]
            assert container["envFrom"][0]["configMapRef"]["name"] == settings["metadata"]["name"]
            assert one["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/part-of"] == "market-feed"
            if folder == "overlays/keda" and one["metadata"]["name"] == "feed-normalizer":
                assert "replicas" not in one["spec"]
        if one["kind"] in OF_OTHERS:
            continue
        validate = pytest.importorskip("kubernetes_validate", reason="NO KUBERNETES-VALIDATE: install the extra `dev`")
        validate.validate(one, VERSIONS[-1], strict=True)


@pytest.mark.parametrize("name", PODS)
def test_a_pod_may_do_nothing_that_it_need_not(name: str) -> None:
    pod = PODS[name]
    [container] = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 10001  # the image's
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False
    assert pod["shareProcessNamespace"] is True
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"]["requests"].keys() == {"cpu", "memory"}
    assert "memory" in container["resources"]["limits"]
    assert "/tmp" in [one["mountPath"] for one in container["volumeMounts"]]  # of workers
    assert container["envFrom"] == [
        {"configMapRef": {"name": "feed-settings"}},
        {"secretRef": {"name": "feed-secrets", "optional": True}},
    ]


class Probed(NamedTuple):
    """A process that is well."""

    alive: bool = True

    async def all_checks(self) -> list[Any]:
        return []

    async def export(self) -> bytes:
        return Metrics().export()


@pytest.mark.parametrize("name", PODS)
def test_a_pod_is_asked_at_paths_that_exist(name: str) -> None:
    [container] = PODS[name]["containers"]
    app = FastAPI()
    add_probes(app, Probed())
    paths = {route.path for route in app.routes}  # type: ignore[attr-defined]  # all are routes with a path
    ports = {one["name"]: one["containerPort"] for one in container["ports"]}
    asked = {kind: container[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")}
    assert {kind: one["path"] for kind, one in asked.items()} == {
        "startup": "/livez",
        "liveness": "/livez",
        "readiness": "/readyz",
    }
    assert {one["path"] for one in asked.values()} <= paths
    assert {ports[one["port"]] for one in asked.values()} == {9100}


def test_services_and_budgets_are_of_pods_that_are_there() -> None:
    makers = [one for one in BASE if "template" in one.get("spec", {})]
    labels = {one["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/name"] for one in makers}
    assert labels == PODS.keys()
    for one in BASE:
        if one["kind"] == "Service":
            assert one["spec"]["selector"]["app.kubernetes.io/name"] in labels
        if one["kind"] == "PodDisruptionBudget":
            assert one["spec"]["selector"]["matchLabels"]["app.kubernetes.io/name"] in labels
    [recorder] = [one for one in BASE if one["kind"] == "StatefulSet"]
    claims = {one["metadata"]["name"] for one in recorder["spec"]["volumeClaimTemplates"]}
    mounts = {one["name"]: one["mountPath"] for one in PODS["feed-recorder"]["containers"][0]["volumeMounts"]}
    assert claims == {"recordings"}
    assert mounts["recordings"] == "/recordings"


@pytest.mark.anyio
@pytest.mark.slow
async def test_the_lag_of_normalizers_can_be_seen_by_their_groups_positions(kafka: str, tmp_path: Path) -> None:
    """As kafka-consumer-groups.sh, KEDA's kafka trigger and others see it."""
    async with Stage(kafka, tmp_path, ["desk"]) as stage:
        file = tmp_path / "feed.toml"
        file.write_text(file.read_text().replace('assign = "all"', 'assign = "group"'))
        await stage.send("desk", [("A", trade(number)) for number in range(1, 4)])
        port = int(free_port())
        async with stage.running("normalize", "--admin-port", str(port)):
            watch = Watch.at(port)
            taken = 'feed_ticks_taken_total{partition="0",venue="desk"} 3.0'
            await watch.until("/metrics", lambda _, text: taken in text, taken)
            admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
            await admin.start()
            try:
                group = stage.settings.kafka.group
                assert group in [name for name, *_ in await admin.list_consumer_groups()]
                where = TopicPartition(stage.settings.ticks_topic("desk"), 0)
                async with asyncio.timeout(30):
                    while (shown := await admin.list_consumer_group_offsets(group)).get(where) is None:
                        await asyncio.sleep(0.1)
                    assert shown[where].offset <= 3
                    while (await admin.list_consumer_group_offsets(group))[where].offset < 3:
                        await asyncio.sleep(0.1)
            finally:
                await admin.close()
