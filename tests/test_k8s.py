"""What is in k8s/: every overlay builds, its parts fit each other and the launcher, the examples are what `render` prints.

UPDATE_GOLDEN=1 rewrites the examples; `make golden` sets it.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from launcher.checks import rights
from launcher.jobs import DATA
from launcher.resources import WAITING, WORKLOADS
from launcher.spec import JobSpec

ROOT = Path(__file__).parents[1]
K8S = ROOT / "k8s"
OVERLAYS = ("gaudi", "cuda", "kind")
COMPONENTS = ("s3-data", "s3-data-scality", "kueue", "pod-rules")
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
def test_base_can_serve_a_second_team(overlay, tmp_path):
    """One line, `namespace:`, moves all that belongs to a team, its bindings too."""
    objects = kustomize(with_components(tmp_path, overlay=overlay, namespace="team-b"))
    spaced = {"Role", "RoleBinding", "ServiceAccount", "ResourceQuota", "LimitRange", "NetworkPolicy"}
    assert found(objects, "Namespace")["metadata"]["name"] == "team-b"
    assert {each["metadata"]["namespace"] for each in objects if each["kind"] in spaced} == {"team-b"}


@pytest.mark.parametrize("overlay", ["cuda", "kind"])
def test_namespace_enforces_the_strictest_pod_security(overlay):
    """Jobs of ours pass it; whatever else runs in the namespace must too."""
    labels = found(kustomize(K8S / "overlays" / overlay), "Namespace")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


def test_gaudi_namespace_replaces_pod_security_by_rules_of_its_own():
    """Without the rules, `privileged` would let everyone who may submit mount the node's directories."""
    objects = kustomize(K8S / "overlays/gaudi")
    labels = found(objects, "Namespace")["metadata"]["labels"]
    binding = found(objects, "ValidatingAdmissionPolicyBinding")["spec"]
    assert labels["pod-security.kubernetes.io/enforce"] == "privileged"
    assert binding["matchResources"]["namespaceSelector"]["matchLabels"].items() <= labels.items()
    assert binding["policyName"] == found(objects, "ValidatingAdmissionPolicy")["metadata"]["name"]
    assert binding["validationActions"] == ["Deny"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_bindings_name_roles_that_are_there(overlay):
    """Kubernetes takes a binding to nothing without a word."""
    objects = kustomize(K8S / "overlays" / overlay)
    roles = {(each["kind"], each["metadata"]["name"]) for each in objects if each["kind"].endswith("Role")}
    bound = {
        (each["roleRef"]["kind"], each["roleRef"]["name"]) for each in objects if each["kind"].endswith("RoleBinding")
    }
    assert bound == roles - {("ClusterRole", "chexnet-volumes")}


def test_submitter_has_each_right_that_doctor_looks_for():
    """The roles and the launcher's own list of what it uses may not drift apart."""
    spec = JobSpec(accelerator="cpu", workers=1, name="one", image="i:1", data="/srv/cxr", output="/srv/runs")
    objects = kustomize(K8S / "base")
    rights_of = granted(found(objects, "Role", "chexnet-reader")) | granted(found(objects, "Role", "chexnet-submitter"))
    rights_of |= granted(found(objects, "ClusterRole", "chexnet-looker"))
    wanted = {
        (right.resource.group, "/".join(filter(None, (right.resource.plural, right.subresource))), right.verb)
        for right in rights.needed(spec, in_cluster=True)
    }
    assert wanted <= rights_of


def test_readers_see_a_jobs_place_in_its_queue():
    """`status` asks Kueue for it; without Kueue the right is one to nothing."""
    rights_of = granted(found(kustomize(K8S / "base"), "Role", "chexnet-reader"))
    for resource in WAITING:
        assert (resource.group, f"{resource.plural}/pendingworkloads", "get") in rights_of
    assert (WORKLOADS.group, WORKLOADS.plural, "list") in rights_of


@pytest.mark.parametrize("role", ["chexnet-reader", "chexnet-submitter", "chexnet-looker", "chexnet-capacity"])
def test_roles_hold_no_right_that_leads_to_others(role):
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
    assert {verb for _, _, verb in rights_of} <= {"get", "list", "watch", "create", "delete"}
    changed = {resource for _, resource, verb in rights_of if verb in {"create", "delete"}}
    assert changed == ({"pytorchjobs", "pods", "persistentvolumeclaims"} if role == "chexnet-submitter" else set())


@pytest.mark.parametrize("component", ["s3-data", "s3-data-scality"])
def test_claim_tells_the_place_that_its_volume_mounts(component, tmp_path):
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


def test_nothing_in_the_folder_holds_a_secret():
    """Secrets are made by hand; a value that was committed once is known."""
    for path in K8S.rglob("*.yaml"):
        for each in yaml.safe_load_all(path.read_text()):
            assert not each or each.get("kind") != "Secret", path
            assert not each or "secretGenerator" not in each, path


def test_every_remote_reference_is_pinned():
    """A branch or `latest` would install something else tomorrow."""
    folders = [path.parent for path in (K8S / "operator").rglob("kustomization.yaml")]
    assert len(folders) == 2
    for folder in folders:
        for resource in yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"]:
            assert PINNED.fullmatch(resource), resource


def test_operator_is_the_version_that_the_schema_is_from():
    """Manifests are checked against the schema of one release, which is the one to install."""
    [resource] = yaml.safe_load((K8S / "operator/training-operator/kustomization.yaml").read_text())["resources"]
    assert resource == "https://github.com/kubeflow/trainer//manifests/overlays/standalone?ref=v1.9.4"


def test_there_are_examples():
    """The next test is about files that it finds."""
    assert len(RENDERED) >= 3


@pytest.mark.parametrize("path", RENDERED, ids=lambda path: path.stem)
def test_example_is_what_its_first_line_prints(path):
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
    for folder in ("operator/", "base/", "examples/", *OVERLAYS, *COMPONENTS):
        assert folder in readme, folder
