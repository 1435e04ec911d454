"""Accelerators of a DRA driver, as plain objects of a real API server: what `doctor` and `status` read from them.

The driver does not exist, so no pod starts; its DeviceClass, ResourceSlices and a ResourceClaim are enough for what the launcher
reads. `spec.extendedResourceName` of a DeviceClass is alpha in Kubernetes 1.34 and dropped on write without its gate, and the
scheduler serves a class's implicit name only from 1.35: on a server that drops the field, jobs request the implicit name. The
extended-resource bridge itself, a name like `nvidia.com/gpu` served by a class, is then tested on the API server double only
(tests/launcher/doctor/test_checks.py, tests/launcher/cluster/test_dra.py).
"""

import json
import secrets
from dataclasses import dataclass

import pytest
from cluster_site import Site, wait_until

from launcher.cluster.resources import DEVICE_CLASS_PREFIX

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

CARDS = 8
SMALL = (
    "{spec: {containers: [{name: pytorch, resources: {requests: {cpu: 10m, memory: 64Mi}, limits: {memory: 64Mi}}}]}}"
)
ANY = ["--accelerator", "cuda", "--data", "/srv/cxr", "--output", "/srv/runs", "--overlay", SMALL]


@dataclass(frozen=True)
class Driver:
    """A driver by its objects; `node` has the devices."""

    site: Site
    name: str
    node: str

    @property
    def resource(self) -> str:
        """The class's extended resource: its own name for it where the server keeps that, else the implicit one."""
        kept = json.loads(self.site.kubectl("get", "deviceclass", self.name, "-o", "json"))["spec"]
        return kept.get("extendedResourceName", DEVICE_CLASS_PREFIX + self.name)

    def create(self, kind: str, metadata: dict, **fields: object) -> None:
        body = {"apiVersion": "resource.k8s.io/v1", "kind": kind, "metadata": metadata} | fields
        self.site.kubectl("create", "-f", "-", stdin=json.dumps(body))

    def publish(self, generation: int, devices: list[dict], **pool: int) -> None:
        """A slice of the node's pool; other generations stay as they are."""
        spec = {
            "driver": self.name,
            "nodeName": self.node,
            "pool": {"name": self.node, "generation": generation, "resourceSliceCount": 1} | pool,
            "devices": devices,
        }
        self.create("ResourceSlice", {"name": f"{self.name}-{generation}"}, spec=spec)

    def claim(self, *devices: str) -> None:
        """A claim that holds these devices, as if the scheduler had allocated it."""
        request = {"name": "gpus", "exactly": {"deviceClassName": self.name, "count": len(devices)}}
        self.create("ResourceClaim", {"name": "held"}, spec={"devices": {"requests": [request]}})
        where = {"request": "gpus", "driver": self.name, "pool": self.node}
        status = {"allocation": {"devices": {"results": [where | {"device": each} for each in devices]}}}
        self.site.kubectl(
            "patch",
            "resourceclaim",
            "held",
            "--subresource=status",
            "--type=merge",
            "-p",
            json.dumps({"status": status}),
        )

    def unclaim(self) -> None:
        self.site.kubectl("delete", "resourceclaim", "held", "--ignore-not-found")

    def remove(self) -> None:
        for kind in ("resourceslice", "deviceclass"):
            names = [each["metadata"]["name"] for each in self.site.objects(kind)]
            for name in names:
                if name.startswith(self.name):
                    self.site.kubectl("delete", kind, name, "--ignore-not-found")


def card(index, kind="gpu", **fields):
    return {"name": f"{kind}-{index}", "attributes": {"type": {"string": kind}}} | fields


@pytest.fixture(scope="module")
def open_site(kubeconfig, image):
    """A namespace without Pod Security, because the jobs mount directories."""
    site = Site(kubeconfig, f"e2e-{secrets.token_hex(3)}", image)
    site.kubectl("create", "namespace", site.namespace)
    yield site
    site.kubectl("delete", "namespace", site.namespace, "--wait=false")


@pytest.fixture
def driver(open_site):
    """Eight cards on the first node, and a MIG partition that the class does not select."""
    if "resourceslices" not in open_site.kubectl("api-resources", "--api-group=resource.k8s.io", "-o", "name"):
        pytest.skip("the cluster does not serve resource.k8s.io/v1")
    node = min(each["metadata"]["name"] for each in open_site.objects("nodes"))
    made = Driver(open_site, f"e2e-{secrets.token_hex(3)}.example.com", node)
    chosen = f"device.driver == '{made.name}' && device.attributes['{made.name}'].type == 'gpu'"
    spec = {"extendedResourceName": f"{made.name}/card", "selectors": [{"cel": {"expression": chosen}}]}
    made.create("DeviceClass", {"name": made.name}, spec=spec)
    made.publish(1, [*map(card, range(CARDS)), card(0, "mig")])
    yield made
    made.unclaim()
    made.remove()


def rows(driver, *flags):
    """The rows of doctor about accelerators; none of them may fail to be read."""
    flags = [*ANY, "--resource", driver.resource, "--workers", "4", *flags]
    said = json.loads(driver.site.launcher("doctor", *flags, "-o", "json", code=None).stdout)["checks"]
    return {row["check"]: row for row in said if row["check"] in {"device plugin", "room on nodes"}}


def sentence_with(driver, job, code, *, workers):
    """What `status` says of a job that requests these devices, once `code` is the cause."""
    site, said = driver.site, {}
    site.launcher("submit", *ANY, "--resource", driver.resource, "--workers", workers, "--name", job)

    def told():
        status = json.loads(site.launcher("status", job, "-o", "json").stdout)
        said.update(status.get("diagnosis") or {})
        return said.get("code") == code

    wait_until(f"{job} is {code}", told)
    site.launcher("delete", job, "-y")
    return said["sentence"]


def test_devices_of_slices_are_counted(driver):
    """Node allocatable names none of them."""
    row = rows(driver)["device plugin"]
    assert row["status"] == "OK", row
    assert row["found"] == f"{CARDS} {driver.resource} on 1 node by DRA (DeviceClass `{driver.name}`)"


def test_newest_generation_replaces_a_pool(driver):
    driver.publish(2, [card(0), card(1)])
    assert rows(driver)["device plugin"]["found"].startswith(f"2 {driver.resource} on 1 node")
    driver.publish(3, [card(0)], resourceSliceCount=2)
    row = rows(driver)["device plugin"]
    assert row["status"] == "FAIL", "half of a pool is none"
    assert f"no ResourceSlice has a device of the DeviceClass `{driver.name}`" in row["found"]


def test_claims_take_devices_in_doctor_and_status(driver):
    """Of eight cards six are held by a claim: four workers fit when it ends."""
    driver.claim(*(f"gpu-{index}" for index in range(6)))
    assert rows(driver)["device plugin"]["status"] == "OK"
    assert "free: 2 on" in rows(driver)["room on nodes"]["found"]
    sentence = sentence_with(driver, "waits", "unschedulable-accelerators", workers=4)
    assert f"wants 4 {driver.resource}, largest free 2 on {driver.node} (of {CARDS})" in sentence


def test_absent_driver_is_named_for_a_pending_job(driver):
    """Not the device plugin, which would never serve a name of DRA."""
    driver.site.kubectl("delete", "resourceslice", f"{driver.name}-1")
    sentence = sentence_with(driver, "absent", "no-accelerators", workers=1)
    assert f"no ResourceSlice has a device of the DeviceClass {driver.name}" in sentence
