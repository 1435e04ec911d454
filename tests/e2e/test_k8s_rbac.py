"""k8s/ applied as its README says, on a namespace of its own: what its roles let people do, what its pod rules let pods be,
and what the capabilities and system calls of pods are.

Cluster-wide objects get names of their own, so that this runs beside an installation and leaves it as it is.
"""

import copy
import json
import os
import secrets
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from cluster_site import ROOT, Site, created_after_its_runtime, wait_until
from made_pods import template_of

from launcher import kinds
from launcher.doctor import permissions
from launcher.spec.job import JobSpec

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

K8S = ROOT / "k8s"
COMMAND = "# python -m launcher "
LABEL = "chexnet-launcher/pod-rules"
ENFORCE = "pod-security.kubernetes.io/enforce"
DRY = ["--dry-run=server", "-f", "-"]
CLUSTER_WIDE = {"ClusterRole", "ClusterRoleBinding", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"}
ANY = ["--accelerator", "cpu", "--workers", "1", "--output", "s3://cxr/runs"]
JOB = [*ANY, "--data", "s3://cxr/chestxray14"]

READER = "--as=e2e-person --as-group=chexnet-readers --as-group=system:authenticated"
SUBMITTER = "--as=e2e-person --as-group=chexnet-submitters --as-group=system:authenticated"

POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "probe"},
    "spec": {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 0,
        "securityContext": {"runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [
            {
                "name": "pytorch",
                "command": ["sh", "-c", "echo hello; sleep 600"],
                "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
            }
        ],
    },
}


def build(folder: Path, namespace: str, overlay: str, *components: str) -> list[dict]:
    """The objects of an overlay with components, as a team's own kustomization gives them."""
    content = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": namespace,
        "resources": [os.path.relpath(K8S / "overlays" / overlay, folder)],
        "components": [os.path.relpath(K8S / "components" / each, folder) for each in components],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(content))
    built = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True, check=True)
    return [renamed(each, namespace) for each in yaml.safe_load_all(built.stdout)]


def renamed(each: dict, suffix: str) -> dict:
    """A cluster-wide object under another name, and references to such."""
    if each["kind"] in CLUSTER_WIDE:
        each["metadata"]["name"] += f"-{suffix}"
        each["metadata"].pop("namespace", None)
    if each.get("roleRef", {}).get("kind") == "ClusterRole":
        each["roleRef"]["name"] += f"-{suffix}"
    if "policyName" in each.get("spec", {}):
        each["spec"]["policyName"] += f"-{suffix}"
        each["spec"]["matchResources"]["namespaceSelector"]["matchLabels"] = {LABEL: suffix}
    if LABEL in (each["metadata"].get("labels") or {}):
        each["metadata"]["labels"][LABEL] = suffix
    return each


class Team:
    """A namespace with one overlay, and the people of its groups."""

    def __init__(self, site: Site, objects: list[dict]):
        self.site, self.objects = site, objects

    def apply(self) -> str:
        return self.site.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(self.objects))

    def remove(self) -> None:
        for each in self.objects:
            if each["kind"] in CLUSTER_WIDE:
                self.site.kubectl("delete", each["kind"], each["metadata"]["name"], "--ignore-not-found")
        self.site.kubectl("delete", "namespace", self.site.namespace, "--wait=false")

    def person(self, who: str, *argv: object, **options: object) -> str:
        return self.site.kubectl(*shlex.split(who), *argv, **options)

    def may(self, who: str, verb: str, resource: str, namespace: str | None = None) -> bool:
        kind, _, part = resource.partition("/")  # `can-i` takes KIND/NAME, and a subresource by its flag alone
        asked = [verb, kind, f"--subresource={part}", "-n", namespace or self.site.namespace, *shlex.split(who)]
        command = ["kubectl", "--kubeconfig", self.site.kubeconfig, "auth", "can-i", *asked]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        answer = done.stdout.strip()
        assert answer in {"yes", "no"}, done.stderr
        return answer == "yes"


@pytest.fixture(scope="module")
def teams(kubeconfig, image, tmp_path_factory):
    """Makes teams, one an overlay; their namespaces and roles are gone afterwards."""
    made: dict[tuple[str, ...], Team] = {}

    def team(*parts: str) -> Team:
        if parts not in made:
            site = Site(kubeconfig, f"e2e-{parts[0]}-{secrets.token_hex(3)}", image)
            made[parts] = Team(site, build(tmp_path_factory.mktemp(parts[0]), site.namespace, *parts))
            made[parts].apply()
        return made[parts]

    yield team
    for each in made.values():
        each.remove()


@pytest.fixture(scope="module")
def team(teams):
    return teams("gaudi")


@pytest.fixture(scope="module")
def ruled(teams):
    """A namespace where only the policy of `pod-rules` holds pods in: Pod Security is off."""
    made = teams("kind", "pod-rules")
    made.site.kubectl("label", "namespace", made.site.namespace, f"{ENFORCE}=privileged", "--overwrite")

    def in_force() -> bool:
        body = pod("i:1", hostNetwork=True)
        return "denied request" in made.site.kubectl("create", *DRY, stdin=body, check=False)

    wait_until("the policy is in force", in_force)
    return made


def pod(image, **changes):
    """The small pod with changes in its spec, or, as `container`, in its container."""
    body = copy.deepcopy(POD)
    body["metadata"] |= changes.pop("metadata", {})
    body["spec"]["containers"][0] |= {"image": image} | changes.pop("container", {})
    body["spec"] |= changes
    return json.dumps(body)


@pytest.mark.parametrize("overlay", ["gaudi", "cuda", "kind"])
def test_overlays_apply_and_a_second_time_change_nothing(teams, overlay):
    """The server takes every object, and says of none that it differs from what it keeps."""
    lines = teams(overlay).apply().splitlines()
    assert len(lines) == len(teams(overlay).objects)
    assert [line for line in lines if not line.endswith("unchanged")] == []


def kinds_in(path: Path) -> set[str]:
    return {each["kind"] for each in yaml.safe_load_all(path.read_text())}


@pytest.mark.parametrize("path", sorted((K8S / "examples").glob("*.yaml")), ids=lambda path: path.stem)
def test_examples_apply(team, path, request):
    """They are manifests that a server with the operator's webhook takes, in the namespace of the base."""
    first = path.read_text().partition("\n")[0]
    if not first.startswith(COMMAND):
        pytest.skip("no manifest")
    argv = shlex.split(first.removeprefix(COMMAND))
    argv[argv.index("-n") + 1] = team.site.namespace
    if "TrainJob" in kinds_in(path):
        request.getfixturevalue("trainer")
    manifest = team.site.launcher(*argv).stdout
    *others, job = yaml.safe_load_all(manifest)
    for each in others:
        team.site.kubectl("create", "-f", "-", stdin=json.dumps(each))
    assert "created" in created_after_its_runtime(team.site, job)
    team.site.kubectl("delete", "-f", "-", "--wait=false", stdin=manifest)


CHANGES = [
    *(f"create {each}" for each in ("pytorchjobs", "pods", "persistentvolumeclaims")),
    *(f"delete {each}" for each in ("pytorchjobs", "pods", "persistentvolumeclaims")),
]
OF_TRAIN_JOBS = {
    "change": [
        *(f"{verb} trainjobs.trainer.kubeflow.org" for verb in ("create", "delete")),
        *(f"{verb} trainingruntimes.trainer.kubeflow.org" for verb in ("create", "patch", "delete")),
        *("create jobs.batch", "delete jobs.batch"),  # of `launcher prepare`
    ],
    "look": [
        *(f"{verb} trainjobs.trainer.kubeflow.org" for verb in ("get", "list", "watch")),
        *(f"{verb} trainingruntimes.trainer.kubeflow.org" for verb in ("get", "list")),
        *(f"{verb} jobsets.jobset.x-k8s.io" for verb in ("get", "list")),
        *(f"{verb} jobs.batch" for verb in ("get", "list")),
        "list clustertrainingruntimes.trainer.kubeflow.org",
    ],
    "nobody": [
        *("patch trainjobs.trainer.kubeflow.org", "update trainjobs.trainer.kubeflow.org"),
        *("create jobsets.jobset.x-k8s.io", "delete jobsets.jobset.x-k8s.io", "patch jobs.batch", "update jobs.batch"),
        *("create clustertrainingruntimes.trainer.kubeflow.org", "patch clustertrainingruntimes.trainer.kubeflow.org"),
    ],
}
LOOKS = [
    *(f"{verb} {each}" for verb in ("get", "list", "watch") for each in ("pytorchjobs", "pods", "services", "events")),
    *("get pods/log", "list persistentvolumeclaims", "list resourcequotas", "get serviceaccounts", "list nodes"),
    *("list resourceslices", "list deviceclasses", "list resourceclaims"),
]
NOBODYS = [
    *("get secrets", "list secrets", "create secrets", "create serviceaccounts/token", "get configmaps"),
    *("create pods/exec", "create pods/attach", "create pods/portforward", "patch pods/ephemeralcontainers"),
    *("create persistentvolumes", "list persistentvolumes", "delete persistentvolumes", "patch nodes"),
    *("create roles", "create rolebindings", "bind clusterroles", "escalate roles", "impersonate users"),
    *("patch namespaces", "delete namespaces", "delete networkpolicies", "update resourcequotas", "delete limitranges"),
    *("create resourceclaims", "create resourceslices", "patch deviceclasses"),
    *("patch pytorchjobs", "create deployments", "create services", "delete validatingadmissionpolicies"),
]


@pytest.mark.parametrize("right", LOOKS)
def test_both_groups_may_read(team, right):
    for who in (READER, SUBMITTER):
        assert team.may(who, *right.split()), who


@pytest.mark.parametrize("right", CHANGES)
def test_only_submitters_may_change(team, right):
    assert team.may(SUBMITTER, *right.split())
    assert not team.may(READER, *right.split())


@pytest.mark.parametrize("right", NOBODYS)
def test_neither_group_has_these_rights(team, right):
    """Each of these would give more than training jobs in this namespace."""
    for who in (READER, SUBMITTER):
        assert not team.may(who, *right.split()), who


@pytest.mark.usefixtures("trainer")
def test_rights_about_train_jobs(team):
    """The same as about PyTorchJobs; and about runtimes what `submit` and `delete` do with them."""
    for right in OF_TRAIN_JOBS["change"]:
        assert (right, team.may(SUBMITTER, *right.split()), team.may(READER, *right.split())) == (right, True, False)
    for who in (READER, SUBMITTER):
        held = [right for right in [*OF_TRAIN_JOBS["look"], *OF_TRAIN_JOBS["nobody"]] if team.may(who, *right.split())]
        assert held == OF_TRAIN_JOBS["look"], who


@pytest.mark.parametrize("right", ["create pytorchjobs", "get pods/log", "list pytorchjobs", "create pods"])
def test_rights_end_at_the_namespace(team, right):
    """The roles are a team's; other teams' jobs and logs are not theirs."""
    assert not team.may(SUBMITTER, *right.split(), namespace="default")


def test_service_account_of_the_pods_has_no_rights(team):
    """Code that runs in a job can't turn to the cluster."""
    account = f"--as=system:serviceaccount:{team.site.namespace}:trainer"
    for right in ("list pods", "get secrets", "create pods", "create pytorchjobs", "list nodes"):
        assert not team.may(account, *right.split()), right


def test_rights_hold_in_real_calls(team):
    """`can-i` is what the server thinks; this is what it does."""
    body = pod(team.site.image)
    refused = team.person(READER, "create", "-f", "-", stdin=body, check=False)
    assert "forbidden" in refused.lower()
    team.person(SUBMITTER, "create", "-f", "-", stdin=body)
    try:
        wait_until("the pod has spoken", lambda: team.site.kubectl("logs", "probe", check=False) == "hello\n")
        for who in (READER, SUBMITTER):
            assert team.person(who, "logs", "probe") == "hello\n"
            assert "probe" in team.person(who, "get", "pods")
            assert "forbidden" in team.person(who, "get", "secrets", check=False).lower()
            assert "forbidden" in team.person(who, "exec", "probe", "--", "id", check=False).lower()
        assert "forbidden" in team.person(READER, "delete", "pod", "probe", check=False).lower()
    finally:
        team.person(SUBMITTER, "delete", "pod", "probe")


@pytest.fixture(scope="module")
def submitter(team, tmp_path_factory):
    """A person with the rights of the base's submitters."""
    with bound_account(team, tmp_path_factory.mktemp("submitter")) as site:
        yield site


@contextmanager
def bound_account(team: Team, folder: Path) -> Iterator[Site]:
    """A kubeconfig of a service account that is bound like a submitter: the launcher can't impersonate."""
    site, name = team.site, "e2e-submitter"
    site.kubectl("create", "serviceaccount", name)
    account = {"kind": "ServiceAccount", "name": name, "namespace": site.namespace}
    bindings = [copy.deepcopy(each) for each in team.objects if each["kind"].endswith("RoleBinding")]
    for each in bindings:
        each["metadata"]["name"] += "-e2e"
        each["subjects"] = [account]
    site.kubectl("create", "-f", "-", stdin=yaml.safe_dump_all(bindings))
    config = json.loads(site.kubectl("config", "view", "--raw", "--minify", "--flatten", "-o", "json"))
    config["users"] = [{"name": name, "user": {"token": site.kubectl("create", "token", name).strip()}}]
    config["contexts"][0]["context"] |= {"user": name, "namespace": site.namespace}
    path = folder / "kubeconfig"
    path.write_text(json.dumps(config))
    path.chmod(0o600)
    yield Site(str(path), site.namespace, "registry.example.org/absent:1")
    for each in bindings:
        if each["kind"] == "ClusterRoleBinding":
            site.kubectl("delete", each["kind"], each["metadata"]["name"])


@pytest.mark.parametrize("api", ["pytorchjob", "trainjob"])
def test_submitter_can_do_what_the_docs_show(submitter, api, request):
    """The launcher itself, with the rights of the role and no more."""
    if api == "trainjob":
        request.getfixturevalue("trainer")
    job = [*JOB, "--data-access", "api", "--name", f"mine-{api}", "--api", api]
    name, resource = job[-3], kinds.of_api(api).resource
    spec = JobSpec(accelerator="cpu", name=name, image="i:1", data="/srv/cxr", output="/srv/runs", api=api)
    doctor = json.loads(submitter.launcher("doctor", *job, "-o", "json", code=None).stdout)
    rows = {row["check"]: row for row in doctor["checks"]}
    assert rows["rights"]["status"] == "OK", rows["rights"]
    assert f"all {len(permissions.needed(spec, in_cluster=False))} " in rows["rights"]["found"]

    assert "would be created" in submitter.launcher("submit", *job, "--dry-run", "server").stderr
    assert submitter.launcher("submit", *job).stdout == f"{resource.named(name)}\n"
    assert name in submitter.launcher("list").stdout
    assert name in submitter.launcher("status", name).stdout
    submitter.launcher("events", name)
    submitter.launcher("wait", name, "--timeout", "1s", code=124)
    submitter.launcher("clone", name, "--name", "mine-too", "--dry-run", "client")
    submitter.launcher("delete", name, "-y")
    assert submitter.objects(resource.plural) == []
    if api == "trainjob":
        assert submitter.objects("trainingruntimes") == []


@pytest.fixture(scope="module")
def guided(trainer, teams):
    """A team with the runtime of an administrator, whose members may not create others."""
    return teams("kind", "trainer-runtime")


@pytest.fixture(scope="module")
def guided_submitter(guided, tmp_path_factory):
    """A member of it."""
    with bound_account(guided, tmp_path_factory.mktemp("guided")) as site:
        yield site


EVERYTHING = [
    *("--service-account", "trainer", "--image-pull-secret", "registry", "--label", "cost=12", "--env", "A=b"),
    *("--env-from-secret", "TOKEN=hub:token", "--node-selector", "kubernetes.io/os=linux", "--deadline", "1h"),
    "--overlay",
    json.dumps(
        {
            "metadata": {"annotations": {"note": "x"}},
            "spec": {
                "tolerations": [{"key": "simulated", "operator": "Exists"}],
                "terminationGracePeriodSeconds": 1,
                "volumes": [{"name": "scratch", "emptyDir": {}}],
                "containers": [{"name": "pytorch", "volumeMounts": [{"name": "scratch", "mountPath": "/scratch"}]}],
            },
        }
    ),
]
"""All that a TrainJob can patch."""


def test_job_with_the_runtime_of_an_administrator_has_pods_as_with_its_own(guided, guided_submitter):
    """The patches reach the pods: what Trainer, JobSet and the Job controller made of them is what was rendered."""
    argv = [*JOB, "--data-access", "api", *EVERYTHING, "--name", "guided", "--api", "trainjob"]
    done = guided_submitter.launcher("submit", *argv)
    assert "the runtime chexnet of an administrator is used: you may not create trainingruntimes" in done.stderr
    selector = ("-l", "jobset.sigs.k8s.io/jobset-name=guided")
    wait_until("there is a pod", lambda: guided.site.objects("pods", *selector))
    [made] = guided.site.objects("pods", *selector)
    rendered = guided_submitter.launcher("render", *argv, "--runtime", "chexnet").stdout
    wanted = template_of(list(yaml.safe_load_all(rendered)))
    assert wanted["metadata"]["labels"].items() <= made["metadata"]["labels"].items()
    assert wanted["metadata"]["annotations"].items() <= made["metadata"]["annotations"].items()
    assert missing(wanted["spec"], made["spec"]) == []
    assert [each["metadata"]["name"] for each in guided_submitter.objects("trainingruntimes")] == ["chexnet"]
    guided_submitter.launcher("delete", "guided", "-y")
    assert [each["metadata"]["name"] for each in guided_submitter.objects("trainingruntimes")] == ["chexnet"]


def missing(wanted: object, made: object, path: str = "") -> list[str]:
    """Paths of `wanted` that are not in `made`; the server adds fields, and controllers entries of lists."""
    if isinstance(wanted, dict) and isinstance(made, dict):
        return [each for key, value in wanted.items() for each in missing(value, made.get(key), f"{path}.{key}")]
    if isinstance(wanted, list) and isinstance(made, list):
        return [path for each in wanted if all(missing(each, other) for other in made)]
    return [] if wanted == made else [path or "."]


@pytest.mark.parametrize(
    ("flags", "field"),
    [
        (["--priority-class", "system-node-critical"], "spec.priorityClassName"),
        (["--volcano-queue", "batch"], "podGroupPolicy"),
        (["--env-from-secret", "hub"], "spec.containers[node].envFrom"),
        (["--overlay", "{spec: {hostNetwork: true}}"], "spec.hostNetwork"),
    ],
    ids=lambda each: each[0] if isinstance(each, list) else "",
)
def test_what_the_runtime_of_an_administrator_cannot_carry_is_refused(guided_submitter, flags, field):
    """Before anything is created, by the flag; the server would drop the field without a word."""
    argv = [*JOB, "--data-access", "api", "--name", "refused", "--api", "trainjob", *flags]
    done = guided_submitter.launcher("submit", *argv, code=2)
    assert f"a TrainJob cannot patch {field} (from `{flags[0]}`)" in done.stderr
    assert guided_submitter.objects("trainjobs") == []


def test_submitter_without_volume_rights_is_told_whom_to_ask(submitter):
    """Making volumes is an administrator's right; nothing half-made may stay."""
    done = submitter.launcher("submit", *JOB, "--name", "mounted", code=4)
    assert "persistentvolumes" in done.stderr
    assert "--data-pvc" in done.stderr
    assert submitter.objects("pytorchjobs") == []
    assert submitter.objects("pvc") == []


@pytest.mark.parametrize("component", ["s3-data", "s3-data-scality"])
def test_claim_of_an_administrator_is_found_by_submit(team, submitter, component, tmp_path):
    """So a submitter mounts a bucket without the right to make volumes."""
    volume, claim = (
        each
        for each in build(tmp_path, team.site.namespace, "kind", component)
        if each["kind"].startswith("Persistent")
    )
    name = f"{team.site.namespace}.{component}"
    volume["metadata"]["name"] = volume["spec"]["csi"]["volumeHandle"] = claim["spec"]["volumeName"] = name
    volume["spec"]["claimRef"]["namespace"] = team.site.namespace
    both = yaml.safe_dump_all([volume, claim])
    team.site.kubectl("apply", "-f", "-", stdin=both)
    try:
        wait_until("the claim is bound", lambda: "Bound" in team.site.kubectl("get", "pvc", "chestxray14"))
        done = submitter.launcher("submit", *JOB, "--name", "mounted", "--dry-run", "server")
        assert "through the claim chestxray14" in done.stderr
        done = submitter.launcher(
            "submit", *ANY, "--data", "s3://cxr/other", "--name", "other", "--dry-run", "server", code=4
        )
        assert "persistentvolumes" in done.stderr
    finally:
        team.site.kubectl("delete", "-f", "-", stdin=both)


DROPPED = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
SAFE = copy.deepcopy(POD["spec"]["securityContext"])


def secured(**changes):
    """The container with another security context."""
    return {"container": {"securityContext": DROPPED | changes}}


def adding(*capabilities):
    return secured(capabilities={"drop": ["ALL"], "add": list(capabilities)})


def on_pod(**changes):
    return {"securityContext": {key: value for key, value in (SAFE | changes).items() if value is not None}}


def beside(field, **changes):
    """A second container in that field of the pod."""
    return {field: [{"name": "beside", "image": "i:1", "securityContext": DROPPED} | changes]}


RULES = yaml.safe_load_all((K8S / "components/pod-rules/policy.yaml").read_text())
MESSAGES = [rule["message"] for each in RULES for rule in each["spec"].get("validations", [])]

CALL = {"httpGet": {"port": 80, "host": "169.254.169.254"}}
CONNECT = {"tcpSocket": {"port": 80, "host": "10.0.0.1"}}

REFUSED = {
    "host network": ({"hostNetwork": True}, "the node's network"),
    "host processes": ({"hostPID": True}, "the node's network"),
    "host IPC": ({"hostIPC": True}, "the node's network"),
    "host port": ({"container": {"ports": [{"containerPort": 80, "hostPort": 80}]}}, "the node's network"),
    "host port of an init container": (
        beside("initContainers", ports=[{"containerPort": 80, "hostPort": 80}]),
        "the node's network",
    ),
    **{
        f"host in {probe} ({kind})": ({"container": {probe: call}}, "must not name a host")
        for probe in ("livenessProbe", "readinessProbe", "startupProbe")
        for kind, call in (("httpGet", CALL), ("tcpSocket", CONNECT))
    },
    **{
        f"host in {hook} ({kind})": ({"container": {"lifecycle": {hook: call}}}, "must not name a host")
        for hook in ("postStart", "preStop")
        for kind, call in (("httpGet", CALL), ("tcpSocket", CONNECT))
    },
    "loopback of the node": (
        {"container": {"readinessProbe": {"httpGet": {"port": 10250, "host": "127.0.0.1"}}}},
        "must not name a host",
    ),
    "host in a probe of a sidecar": (
        beside("initContainers", restartPolicy="Always", readinessProbe=CALL),
        "must not name a host",
    ),
    "host in a hook of a sidecar": (
        beside("initContainers", restartPolicy="Always", lifecycle={"preStop": CALL}),
        "must not name a host",
    ),
    "directory of the node": ({"volumes": [{"name": "v", "hostPath": {"path": "/etc"}}]}, "a volume must be"),
    "nfs": ({"volumes": [{"name": "v", "nfs": {"server": "s", "path": "/"}}]}, "a volume must be"),
    "iscsi": (
        {"volumes": [{"name": "v", "iscsi": {"targetPortal": "t", "iqn": "iqn.2001-04.com.example:a", "lun": 0}}]},
        "a volume must be",
    ),
    "privileged": ({"container": {"securityContext": {"privileged": True}}}, "must not be privileged"),
    "privileged init container": (
        beside("initContainers", securityContext={"privileged": True}),
        "must not be privileged",
    ),
    "escalation unsaid": ({"container": {"securityContext": {"capabilities": {"drop": ["ALL"]}}}}, "Escalation"),
    "no security context": ({"container": {"securityContext": None}}, "must not be privileged"),
    "nothing dropped": ({"container": {"securityContext": {"allowPrivilegeEscalation": False}}}, "drop ALL"),
    "not all dropped": (secured(capabilities={"drop": ["NET_RAW"]}), "drop ALL"),
    "SYS_ADMIN": (adding("SYS_ADMIN"), "may add SYS_NICE"),
    "SYS_PTRACE beside SYS_NICE": (adding("SYS_NICE", "SYS_PTRACE"), "may add SYS_NICE"),
    "ALL added": (adding("ALL"), "may add SYS_NICE"),
    "root": (secured(runAsUser=0), "runAsNonRoot"),
    "root for the pod": (on_pod(runAsUser=0), "runAsNonRoot"),
    "root for an init container": (
        beside("initContainers", securityContext=DROPPED | {"runAsUser": 0}),
        "runAsNonRoot",
    ),
    "root allowed": (secured(runAsNonRoot=False), "runAsNonRoot"),
    "root allowed by the pod": (on_pod(runAsNonRoot=False) | secured(runAsNonRoot=True), "runAsNonRoot"),
    "root unsaid": (on_pod(runAsNonRoot=None), "runAsNonRoot"),
    "no seccomp": (on_pod(seccompProfile=None), "seccompProfile"),
    "unconfined": (secured(seccompProfile={"type": "Unconfined"}), "seccompProfile"),
    "unconfined pod": (
        on_pod(seccompProfile={"type": "Unconfined"}) | secured(seccompProfile={"type": "RuntimeDefault"}),
        "seccompProfile",
    ),
    "sysctls": (on_pod(sysctls=[{"name": "net.core.somaxconn", "value": "1024"}]), "no sysctls"),
    "SELinux": (secured(seLinuxOptions={"type": "spc_t"}), "no sysctls"),
    "SELinux for the pod": (on_pod(seLinuxOptions={"user": "system_u"}), "no sysctls"),
    "AppArmor": (secured(appArmorProfile={"type": "Unconfined"}), "no sysctls"),
    "AppArmor for the pod": (on_pod(appArmorProfile={"type": "Unconfined"}), "no sysctls"),
    "AppArmor by annotation": (
        {"metadata": {"annotations": {"container.apparmor.security.beta.kubernetes.io/pytorch": "unconfined"}}},
        "no sysctls",
    ),
    "procMount": (secured(procMount="Unmasked") | {"hostUsers": False}, "no sysctls"),
    "host process": (on_pod(windowsOptions={"runAsUserName": "NT AUTHORITY\\SYSTEM"}), "no sysctls"),
}


@pytest.mark.parametrize(("changes", "reason"), REFUSED.values(), ids=REFUSED)
def test_pod_rules_refuse_pods_that_could_leave_their_namespace(ruled, changes, reason):
    """Pod Security is off there; the policy in its place must hold everything."""
    said = ruled.site.kubectl("create", *DRY, stdin=pod("i:1", **copy.deepcopy(changes)), check=False)
    [message] = [each for each in MESSAGES if reason in each]
    assert f"denied request: {message}" in said, said


STRICTER = {"sysctls", "host process"}  # these instances are safe, and Pod Security takes them
BY_STANDARD = {name: changes for name, (changes, _) in REFUSED.items() if name not in STRICTER}


@pytest.mark.parametrize("changes", BY_STANDARD.values(), ids=BY_STANDARD)
@pytest.mark.parametrize("overlay", ["gaudi", "cuda"])
def test_namespaces_of_the_overlays_refuse_the_same(teams, overlay, changes):
    """By Pod Security alone."""
    site = teams(overlay).site
    said = site.kubectl("create", *DRY, stdin=pod("i:1", **copy.deepcopy(changes)), check=False)
    assert 'violates PodSecurity "restricted' in said, said


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"container": {"readinessProbe": {"httpGet": {"port": 80}}, "livenessProbe": {"tcpSocket": {"port": 80}}}},
        {"container": {"startupProbe": {"exec": {"command": ["true"]}}, "readinessProbe": {"grpc": {"port": 80}}}},
        {
            "container": {
                "lifecycle": {"preStop": {"httpGet": {"port": 80}}, "postStart": {"exec": {"command": ["true"]}}}
            }
        },
        {"volumes": [{"name": "v", "emptyDir": {}}, {"name": "w", "secret": {"secretName": "s"}}]},
        on_pod(seccompProfile={"type": "Localhost", "localhostProfile": "chexnet/memory-policy.json"}),
    ],
    ids=["plain", "probes", "commands", "hooks", "volumes", "profile"],
)
@pytest.mark.parametrize("where", [("gaudi",), ("cuda",), ("kind", "pod-rules")], ids="+".join)
def test_harmless_pods_are_admitted(teams, ruled, where, changes):
    """A rule that refuses everything would pass the tests above."""
    site = teams(*where).site
    assert "created" in site.kubectl("create", *DRY, stdin=pod("i:1", **copy.deepcopy(changes)))


def test_pod_rules_hold_for_containers_that_are_added_to_a_running_pod(ruled):
    """`kubectl debug` adds them through a subresource of its own."""
    site = ruled.site
    site.kubectl("create", "-f", "-", stdin=pod(site.image, metadata={"name": "debugged"}))
    path = f"/api/v1/namespaces/{site.namespace}/pods/debugged/ephemeralcontainers"
    for container in ({"securityContext": {"privileged": True}}, {"securityContext": DROPPED | {"runAsUser": 0}}):
        body = json.loads(site.kubectl("get", "pod", "debugged", "-o", "json"))
        body["spec"]["ephemeralContainers"] = [{"name": "debug", "image": site.image} | container]
        said = site.kubectl("replace", "--raw", path, "-f", "-", stdin=json.dumps(body), check=False)
        assert any(f"denied request: {message}" in said for message in MESSAGES), said
    body["spec"]["ephemeralContainers"] = [{"name": "debug", "image": site.image, "securityContext": DROPPED}]
    assert "debug" in site.kubectl("replace", "--raw", path, "-f", "-", stdin=json.dumps(body))


HARDWARE = [
    ["--accelerator", "gaudi", "--workers", "8"],
    ["--accelerator", "gaudi", "--workers", "16", "--gaudi-generation", "1", "--efa", "4"],
    ["--accelerator", "cuda", "--workers", "16", "--efa", "4"],
    ["--accelerator", "cpu", "--workers", "2"],
]
PLACES = ["--image", "i:1", "--data", "s3://c/d", "--data-access", "api", "--output", "s3://c/r", "--name", "n"]


@pytest.mark.parametrize("flags", HARDWARE, ids=lambda flags: "-".join(flags[1::2]))
@pytest.mark.parametrize("where", [("gaudi",), ("cuda",), ("kind", "pod-rules")], ids="+".join)
def test_every_job_passes_the_strictest_rules(teams, ruled, where, flags):
    """No accelerator asks for more than Pod Security `restricted` allows."""
    site = teams(*where).site
    job = json.loads(site.launcher("render", *flags, *PLACES, "-o", "json").stdout)
    template = next(iter(job["spec"]["pytorchReplicaSpecs"].values()))["template"]
    body = json.dumps(POD | {"metadata": {"name": "probe"}, "spec": template["spec"] | {"restartPolicy": "Never"}})
    assert "created" in site.kubectl("create", *DRY, stdin=body)


@pytest.mark.parametrize("capability", ["SYS_NICE", "IPC_LOCK"])
def test_jobs_of_earlier_versions_are_refused_by_name_or_admitted(teams, ruled, capability):
    """They asked for these capabilities; a namespace that had `pod-rules` keeps running them."""
    body = pod("i:1", **adding(capability))
    assert "created" in ruled.site.kubectl("create", *DRY, stdin=body)
    said = teams("gaudi").site.kubectl("create", *DRY, stdin=body, check=False)
    assert f'must not include "{capability}" in securityContext.capabilities.add' in said


CALLS = """
import ctypes, errno, os, resource
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.syscall.restype = ctypes.c_long
def call(number, *arguments):
    return "ok" if libc.syscall(ctypes.c_long(number), *arguments) >= 0 else errno.errorcode[ctypes.get_errno()]
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
nodes, length = ctypes.c_ulong(1), ctypes.c_size_t(1 << 20)
memory = ctypes.c_void_p(libc.mmap(None, length, 3, 0x22, -1, 0))
resource.setrlimit(resource.RLIMIT_MEMLOCK, (65536, 65536))
os.sched_setaffinity(0, os.sched_getaffinity(0))
print("effective", int(status["CapEff"], 16))
print("set_mempolicy", call(238, ctypes.c_long(2), ctypes.byref(nodes), ctypes.c_long(64)))
print("mbind", call(237, memory, length, ctypes.c_long(2), ctypes.byref(nodes), ctypes.c_long(64), ctypes.c_long(0)))
print("mlock", call(149, memory, length))
"""


@pytest.mark.parametrize(
    ("added", "policy"), [((), "EPERM"), (("SYS_NICE",), "ok"), (("IPC_LOCK",), "EPERM")], ids=["none", "nice", "lock"]
)
def test_capabilities_give_a_non_root_user_nothing(ruled, added, policy):
    """Added capabilities stay without effect for a user other than root, but for the system calls that containerd's seccomp profile
    opens with SYS_NICE (docs/decisions/0026); a thread's affinity needs none."""
    if os.uname().machine != "x86_64":
        pytest.skip("the numbers of the calls are this machine's")
    site, name = ruled.site, "-".join(["calls", *added]).lower().replace("_", "-")
    changes = adding(*added) if added else secured()
    changes["container"]["command"] = ["python3", "-c", CALLS]
    site.kubectl("create", "-f", "-", stdin=pod(site.image, metadata={"name": name}, **changes))
    wait_until("the pod is done", lambda: "mlock" in site.kubectl("logs", name, check=False))
    said = dict(line.split() for line in site.kubectl("logs", name).splitlines())
    assert said == {"effective": "0", "set_mempolicy": policy, "mbind": policy, "mlock": "ENOMEM"}
