"""TrainJobs with a runtime of their own and with that of an administrator."""

from dataclasses import replace

import pytest
from made_pods import template_of

from launcher.cluster.resources import JOB_SETS, TRAIN_JOBS
from launcher.spec.job import JobSpec
from launcher.spec.manifest import render
from launcher.spec.options import PodOptions, PolicyOptions
from launcher.spec.overlay import Overlay
from trainer.errors import InputError

OWN = JobSpec(
    accelerator="gaudi",
    workers=16,
    name="t1",
    namespace="team-a",
    image="r/c:1",
    data="/srv/cxr",
    output="s3://cxr/runs",
    api="trainjob",
)
PATCHED = replace(OWN, runtime="chexnet")


def with_overlay(**fields):
    return {"pod": PodOptions(overlay=Overlay({"spec": fields}))}


def in_container(**fields):
    return with_overlay(containers=[{"name": "pytorch"} | fields])


CARRIED = {
    "nothing": {},
    "account": {"pod": PodOptions(service_account="trainer")},
    "registry": {"pod": PodOptions(image_pull_secret=("r",))},
    "variables": {"pod": PodOptions(env=("A=b",), env_from_secret=("TOKEN=hub:token",))},
    "nodes": {"pod": PodOptions(node_selector=("zone=a",), toleration=("habana.ai/gaudi:NoSchedule",))},
    "labels": {"pod": PodOptions(label=("cost-centre=12",))},
    "queue": {"policy": PolicyOptions(queue="team")},
    "deadline": {"policy": PolicyOptions(deadline="8h")},
    "volume": with_overlay(
        volumes=[{"name": "nvme", "hostPath": {"path": "/nvme"}}, {"name": "tmp", "$patch": "delete"}],
        containers=[
            {
                "name": "pytorch",
                "volumeMounts": [{"mountPath": "/nvme", "name": "nvme"}, {"mountPath": "/tmp", "$patch": "delete"}],
            }
        ],
    ),
    "security context": with_overlay(securityContext={"fsGroup": None, "supplementalGroups": [7]}),
    "affinity, gates, grace": with_overlay(
        affinity={"podAffinity": {}}, schedulingGates=[{"name": "a.b/c"}], terminationGracePeriodSeconds=30
    ),
    "image, command and resources": in_container(
        image="r/other:1", command=["sh"], resources={"limits": {"memory": "64Gi"}}
    ),
    "security context of the container": in_container(securityContext={"readOnlyRootFilesystem": True}),
    "metadata": {"pod": PodOptions(overlay=Overlay({"metadata": {"labels": {"a": "b"}, "annotations": {"c": "d"}}}))},
    "the runtime's own values": with_overlay(enableServiceLinks=False, automountServiceAccountToken=False),
}


@pytest.mark.parametrize("name", CARRIED)
def test_administrators_runtime_gives_the_same_pods_as_ones_own(name):
    """What a TrainJob can patch is not refused, and nothing of it is lost."""
    objects = render(replace(PATCHED, **CARRIED[name]))
    assert [each["kind"] for each in objects] == ["TrainJob"]
    assert template_of(objects) == template_of(render(replace(OWN, **CARRIED[name])))


WHOLE = ("hub", "TOKEN=hub:token", "keys")

REFUSED = {
    "priority": (
        {"policy": PolicyOptions(priority_class="high", queue="team")},
        "--priority-class high",
        "spec.priorityClassName",
        "`--priority-class`",
    ),
    "queue of Volcano": (
        {"policy": PolicyOptions(volcano_queue="batch")},
        "--volcano-queue batch",
        "podGroupPolicy",
        "`--volcano-queue`",
    ),
    "whole Secrets": (
        {"pod": PodOptions(env_from_secret=WHOLE)},
        "--env-from-secret hub --env-from-secret keys",
        "spec.containers[node].envFrom",
        "`--env-from-secret`",
    ),
    "priority in an overlay": (
        with_overlay(priorityClassName="high"),
        "--overlay",
        "spec.priorityClassName",
        "`--overlay`",
    ),
    "field of the pod": (
        with_overlay(hostNetwork=True, nodeSelector={"a": "b"}),
        "--overlay",
        "spec.hostNetwork",
        "`--overlay`",
    ),
    "claims of devices": (
        with_overlay(resourceClaims=[{"name": "c", "resourceClaimTemplateName": "t"}]),
        "--overlay",
        "spec.resourceClaims",
        "`--overlay`",
    ),
    "field taken away": (
        with_overlay(enableServiceLinks=None),
        "--overlay",
        "spec.enableServiceLinks",
        "`--overlay`",
    ),
    "fields of the container": (
        in_container(imagePullPolicy="Always", ports=[{"containerPort": 1}], image="r/other:1"),
        "--overlay",
        "spec.containers[node].imagePullPolicy, spec.containers[node].ports",
        "`--overlay`",
    ),
    "second container": (
        with_overlay(containers=[{"name": "metrics", "image": "r/m:1"}]),
        "--overlay",
        "spec.containers[metrics]",
        "`--overlay`",
    ),
    "init container": (
        with_overlay(initContainers=[{"name": "i", "image": "r/i:1"}]),
        "--overlay",
        "spec.initContainers",
        "`--overlay`",
    ),
    "metadata beside labels": (
        {"pod": PodOptions(overlay=Overlay({"metadata": {"finalizers": ["a.b/c"]}}))},
        "--overlay",
        "metadata.finalizers",
        "`--overlay`",
    ),
    "several flags": (
        {
            "policy": PolicyOptions(priority_class="high", volcano_queue="batch"),
            "pod": PodOptions(overlay=Overlay({"spec": {"hostIPC": True, "nodeSelector": {"a": "b"}}})),
        },
        "--overlay, --priority-class high, --volcano-queue batch",
        "spec.hostIPC, spec.priorityClassName, podGroupPolicy",
        "`--overlay`, `--priority-class`, `--volcano-queue`",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_train_job_can_patch_is_refused_by_the_flag_that_asks_for_it(name):
    """The server would drop the field, or the pods would never start."""
    changes, flags, fields, origins = REFUSED[name]
    with pytest.raises(InputError) as caught:
        render(replace(PATCHED, **changes))
    text = caught.value.args[0]
    assert text.startswith(f"cannot use {flags} with the runtime `chexnet` of an administrator: ")
    assert text.endswith(f"a TrainJob cannot patch {fields} (from {origins})")
    assert caught.value.hint.startswith(f"omit {flags}; or omit --runtime")
    assert [each["kind"] for each in render(replace(OWN, **changes))] == ["TrainingRuntime", "TrainJob"]


def test_queue_of_volcano_is_in_ones_own_runtime():
    """Trainer makes a PodGroup of it, but leaves the scheduler to the runtime."""
    runtime, _ = render(replace(OWN, policy=PolicyOptions(volcano_queue="batch", priority_class="high")))
    pod = template_of([runtime, render(OWN)[-1]])["spec"]
    assert runtime["spec"]["podGroupPolicy"] == {"volcano": {}}
    assert runtime["spec"]["template"]["metadata"]["annotations"] == {"scheduling.volcano.sh/queue-name": "batch"}
    assert (pod["schedulerName"], pod["priorityClassName"]) == ("volcano", "high")


@pytest.mark.parametrize("resource", [TRAIN_JOBS, JOB_SETS])
def test_labels_of_the_controllers_cannot_be_set(resource):
    """Pods of another job would be taken for this one's."""
    prefix = {TRAIN_JOBS: "trainer.kubeflow.org/", JOB_SETS: "jobset.sigs.k8s.io/"}[resource]
    with pytest.raises(InputError, match=prefix):
        PodOptions(label=(f"{prefix}jobset-name=t2",))


def test_name_of_a_job_and_of_its_runtime_are_equal():
    """A runtime that is left over is found by it."""
    runtime, job = render(OWN)
    assert runtime["metadata"]["name"] == job["metadata"]["name"] == job["spec"]["runtimeRef"]["name"] == "t1"
    assert runtime["metadata"]["namespace"] == job["metadata"]["namespace"] == "team-a"
