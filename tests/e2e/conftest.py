"""The cluster that KUBECONFIG names, and a real S3 server on this machine that its pods reach.

E2E_IMAGE is the trainer's image as the cluster knows it. E2E_HOST is the address at which pods reach this machine; without
it the tests that need a bucket are skipped. CLUSTER_TOOL is the program that mounts buckets and adds simulated nodes;
tests that need it are skipped without.
"""

import os
import secrets
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from cluster_site import APIS, Bucket, S3Server, Site, wait_until

from trainer.data.synthetic import write_phantoms

RESTRICTED = "pod-security.kubernetes.io/enforce=restricted"


@pytest.fixture(scope="session")
def kubeconfig() -> str:
    path = os.environ.get("KUBECONFIG")
    if not path:
        pytest.skip("no KUBECONFIG")
    return path


@pytest.fixture(scope="session")
def trainer(kubeconfig):
    """Kubeflow Trainer v2 is on the cluster."""
    command = ["kubectl", "--kubeconfig", kubeconfig, "get", "crd", "trainjobs.trainer.kubeflow.org", "-o", "name"]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no Kubeflow Trainer v2")


@pytest.fixture(scope="session")
def image() -> str:
    return os.environ.get("E2E_IMAGE", "localhost/trainer:dev")


@pytest.fixture(scope="module")
def site(kubeconfig, image):
    """A namespace of its own under Pod Security `restricted`, gone afterwards."""
    site = Site(kubeconfig, f"e2e-{secrets.token_hex(3)}", image)
    site.kubectl("create", "namespace", site.namespace)
    site.kubectl("label", "namespace", site.namespace, RESTRICTED)
    yield site
    clean(site)


def clean(site: Site) -> None:
    """Remove the namespace, and the volumes of its jobs, which belong to none."""
    volumes = site.objects("pv", "-l", "app.kubernetes.io/managed-by=chexnet-launcher")
    mine = [each["metadata"]["name"] for each in volumes if each["spec"]["claimRef"]["namespace"] == site.namespace]
    site.kubectl("delete", "namespace", site.namespace, "--wait=false")
    if mine:
        site.kubectl("delete", "pv", *mine, "--wait=false")


@pytest.fixture(scope="session")
def tool():
    """Runs the cluster tool."""
    program = os.environ.get("CLUSTER_TOOL")
    if not program:
        pytest.skip("no CLUSTER_TOOL")

    def run(*argv: str) -> str:
        return subprocess.run([program, *argv], capture_output=True, text=True, check=True, timeout=300).stdout

    return run


@pytest.fixture(scope="session")
def bucket(tmp_path_factory):
    """rclone's S3 server, which checks signatures and keeps its objects on disk."""
    host = os.environ.get("E2E_HOST")
    if not host:
        pytest.skip("no E2E_HOST: pods would not reach a bucket of this machine")
    folder = tmp_path_factory.mktemp("buckets")
    (folder / "cxr").mkdir()
    key, secret = "e2e-access-key", secrets.token_hex(20)
    server = S3Server(folder, host, key, secret)
    server.start()
    yield Bucket(server, folder, key, secret)
    server.stop()


@pytest.fixture(scope="session")
def mounts(tool, bucket, kubeconfig):
    """Makes a driver mount that server's buckets."""
    ready = set()
    site = Site(kubeconfig, "default", "")

    def start(driver: str) -> None:
        if driver in ready:
            return
        tool("s3-mounts", bucket.endpoint, bucket.key, bucket.secret, driver)
        time.sleep(5)  # the driver of an earlier run stays registered for seconds after its end
        wait_until(f"{driver} is registered", lambda: driver in site.kubectl("get", "csinode", "-o", "yaml"))
        ready.add(driver)

    return start


@pytest.fixture(scope="session")
def phantoms(bucket):
    """Ninety small phantoms in the bucket; where they lie in it."""
    write_phantoms(bucket.folder / bucket.name / "phantoms", images=90, side=48)
    return f"s3://{bucket.name}/phantoms"


@pytest.fixture(scope="session")
def x_rays(bucket):
    """Real X-rays in the bucket; where they lie in it."""
    sample = Path(__file__).parents[3] / "shared/data/nih-sample"
    if not sample.is_dir():
        pytest.skip("no shared data")
    shutil.copytree(sample, bucket.folder / bucket.name / "nih-sample", ignore=shutil.ignore_patterns("full", "*.md"))
    return f"s3://{bucket.name}/nih-sample"


@pytest.fixture(scope="session")
def served(kubeconfig):
    """Kinds of jobs that the cluster serves."""
    known = Site(kubeconfig, "default", "").kubectl("api-resources", "-o", "name").split()
    return {api.name for api in APIS.values() if f"{api.name}s.{api.group}" in known}


@pytest.fixture(params=APIS)
def of_api(request, stored, served):
    """The namespace with the bucket's Secret, with jobs of each kind in turn."""
    if request.param not in served:
        pytest.skip(f"the cluster serves no {request.param}s")
    return stored.of_api(request.param)


@pytest.fixture(scope="module")
def stored(site, bucket):
    """The namespace with the Secret for the bucket; returns it with the launcher's settings for the bucket."""
    literals = {
        "AWS_ACCESS_KEY_ID": bucket.key,
        "AWS_SECRET_ACCESS_KEY": bucket.secret,
        "key_id": bucket.key,
        "access_key": bucket.secret,
    }
    site.kubectl(
        "create", "secret", "generic", "s3", *(f"--from-literal={key}={value}" for key, value in literals.items())
    )
    settings = {
        "LAUNCHER_S3_ENDPOINT": bucket.endpoint,
        "LAUNCHER_S3_REGION": "us-east-1",
        "LAUNCHER_S3_SECRET": "s3",
        "LAUNCHER_OUTPUT": f"s3://{bucket.name}/runs",
    }
    return Site(site.kubeconfig, site.namespace, site.image, settings | bucket.environment)
