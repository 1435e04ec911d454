"""The objects of a job: golden manifests, the real CRD's schema, and the rules that a schema does not know.

UPDATE_GOLDEN=1 rewrites the golden manifests; `make golden` sets it.
"""

import json
import os
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from launcher.manifest import render, to_json, to_name, to_yaml
from launcher.spec import JobSpec
from trainer.config import from_argv
from trainer.errors import InputError

GOLDEN = Path(__file__).with_name("golden")
CRD = Path(__file__).parents[3] / "shared/reference/crds/training-operator-v1.9.4/kubeflow.org_pytorchjobs.yaml"

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
    "cpu": JobSpec(accelerator="cpu", workers=2, name="cpu", train_flags=("--preset", "smoke"), **IN_DIRECTORIES),
}


def strict(schema: Any) -> Any:
    """The schema with unknown fields forbidden wherever it lists the known ones, as `fieldValidation=Strict` has it."""
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    tightened = {key: strict(part) for key, part in schema.items()}
    if isinstance(schema.get("properties"), dict) and not schema.get("x-kubernetes-preserve-unknown-fields"):
        tightened.setdefault("additionalProperties", False)
    return tightened


@pytest.fixture(scope="module")
def crd() -> jsonschema.protocols.Validator:
    """The PyTorchJob schema of the operator's release."""
    if not CRD.is_file():
        pytest.skip("no shared data")
    definition = yaml.load(CRD.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return jsonschema.Draft7Validator(strict(definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]))


def pod_of(job):
    """Role and pod template of a job with one role."""
    [(role, replica)] = job["spec"]["pytorchReplicaSpecs"].items()
    return role, replica["template"]["spec"]


def train_argv(job):
    """What follows `-m trainer train` in the container's args."""
    args = pod_of(job)[1]["containers"][0]["args"]
    return args[args.index("train") + 1 :]


@pytest.mark.parametrize("name", JOBS)
def test_rendered_jobs_equal_their_golden_manifests(name):
    """A change of what is sent to a cluster is seen in a review, line by line."""
    path = GOLDEN / f"{name}.yaml"
    text = to_yaml(render(JOBS[name]))
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8"), "`make golden` rewrites it"


@pytest.mark.parametrize("name", JOBS)
def test_golden_manifests_fit_the_operators_schema(name, crd):
    """The API server would prune an unknown field without a word."""
    job = list(yaml.safe_load_all((GOLDEN / f"{name}.yaml").read_text(encoding="utf-8")))[-1]
    crd.validate(job)


def test_the_schema_check_sees_an_unknown_field(crd):
    """Else the test above would prove nothing."""
    job = render(JOBS["cpu"])[-1]
    pod_of(job)[1]["containers"][0]["resource"] = {}
    with pytest.raises(jsonschema.ValidationError, match="'resource' was unexpected"):
        crd.validate(job)


@pytest.mark.parametrize("name", JOBS)
def test_the_trainer_takes_the_flags_of_golden_manifests(name):
    """Launcher and trainer agree on every flag."""
    job = list(yaml.safe_load_all((GOLDEN / f"{name}.yaml").read_text(encoding="utf-8")))[-1]
    assert from_argv(train_argv(job)) == JOBS[name].train


@pytest.mark.parametrize("name", JOBS)
def test_yaml_and_json_say_the_same(name):
    """One render, several ways to print it."""
    objects = render(JOBS[name])
    in_json = json.loads(to_json(objects))
    assert list(yaml.safe_load_all(to_yaml(objects))) == objects
    assert (in_json["items"] if in_json["kind"] == "List" else [in_json]) == objects
    assert to_name(objects) == f"pytorchjob.kubeflow.org/{name}\n"


NAMES = st.from_regex(r"[a-z]([-a-z0-9]{0,51}[a-z0-9])?", fullmatch=True)
PLACES = st.one_of(
    st.from_regex(r"s3://[a-z0-9][-.a-z0-9]{1,20}(/[-_.a-zA-Z0-9/]{0,20})?", fullmatch=True),
    st.from_regex(r"/[-_.a-zA-Z0-9/ ]{0,30}", fullmatch=True),
)


@st.composite
def specs(draw):
    """Jobs of all shapes, with whatever the constructor lets pass."""
    workers = draw(st.integers(1, 12)) * draw(st.sampled_from([1, 2, 8]))
    fields = {
        "accelerator": draw(st.sampled_from(["gaudi", "cuda", "cpu"])),
        "workers": workers,
        "workers_per_node": draw(st.sampled_from([None, 1, workers])),
        "name": draw(NAMES),
        "namespace": draw(NAMES),
        "image": draw(st.from_regex(r"[a-z]+/[a-z]+(:[0-9.]{1,5})?", fullmatch=True)),
        "data": draw(PLACES),
        "output": draw(PLACES),
        "train_flags": tuple(draw(st.lists(st.sampled_from(["--no-flip", "--seed=1", "--preset=smoke"]), unique=True))),
    }
    try:
        spec = JobSpec(**fields)
        if spec.nodes == 1 or draw(st.booleans()):
            return spec
        worlds = 27720 * spec.per_node  # divided by every number of nodes up to 12
        flags = (*spec.train_flags, f"--global-batch-size={worlds}")
        return JobSpec(**fields | {"elastic": f"{draw(st.integers(1, spec.nodes))}:{spec.nodes}", "train_flags": flags})
    except InputError:
        assume(False)


@settings(max_examples=40, deadline=None)
@given(spec=specs())
def test_any_job_that_constructs_renders_to_objects_that_fit(crd, spec):
    """Checks on construction are complete: what passes them is a valid manifest with flags that the trainer takes."""
    *others, job = render(spec)
    crd.validate(job)
    assert from_argv(train_argv(job)) == spec.train
    assert [item["kind"] for item in others] in ([], ["PersistentVolume", "PersistentVolumeClaim"])
    assert list(yaml.safe_load_all(to_yaml([*others, job]))) == [*others, job]


@settings(max_examples=40, deadline=None)
@given(spec=specs())
def test_pods_and_workers_add_up_in_any_job(spec):
    """Pods times processes, and pods times accelerators, are what the user counted."""
    job = render(spec)[-1]
    role, pod = pod_of(job)
    replicas = job["spec"]["pytorchReplicaSpecs"][role]["replicas"]
    resources = pod["containers"][0]["resources"]
    assert replicas * int(job["spec"]["nprocPerNode"]) == spec.workers
    assert role == ("Master" if replicas == 1 else "Worker")
    for accelerator in {"habana.ai/gaudi", "nvidia.com/gpu"} & resources["limits"].keys():
        assert resources["limits"][accelerator] * replicas == spec.workers
    assert resources["requests"] == {"cpu": resources["requests"]["cpu"]} | resources["limits"]


def test_several_nodes_meet_without_an_elastic_policy():
    """The shape in which every pod keeps its log and none is left (docs/decisions/0006)."""
    job = render(JOBS["gaudi-4-nodes"])[-1]
    container = pod_of(job)[1]["containers"][0]
    environment = {entry["name"]: entry["value"] for entry in container["env"]}
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


def test_one_node_meets_anew_after_a_crash():
    """With torchrun's static rendezvous, which the operator's variables alone mean, the gang never comes back (docs/decisions/0006)."""
    container = pod_of(render(JOBS["gaudi-1-node"])[-1])[1]["containers"][0]
    environment = {entry["name"]: entry["value"] for entry in container["env"]}
    assert environment == {
        "HOME": "/tmp",
        "PT_HPU_LAZY_MODE": "1",
        "HABANA_LOGS": "/tmp/habana_logs",
        "PET_RDZV_BACKEND": "c10d",
        "PET_RDZV_ENDPOINT": "127.0.0.1:0",
        "PET_RDZV_ID": "gaudi-1-node",
        "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
    }


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


@pytest.mark.parametrize("name", JOBS)
def test_huge_pages_are_whole_pages(name):
    """The API server refuses half a page."""
    amount = pod_of(render(JOBS[name])[-1])[1]["containers"][0]["resources"]["limits"].get("hugepages-2Mi", "0Mi")
    assert amount.endswith("Mi")
    assert int(amount[:-2]) % 2 == 0
