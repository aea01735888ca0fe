"""The Kubernetes manifests: valid, restricted, and agreeing with themselves and with the services they run.

They were never applied to a cluster here: what an API server, a scheduler or KEDA makes of them is not tested.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Literal

import kubernetes_validate
import pytest
import yaml
from kubernetes_validate import utils
from pydantic import BaseModel, ConfigDict, Field

from bar_builder.processor import ROLE as BARS
from feature_engine.processor import ROLE as FEATURES
from fluxforge.settings import Settings, load
from fluxforge_cli.programs import PROGRAMS
from fluxforge_cli.reference import program_parser
from manifests import OVERLAYS, ROOT, Manifests, Object, build, containers, is_ours, name_of, service_of

OLDEST = "1.29"
NEWEST = kubernetes_validate.latest_version()


@pytest.fixture(scope="module", autouse=True)
def schemas_read_once() -> Iterator[None]:
    """The package reads megabytes of them for every object."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(utils, "schema_contents", functools.cache(utils.schema_contents))
        yield


@pytest.fixture(params=OVERLAYS, ids=lambda path: path.name)
def overlay(request: pytest.FixtureRequest) -> Path:
    return request.param


@pytest.fixture
def made(overlay: Path) -> Manifests:
    return build(overlay)


def settings_of(made: Manifests, workload: str, pod: Object, tmp_path: Path) -> Settings:
    """What a service would read. Raises ConfigError."""
    config = tmp_path / "config.yaml"
    config.write_text(made.config(pod))
    environ = made.environ(workload, pod)
    assert environ["FLUXFORGE_CONFIG"] == "/etc/fluxforge/config.yaml"
    return load(config, environ=environ)


def test_there_are_overlays() -> None:
    assert [path.name for path in OVERLAYS] == ["demo", "single", "three-brokers"]


@pytest.mark.parametrize("release", [OLDEST, NEWEST])
def test_every_object_is_what_kubernetes_takes(made: Manifests, release: str) -> None:
    for each in made.objects:
        if each["kind"] != "ScaledObject":
            kubernetes_validate.validate(each, release, strict=True)


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class KafkaTrigger(Strict):
    """KEDA's scaler `kafka`: values are strings, whatever they mean."""

    class Metadata(Strict):
        bootstrapServers: str  # noqa: N815  KEDA's names
        consumerGroup: str  # noqa: N815
        topic: str
        lagThreshold: Annotated[str, Field(pattern=r"^\d+$")]  # noqa: N815
        offsetResetPolicy: Literal["earliest", "latest"]  # noqa: N815
        allowIdleConsumers: Literal["true", "false"]  # noqa: N815

    type: Literal["kafka"]
    metadata: Metadata


class ScaledSpec(Strict):
    """The part of a KEDA ScaledObject that we use."""

    scaleTargetRef: dict[str, str]  # noqa: N815
    pollingInterval: int  # noqa: N815
    minReplicaCount: int  # noqa: N815
    maxReplicaCount: int  # noqa: N815
    advanced: dict[Literal["horizontalPodAutoscalerConfig"], dict[Literal["behavior"], object]]
    triggers: Annotated[list[KafkaTrigger], Field(min_length=1, max_length=1)]


def test_workers_are_scaled_by_their_own_groups_lag_up_to_the_partitions(made: Manifests, tmp_path: Path) -> None:
    scaled = {name_of(each): ScaledSpec.model_validate(each["spec"]) for each in made.of("ScaledObject")}
    for name, role in (("feature-engine", FEATURES), ("bar-builder", BARS)):
        target = made.named("StatefulSet", name)
        if name not in scaled:
            assert target["spec"]["replicas"] == 1
            continue
        settings = settings_of(made, name, target["spec"]["template"]["spec"], tmp_path)
        spec = scaled.pop(name)
        assert spec.scaleTargetRef == {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": name}
        assert "replicas" not in target["spec"]
        assert 1 <= spec.minReplicaCount < spec.maxReplicaCount == settings.topics.partitions
        trigger = spec.triggers[0].metadata
        assert trigger.consumerGroup == f"{settings.broker.prefix}.{role}"
        assert trigger.topic == settings.topic_names().raw
        assert f"kafka://{trigger.bootstrapServers}" == settings.broker.url
        assert trigger.allowIdleConsumers == "false"
        behavior = dict(spec.advanced["horizontalPodAutoscalerConfig"])["behavior"]
        kubernetes_validate.validate(
            {
                "apiVersion": "autoscaling/v2",
                "kind": "HorizontalPodAutoscaler",
                "metadata": {"name": name},
                "spec": {
                    "scaleTargetRef": {"kind": "StatefulSet", "name": name},
                    "maxReplicas": 1,
                    "behavior": behavior,
                },
            },
            NEWEST,
            strict=True,
        )
    assert not scaled


def test_every_pod_is_restricted(made: Manifests) -> None:
    for name, pod in made.pods():
        context = pod["securityContext"]
        assert context["runAsNonRoot"] is True and context["runAsUser"] > 0 and context["runAsGroup"] > 0, name
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert pod["automountServiceAccountToken"] is False, name
        assert pod["enableServiceLinks"] is False, name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys(), name
        assert all({"configMap", "emptyDir", "persistentVolumeClaim"} & volume.keys() for volume in pod["volumes"])
        for container in containers(pod):
            own = container["securityContext"]
            assert own["readOnlyRootFilesystem"] is True, name
            assert own["allowPrivilegeEscalation"] is False, name
            assert own["capabilities"] == {"drop": ["ALL"]}, name
            assert re.search(r":v?\d+\.\d+\.\d+$", container["image"]), container["image"]
            for what in ("cpu", "memory"):
                asked, most = (amount(container["resources"][kind][what]) for kind in ("requests", "limits"))
                assert 0 < asked <= most, (name, what)


def amount(text: str) -> float:
    number, unit = re.fullmatch(r"([\d.]+)(m|Mi|Gi|)", text).groups()  # type: ignore[union-attr]
    return float(number) * {"m": 1e-3, "": 1.0, "Mi": 2.0**20, "Gi": 2.0**30}[unit]


def test_nothing_is_secret_and_no_secret_is_needed_to_start(made: Manifests) -> None:
    assert not made.of("Secret")
    for name, pod in made.pods():
        if is_ours(pod):
            made.environ(name, pod)  # asserts that references to secrets are optional


def test_what_is_referred_to_is_there(made: Manifests) -> None:
    for name, pod in made.pods():
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        workload = next(each for each in made.workloads() if name_of(each) == name)
        claimed = {each["metadata"]["name"] for each in workload["spec"].get("volumeClaimTemplates", ())}
        mounted = {mount["name"] for container in containers(pod) for mount in container.get("volumeMounts", ())}
        assert mounted == volumes.keys() | claimed, name
        for volume in volumes.values():
            if "persistentVolumeClaim" in volume:
                made.named("PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"])
        for container in containers(pod):
            ports = {port["name"] for port in container.get("ports", ())}
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                assert container.get(probe, {"httpGet": {"port": None}})["httpGet"]["port"] in {None, *ports}
    assert {each["metadata"].get("namespace") for each in made.objects} == {"fluxforge", None}
    assert [name_of(each) for each in made.objects if "namespace" not in each["metadata"]] == ["fluxforge"]


def test_services_and_budgets_select_one_workload_each(made: Manifests) -> None:
    for kind in ("Service", "PodDisruptionBudget"):
        for each in made.of(kind):
            selector = each["spec"]["selector"]
            assert made.selected(selector.get("matchLabels", selector)) == [name_of(each)]
    for stateful in made.of("StatefulSet"):
        name = name_of(stateful)
        assert made.selected(stateful["spec"]["selector"]["matchLabels"]) == [name]
        assert stateful["spec"]["serviceName"] == name
        service = made.named("Service", name)["spec"]
        assert service["clusterIP"] == "None"  # or pods have no names of their own
        ports = {port["name"] for port in stateful["spec"]["template"]["spec"]["containers"][0]["ports"]}
        assert {port["targetPort"] for port in service["ports"]} <= ports
        budget = made.named("PodDisruptionBudget", name)["spec"]
        assert budget["maxUnavailable"] == (0 if name == "redpanda" else 1)


def test_every_service_reads_a_valid_configuration(made: Manifests, tmp_path: Path) -> None:
    brokers = set()
    for name, pod in made.pods():
        if not is_ours(pod):
            continue
        settings = settings_of(made, name, pod, tmp_path)
        brokers.add(settings.broker.url)
        container = service_of(pod)
        if name == "dashboard":
            assert settings.dashboard.host == "0.0.0.0"
            assert [port["containerPort"] for port in container["ports"]] == [settings.dashboard.port]
            assert made.selected(made.named("Service", name)["spec"]["selector"]) == [name]
        if name in {"topic-init", "simulator", "dashboard"}:
            continue
        # The pod's own: its transactional id is the same after a restart.
        assert settings.processor.member == f"{name}-0"
        assert settings.metrics.host == "0.0.0.0"
        assert [port["containerPort"] for port in container["ports"]] == [settings.metrics.port]
        assert container["livenessProbe"]["httpGet"]["path"] == "/livez"
        assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
        sources = [*settings.native, *settings.ccxt.exchanges]
        if name.startswith("collector-"):
            assert [f"collector-{source}" for source in sources] == [name]
            assert settings.collector.id == f"{name}-0"
        else:
            assert not sources
        writes = name == "bronze-sink" or "lake" in container.get("args", ()) or "command" in container
        assert ("fluxforge/stores" in made.named("StatefulSet", name)["metadata"]["labels"]) == writes
        if writes:
            mounts = [each["mountPath"] for each in container["volumeMounts"] if each["name"] == "data"]
            for place in (settings.storage.input, settings.storage.output):
                assert [str(place.path)] == mounts if place.backend == "local" else not mounts
    [url] = brokers
    host, _, port = url.removeprefix("kafka://").rpartition(":")
    if "." not in host:
        assert int(port) in [each["port"] for each in made.named("Service", host)["spec"]["ports"]]


def test_writers_of_one_disk_are_one_each(made: Manifests) -> None:
    """Where the disk is the truth, a second writer on another disk would begin at the log's start again."""
    for stateful in made.of("StatefulSet"):
        volumes = stateful["spec"]["template"]["spec"]["volumes"]
        if any("persistentVolumeClaim" in volume for volume in volumes):
            assert stateful["spec"]["replicas"] == 1


def test_every_program_takes_its_options(made: Manifests) -> None:
    for name, pod in made.pods():
        if not is_ours(pod):
            continue
        container = service_of(pod)
        image, _, tag = container["image"].removeprefix("fluxforge/").partition(":")
        assert tag == version(f"fluxforge-{image}")
        if image in PROGRAMS:
            assert "command" not in container  # the image's own
            program_parser(image).parse_args(container.get("args", []))
        else:
            assert image == "cli"
            assert (container.get("command"), container.get("args")) in [
                (["python", "-m", "fluxforge.maintain"], None),
                (None, ["topics", "apply"]),
                (None, ["dashboard"]),
            ], name


def test_our_pods_run_as_the_images_user() -> None:
    [user] = re.findall(r"^USER (\d+):\1$", (ROOT / "deploy/Dockerfile").read_text(), re.MULTILINE)
    every = yaml.safe_load((ROOT / "deploy/k8s/pod/every.yaml").read_text())
    context = every["spec"]["template"]["spec"]["securityContext"]
    assert {context["runAsUser"], context["runAsGroup"], context["fsGroup"]} == {int(user)}


def test_the_broker_is_the_one_of_the_compose_file() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["redpanda"]
    redpanda = build(ROOT / "deploy/k8s/overlays/single").named("StatefulSet", "redpanda")["spec"]["template"]["spec"]
    assert {container["image"] for container in containers(redpanda)} == {compose["image"]}
    flags = {word for word in redpanda["containers"][0]["args"] if "addr" not in word}
    assert flags == {word for word in compose["command"] if "addr" not in word}


def test_the_page_shows_how_to_apply_every_overlay() -> None:
    page = (ROOT / "docs/SCALING.md").read_text()
    folders = set(re.findall(r"^kubectl apply -k (\S+)$", page, re.MULTILINE))
    assert folders == {str(path.relative_to(ROOT)) for path in OVERLAYS}
