"""All checks together, on clusters with and without what a job needs."""

from dataclasses import replace

import pytest
from doctor_samples import KEYS, SPACE, deployment, gaudi, gaudi_node, summary, webhook_configuration
from dra_objects import cards, claim, device_class, put, slice_of
from submitted import spec

from launcher.cluster.resources import PODS, VOLUMES
from launcher.doctor import checks, operator, preflight_pod, references
from launcher.doctor.runner import Row
from launcher.spec.manifest import render
from launcher.spec.options import S3Options


@pytest.fixture
def ready(api):
    """A cluster on which the job could run."""
    for name, body in {
        "/api/v1/namespaces/team-a": {"metadata": {"name": "team-a"}},
        "/apis/apps/v1/namespaces/kubeflow/deployments/training-operator": deployment(),
        "/api/v1/nodes/a": gaudi_node("a"),
        f"{SPACE}/serviceaccounts/default": {"metadata": {"name": "default"}},
        f"{SPACE}/secrets/keys": {"metadata": {"name": "keys"}, "data": KEYS},
    }.items():
        api.state.put(name, body)
    hooks = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/v"
    api.state.put(hooks, webhook_configuration("v", "kubeflow", "training-operator"))
    return api


def job_on(server, **changes):
    return gaudi(
        8, s3=S3Options(access="api", secret="keys", endpoint=server), train_flags=("--weights", "none"), **changes
    )


def test_all_checks_of_a_good_cluster_pass(cluster, ready, s3):
    """A preflight that cries wolf is not read."""
    rows = [row for row in checks.doctor(job_on(s3), cluster) if row.where == "cluster"]
    assert {row.check: row.found for row in rows if row.status not in {"OK", "skipped"}} == {}
    assert summary(rows)["room on nodes"] == "OK"
    assert ready.state.asked("DELETE") == []
    assert not [path for path in ready.state.objects if "t1" in path], "a look changes nothing"
    checks.check_passed(rows)


def test_accelerators_of_a_dra_driver_are_there(cluster, ready, s3):
    """The extended-resource bridge: node allocatable is empty, a DeviceClass has the resource's name (docs/decisions/0033)."""
    ready.state.put("/api/v1/nodes/a", gaudi_node("a", "0"))
    job = job_on(s3, resource="intel.com/gaudi")
    driver = {"driver": "gaudi.intel.com"}
    device = device_class("gaudi.intel.com", 'device.driver == "gaudi.intel.com"', resource="intel.com/gaudi")

    def rows():
        return {row.check: row for row in checks.doctor(job, cluster) if row.where == "cluster"}

    assert rows()["device plugin"].status == "FAIL"
    put(ready, classes=[device], slices=[slice_of("a", cards(8), **driver)])
    found = rows()
    assert {name: row.found for name, row in found.items() if row.status not in {"OK", "skipped"}} == {}
    assert found["device plugin"].found == "8 intel.com/gaudi on 1 node by DRA (DeviceClass `gaudi.intel.com`)"
    assert found["room on nodes"].found == "1 pod with 8 intel.com/gaudi: fits now on a"
    put(ready, claims=[claim("a", "gpu-0", **driver)])
    assert "1 node lacks intel.com/gaudi (a pod needs 8, free: 7 on a)" in (taken := rows()["room on nodes"]).found, (
        taken
    )
    ready.state.forbidden.add(("list", "deviceclasses"))
    assert rows()["device plugin"].status == "WARN"


def test_user_without_rights_sees_missing_rights_and_no_other_failure(cluster, ready, s3):
    """What may not be looked at is skipped; what the commands need is named with the commands that need it."""
    ready.state.forbidden |= {
        ("create", "pytorchjobs"),
        ("create", "pods"),
        ("get", "secrets"),
        ("list", "nodes"),
        ("list", "deployments"),
    }
    rows = {row.check: row for row in checks.doctor(job_on(s3), cluster) if row.where == "cluster"}
    assert [check for check, row in rows.items() if row.status == "FAIL"] == ["rights"]
    assert "you may not create pytorchjobs (submit, status, list, wait)" in rows["rights"].found
    for check in ("secret", "room on nodes", "device plugin", "training operator", "pod admission", "job dry run"):
        assert rows[check].status == "skipped", check
        assert "not permitted" in rows[check].found


def test_a_mounted_bucket_needs_volume_rights_or_another_way(cluster, ready, s3):
    """Most users may not create volumes; there are two ways around it."""
    ready.state.forbidden |= {("create", "persistentvolumes")}
    rows = {row.check: row for row in checks.doctor(spec(s3=S3Options(endpoint=s3)), cluster)}
    assert rows["rights"].status == "FAIL"
    assert "--data-pvc" in rows["rights"].fix
    assert "--data-access api" in rows["rights"].fix


def test_absent_namespace_is_named_and_nothing_in_it_is_requested(cluster, ready, s3):
    """A typing error in `-n` must not read as fifteen missing objects."""
    del ready.state.objects["/api/v1/namespaces/team-a"]
    rows = {row.check: row for row in checks.doctor(job_on(s3), cluster, in_cluster=True)}
    assert rows["namespace"].found == "the cluster has no namespace `team-a`"
    assert {rows[check].found for check in ("secret", "quota", "pod admission", "pod")} == {"needs `namespace`"}


def test_missing_right_to_create_pods_skips_the_in_cluster_checks(cluster, ready):
    """Looking from inside is an extra; the operator makes the job's pods."""
    ready.state.forbidden |= {("create", "pods")}
    rows = {row.check: row for row in checks.doctor(gaudi(8, data="/srv", output="/srv"), cluster, in_cluster=True)}
    assert rows["pod"].status == "skipped"
    assert rows["rights"].status == "WARN"
    assert rows["rights"].found.startswith("you may not create pods (doctor --in-cluster)")


def test_pods_without_keys_for_their_server_are_warned_of(cluster):
    """AWS may give a role to an account; another server knows only keys."""
    assert references.secret(cluster, spec(s3=S3Options(endpoint="https://s3.example.org"))).status == "WARN"


def test_unreachable_api_server_is_one_failure(cluster, api, s3):
    """Its checks are skipped, those from here go on."""
    api.stop()
    rows = checks.doctor(
        job_on(s3), replace(cluster, connection=replace(cluster.connection, sleep=lambda _: None)), in_cluster=True
    )
    assert [row.check for row in rows if row.status == "FAIL"] == ["API server"]
    assert rows[-1] == Row("pod", "skipped", "needs `API server`", "", "pod")


def test_missing_pytorchjob_kind_is_a_failure_and_nothing_is_submitted(cluster, ready, s3):
    ready.state.served.discard("kubeflow.org/v1")
    rows = {row.check: row for row in checks.doctor(job_on(s3), cluster)}
    assert rows["PyTorchJob API"].status == "FAIL"
    assert rows["job dry run"].found == "needs `PyTorchJob API`"


@pytest.mark.parametrize(
    ("message", "status"),
    [
        ('pods "x" is forbidden: violates PodSecurity "restricted:latest": capabilities', "FAIL"),
        ('pods "x" is forbidden: exceeded quota: q, requested: pods=1', "WARN"),
    ],
)
def test_refusal_by_admission_is_not_reported_as_a_missing_right(cluster, ready, message, status):
    """Both are 403; only an event of the job would ever say so."""
    ready.state.fail("POST", f"{SPACE}/pods", 403, message)
    outcome = operator.pod_dry_run(cluster, preflight_pod.job_pod(gaudi(8)))
    assert outcome.status == status
    assert message in outcome.found


def test_every_object_that_doctor_creates_has_our_label():
    """Whoever finds one knows whose it is; a job's own selector does not match it."""
    for each in preflight_pod.objects(gaudi(8)):
        assert each["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "chexnet-launcher"
    assert "training.kubeflow.org/job-name" not in preflight_pod.pod(gaudi(8))["metadata"]["labels"]
    assert VOLUMES.kind in {each["kind"] for each in preflight_pod.objects(gaudi(8))}
    assert preflight_pod.objects(gaudi(8))[-1]["kind"] == PODS.kind
    assert render(gaudi(8))[-1]["metadata"]["name"] == "t1", "the job itself is as it was"
