"""Secrets, claims and drivers that a job refers to."""

import base64
import json

import pytest
from doctor_samples import KEYS, gaudi
from submitted import spec

from launcher.cluster.resources import CLAIMS, SECRETS
from launcher.doctor import references
from launcher.spec.options import PodOptions, S3Options


def put(api, resource, name, **body):
    api.state.put(resource.path("team-a", name), {"metadata": {"name": name}, **body})


def registry_secret(*hosts):
    content = json.dumps({"auths": {host: {"auth": "c2VjcmV0"} for host in hosts}}).encode()
    data = {".dockerconfigjson": base64.b64encode(content).decode()}
    return {"type": "kubernetes.io/dockerconfigjson", "data": data}


def test_secrets_need_the_keys_that_pods_use(cluster, api):
    """A pod with a key that is not there waits in CreateContainerConfigError; the value is nobody's business."""
    job = spec(
        s3=S3Options(secret="keys", csi_driver="s3.csi.scality.com"), pod=PodOptions(env_from_secret=("A=more:a",))
    )
    absent = references.secret(cluster, job)
    assert absent.status == "FAIL"
    assert "`keys` is not in namespace `team-a`" in absent.found
    put(api, SECRETS, "keys", data=KEYS | {"key_id": ""})
    put(api, SECRETS, "more", data={"a": "dmFsdWU="})
    incomplete = references.secret(cluster, job)
    assert incomplete.found == "`keys` has no access_key"
    put(api, SECRETS, "keys", data=KEYS | {"key_id": "", "access_key": "c2VjcmV0"})
    complete = references.secret(cluster, job)
    assert complete.status == "OK"
    assert "c2VjcmV0" not in complete.found


@pytest.mark.parametrize(
    ("image", "hosts", "status"),
    [
        ("registry.example/x:1", ["registry.example"], "OK"),
        ("registry.example:5000/x:1", ["https://registry.example:5000/v1/"], "OK"),
        ("library/x", ["https://index.docker.io/v1/"], "OK"),
        ("registry.example/x:1", ["other.example"], "WARN"),
    ],
)
def test_a_pull_secret_must_be_for_the_images_registry(cluster, api, image, hosts, status):
    """A Secret for another registry is there and does nothing."""
    put(api, SECRETS, "pull", **registry_secret(*hosts))
    job = spec(image=image, pod=PodOptions(image_pull_secret=("pull",)))
    outcome = references.pull_secret(cluster, job)
    assert outcome.status == status, outcome
    assert "c2VjcmV0" not in outcome.found


@pytest.mark.parametrize(
    ("phase", "modes", "workers", "status"),
    [
        ("Bound", ["ReadOnlyMany"], 16, "OK"),
        ("Bound", ["ReadWriteOnce"], 8, "OK"),
        ("Bound", ["ReadWriteOnce"], 16, "FAIL"),
        ("Pending", ["ReadOnlyMany"], 8, "WARN"),
        ("Lost", ["ReadOnlyMany"], 8, "FAIL"),
    ],
)
def test_a_claim_must_be_bound_and_reach_all_nodes(cluster, api, phase, modes, workers, status):
    put(api, CLAIMS, "xrays", spec={"accessModes": modes}, status={"phase": phase})
    job = gaudi(workers, data="", s3=S3Options(claim="xrays"))
    assert references.claim(cluster, job).status == status


@pytest.mark.parametrize(("on", "status"), [((), "FAIL"), (("a",), "WARN"), (("a", "b"), "OK")])
def test_csi_driver_must_be_registered_on_nodes(on, status):
    """Installed is not registered: mounts fail until the driver's pod runs on the node."""
    nodes = [
        {"metadata": {"name": name}, "spec": {"drivers": [{"name": "s3.csi.aws.com"}] if name in on else None}}
        for name in "ab"
    ]
    assert references.registered("s3.csi.aws.com", nodes, "").status == status
