"""Golden manifests and the real API server: its schemas and the webhooks of both controllers take them.

Dry runs, but for runtimes: Trainer's webhook refuses a TrainJob whose runtime does not exist.
"""

import copy
import json
from pathlib import Path

import pytest
import yaml
from cluster_site import ROOT, Site, created_after_its_runtime

from launcher.spec.train_job import administrators_runtime

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

GOLDEN = sorted((ROOT / "tests/launcher/spec/golden").glob("*.yaml"))
DRY = ["--dry-run=server", "--validate=strict"]


def in_namespace(each: dict, namespace: str) -> dict:
    """The object in another namespace; volumes name that of their claim."""
    each = copy.deepcopy(each)
    if each["kind"] == "PersistentVolume":
        each["spec"]["claimRef"]["namespace"] = namespace
        each["metadata"]["name"] += f"-{namespace}"
    else:
        each["metadata"]["namespace"] = namespace
    return each


def objects_of(path: Path, namespace: str) -> list[dict]:
    return [in_namespace(each, namespace) for each in yaml.safe_load_all(path.read_text())]


@pytest.fixture(scope="module")
def administrators(site):
    """The runtime of an administrator."""
    site.kubectl("create", "-f", "-", stdin=json.dumps(administrators_runtime("chexnet")))


def taken(site: Site, objects: list[dict]) -> str:
    """What the server says about a job, of which only the runtime is created."""
    *others, job = objects
    for each in others:
        how = ["--validate=strict"] if each["kind"] == "TrainingRuntime" else DRY
        site.kubectl("create", *how, "-f", "-", stdin=json.dumps(each))
    return created_after_its_runtime(site, job, *DRY)


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_server_takes_golden_manifests(site, path, request):
    """Strictly: a field that the server does not know is an error."""
    objects = objects_of(path, site.namespace)
    if objects[-1]["kind"] == "TrainJob":
        request.getfixturevalue("trainer")
    if "runtimePatches" in objects[-1]["spec"]:
        request.getfixturevalue("administrators")
    assert "created (server dry run)" in taken(site, objects)


@pytest.mark.usefixtures("trainer", "administrators")
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            lambda spec: spec["trainer"]["env"].append({"name": "PET_NNODES", "value": "2"}),
            "must not have reserved envs",
        ),
        (lambda spec: spec["trainer"].update(envFrom=[]), 'unknown field "spec.trainer.envFrom"'),
        (lambda spec: spec["runtimePatches"][0].update(manager="launcher"), "must be a domain-prefixed path"),
    ],
    ids=["variable of Trainer", "unknown field", "author of a patch"],
)
def test_server_refuses_what_the_webhook_refuses(site, change, reason):
    """Else the test above would prove nothing: the webhook answers dry runs too."""
    [path] = [each for each in GOLDEN if each.stem == "trainjob-administrators-runtime"]
    *_, job = objects_of(path, site.namespace)
    change(job["spec"])
    assert reason in created_after_its_runtime(site, job, *DRY)
