"""The manifest for Kubernetes: its parts are valid, and it starts what the command line has."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import typer
import yaml

from flickbook.cli.app import command_line

MANIFEST = Path(__file__).parents[1] / "deploy" / "kuberay.yaml"
PARTS = list(yaml.safe_load_all(MANIFEST.read_text(encoding="utf-8")))
CLUSTER: Any = next(part for part in PARTS if part["kind"] == "RayCluster")


def templates() -> list[Any]:
    return [CLUSTER["spec"]["headGroupSpec"], *CLUSTER["spec"]["workerGroupSpecs"]]


@pytest.mark.parametrize(
    "part", [part for part in PARTS if part["kind"] != "RayCluster"], ids=lambda part: part["kind"]
)
def test_the_parts_of_kubernetes_are_valid(part: Any) -> None:
    kubernetes_validate.validate(part, "1.37", strict=True)


@pytest.mark.parametrize("group", templates(), ids=lambda group: group.get("groupName", "head"))
def test_the_pods_of_the_cluster_are_valid(group: Any) -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": group["template"]["spec"]}
    kubernetes_validate.validate(pod, "1.37", strict=True)


def test_the_cluster_has_the_fields_of_kuberay() -> None:
    """KubeRay's own schema is not on PyPI; these are the fields of its reference, ray.io/v1."""
    spec = CLUSTER["spec"]
    assert CLUSTER["apiVersion"] == "ray.io/v1"
    assert set(spec) == {
        "rayVersion",
        "enableInTreeAutoscaling",
        "autoscalerOptions",
        "headGroupSpec",
        "workerGroupSpecs",
    }
    for group in spec["workerGroupSpecs"]:
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    for group in templates():
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
        (container,) = group["template"]["spec"]["containers"]
        assert {"name": "RAY_AUTH_MODE", "value": "token"} in container["env"]


def test_the_cluster_runs_the_pinned_version_of_ray() -> None:
    pins = (MANIFEST.parents[1] / "constraints.txt").read_text(encoding="utf-8")
    assert re.search(r"^ray==(.*)$", pins, re.M)[1] == CLUSTER["spec"]["rayVersion"]  # type: ignore[index]


def test_the_service_starts_with_options_that_exist() -> None:
    service = next(part for part in PARTS if part["kind"] == "Deployment")["spec"]["template"]["spec"]["containers"][0]
    serve = typer.main.get_command(command_line()).commands["serve"]  # type: ignore[attr-defined]
    known = {name for parameter in serve.params for name in parameter.opts}
    assert service["args"][0] == "serve"
    assert {word for word in service["args"] if word.startswith("--")} <= known
