"""The Kubernetes manifest is valid by the API's own schemas, and its settings are ones that the cloud takes."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from cansight import settings
from cloud.config import CloudConfig, resolved
from cloud.replica_names import client_id

MANIFEST = Path(__file__).parents[2] / "deploy" / "kubernetes" / "cansight.yaml"
API = "1.30"


def documents() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(MANIFEST.read_text()))


def of_kind(kind: str) -> dict[str, Any]:
    (found,) = [one for one in documents() if one["kind"] == kind]
    return found


def test_every_document_is_valid() -> None:
    kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="100 MB of schemas: pip install kubernetes-validate")
    for document in documents():
        kubernetes_validate.validate(document, API, strict=True)


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
