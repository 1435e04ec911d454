"""Queues of a real Kueue: a job that it would not hold is refused; two queues share a quota, borrow, and preempt by priority.

The first test needs Kueue as 0.19 ships, which does not manage PyTorchJobs; the cluster tool then adds them for the others, and takes
them out again at the end.
"""

import json
import secrets
from dataclasses import dataclass

import pytest
from bucket_run import OFTEN, Training
from cluster_site import ROOT, Site, wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

POD = ["--accelerator", "cpu", "--workers-per-node", "1", "--data-access", "api"]
SMALL = "resources: {requests: {cpu: 250m}}"
"""So that the quotas decide, not the room on a node that others use too."""

OVERLAY = ["--overlay", f"{{spec: {{containers: [{{name: pytorch, {SMALL}}}]}}}}"]
ENDS_SOON = ["--overlay", f"{{spec: {{containers: [{{name: pytorch, {SMALL}, command: [sh, -c, sleep 5]}}]}}}}"]

RESEARCH, CLINIC = "research", "clinic"
CORES = {RESEARCH: "250m", CLINIC: "250m"}
"""Quotas of the two queues: one worker each. A job of two workers borrows that of the other queue."""


@dataclass(frozen=True)
class Queues:
    """Two queues of one cohort, and two priorities; names of objects of the cluster begin with `prefix`."""

    site: Site
    prefix: str

    @property
    def urgent(self) -> str:
        return f"{self.prefix}-urgent"

    def objects(self):
        yield _object("ResourceFlavor", self.prefix)
        yield _object("WorkloadPriorityClass", self.urgent) | {"value": 1000}
        for name, cores in CORES.items():
            yield _object("ClusterQueue", f"{self.prefix}-{name}", spec=self._cluster_queue(cores))
            where = {"clusterQueue": f"{self.prefix}-{name}"}
            yield _object("LocalQueue", name, namespace=self.site.namespace, spec=where)

    def _cluster_queue(self, cores):
        quotas = [{"name": "cpu", "nominalQuota": cores}, {"name": "memory", "nominalQuota": "64Gi"}]
        flavor = {"name": self.prefix, "resources": quotas}
        return {
            "cohortName": self.prefix,
            "namespaceSelector": {},
            "preemption": {"reclaimWithinCohort": "LowerPriority", "withinClusterQueue": "LowerPriority"},
            "resourceGroups": [{"coveredResources": ["cpu", "memory"], "flavors": [flavor]}],
        }

    def create(self):
        """Kueue's webhooks refuse for some seconds after its start."""
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(self.objects())})
        said = []

        def is_applied():
            said.append(self.site.kubectl("apply", "-f", "-", stdin=text, check=False))
            return said[-1].count(" created") + said[-1].count(" unchanged") == 6

        wait_until("the queues are there", is_applied)
        print(f"queues: applied at the {len(said)}. try")

    def remove(self):
        """Of what belongs to no namespace."""
        for each in self.objects():
            if "namespace" not in each["metadata"]:
                self.site.kubectl("delete", each["kind"], each["metadata"]["name"], "--wait=false")


def _object(kind, name, namespace=None, **fields):
    metadata = {"name": name} | ({"namespace": namespace} if namespace else {})
    return {"apiVersion": "kueue.x-k8s.io/v1beta2", "kind": kind, "metadata": metadata} | fields


@pytest.fixture(scope="module")
def kueue(tool, site, served):
    """Whether Kueue manages PyTorchJobs now; the tool can change it."""
    if "kueue-controller-manager" not in site.kubectl("get", "deployments", "-A", "-o", "name"):
        pytest.skip("the cluster has no Kueue")
    if "pytorchjob" not in served:
        pytest.skip("the cluster serves no PyTorchJobs")
    configured = site.kubectl("-n", "kueue-system", "get", "configmap", "kueue-manager-config", "-o", "yaml")
    return '\n      - "kubeflow.org/pytorchjob"' in configured


@pytest.fixture(scope="module")
def queues(kueue, site):
    made = Queues(site, f"e2e-{secrets.token_hex(3)}")
    made.create()
    yield made
    made.remove()


@pytest.fixture(scope="module")
def both_kinds(kueue, tool, queues):
    """Kueue manages both kinds, and afterwards what it managed before."""
    if not kueue:
        tool("kueue", "pytorchjob")
    try:
        wait_until(
            "Kueue holds PyTorchJobs", lambda: is_accepted(queues.site.of_api("pytorchjob"), "--queue", RESEARCH)
        )
        yield queues
    finally:
        if not kueue:
            tool("kueue")
            # it has restarted: until its webhook answers, the server creates no job of later tests
            wait_until("Kueue answers", lambda: is_accepted(queues.site.of_api("pytorchjob")))


def is_accepted(site, *flags):
    """Whether a server dry run of a job is accepted."""
    job = [*POD, "--data", "s3://b/d", "--output", "s3://b/o", "--name", "held", *flags]
    return site.launcher("submit", *job, "--dry-run", "server", code=None).returncode == 0


def diagnosis(site, name):
    """What `status` says of a job."""
    return json.loads(site.launcher("status", name, "-o", "json").stdout).get("diagnosis") or {}


def test_queue_of_the_component_is_accepted(queues):
    """As far as Kueue's webhooks and the schema of its kinds go."""
    text = (ROOT / "k8s/components/kueue/queue.yaml").read_text(encoding="utf-8")
    here = text.replace("namespace: chexnet", f"namespace: {queues.site.namespace}")
    said = queues.site.kubectl("create", "--dry-run=server", "-f", "-", stdin=here)
    assert said.count("created (server dry run)") == 4


def test_job_that_kueue_would_not_hold_is_refused_before_it_is_created(kueue, queues, stored, phantoms, served):
    """Kueue 0.19 as it ships: such a job would start at once, above its quota. `doctor` says the same; `auto` takes a TrainJob."""
    if kueue:
        pytest.skip("Kueue manages PyTorchJobs here")
    site, job = stored, [*POD, "--data", phantoms, "--name", "above", "--queue", RESEARCH]
    refused = site.launcher("submit", *job, "--api", "pytorchjob", code=4).stderr
    assert "cannot use --queue research: Kueue" in refused
    assert "but not PyTorchJobs, so the job would start at once, outside of any quota" in refused
    assert "--api trainjob" in refused
    assert site.objects("pytorchjobs") == []
    rows = json.loads(site.launcher("doctor", *job, "--api", "pytorchjob", "-o", "json", code=None).stdout)["checks"]
    assert [row["check"] for row in rows if row["status"] == "FAIL" and row["where"] == "cluster"] == ["held by Kueue"]
    if "trainjob" in served:
        chosen = site.launcher("submit", *job, "--dry-run", "server").stderr
        assert "TrainJob: Kueue manages TrainJobs, but not PyTorchJobs (from `--api auto`)" in chosen


def test_prepare_job_waits_in_its_queue_and_runs_when_it_fits(queues, stored, bucket, phantoms):
    """Kueue manages Jobs as it ships: it suspends one when it is created."""
    overlay = "{spec: {containers: [{name: pytorch, resources: {requests: {cpu: 250m, memory: 256Mi}}}]}}"
    flags = ["--data", phantoms, "--out", f"s3://{bucket.name}/queued", "--cpus", "1", "--overlay", overlay]
    stored.launcher("prepare", *flags, "--pods", "3", "--name", "too-large", "--queue", RESEARCH)
    wait_until("it is reported", lambda: diagnosis(stored, "too-large").get("code") == "queue-too-small")
    assert "it asks for 750m cpu, 250m too many" in diagnosis(stored, "too-large")["sentence"]
    assert stored.objects("pods", "-l", "batch.kubernetes.io/job-name=too-large") == []
    stored.launcher("delete", "too-large", "-y")
    stored.launcher("prepare", *flags, "--pods", "2", "--name", "fits", "--queue", RESEARCH)
    assert stored.launcher("wait", "fits", "--timeout", "300s").stdout == "Succeeded\n"
    assert (bucket.folder / bucket.name / "queued/manifest.json").is_file()
    stored.launcher("delete", "fits", "-y")


@pytest.fixture(scope="module")
def unbroken(both_kinds, stored, bucket, phantoms):
    """What the run comes to when it waits for nobody."""
    run = Training(stored, "unbroken", bucket.folder / bucket.name / "runs/unbroken")
    run.submit(phantoms, *OFTEN, job=OVERLAY)
    stored.launcher("wait", run.name)
    stored.launcher("delete", run.name, "-y")
    return run.outcome()


def test_preempted_job_commits_waits_and_ends_with_the_weights_of_an_unbroken_run(
    both_kinds, unbroken, of_api, bucket, phantoms
):
    """It had borrowed the other queue's quota; a job of that queue gets it back only if it is more urgent."""
    kind = of_api.api.name[:2]
    run = Training(of_api, f"{kind}-long", bucket.folder / bucket.name / f"runs/{kind}-long")
    run.submit(phantoms, *OFTEN, job=["--queue", RESEARCH, *OVERLAY])
    wait_until("it trains", lambda: run.step)

    patient = [*POD, "--data", phantoms, "--name", f"{kind}-short", "--queue", CLINIC, *ENDS_SOON]
    of_api.launcher("submit", *patient)
    wait_until("it waits", lambda: diagnosis(of_api, f"{kind}-short").get("code") == "queued")
    assert "250m more cpu of flavor" in diagnosis(of_api, f"{kind}-short")["sentence"]
    of_api.launcher("delete", f"{kind}-short", "-y")

    before = run.step
    of_api.launcher("submit", *patient, "--queue-priority", both_kinds.urgent)
    wait_until("the first is preempted", lambda: diagnosis(of_api, run.name).get("code") == "queue-evicted")
    said = diagnosis(of_api, run.name)["sentence"]
    assert f"Kueue preempted it for the job {kind}-short (priority 1000, its own 0)" in said
    wait_until("its pods are gone", lambda: of_api.pods(run.name) == [])
    stopped = run.step
    assert stopped > before

    of_api.launcher("wait", f"{kind}-short")
    of_api.launcher("delete", f"{kind}-short", "-y")
    of_api.launcher("wait", run.name)
    print(f"{kind}: preempted at step {stopped}, continued from {run.said(r'continuing from step (.*)')}")
    assert run.said(r"continuing from step (\d+)") == [str(stopped)]
    assert run.outcome() == unbroken
    of_api.launcher("delete", run.name, "-y")


@pytest.mark.usefixtures("both_kinds")
def test_job_larger_than_both_queues_is_reported_as_never_admitted(of_api, phantoms):
    """Waiting would not help."""
    name = f"{of_api.api.name[:2]}-large"
    of_api.launcher("submit", *POD, *OVERLAY, "--workers", "3", "--data", phantoms, "--name", name, "--queue", RESEARCH)
    wait_until("it is reported", lambda: diagnosis(of_api, name).get("code") == "queue-too-small")
    said = diagnosis(of_api, name)["sentence"]
    assert "it asks for 750m cpu, 250m too many" in said
    of_api.launcher("delete", name, "-y")
