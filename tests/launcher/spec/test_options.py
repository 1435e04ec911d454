"""Options of pods, buckets and queues: what each becomes in the manifest, and what is refused."""

import pytest

from launcher.spec.job import JobSpec
from launcher.spec.manifest import render
from launcher.spec.options import PodOptions, PolicyOptions, S3Options
from trainer.errors import InputError

BASE = {
    "accelerator": "cpu",
    "image": "r/c:1",
    "data": "s3://cxr/nih",
    "output": "s3://cxr/runs",
    "name": "t1",
    "namespace": "team",
}


def job(s3=(), pod=(), policy=(), **fields):
    """A job with these options, and with these fields changed."""
    groups = {"s3": S3Options(**dict(s3)), "pod": PodOptions(**dict(pod)), "policy": PolicyOptions(**dict(policy))}
    return JobSpec(**(BASE | groups | fields))


def rendered(spec):
    """Job, pod template and container."""
    found = render(spec)[-1]
    [replica] = found["spec"]["pytorchReplicaSpecs"].values()
    return found, replica["template"], replica["template"]["spec"]["containers"][0]


def environment(spec):
    """The container's variables by name: a value, or where it comes from."""
    return {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in rendered(spec)[2]["env"]}


@pytest.mark.parametrize(
    ("pod", "field", "expected"),
    [
        ({"service_account": "trainer"}, "serviceAccountName", "trainer"),
        ({"image_pull_secret": ("a", "b", "a")}, "imagePullSecrets", [{"name": "a"}, {"name": "b"}]),
        ({"node_selector": ("zone=a", "gaudi=2")}, "nodeSelector", {"zone": "a", "gaudi": "2"}),
        ({"toleration": ("habana.ai/gaudi",)}, "tolerations", [{"key": "habana.ai/gaudi", "operator": "Exists"}]),
        (
            {"toleration": ("team=cxr:NoExecute", "spot:NoSchedule")},
            "tolerations",
            [
                {"key": "team", "operator": "Equal", "value": "cxr", "effect": "NoExecute"},
                {"key": "spot", "operator": "Exists", "effect": "NoSchedule"},
            ],
        ),
    ],
)
def test_pod_options_appear_in_the_pod_spec(pod, field, expected):
    """Once each, and absent where it was not asked for."""
    assert rendered(job(pod=pod))[1]["spec"][field] == expected
    assert field not in rendered(job())[1]["spec"]


def test_labels_go_to_the_job_and_its_pods():
    """So both are found by them; the launcher's own stay."""
    found, template, _ = rendered(job(pod={"label": ("team=radiology",)}))
    for labels in (found["metadata"]["labels"], template["metadata"]["labels"]):
        assert labels["team"] == "radiology"
        assert labels["app.kubernetes.io/instance"] == "t1"


def test_user_variables_override_ours_and_none_is_repeated():
    """The API server refuses a name that is there twice."""
    pod = {"env": ("HOME=/cache", "A=1", "A=x=y"), "env_from_secret": ("TOKEN=s:key", "whole")}
    spec = job(pod=pod)
    seen = environment(spec)
    assert (seen["HOME"], seen["A"]) == ("/cache", "x=y")
    assert seen["TOKEN"] == {"secretKeyRef": {"name": "s", "key": "key"}}
    container = rendered(spec)[2]
    assert container["envFrom"] == [{"secretRef": {"name": "whole"}}]
    assert len(container["env"]) == len(seen)


def test_secret_key_named_by_the_user_replaces_ours():
    """Some Secrets name their keys otherwise."""
    spec = job(s3={"secret": "s"}, pod={"env_from_secret": ("AWS_ACCESS_KEY_ID=mine:id",)})
    assert environment(spec)["AWS_ACCESS_KEY_ID"] == {"secretKeyRef": {"name": "mine", "key": "id"}}
    assert environment(spec)["AWS_SECRET_ACCESS_KEY"] == {"secretKeyRef": {"name": "s", "key": "AWS_SECRET_ACCESS_KEY"}}


@pytest.mark.parametrize(
    ("s3", "fields", "expected"),
    [
        pytest.param({}, {}, {}, id="AWS and the service account's role"),
        pytest.param(
            {"endpoint": "http://minio:9000", "region": "eu-1", "secret": "s3"},
            {},
            {
                "AWS_ENDPOINT_URL": "http://minio:9000",
                "AWS_REGION": "eu-1",
                "AWS_DEFAULT_REGION": "eu-1",
                "AWS_ACCESS_KEY_ID": {"secretKeyRef": {"name": "s3", "key": "AWS_ACCESS_KEY_ID"}},
                "AWS_SECRET_ACCESS_KEY": {"secretKeyRef": {"name": "s3", "key": "AWS_SECRET_ACCESS_KEY"}},
            },
            id="a server of one's own",
        ),
        pytest.param({"region": "eu-1"}, {"output": "/srv/runs"}, {}, id="only the mount needs the bucket"),
        pytest.param(
            {"region": "eu-1", "access": "api"},
            {"output": "/srv/runs"},
            {"AWS_REGION": "eu-1", "AWS_DEFAULT_REGION": "eu-1"},
            id="data by the api, output in a directory",
        ),
        pytest.param(
            {"region": "eu-1"},
            {"data": "/srv/cxr", "output": "/srv/runs", "train_flags": ("--weights=s3://b/w.pt",)},
            {"AWS_REGION": "eu-1", "AWS_DEFAULT_REGION": "eu-1"},
            id="only the weights are in a bucket",
        ),
    ],
)
def test_s3_variables_reach_the_trainers_container(s3, fields, expected):
    """And pods that use none are given no keys."""
    seen = environment(job(s3=s3, **fields))
    assert {name: value for name, value in seen.items() if name.startswith("AWS_")} == expected


AWS = "s3.csi.aws.com"
SCALITY = "s3.csi.scality.com"
AT = {"endpoint": "http://minio:9000", "region": "eu-1"}
ENDPOINT = ["region eu-1", "endpoint-url http://minio:9000", "force-path-style"]


@pytest.mark.parametrize(
    ("s3", "pod", "options", "source"),
    [
        pytest.param({}, {}, [], {}, id="aws, with the driver's own rights"),
        pytest.param(AT, {}, ENDPOINT, {}, id="aws with an endpoint"),
        pytest.param({"secret": "s3"}, {"service_account": "a"}, [], {}, id="aws takes no secret of a volume"),
        pytest.param(
            {},
            {"service_account": "a"},
            [],
            {"volumeAttributes": {"authenticationSource": "pod"}},
            id="aws with a role",
        ),
        pytest.param(
            {"region": "eu-1"},
            {"service_account": "a"},
            ["region eu-1"],
            {"volumeAttributes": {"authenticationSource": "pod", "stsRegion": "eu-1"}},
            id="aws with a role and a region",
        ),
        pytest.param(
            AT | {"csi_driver": SCALITY, "secret": "s3"},
            {"service_account": "a"},
            ["region eu-1"],
            {
                "volumeAttributes": {"authenticationSource": "secret"},
                "nodePublishSecretRef": {"name": "s3", "namespace": "team"},
            },
            id="scality drops an endpoint, takes a secret",
        ),
        pytest.param(
            {"csi_driver": SCALITY, "secret": "s3", "csi_secret": "driver"},
            {},
            [],
            {
                "volumeAttributes": {"authenticationSource": "secret"},
                "nodePublishSecretRef": {"name": "driver", "namespace": "team"},
            },
            id="scality with a secret of its own",
        ),
        pytest.param({"csi_driver": SCALITY}, {"service_account": "a"}, [], {}, id="scality with the driver's rights"),
    ],
)
def test_mount_options_are_those_of_each_csi_driver(s3, pod, options, source):
    """An option that a driver does not know fails the mount, or is dropped without a word."""
    spec = render(job(s3=s3, pod=pod))[0]["spec"]
    assert spec["mountOptions"] == ["allow-other", "read-only", "prefix nih/", *options]
    attributes = {"bucketName": "cxr"} | source.get("volumeAttributes", {})
    assert spec["csi"] == {
        "driver": s3.get("csi_driver", AWS),
        "volumeHandle": "team.t1",
        **source,
        "volumeAttributes": attributes,
    }


@pytest.mark.parametrize(
    ("s3", "fields", "claim", "argument"),
    [
        pytest.param({}, {}, "t1-data", "--data=/data", id="a volume of its own"),
        pytest.param({"claim": "nih"}, {}, "nih", "--data=/data", id="a claim that exists, for this data"),
        pytest.param({"claim": "nih"}, {"data": ""}, "nih", "--data=/data", id="a claim alone"),
        pytest.param({"access": "api"}, {}, None, "--data=s3://cxr/nih", id="the trainer downloads it"),
        pytest.param({}, {"data": "/srv/cxr"}, None, "--data=/data", id="a directory of the nodes"),
    ],
)
def test_data_set_has_exactly_one_source(s3, fields, claim, argument):
    """Volume, claim or download: exactly one, and the trainer is told which."""
    spec = job(s3=s3, **fields)
    *others, _ = render(spec)
    _, template, container = rendered(spec)
    claims = [
        volume["persistentVolumeClaim"] for volume in template["spec"]["volumes"] if "persistentVolumeClaim" in volume
    ]
    assert claims == ([{"claimName": claim, "readOnly": True}] if claim else [])
    assert len(others) == (2 if claim == "t1-data" else 0)
    assert argument in container["args"]


def test_queues_and_limits_are_set_where_their_controllers_read_them():
    """Kueue reads the job's label, Volcano the scheduling policy, the operator the rest."""
    policy = {
        "queue": "team-a",
        "queue_priority": "urgent",
        "priority_class": "high",
        "ttl": "1h",
        "backoff": 5,
        "deadline": "8h",
    }
    found, template, container = rendered(job(policy=policy, workers=4, workers_per_node=1))
    assert found["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team-a"
    assert found["metadata"]["labels"]["kueue.x-k8s.io/priority-class"] == "urgent"
    assert found["spec"]["runPolicy"] == {
        "cleanPodPolicy": "Running",
        "backoffLimit": 21,
        "ttlSecondsAfterFinished": 3600,
    }
    assert template["spec"]["priorityClassName"] == "high"
    assert container["args"][0] == "--max-restarts=5"
    assert "--deadline=8h" in container["args"]


def test_volcano_waits_for_as_many_pods_as_the_job_needs():
    """A job that holds half its accelerators while it waits for the rest blocks other jobs, and trains nothing."""
    found, _, _ = rendered(job(policy={"volcano_queue": "q"}, workers=4, workers_per_node=1))
    assert found["spec"]["runPolicy"]["schedulingPolicy"] == {"queue": "q", "minAvailable": 4}
    elastic = {"workers": 4, "workers_per_node": 1, "elastic": "2:4", "train_flags": ("--global-batch-size=12",)}
    found, _, _ = rendered(job(policy={"volcano_queue": "q"}, **elastic))
    assert found["spec"]["runPolicy"]["schedulingPolicy"]["minAvailable"] == 2


@pytest.mark.parametrize(
    ("fields", "pages", "adapters", "variables"),
    [
        ({"accelerator": "gaudi", "gaudi_generation": "2"}, "29008Mi", None, set()),
        ({"accelerator": "gaudi", "gaudi_generation": "1"}, "21008Mi", None, set()),
        (
            {"accelerator": "gaudi", "gaudi_generation": "1", "efa": 4},
            "21008Mi",
            4,
            {"FI_PROVIDER", "FI_EFA_USE_DEVICE_RDMA", "RDMAV_FORK_SAFE"},
        ),
        ({"accelerator": "cuda"}, None, None, set()),
        ({"accelerator": "cuda", "efa": 32}, "5Gi", 32, set()),
        ({"accelerator": "cpu"}, None, None, set()),
    ],
)
def test_each_accelerator_gets_the_resources_it_needs_and_no_more(fields, pages, adapters, variables):
    """Huge pages and adapters that a node lacks, and capabilities, which a policy forbids, keep a pod from running."""
    container = rendered(job(workers=16, workers_per_node=8, **fields))[2]
    limits = container["resources"]["limits"]
    assert (limits.get("hugepages-2Mi"), limits.get("vpc.amazonaws.com/efa")) == (pages, adapters)
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert {entry["name"] for entry in container["env"] if entry["name"].startswith(("FI_", "RDMAV_"))} == variables


@pytest.mark.parametrize("accelerator", ["cpu", "cuda", "gaudi"])
def test_pods_fit_the_strictest_pod_security(accelerator):
    """Namespaces that enforce `restricted` refuse a pod for any one of these but the read-only root."""
    _, template, container = rendered(job(accelerator=accelerator))
    assert template["spec"]["securityContext"]["runAsNonRoot"] is True
    assert template["spec"]["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": accelerator != "gaudi",
        "capabilities": {"drop": ["ALL"]},
    }
    assert {"/tmp", "/cache", "/dev/shm"} <= {mount["mountPath"] for mount in container["volumeMounts"]}
    assert not any("hostPath" in volume for volume in template["spec"]["volumes"])


@pytest.mark.parametrize(
    ("group", "fields", "words"),
    [
        (S3Options, {"endpoint": "minio:9000"}, ("--s3-endpoint", "http(s)://HOST[:PORT]")),
        (S3Options, {"endpoint": "http://minio:9000/bucket"}, ("--s3-endpoint",)),
        (S3Options, {"region": "Frankfurt am Main"}, ("--s3-region", "--s3-region us-east-1")),
        (S3Options, {"secret": "My Secret"}, ("--s3-secret",)),
        (S3Options, {"claim": "A"}, ("--data-pvc", "`A`")),
        (S3Options, {"claim": "a..b"}, ("--data-pvc", "`a..b`")),
        (S3Options, {"claim": "x" * 254}, ("--data-pvc",)),
        (PodOptions, {"label": ("team..io/a=b",)}, ("--label",)),
        (PodOptions, {"label": (f"{'x' * 254}/a=b",)}, ("--label",)),
        (PodOptions, {"service_account": "a b"}, ("--service-account",)),
        (PodOptions, {"image_pull_secret": ("ok", "no/good")}, ("--image-pull-secret",)),
        (PodOptions, {"env": ("NOVALUE",)}, ("--env NAME=VALUE",)),
        (PodOptions, {"env": ("1X=2",)}, ("--env NAME=VALUE",)),
        (PodOptions, {"env": ("MY_TOKEN=x",)}, ("--env-from-secret MY_TOKEN=SECRET:KEY",)),
        (PodOptions, {"env": ("PET_NNODES=3",)}, ("`PET_NNODES`", "torchrun")),
        (PodOptions, {"env": ("MASTER_ADDR=x",)}, ("`MASTER_ADDR`",)),
        (PodOptions, {"env": ("AWS_REGION=x",)}, ("--s3-region",)),
        (PodOptions, {"env_from_secret": ("RANK=s:k",)}, ("`RANK`", "--env-from-secret")),
        (PodOptions, {"env_from_secret": ("A=s",)}, ("NAME=SECRET:KEY",)),
        (PodOptions, {"env_from_secret": ("s:k",)}, ("NAME=SECRET:KEY",)),
        (PodOptions, {"node_selector": ("zone",)}, ("--node-selector", "must be KEY=VALUE")),
        (PodOptions, {"label": ("team=" + "x" * 64,)}, ("--label",)),
        (
            PodOptions,
            {"label": ("training.kubeflow.org/job-name=x",)},
            ("its prefix is reserved", "--label team=radiology"),
        ),
        (PodOptions, {"label": ("app.kubernetes.io/instance=x",)}, ("its prefix is reserved",)),
        (PodOptions, {"toleration": ("a:Never",)}, ("NoSchedule, PreferNoSchedule, NoExecute",)),
        (PodOptions, {"toleration": ("",)}, ("--toleration",)),
        (PolicyOptions, {"queue": "x" * 64}, ("--queue", "63")),
        (PolicyOptions, {"ttl": "soon"}, ("--ttl 8h",)),
        (PolicyOptions, {"deadline": "8"}, ("--deadline 8h",)),
        (PolicyOptions, {"backoff": -1}, ("--backoff -1", "--backoff 3")),
        (PolicyOptions, {"queue": "q", "queue_priority": "x" * 64}, ("--queue-priority", "63")),
        (PolicyOptions, {"queue_priority": "urgent"}, ("--queue-priority urgent without --queue", "--priority-class")),
        (PolicyOptions, {"queue": "a", "volcano_queue": "b"}, ("--queue and --volcano-queue", "omit one of them")),
    ],
)
def test_options_that_no_cluster_takes_are_refused(group, fields, words):
    """With the flag by name and something that works, before anything is sent."""
    with pytest.raises(InputError) as refusal:
        group(**fields)
    assert refusal.value.hint
    assert all(word in str(refusal.value) for word in words), str(refusal.value)


@pytest.mark.parametrize(
    ("s3", "fields", "words"),
    [
        ({"claim": "c", "access": "api"}, {}, ("two sources of data", "omit one of them")),
        ({"access": "api"}, {"data": "/srv/cxr"}, ("not in a bucket", "--data s3://BUCKET/PREFIX")),
        ({}, {"efa": 4, "workers": 16}, ("cpu does not use them", "--gaudi-generation 1")),
        ({}, {"efa": 4, "accelerator": "gaudi", "workers": 16}, ("gaudi does not use them",)),
        ({}, {"efa": 4, "accelerator": "cuda", "workers": 8}, ("one node",)),
        (
            {},
            {"efa": 5, "accelerator": "gaudi", "gaudi_generation": "1", "workers": 16},
            ("it must be 1 to 4", "--efa 4"),
        ),
    ],
)
def test_options_that_contradict_the_job_are_refused(s3, fields, words):
    """What would silently be left out, or never start, is named."""
    with pytest.raises(InputError) as refusal:
        job(s3=s3, **fields)
    assert all(word in str(refusal.value) for word in words), str(refusal.value)
