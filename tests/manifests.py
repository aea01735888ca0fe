"""The Kubernetes manifests as `kustomize build` gives them."""

from __future__ import annotations

import functools
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from go_tools import KUSTOMIZE

ROOT = Path(__file__).resolve().parents[1]
OVERLAYS = sorted(path.parent for path in ROOT.glob("deploy/k8s/overlays/*/kustomization.yaml"))

Object = dict[str, Any]


@functools.cache
def build(overlay: Path) -> Manifests:
    """Everything an overlay applies."""
    done = subprocess.run([KUSTOMIZE.program(), "build", overlay], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr  # a deprecated field is told there
    return Manifests(list(yaml.safe_load_all(done.stdout)))


@dataclass(frozen=True, eq=False)
class Manifests:
    """The objects of one overlay."""

    objects: list[Object]

    def of(self, *kinds: str) -> list[Object]:
        return [each for each in self.objects if each["kind"] in kinds]

    def named(self, kind: str, name: str) -> Object:
        [found] = [each for each in self.of(kind) if name_of(each) == name]
        return found

    def workloads(self) -> list[Object]:
        return self.of("StatefulSet", "Deployment", "Job")

    def pods(self) -> Iterator[tuple[str, Object]]:
        """Name of the workload, and its pod template's spec."""
        for workload in self.workloads():
            yield name_of(workload), workload["spec"]["template"]["spec"]

    def selected(self, selector: dict[str, str]) -> list[str]:
        """Workloads whose pods have these labels."""
        return [
            name_of(workload)
            for workload in self.workloads()
            if selector.items() <= workload["spec"]["template"]["metadata"]["labels"].items()
        ]

    def environ(self, workload: str, pod: Object) -> dict[str, str]:
        """Variables of our container in the workload's first pod, as they are without any secret."""
        container = service_of(pod)
        found: dict[str, str] = {}
        for source in container.get("envFrom", ()):
            found |= self.named("ConfigMap", source["configMapRef"]["name"])["data"]
        for variable in container.get("env", ()):
            if "value" in variable:
                found[variable["name"]] = variable["value"]
            elif "fieldRef" in variable["valueFrom"]:
                assert variable["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.name"
                found[variable["name"]] = f"{workload}-0"
            else:
                assert variable["valueFrom"]["secretKeyRef"]["optional"] is True
        return found

    def config(self, pod: Object) -> str:
        """The config.yaml mounted into our container."""
        [mount] = [each for each in service_of(pod)["volumeMounts"] if each["mountPath"] == "/etc/fluxforge"]
        [volume] = [each for each in pod["volumes"] if each["name"] == mount["name"]]
        return str(self.named("ConfigMap", volume["configMap"]["name"])["data"]["config.yaml"])


def name_of(given: Object) -> str:
    return str(given["metadata"]["name"])


def containers(pod: Object) -> list[Object]:
    return [*pod.get("initContainers", ()), *pod["containers"]]


def is_ours(pod: Object) -> bool:
    return any(each["image"].startswith("fluxforge/") for each in pod["containers"])


def service_of(pod: Object) -> Object:
    """Our container."""
    [container] = pod["containers"]
    assert container["name"] == "service"
    return dict(container)
