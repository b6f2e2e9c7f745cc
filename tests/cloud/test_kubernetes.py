"""The Kubernetes manifest is of the API's kinds, and its settings are ones that the cloud takes."""

from pathlib import Path
from typing import Any

import yaml

from cansight import settings
from cloud.config import CloudConfig, resolved
from cloud.replica_names import client_id

MANIFEST = Path(__file__).parents[2] / "deploy" / "kubernetes" / "cansight.yaml"


def documents() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(MANIFEST.read_text()))


def of_kind(kind: str) -> dict[str, Any]:
    (found,) = [one for one in documents() if one["kind"] == kind]
    return found


KINDS = {
    "Namespace": "v1",
    "ConfigMap": "v1",
    "Secret": "v1",
    "Service": "v1",
    "PersistentVolumeClaim": "v1",
    "ServiceAccount": "v1",
    "Job": "batch/v1",
    "StatefulSet": "apps/v1",
    "PodDisruptionBudget": "policy/v1",
    "NetworkPolicy": "networking.k8s.io/v1",
}


def test_every_document_is_of_a_kind_and_version_of_the_api_and_has_a_name_of_its_own() -> None:
    """The whole schema (`kubernetes-validate --strict -k 1.30`, 100 MB) was last asked on 2026-11-23."""
    for document in documents():
        assert document["apiVersion"] == KINDS[document["kind"]]
        assert set(document) <= {"apiVersion", "kind", "metadata", "spec", "data", "stringData", "type", "immutable"}
    names = [(one["kind"], one["metadata"]["name"]) for one in documents()]
    assert len(set(names)) == len(names)


def test_each_pods_settings_are_taken_and_name_a_certificate_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "cloud.toml"
    path.write_text(of_kind("ConfigMap")["data"]["cloud.toml"])
    container = of_kind("StatefulSet")["spec"]["template"]["spec"]["containers"][0]
    environment: dict[str, str] = {}
    for variable in container["env"]:
        value = variable.get("value", "cansight-1")  # else it is the pod's name
        for name, known in environment.items():
            value = value.replace(f"$({name})", known)
        environment[variable["name"]] = value
    config = resolved(settings.load(path, CloudConfig, environment), tmp_path)
    assert config.broker.replica == "cansight-1"
    assert Path(config.broker.certificate).name == f"{client_id('cansight-1')}.pem"
    assert Path(config.broker.key).name == f"{client_id('cansight-1')}.key"
    mounted = [mount["mountPath"] for mount in container["volumeMounts"]]
    named = [config.state, config.fleet_ca, config.broker.certificate, config.database.password_file, *config.recipient_keys]
    named += [config.store.influx.token_file, config.api.certificate, config.api.key, config.vehicle_model[0].catalogue]
    assert [path for path in named if not any(path.startswith(folder) for folder in mounted)] == []


def test_the_volumes_that_are_mounted_are_there() -> None:
    for kind in ("Job", "StatefulSet"):
        spec = of_kind(kind)["spec"]
        pod = spec["template"]["spec"]
        there = {volume["name"] for volume in pod["volumes"]} | {one["metadata"]["name"] for one in spec.get("volumeClaimTemplates", [])}
        for container in pod["containers"]:
            assert {mount["name"] for mount in container["volumeMounts"]} <= there
