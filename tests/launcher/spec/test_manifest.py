"""The objects of a job: golden manifests of both kinds, the real CRDs' schemas, and the rules that a schema does not know.

UPDATE_GOLDEN=1 rewrites the golden manifests; `make golden` sets it.
"""

import json
import os
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
import yaml
from made_pods import container_of, template_of, train_argv
from schemas import check_object

from launcher.spec.job import JobSpec
from launcher.spec.manifest import render, to_json, to_name, to_yaml
from trainer.config import from_argv

GOLDEN = Path(__file__).with_name("golden")

IN_BUCKETS = {"image": "registry.example/chexnet:1", "data": "s3://cxr/chestxray14", "output": "s3://cxr/runs"}
IN_DIRECTORIES = {"image": "registry.example/chexnet:1", "data": "/srv/cxr", "output": "/srv/runs"}

JOBS = {
    "gaudi-1-node": JobSpec(accelerator="gaudi", workers=8, name="gaudi-1-node", namespace="cxr", **IN_BUCKETS),
    "gaudi-4-nodes": JobSpec(accelerator="gaudi", workers=32, name="gaudi-4-nodes", namespace="cxr", **IN_BUCKETS),
    "cuda-1-node": JobSpec(accelerator="cuda", workers=4, name="cuda-1-node", namespace="cxr", **IN_BUCKETS),
    "cuda-elastic": JobSpec(
        accelerator="cuda",
        workers=16,
        elastic="1:2",
        name="cuda-elastic",
        namespace="cxr",
        train_flags=("--preset", "chexnet_adamw", "--global-batch-size", "128"),
        **IN_BUCKETS,
    ),
    "cuda-mig": JobSpec(
        accelerator="cuda", resource="nvidia.com/mig-1g.10gb", workers=2, name="cuda-mig", namespace="cxr", **IN_BUCKETS
    ),
    "gaudi-dra": JobSpec(
        accelerator="gaudi", resource="intel.com/gaudi", workers=8, name="gaudi-dra", namespace="cxr", **IN_BUCKETS
    ),
    "cpu": JobSpec(accelerator="cpu", workers=2, name="cpu", train_flags=("--preset", "smoke"), **IN_DIRECTORIES),
}


TRAIN_JOBS = {
    f"trainjob-{name}": replace(spec, api="trainjob") for name, spec in JOBS.items() if spec.elastic is None
} | {"trainjob-administrators-runtime": replace(JOBS["gaudi-4-nodes"], api="trainjob", runtime="chexnet")}

ALL = JOBS | TRAIN_JOBS


def pod_of(job):
    """Role and pod template of a PyTorchJob with one role."""
    [(role, replica)] = job["spec"]["pytorchReplicaSpecs"].items()
    return role, replica["template"]["spec"]


def golden(name):
    return list(yaml.safe_load_all((GOLDEN / f"{name}.yaml").read_text(encoding="utf-8")))


@pytest.mark.parametrize("name", ALL)
def test_rendered_jobs_equal_their_golden_manifests(name):
    """A change of what is sent to a cluster is seen in a review, line by line."""
    path = GOLDEN / f"{name}.yaml"
    text = to_yaml(render(ALL[name]))
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8"), "`make golden` rewrites it"


@pytest.mark.parametrize("name", ALL)
def test_golden_manifests_fit_the_controllers_schemas(name):
    """The API server would prune an unknown field without a word."""
    for each in golden(name):
        check_object(each)


@pytest.mark.parametrize("name", ["cpu", "trainjob-cpu"])
def test_the_schema_check_sees_an_unknown_field(name):
    """Else the test above would prove nothing."""
    one = render(ALL[name])[0]
    template = template_of([one]) if one["kind"] == "PyTorchJob" else pods_of_runtime(one)
    template["spec"]["containers"][0]["resource"] = {}
    with pytest.raises(jsonschema.ValidationError, match="'resource' was unexpected"):
        check_object(one)


def pods_of_runtime(runtime):
    return runtime["spec"]["template"]["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]


def test_the_schema_check_sees_a_field_that_no_train_job_patches():
    """The server drops it unless asked to be strict, and the pods would have another priority."""
    job = render(ALL["trainjob-administrators-runtime"])[-1]
    [patch] = job["spec"]["runtimePatches"]
    pods_of_runtime({"spec": patch["trainingRuntimeSpec"]})["spec"]["priorityClassName"] = "high"
    with pytest.raises(jsonschema.ValidationError, match="'priorityClassName' was unexpected"):
        check_object(job)


@pytest.mark.parametrize("name", ["cpu", "trainjob-cpu"])
def test_the_schema_check_sees_a_repeated_element(name):
    """The API server refuses it, a plain reading of the schema does not."""
    job = render(ALL[name])[-1]
    owner = job["spec"]["trainer"] if name != "cpu" else pod_of(job)[1]["containers"][0]
    owner["env"] *= 2
    with pytest.raises(jsonschema.ValidationError, match=r"is in the list twice"):
        check_object(job)


@pytest.mark.parametrize("name", ALL)
def test_the_trainer_takes_the_flags_of_golden_manifests(name):
    """Launcher and trainer agree on every flag."""
    assert from_argv(train_argv(golden(name))) == ALL[name].train


@pytest.mark.parametrize("name", ALL)
def test_yaml_and_json_manifests_are_equal(name):
    """One render, several ways to print it."""
    objects = render(ALL[name])
    in_json = json.loads(to_json(objects))
    assert list(yaml.safe_load_all(to_yaml(objects))) == objects
    assert (in_json["items"] if in_json["kind"] == "List" else [in_json]) == objects
    kind = "pytorchjob.kubeflow.org" if name in JOBS else "trainjob.trainer.kubeflow.org"
    assert to_name(objects) == f"{kind}/{ALL[name].name}\n"


@pytest.mark.parametrize("name", TRAIN_JOBS)
def test_pods_of_both_kinds_differ_only_in_the_name_of_the_container_and_the_rendezvous(name):
    """One spec, every API: whatever a job may ask for, a TrainJob carries too, by its runtime or by patches."""
    spec = TRAIN_JOBS[name]
    ours, theirs = (template_of(render(each)) for each in (spec, replace(spec, api="pytorchjob", runtime=None)))
    for template in (ours, theirs):
        [container] = template["spec"]["containers"]
        del container["name"]
        container["env"] = [entry for entry in container["env"] if not entry["name"].startswith("PET_")]
    assert ours["spec"].pop("restartPolicy") == "Never"
    assert ours == theirs


def test_several_nodes_have_a_rendezvous_without_an_elastic_policy():
    """The shape in which every pod keeps its log and none is left (docs/decisions/0006)."""
    job = render(JOBS["gaudi-4-nodes"])[-1]
    container = pod_of(job)[1]["containers"][0]
    environment = {entry["name"]: entry.get("value") for entry in container["env"]}
    assert "elasticPolicy" not in job["spec"]
    assert {
        "PET_NNODES": "4",
        "PET_NPROC_PER_NODE": "8",
        "PET_RDZV_BACKEND": "c10d",
        "PET_RDZV_ENDPOINT": "gaudi-4-nodes-worker-0:23456",
        "PET_RDZV_ID": "gaudi-4-nodes",
        "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
    }.items() <= environment.items()
    assert container["ports"] == [{"name": "pytorchjob-port", "containerPort": 23456}]


def test_one_node_has_a_rendezvous_that_survives_a_crash():
    """With torchrun's static rendezvous, which the operator's variables alone select, the workers never rejoin (docs/decisions/0006)."""
    container = pod_of(render(JOBS["gaudi-1-node"])[-1])[1]["containers"][0]
    environment = {entry["name"]: entry["value"] for entry in container["env"] if "value" in entry}
    assert environment == {
        "HOME": "/tmp",
        "PT_HPU_LAZY_MODE": "1",
        "HABANA_LOGS": "/tmp/habana_logs",
        "PET_RDZV_BACKEND": "c10d",
        "PET_RDZV_ENDPOINT": "127.0.0.1:0",
        "PET_RDZV_ID": "gaudi-1-node",
        "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
        "OMP_NUM_THREADS": "10",
    }


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(("variable", "field"), [("POD_IP", "status.podIP"), ("NODE_NAME", "spec.nodeName")])
def test_pods_know_their_address_and_node(name, variable, field):
    """A name may not resolve, as in the host's network or with a broken DNS; the entrypoint then takes POD_IP. By NODE_NAME a run knows
    the nodes that have passed its preflight."""
    container = container_of(render(ALL[name]))
    [own] = [entry for entry in container["env"] if entry["name"] == variable]
    assert own["valueFrom"] == {"fieldRef": {"fieldPath": field}}


def test_threads_are_the_workers_cpus_unless_the_user_sets_them():
    """By itself a worker takes its share of the node's, and on a larger node the last bits of a run that goes on would change."""
    spec = JOBS["cpu"]
    told = replace(spec, pod=replace(spec.pod, env=("OMP_NUM_THREADS=4",)))
    for one, expected in ((spec, "1"), (told, "4")):
        variables = pod_of(render(one)[-1])[1]["containers"][0]["env"]
        assert [entry["value"] for entry in variables if entry["name"] == "OMP_NUM_THREADS"] == [expected]


@pytest.mark.parametrize(("model", "memory"), [("densenet121", "4Gi"), ("vgg16", "6Gi")])
def test_memory_of_a_cpu_worker_is_what_its_model_was_measured_to_need(model, memory):
    """A worker of VGG16 took 4.7 GiB, and would be killed at the limit of the others, again and again."""
    one = replace(JOBS["cpu"], workers=1, train_flags=("--preset", "pneumonia", "--model", model))
    resources = pod_of(render(one)[-1])[1]["containers"][0]["resources"]
    assert resources["requests"]["memory"] == resources["limits"]["memory"] == memory


def test_elastic_nodes_are_given_to_torchrun_as_a_flag():
    """The operator overwrites PET_NNODES with the number of pods; a flag it can't overwrite."""
    container = pod_of(render(JOBS["cuda-elastic"])[-1])[1]["containers"][0]
    assert container["args"][:4] == ["--max-restarts=3", "--nnodes=1:2", "-m", "trainer"]


def test_a_bucket_is_mounted_read_only_by_a_volume_of_this_job_alone():
    """The driver's rules: a unique handle, a prefix that ends in a slash, and allow-other for users that are not root."""
    volume, claim, job = render(JOBS["gaudi-1-node"])
    assert volume["metadata"]["name"] == volume["spec"]["csi"]["volumeHandle"] == claim["spec"]["volumeName"]
    assert volume["metadata"]["name"] == "cxr.gaudi-1-node"
    assert volume["spec"]["claimRef"] == {"namespace": "cxr", "name": claim["metadata"]["name"]}
    assert volume["spec"]["mountOptions"] == ["allow-other", "read-only", "prefix chestxray14/"]
    assert volume["spec"]["accessModes"] == claim["spec"]["accessModes"] == ["ReadOnlyMany"]
    assert volume["spec"]["storageClassName"] == claim["spec"]["storageClassName"] == ""
    assert {
        "name": "data",
        "persistentVolumeClaim": {"claimName": claim["metadata"]["name"], "readOnly": True},
    } in pod_of(job)[1]["volumes"]


@pytest.mark.parametrize("namespace", ["n" * 63, "n" * 62 + "x"])
def test_long_volume_names_fit_a_label_and_stay_apart(namespace):
    """The driver labels its own pods with the volume's name; labels hold 63 characters."""
    name = render(JobSpec(accelerator="cpu", name="t" * 53, namespace=namespace, **IN_BUCKETS))[0]["metadata"]["name"]
    other = render(JobSpec(accelerator="cpu", name="t" * 52, namespace=namespace, **IN_BUCKETS))[0]["metadata"]["name"]
    assert len(name) == 63
    assert name != other


def test_long_volume_name_is_not_cut_behind_its_dot():
    """The API server refuses `namespace.-hash`."""
    name = render(JobSpec(accelerator="cpu", name="t" * 53, namespace="n" * 53, **IN_BUCKETS))[0]["metadata"]["name"]
    assert name.startswith(f"{'n' * 53}-")


@pytest.mark.parametrize("name", ALL)
def test_huge_pages_are_a_multiple_of_the_page_size(name):
    """The API server refuses half a page."""
    amount = container_of(render(ALL[name]))["resources"]["limits"].get("hugepages-2Mi", "0Mi")
    assert amount.endswith("Mi")
    assert int(amount[:-2]) % 2 == 0


@pytest.mark.parametrize(("mode", "lazy"), [(None, ["1"]), ("lazy", ["1"]), ("compile", ["0"]), ("eager", ["0"])])
def test_mode_of_gaudi_is_in_the_environment_and_in_the_flags(mode, lazy):
    """The bridge reads the variable when it is loaded, before any flag: both must say the same, whatever the image's default is."""
    container = container_of(render(replace(JOBS["gaudi-1-node"], gaudi_mode=mode)))
    assert [entry["value"] for entry in container["env"] if entry["name"] == "PT_HPU_LAZY_MODE"] == lazy
    assert f"--gaudi-mode={mode or 'lazy'}" in container["args"]


@pytest.mark.parametrize(("mode", "value"), [("lazy", []), ("compile", []), ("eager", ["1"])])
def test_eager_mode_has_the_vendors_layout_of_gradient_views(mode, value):
    """As the vendor's samples of vision models run in it."""
    container = container_of(render(replace(JOBS["gaudi-1-node"], gaudi_mode=mode)))
    name = "PT_HPU_EAGER_ENABLE_GRADIENT_VIEW_LAYOUT_OPT"
    assert [entry["value"] for entry in container["env"] if entry["name"] == name] == value


@pytest.mark.parametrize("name", ["cuda-1-node", "cpu"])
def test_jobs_without_gaudi_have_no_mode(name):
    """Neither variable nor flag."""
    assert not any(word in to_yaml(render(JOBS[name])) for word in ("PT_HPU", "gaudi-mode", "gaudi_mode"))
