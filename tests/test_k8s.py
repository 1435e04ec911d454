"""What is in k8s/: every overlay builds, its parts fit each other and the launcher, the examples are what `render` prints.

UPDATE_GOLDEN=1 rewrites the examples and the administrator's runtime; `make golden` sets it.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from launcher.cluster.resources import (
    BATCH_JOBS,
    CLUSTER_RUNTIMES,
    DATA,
    DEVICE_CLASSES,
    PENDING_WORKLOADS,
    QUEUE_PRIORITIES,
    RESOURCE_CLAIMS,
    RESOURCE_SLICES,
    RUNTIMES,
    WORKLOADS,
)
from launcher.doctor import permissions
from launcher.output import as_yaml
from launcher.spec.job import JobSpec
from launcher.spec.train_job import OF_ADMINISTRATORS, administrators_runtime

ROOT = Path(__file__).parents[1]
K8S = ROOT / "k8s"
OVERLAYS = ("gaudi", "cuda", "kind")
COMPONENTS = ("s3-data", "s3-data-scality", "kueue", "pod-rules", "trainer-runtime")
COMMAND = "# python -m launcher "
RENDERED = sorted(path for path in (K8S / "examples").glob("*.yaml") if path.read_text().startswith(COMMAND))
PINNED = re.compile(
    r"https://github\.com/[^?]+\?ref=v[\d.]+|https://raw\.githubusercontent\.com/[^/]+/[^/]+/v[\d.]+/.+"
)


def kustomize(folder):
    """The objects that `kubectl apply -k` would send."""
    if not shutil.which("kubectl"):
        pytest.skip("no kubectl")
    done = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return list(yaml.safe_load_all(done.stdout))


def with_components(folder, *components, overlay="kind", namespace=None):
    """A kustomization as a team would write it, outside this repository."""
    content = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [os.path.relpath(K8S / "overlays" / overlay, folder)],
        "components": [os.path.relpath(K8S / "components" / each, folder) for each in components],
    }
    (folder / "kustomization.yaml").write_text(
        yaml.safe_dump(content | ({"namespace": namespace} if namespace else {}))
    )
    return folder


def found(objects, kind, name=None):
    """The one object of that kind, and name."""
    [match] = [each for each in objects if each["kind"] == kind and name in {None, each["metadata"]["name"]}]
    return match


def granted(role):
    """Every group, resource and verb of a role, one by one."""
    return {
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_overlay_builds(overlay):
    """`kubectl apply -k` of the README finds every file and every patch its target."""
    objects = kustomize(K8S / "overlays" / overlay)
    assert found(objects, "Namespace")["metadata"]["name"] == "chexnet"
    assert all(each["metadata"].get("namespace", "chexnet") == "chexnet" for each in objects)


@pytest.mark.parametrize("component", COMPONENTS)
def test_component_builds_on_an_overlay(component, tmp_path):
    """The README tells to add them to an overlay of one's own."""
    plain = kustomize(with_components(tmp_path))
    assert kustomize(with_components(tmp_path, component)) != plain


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_namespace_line_of_an_overlay_moves_all_namespaced_objects(overlay, tmp_path):
    """One line, `namespace:`, moves all that belongs to a team, its bindings too."""
    objects = kustomize(with_components(tmp_path, overlay=overlay, namespace="team-b"))
    spaced = {"Role", "RoleBinding", "ServiceAccount", "ResourceQuota", "LimitRange", "NetworkPolicy"}
    assert found(objects, "Namespace")["metadata"]["name"] == "team-b"
    assert {each["metadata"]["namespace"] for each in objects if each["kind"] in spaced} == {"team-b"}


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("components", [(), ("pod-rules",), ("kueue", "s3-data")], ids="+".join)
def test_namespace_enforces_the_strictest_pod_security(overlay, components, tmp_path):
    """Jobs of ours pass it; whatever else runs in the namespace must too."""
    objects = kustomize(with_components(tmp_path, *components, overlay=overlay))
    labels = found(objects, "Namespace")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    assert "pod-security.kubernetes.io/enforce-version" not in labels  # the server's own, which knows most


def test_pod_rules_hold_for_the_namespace_that_takes_them(tmp_path):
    """A binding that selects another label binds nothing, and says nothing."""
    objects = kustomize(with_components(tmp_path, "pod-rules"))
    labels = found(objects, "Namespace")["metadata"]["labels"]
    policy = found(objects, "ValidatingAdmissionPolicy")
    binding = found(objects, "ValidatingAdmissionPolicyBinding")["spec"]
    assert binding["matchResources"]["namespaceSelector"]["matchLabels"].items() <= labels.items()
    assert binding["policyName"] == policy["metadata"]["name"]
    assert binding["validationActions"] == ["Deny"]
    assert policy["spec"]["failurePolicy"] == "Fail"


@pytest.mark.parametrize(
    "field",
    [
        *("livenessProbe", "readinessProbe", "startupProbe", "lifecycle.postStart", "lifecycle.preStop"),
        *("httpGet.host", "tcpSocket.host", "initContainers", "ephemeralContainers"),
    ],
)
def test_pod_rules_look_at_hosts_in_probes_and_hooks(field):
    """The node itself makes these calls: `make e2e` tries one of each on a server."""
    text = (K8S / "components/pod-rules/policy.yaml").read_text()
    assert f".?{field}" in text


def test_pods_may_ask_only_the_clusters_own_dns():
    """Port 53 to every pod of every namespace is a way out for data."""
    policy = found(kustomize(K8S / "base"), "NetworkPolicy", "out-to-peers-dns-and-s3")
    rules = [rule for rule in policy["spec"]["egress"] if any(port["port"] == 53 for port in rule.get("ports", []))]
    assert rules == [
        {
            "to": [
                {
                    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
                    "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
                }
            ],
            "ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}],
        }
    ]
    assert "169.254.20.10" in (K8S / "base/network.yaml").read_text()


MEMORY_POLICY = {"get_mempolicy", "mbind", "set_mempolicy", "set_mempolicy_home_node"}
NEVER = {
    *("bpf", "clock_settime", "delete_module", "fsopen", "init_module", "io_uring_setup", "kexec_load", "keyctl"),
    *("mount", "move_mount", "move_pages", "open_by_handle_at", "perf_event_open", "pivot_root", "process_vm_readv"),
    *("quotactl", "reboot", "setns", "swapon", "sysfs", "umount2", "unshare", "userfaultfd"),
}


def test_seccomp_profile_allows_memory_policies_and_nothing_dangerous():
    """It is containerd's own profile for a pod without capabilities, and four calls."""
    profile = json.loads((K8S / "seccomp/memory-policy.json").read_text())
    assert profile["defaultAction"] == "SCMP_ACT_ERRNO"
    allowed = [rule for rule in profile["syscalls"] if rule["action"] == "SCMP_ACT_ALLOW"]
    whole = [name for rule in allowed if "args" not in rule for name in rule["names"]]
    assert len(whole) == len(set(whole)) > 300
    assert set(whole) >= MEMORY_POLICY | {"sched_setaffinity", "mmap", "execve"}
    assert not NEVER & {name for rule in allowed for name in rule["names"]}
    assert not {"clone", "personality", "socket"} & set(whole)


def test_memory_policy_patch_names_the_seccomp_profile_of_the_readme():
    """A profile that is not on the node keeps the pod in CreateContainerError."""
    profile = yaml.safe_load((K8S / "examples/patches/memory-policy.yaml").read_text())["spec"]["securityContext"]
    assert profile["seccompProfile"]["type"] == "Localhost"
    path = profile["seccompProfile"]["localhostProfile"]
    assert f"/var/lib/kubelet/seccomp/{path}" in (K8S / "README.md").read_text()
    assert (K8S / "seccomp" / Path(path).name).is_file()


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_role_bindings_name_existing_roles(overlay):
    """Kubernetes takes a binding to nothing without a word."""
    objects = kustomize(K8S / "overlays" / overlay)
    roles = {(each["kind"], each["metadata"]["name"]) for each in objects if each["kind"].endswith("Role")}
    bound = {
        (each["roleRef"]["kind"], each["roleRef"]["name"]) for each in objects if each["kind"].endswith("RoleBinding")
    }
    assert bound == roles - {("ClusterRole", "chexnet-volumes")}


ROLES_OF_SUBMITTERS = ("chexnet-reader", "chexnet-submitter", "chexnet-runtimes", "chexnet-looker")


def rights_of_submitters(objects, *roles):
    """Rights of these roles together."""
    return set().union(
        *(granted(each) for each in objects if each["kind"].endswith("Role") and each["metadata"]["name"] in roles)
    )


def rights_that_doctor_checks(**kind):
    spec = JobSpec(accelerator="cpu", name="one", image="i:1", data="/srv/cxr", output="/srv/runs", **kind)
    return {
        (right.resource.group, "/".join(filter(None, (right.resource.plural, right.subresource))), right.verb)
        for right in permissions.needed(spec, in_cluster=True)
    }


@pytest.mark.parametrize("api", ["pytorchjob", "trainjob"])
def test_submitter_role_has_each_right_that_doctor_checks(api):
    """The roles and the launcher's own list of what it uses may not drift apart."""
    assert rights_that_doctor_checks(api=api) <= rights_of_submitters(kustomize(K8S / "base"), *ROLES_OF_SUBMITTERS)


def test_submitter_role_has_each_right_that_launcher_prepare_uses():
    """It creates Jobs, follows them as a reader does, and deletes them."""
    rights_of = rights_of_submitters(kustomize(K8S / "base"), *ROLES_OF_SUBMITTERS)
    verbs = ("create", "get", "list", "watch", "delete")
    assert {(BATCH_JOBS.group, BATCH_JOBS.plural, verb) for verb in verbs} <= rights_of


def test_reader_may_look_at_all_that_lies_between_a_train_job_and_its_pods():
    """`status` explains a TrainJob by them."""
    rights_of = rights_of_submitters(kustomize(K8S / "base"), "chexnet-reader", "chexnet-looker")
    between = (("jobset.x-k8s.io", "jobsets"), ("batch", "jobs"), (RUNTIMES.group, RUNTIMES.plural))
    for group, resource in (*between, (CLUSTER_RUNTIMES.group, CLUSTER_RUNTIMES.plural)):
        assert {(group, resource, "get"), (group, resource, "list")} <= rights_of


def test_component_with_a_runtime_takes_the_right_to_create_others(tmp_path):
    """Both in one namespace would let everybody go round the administrator's."""
    objects = kustomize(with_components(tmp_path, "trainer-runtime", namespace="team-b"))
    rights_of = rights_of_submitters(objects, *ROLES_OF_SUBMITTERS)
    changed = {verb for _, resource, verb in rights_of if resource == RUNTIMES.plural}
    assert changed == {"get", "list"}
    assert rights_that_doctor_checks(api="trainjob", runtime="chexnet") <= rights_of
    roles = {(each["kind"], each["metadata"]["name"]) for each in objects if each["kind"].endswith("Role")}
    assert {
        (each["roleRef"]["kind"], each["roleRef"]["name"]) for each in objects if each["kind"].endswith("Binding")
    } <= roles


def test_administrators_runtime_is_the_one_that_the_launcher_patches(tmp_path):
    """`submit` refuses what this runtime cannot carry, by comparing with the same function; and finds it by its labels."""
    runtime = administrators_runtime("chexnet")
    runtime["metadata"]["namespace"] = "chexnet"
    path = K8S / "components/trainer-runtime/runtime.yaml"
    text = "# Equal to `launcher.spec.train_job.administrators_runtime`; written by `make golden`.\n" + as_yaml(runtime)
    if "UPDATE_GOLDEN" in os.environ:
        path.write_text(text)
    assert text == path.read_text()
    built = found(kustomize(with_components(tmp_path, "trainer-runtime", namespace="team-b")), "TrainingRuntime")
    assert built == runtime | {"metadata": runtime["metadata"] | {"namespace": "team-b"}}
    assert OF_ADMINISTRATORS.items() <= built["metadata"]["labels"].items()


def test_reader_role_may_read_a_jobs_position_in_its_queue():
    """`status` asks Kueue for it; without Kueue the right is one to nothing."""
    rights_of = granted(found(kustomize(K8S / "base"), "Role", "chexnet-reader"))
    for resource in PENDING_WORKLOADS:
        assert (resource.group, f"{resource.plural}/pendingworkloads", "get") in rights_of
    assert (WORKLOADS[0].group, WORKLOADS[0].plural, "list") in rights_of


def test_looker_role_may_read_the_priorities_of_queues():
    """`doctor` checks that the one of `--queue-priority` exists."""
    rights_of = granted(found(kustomize(K8S / "base"), "ClusterRole", "chexnet-looker"))
    assert (QUEUE_PRIORITIES[0].group, QUEUE_PRIORITIES[0].plural, "get") in rights_of


def test_roles_let_status_and_doctor_count_devices_of_dra_drivers():
    """Claims tell what other teams use, so they go with the pods of all namespaces."""
    objects = kustomize(K8S / "base")
    looker, capacity = (granted(found(objects, "ClusterRole", f"chexnet-{name}")) for name in ("looker", "capacity"))
    assert {(kind.group, kind.plural, "list") for kind in (RESOURCE_SLICES, DEVICE_CLASSES)} <= looker
    assert (RESOURCE_CLAIMS.group, RESOURCE_CLAIMS.plural, "list") in capacity - looker


CHANGED = {
    "chexnet-submitter": {"pytorchjobs", "trainjobs", "jobs", "pods", "persistentvolumeclaims"},
    "chexnet-runtimes": {"trainingruntimes"},
}
"""What a role may create and delete."""


@pytest.mark.parametrize("role", [*ROLES_OF_SUBMITTERS, "chexnet-capacity"])
def test_roles_hold_no_right_that_grants_more_rights(role):
    """Reading Secrets, running commands in pods, or changing roles would be more than submitting."""
    rights_of = granted(
        next(
            each
            for each in kustomize(K8S / "base")
            if each["kind"].endswith("Role") and each["metadata"]["name"] == role
        )
    )
    resources = {resource for _, resource, _ in rights_of}
    assert not resources & {"secrets", "pods/exec", "pods/attach", "pods/ephemeralcontainers", "persistentvolumes", "*"}
    assert not any(group == "rbac.authorization.k8s.io" for group, _, _ in rights_of)
    verbs = {"get", "list", "watch", "create", "delete"} | ({"patch"} if role == "chexnet-runtimes" else set())
    assert {verb for _, _, verb in rights_of} <= verbs
    changed = {resource for _, resource, verb in rights_of if verb in {"create", "delete", "patch"}}
    assert changed == CHANGED.get(role, set())


@pytest.mark.parametrize("component", ["s3-data", "s3-data-scality"])
def test_annotation_of_a_claim_names_the_prefix_that_its_volume_mounts(component, tmp_path):
    """`submit` finds the claim by its annotation; a wrong one would train on other data."""
    objects = kustomize(with_components(tmp_path, component))
    volume, claim = found(objects, "PersistentVolume"), found(objects, "PersistentVolumeClaim")
    options = dict(option.split() for option in volume["spec"]["mountOptions"] if " " in option)
    bucket = volume["spec"]["csi"]["volumeAttributes"]["bucketName"]
    assert claim["metadata"]["annotations"][DATA] == f"s3://{bucket}/{options['prefix']}".rstrip("/")
    assert options["prefix"].endswith("/")
    assert {"allow-other", "read-only"} <= set(volume["spec"]["mountOptions"])
    assert volume["spec"]["claimRef"] == {key: claim["metadata"][key] for key in ("namespace", "name")}
    assert claim["spec"]["volumeName"] == volume["metadata"]["name"]


def test_no_file_below_k8s_holds_a_secret():
    """Secrets are made by hand; a value that was committed once is known."""
    for path in K8S.rglob("*.yaml"):
        for each in yaml.safe_load_all(path.read_text()):
            assert not each or each.get("kind") != "Secret", path
            assert not each or "secretGenerator" not in each, path


def test_every_remote_resource_is_pinned():
    """A branch or `latest` would install something else tomorrow."""
    folders = [path.parent for path in (K8S / "operator").rglob("kustomization.yaml")]
    assert len(folders) == 3
    for folder in folders:
        for resource in yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"]:
            assert PINNED.fullmatch(resource), resource


@pytest.mark.parametrize(
    ("folder", "url"),
    [
        ("training-operator", "https://github.com/kubeflow/trainer//manifests/overlays/standalone?ref=v1.9.4"),
        ("trainer", "https://github.com/kubeflow/trainer//manifests/overlays/manager?ref=v2.3.0"),
    ],
)
def test_controller_that_is_installed_has_the_version_of_the_schema(folder, url):
    """Manifests are checked against the schema of one release, which is the one to install."""
    [resource] = yaml.safe_load((K8S / "operator" / folder / "kustomization.yaml").read_text())["resources"]
    assert resource == url


@pytest.mark.parametrize("name", ["within-the-namespace", "out-to-peers-dns-and-s3"])
def test_network_policies_hold_for_every_pod(name):
    """Pods of the two kinds of jobs have no label of a controller in common."""
    policy = found(kustomize(K8S / "base"), "NetworkPolicy", name)["spec"]
    assert policy["podSelector"] == {}
    assert {"podSelector": {}} in [
        peer for rule in policy.get("ingress", policy.get("egress")) for peer in rule.get("from", rule.get("to", ()))
    ]


def test_quota_counts_jobs_of_both_kinds():
    """A limit of one kind alone is gone round with the other."""
    hard = found(kustomize(K8S / "base"), "ResourceQuota")["spec"]["hard"]
    assert hard["count/pytorchjobs.kubeflow.org"] == hard["count/trainjobs.trainer.kubeflow.org"]


def test_rendered_examples_of_both_kinds_are_found():
    """The next test is about files that it finds."""
    kinds = [list(yaml.safe_load_all(path.read_text()))[-1]["kind"] for path in RENDERED]
    assert {"PyTorchJob", "TrainJob", "Job"} == set(kinds)
    assert len(kinds) >= 5


@pytest.mark.parametrize("path", RENDERED, ids=lambda path: path.stem)
def test_example_is_what_the_command_in_its_first_line_prints(path):
    """An example that no command makes any more misleads."""
    first, _, rest = path.read_text().partition("\n")
    done = subprocess.run(
        [sys.executable, "-m", "launcher", *shlex.split(first.removeprefix(COMMAND))],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if not name.startswith(("LAUNCHER_", "XDG_", "AWS_"))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    if "UPDATE_GOLDEN" in os.environ:
        path.write_text(f"{first}\n{done.stdout}")
    else:
        assert rest == done.stdout


def test_readme_names_every_folder():
    """Its tree is what a reader goes by."""
    readme = (K8S / "README.md").read_text()
    operators = [path.name for path in (K8S / "operator").iterdir()]
    for folder in ("operator/", "base/", "examples/", "seccomp/", *operators, *OVERLAYS, *COMPONENTS):
        assert folder in readme, folder
