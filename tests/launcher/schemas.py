"""What the API server takes: the controllers' own schemas and the rules for metadata, as `fieldValidation=Strict` has them."""

import re
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

CRDS = Path(__file__).parents[3] / "shared/reference/crds"

OF_KIND = {
    "PyTorchJob": "training-operator-v1.9.4/kubeflow.org_pytorchjobs.yaml",
    "TrainJob": "trainer-v2.3.0/trainer.kubeflow.org_trainjobs.yaml",
    # The namespaced kind has the same schema.
    "TrainingRuntime": "trainer-v2.3.0/trainer.kubeflow.org_clustertrainingruntimes.yaml",
}
"""The definition of each kind that a controller brings."""

PART = r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?"
LABEL_KEY = re.compile(rf"(?:{PART}(?:\.{PART})*/)?[A-Za-z0-9]([-A-Za-z0-9_.]{{0,61}}[A-Za-z0-9])?")
LABEL_VALUE = re.compile(r"(?:[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
OBJECT_NAME = re.compile(rf"{PART}(?:\.{PART})*")

TEXT = {"type": "string", "minLength": 1}
NAMES = {"type": "object", "additionalProperties": {"type": "string"}}


def _object(required: dict[str, Any], optional: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": required | (optional or {}),
        "required": list(required),
        "additionalProperties": False,
    }


_ACCESS = {"type": "array", "items": {"enum": ["ReadOnlyMany"]}, "minItems": 1}
_SIZE = _object({"storage": {"type": "string", "pattern": r"^[0-9]+Gi$"}})

VOLUME = _object(
    {
        "apiVersion": {"const": "v1"},
        "kind": {"const": "PersistentVolume"},
        "metadata": _object({"name": TEXT, "labels": NAMES}),
        "spec": _object(
            {
                "capacity": _SIZE,
                "accessModes": _ACCESS,
                "storageClassName": {"const": ""},
                "persistentVolumeReclaimPolicy": {"const": "Retain"},
                "claimRef": _object({"namespace": TEXT, "name": TEXT}),
                "mountOptions": {"type": "array", "items": TEXT, "uniqueItems": True},
                "csi": _object(
                    {"driver": TEXT, "volumeHandle": TEXT, "volumeAttributes": NAMES},
                    {"nodePublishSecretRef": _object({"name": TEXT, "namespace": TEXT})},
                ),
            }
        ),
    }
)
"""A PersistentVolume as far as we use one. Source: Kubernetes' core/v1 types; the field names are those of its API."""

CLAIM = _object(
    {
        "apiVersion": {"const": "v1"},
        "kind": {"const": "PersistentVolumeClaim"},
        "metadata": _object({"name": TEXT, "namespace": TEXT, "labels": NAMES}),
        "spec": _object(
            {
                "accessModes": _ACCESS,
                "storageClassName": {"const": ""},
                "volumeName": TEXT,
                "resources": _object({"requests": _SIZE}),
            }
        ),
    }
)


def strict(schema: Any) -> Any:
    """The schema with unknown fields forbidden wherever it lists the known ones."""
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    tightened = {key: strict(part) for key, part in schema.items()}
    if isinstance(schema.get("properties"), dict) and not schema.get("x-kubernetes-preserve-unknown-fields"):
        tightened.setdefault("additionalProperties", False)
    return tightened


def _unique_elements(_validator, keys, elements, schema):
    """Lists whose elements are told apart by keys: the server refuses two with the same."""
    fields = schema["items"]["properties"]
    seen = [tuple(element.get(key, fields[key].get("default")) for key in keys) for element in elements]
    for each in {each for each in seen if seen.count(each) > 1}:
        yield jsonschema.ValidationError(f"{each} is in the list twice")


Validator = jsonschema.validators.extend(jsonschema.Draft7Validator, {"x-kubernetes-list-map-keys": _unique_elements})


def job_schema() -> Any:
    """The schema of a Job of Kubernetes, which that of a runtime holds as the template of its Jobs."""
    text = (CRDS / OF_KIND["TrainingRuntime"]).read_text(encoding="utf-8")
    definition = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    runtime = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    spec = runtime["properties"]["spec"]["properties"]["template"]["properties"]["spec"]
    job = spec["properties"]["replicatedJobs"]["items"]["properties"]["template"]
    known = {"apiVersion": {"const": "batch/v1"}, "kind": {"const": "Job"}, "metadata": {"type": "object"}}
    return {"type": "object", "properties": known | {"spec": job["properties"]["spec"]}, "required": [*known, "spec"]}


@cache
def schema_of(kind: str) -> jsonschema.protocols.Validator:
    """The schema of a kind as its controller's release has it, unknown fields forbidden; skips without the shared data."""
    if not CRDS.is_dir():
        pytest.skip("no shared data")
    if kind == "Job":
        return Validator(strict(job_schema()))
    text = (CRDS / OF_KIND[kind]).read_text(encoding="utf-8")
    definition = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return Validator(strict(definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]))


def check_object(each: dict[str, Any]) -> None:
    """An object of a job is what the API server takes."""
    own = {"PersistentVolume": VOLUME, "PersistentVolumeClaim": CLAIM}
    if each["kind"] in own:
        jsonschema.validate(each, own[each["kind"]])
    else:
        schema_of(each["kind"]).validate(each)


def metadata_problems(metadata: dict[str, Any], *, name: re.Pattern[str] = OBJECT_NAME) -> list[str]:
    """What the server would refuse in an object's metadata; schemas say nothing about it."""
    problems = [] if name.fullmatch(metadata.get("name", "x")) else [metadata["name"]]
    problems += [
        key for key in [*metadata.get("labels", {}), *metadata.get("annotations", {})] if not LABEL_KEY.fullmatch(key)
    ]
    return problems + [value for value in metadata.get("labels", {}).values() if not LABEL_VALUE.fullmatch(value)]
