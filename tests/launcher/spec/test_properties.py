"""Whatever a user may ask for: what constructs is a valid manifest, and no secret is in it."""

import io
import json
import re
from contextlib import redirect_stdout
from dataclasses import replace

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from made_pods import template_of, train_argv
from schemas import check_object, metadata_problems

from launcher.__main__ import main
from launcher.spec.fields import settings_of
from launcher.spec.job import JobSpec
from launcher.spec.manifest import render, to_json, to_yaml
from launcher.spec.options import PodOptions, PolicyOptions, S3Options
from launcher.spec.overlay import Overlay
from trainer.config import from_argv
from trainer.errors import InputError

SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"

LABEL = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
NAMES = st.from_regex(r"[a-z]([-a-z0-9]{0,51}[a-z0-9])?", fullmatch=True)
OBJECT_NAMES = st.from_regex(
    r"[a-z0-9]([-a-z0-9]{0,20}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,9}[a-z0-9])?)?|[a-z]{64,80}", fullmatch=True
)
VARIABLES = st.sampled_from(["HOME", "A", "B"]) | st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,10}", fullmatch=True)
LABELS = st.from_regex(
    r"([a-z]{1,5}\.io/)?[A-Za-z0-9]([-_.A-Za-z0-9]{0,70}[A-Za-z0-9])?=[-_.A-Za-z0-9]{0,70}", fullmatch=True
)
TOLERATIONS = st.from_regex(r"([a-z]{1,5}/)?[a-z]{1,5}(=[-a-z]{0,5})?(:NoSchedule|:NoExecute|:Never)?", fullmatch=True)
BUCKETS = st.from_regex(r"s3://[a-z0-9][-.a-z0-9]{1,20}(/[-_.a-zA-Z0-9/]{0,20})?", fullmatch=True)
PLACES = BUCKETS | st.from_regex(r"/srv(/[a-z][-_.a-zA-Z0-9 ]{0,9}){0,3}", fullmatch=True)
PATCHES = (
    {"spec": {"hostIPC": True, "tolerations": [{"operator": "Exists"}]}},
    {"metadata": {"annotations": {"team": "a"}}, "spec": {"securityContext": {"fsGroup": None}}},
    {
        "spec": {
            "containers": [
                {"name": "pytorch", "env": [{"name": "HOME", "value": "/cache"}, {"name": "X", "value": "1"}]},
                {"name": "sidecar", "image": "r/s:1", "args": None},
            ],
            "volumes": [{"name": "cache", "$patch": "delete"}, {"name": "cache", "hostPath": {"path": "/nvme"}}],
        }
    },
)


def several(entries):
    """A flag that is given up to three times."""
    return st.lists(entries, max_size=3).map(tuple)


def maybe(values):
    """A flag that may be left out."""
    return st.none() | values


S3 = {
    "endpoint": maybe(st.from_regex(r"https?://[a-z.]{1,10}(:[0-9]{1,4})?/?", fullmatch=True)),
    "region": maybe(st.from_regex(r"[a-z0-9][-a-z0-9]{0,9}", fullmatch=True)),
    "secret": maybe(OBJECT_NAMES),
    "csi_driver": st.sampled_from(["s3.csi.aws.com", "s3.csi.scality.com"]),
    "csi_secret": maybe(OBJECT_NAMES),
}
POD = {
    "service_account": maybe(OBJECT_NAMES),
    "image_pull_secret": several(st.sampled_from(["a", "b.c"])),
    "env": several(st.tuples(VARIABLES, st.text(max_size=20)).map("=".join)),
    "env_from_secret": several(
        st.one_of(OBJECT_NAMES, st.from_regex(r"[A-Z]{1,3}=[a-z]{1,9}:[-._A-Za-z]{1,9}", fullmatch=True))
    ),
    "node_selector": several(LABELS),
    "toleration": several(TOLERATIONS),
    "label": several(LABELS),
    "overlay": maybe(st.sampled_from(PATCHES).map(Overlay)),
}
POLICY = {
    "queue": maybe(OBJECT_NAMES),
    "volcano_queue": maybe(OBJECT_NAMES),
    "priority_class": maybe(OBJECT_NAMES),
    "ttl": maybe(st.sampled_from(["90s", "1h", "2d"])),
    "backoff": st.integers(0, 100),
    "deadline": maybe(st.sampled_from(["90m", "8h"])),
}


def constructed(owner, fields):
    """An object of these fields; of those that it refuses, what it is without them."""
    try:
        return owner(**fields)
    except InputError:
        return None


def group(owner, strategies):
    """Options of a group, as far as each is let pass by itself: else few jobs would be left."""

    def kept(drawn):
        alone = {key: value for key, value in drawn.items() if constructed(owner, {key: value}) is not None}
        return constructed(owner, alone) or owner()

    return st.fixed_dictionaries(strategies).map(kept)


def sources():
    """Where the data comes from, and how."""
    options = group(S3Options, S3)
    return st.one_of(
        st.fixed_dictionaries({"data": PLACES, "s3": options}),
        st.fixed_dictionaries({"data": BUCKETS, "s3": options.map(lambda s3: replace(s3, access="api"))}),
        st.fixed_dictionaries({"data": PLACES | st.just(""), "s3": st.builds(replace, options, claim=OBJECT_NAMES)}),
    )


@st.composite
def specs(draw):
    """Jobs of all shapes with whatever the constructors let pass."""
    workers = draw(st.integers(1, 12)) * draw(st.sampled_from([1, 2, 8]))
    accelerator = draw(st.sampled_from(["gaudi", "cuda", "cpu"]))
    modes = [None, "lazy", "compile", "eager"] if accelerator == "gaudi" else [None]
    fields = {
        "accelerator": accelerator,
        "gaudi_generation": draw(st.sampled_from(["1", "2", "3"])),
        "gaudi_mode": draw(st.sampled_from(modes)),
        "workers": workers,
        "name": draw(NAMES),
        "namespace": draw(NAMES),
        "image": draw(st.from_regex(r"[a-z]+/[a-z]+(:[0-9.]{1,5})?", fullmatch=True)),
        "output": draw(PLACES),
        **draw(sources()),
        "pod": draw(group(PodOptions, POD)),
        "policy": draw(group(PolicyOptions, POLICY)),
        "train_flags": tuple(draw(st.lists(st.sampled_from(["--no-flip", "--seed=1", "--preset=smoke"]), unique=True))),
    }
    spec = JobSpec(**fields)
    for change in (
        {"workers_per_node": draw(st.sampled_from([None, 1, workers]))},
        {"efa": draw(maybe(st.integers(1, 4)))},
    ):
        changed = constructed(JobSpec, fields | change)
        if changed is not None:
            spec, fields = changed, fields | change
    if spec.nodes == 1 or draw(st.booleans()):
        return spec
    worlds = 27720 * spec.per_node  # divided by every number of nodes up to 12
    flags = (*spec.train_flags, f"--global-batch-size={worlds}")
    elastic = {"elastic": f"{draw(st.integers(1, spec.nodes))}:{spec.nodes}", "train_flags": flags}
    return constructed(JobSpec, fields | elastic) or spec


def as_train_job(spec):
    """The same job as a TrainJob, without what none supports; its name short enough for its pods."""
    return replace(
        spec, api="trainjob", elastic=None, name=spec.name[:40].rstrip("-"), policy=replace(spec.policy, ttl=None)
    )


def of_either_kind():
    """Jobs of both kinds."""
    return st.builds(lambda spec, change: change(spec), specs(), st.sampled_from([lambda spec: spec, as_train_job]))


def pod_of(job):
    """Role, replicas and pod template of a job with one role."""
    [(role, replica)] = job["spec"]["pytorchReplicaSpecs"].items()
    return role, replica["replicas"], replica["template"]


@settings(max_examples=20, deadline=None)
@given(spec=of_either_kind())
def test_any_job_that_constructs_renders_to_objects_that_fit(spec):
    """Checks on construction are complete: the server refuses nothing of what passes them, the trainer no flag."""
    objects = render(spec)
    for each in objects:
        check_object(each)
    volumes = [each["kind"] for each in objects if each["kind"].startswith("Persistent")]
    assert volumes in ([], ["PersistentVolume", "PersistentVolumeClaim"])
    kinds = [each["kind"] for each in objects[len(volumes) :]]
    assert kinds == (["PyTorchJob"] if spec.api == "auto" else ["TrainingRuntime", "TrainJob"])
    template = template_of(objects)
    assert metadata_problems(objects[-1]["metadata"], name=LABEL) == metadata_problems(template["metadata"]) == []
    assert metadata_problems({"labels": template["spec"].get("nodeSelector", {})}) == []
    assert [problem for each in objects for problem in metadata_problems(each["metadata"])] == []
    assert from_argv(train_argv(objects)) == spec.train
    assert list(yaml.safe_load_all(to_yaml(objects))) == objects


def rendered(spec):
    """The objects, or why there are none."""
    try:
        return render(spec), ""
    except InputError as problem:
        return [], str(problem)


@settings(max_examples=20, deadline=None)
@given(spec=specs().map(as_train_job))
def test_any_train_job_has_the_same_pods_with_an_administrators_runtime_or_is_refused(spec):
    """No field is lost on the way through the patches, and none is refused that they carry."""
    pods = template_of(render(spec))
    objects, refusal = rendered(replace(spec, runtime="of-the-team"))
    if refusal:
        assert "a TrainJob cannot patch " in refusal
        return
    assert [each["kind"] for each in objects if not each["kind"].startswith("Persistent")] == ["TrainJob"]
    check_object(objects[-1])
    assert template_of(objects) == pods


@settings(max_examples=8, deadline=None)
@given(spec=specs())
def test_pods_and_workers_add_up_in_any_job(spec):
    """Pods times processes, and pods times accelerators, are what the user counted."""
    job = render(spec)[-1]
    role, replicas, template = pod_of(job)
    resources = template["spec"]["containers"][0]["resources"]
    assert replicas * int(job["spec"]["nprocPerNode"]) == spec.workers
    assert role == ("Master" if replicas == 1 else "Worker")
    for accelerator in {"habana.ai/gaudi", "nvidia.com/gpu"} & resources["limits"].keys():
        assert resources["limits"][accelerator] * replicas == spec.workers
    assert resources["requests"] == {"cpu": resources["requests"]["cpu"]} | resources["limits"]


@settings(max_examples=8, deadline=None)
@given(spec=of_either_kind())
def test_every_mount_has_its_volume_in_any_job(spec):
    """Where the user's patch takes one away, the other goes with it; a pod with half of them never starts."""
    pod = template_of(render(spec))["spec"]
    mounted = {mount["name"] for mount in pod["containers"][0]["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod["volumes"]}


def argv_of(spec):
    """The flags that mean the job."""
    for key, value in settings_of(spec).items():
        flag = "--" + key.replace("_", "-")
        if key == "overlay":
            yield f"{flag}={json.dumps(value)}"
        elif key != "train_flags":
            yield from (f"{flag}={each}" for each in (value if isinstance(value, list) else [value]))
    yield from (f"--name={spec.name}", f"--namespace={spec.namespace}", "--", *spec.train_flags)


@settings(max_examples=10, deadline=None)
@given(spec=of_either_kind())
def test_recorded_settings_recreate_any_job(spec):
    """`clone` starts from the annotation: what it leaves out would silently be another job."""
    printed = io.StringIO()
    with redirect_stdout(printed):
        assert main(["render", "-o", "json", *argv_of(spec)]) == 0
    assert printed.getvalue() == to_json(render(spec))


LITERAL = {"spec": {"initContainers": [{"name": "i", "env": [{"name": "HF_TOKEN", "value": SECRET}]}]}}


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(["--env", f"AWS_SECRET_ACCESS_KEY={SECRET}"], id="variable of S3"),
        pytest.param(["--env", f"MLFLOW_TRACKING_PASSWORD={SECRET}"], id="password"),
        pytest.param(["--env", f"wandb_api_key={SECRET}"], id="key in small letters"),
        pytest.param(["--env-from-secret", f"AWS_SECRET_ACCESS_KEY={SECRET}"], id="the secret in its name's place"),
        pytest.param(["--s3-secret", SECRET], id="the secret for the Secret"),
        pytest.param(["--csi-secret", SECRET], id="the same for the driver"),
        pytest.param(["--image-pull-secret", SECRET], id="the same for the registry"),
        pytest.param(["--s3-endpoint", f"https://user:{SECRET}@s3.example.org"], id="login in the endpoint"),
        pytest.param(["--data", f"s3://AKIA:{SECRET}@cxr/x"], id="login in the data set"),
        pytest.param(["--output", f"s3://AKIA:{SECRET}@cxr/x"], id="login in the output"),
        pytest.param(["--set", f"env=[AWS_SECRET_ACCESS_KEY={SECRET}]"], id="by --set"),
        pytest.param(["--overlay", "patch.yaml"], id="in an overlay"),
        pytest.param(["--set", f"overlay={json.dumps(LITERAL)}"], id="in an overlay by --set"),
        pytest.param(["--overlay", f"{{spec: {{a: {SECRET}"], id="in an overlay that can't be read"),
        pytest.param(["-f", "settings.yaml"], id="in a file"),
    ],
)
def test_a_secret_in_the_wrong_place_is_refused_and_not_repeated(tmp_path, monkeypatch, capsys, words):
    """Manifests are read by everybody in the namespace, messages by whoever reads the log of a pipeline."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "patch.yaml").write_text(json.dumps(LITERAL), encoding="utf-8")
    (tmp_path / "settings.yaml").write_text(f"env: [PASSWORD={SECRET}]", encoding="utf-8")
    line = [
        "render",
        "--accelerator",
        "cpu",
        "--image",
        "r/c:1",
        "--data",
        "s3://b/cxr",
        "--output",
        "s3://b/runs",
        "--name",
        "t1",
    ]
    if words[0] in line:
        at = line.index(words[0])
        del line[at : at + 2]
    assert main([*line, *words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: cannot ")
    assert SECRET not in err
    assert "wJalr" not in err


@settings(max_examples=8, deadline=None)
@given(spec=of_either_kind())
def test_no_secret_of_this_machine_gets_into_any_manifest(spec):
    """Whoever submits has keys in the environment; pods get theirs from the cluster."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "HF_TOKEN"):
            patch.setenv(name, SECRET)
        objects = render(spec)
    assert SECRET not in to_yaml(objects)
    assert SECRET not in to_json(objects)
