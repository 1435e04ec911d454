"""The preflight checks: what each makes of what a cluster says, that none holds another up, and that nothing is left behind."""

import base64
import json
import threading
from dataclasses import replace

import pytest
from apiserver import Fault

from launcher.cluster.errors import ForbiddenError
from launcher.cluster.resources import CLAIMS, PODS, SECRETS, VOLUMES
from launcher.doctor import checks, fit, from_here, operator, probe_pod, references
from launcher.doctor.quota import quota
from launcher.doctor.runner import Check, Row, fail, ok, run
from launcher.spec.job import JobSpec
from launcher.spec.manifest import render
from launcher.spec.options import PodOptions, PolicyOptions, S3Options
from trainer.config import to_argv
from trainer.errors import RemoteError
from trainer.storage import NotPermittedError

SPACE = "/api/v1/namespaces/team-a"
KEYS = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}


def spec(**changes):
    given = {"accelerator": "cpu", "image": "i", "data": "s3://cxr/nih", "output": "s3://cxr/runs", "name": "t1"}
    return JobSpec(**given | {"namespace": "team-a"} | changes)


def summary(rows):
    return {row.check: row.status for row in rows}


# Running checks


def test_a_check_that_hangs_does_not_hold_the_others():
    """An S3 endpoint behind a firewall that swallows packets must not hide that a Secret is missing."""
    forever = threading.Event()
    hanging = Check("hangs", "here", lambda: ok(str(forever.wait(60))), timeout_s=0.2)
    before = set(threading.enumerate())
    rows = run(
        [hanging, Check("then", "here", lambda: ok("yes"), ("other",)), Check("other", "here", lambda: ok("yes"))]
    )
    assert {thread.daemon for thread in set(threading.enumerate()) - before} == {True}, "the process could not end"
    forever.set()
    assert [(row.check, row.status) for row in rows] == [("hangs", "FAIL"), ("then", "OK"), ("other", "OK")]
    assert rows[0].found == "no answer within 0.2 s"


def test_checks_after_a_failed_one_are_skipped_and_say_so():
    """A missing namespace is one thing to fix, not fifteen; its neighbours go on."""
    checks = [
        Check("api", "cluster", lambda: ok("up")),
        Check("space", "cluster", lambda: fail("absent", "make it"), ("api",)),
        Check("secret", "cluster", lambda: ok("never asked"), ("space",)),
        Check("bucket", "here", lambda: ok("there"), ("unheard of",)),
        Check("claim", "cluster", lambda: ok("never asked"), ("secret",)),
    ]
    rows = run(checks)
    assert summary(rows) == {"api": "OK", "space": "FAIL", "secret": "skipped", "bucket": "OK", "claim": "skipped"}
    assert [row.found for row in rows if row.status == "skipped"] == ["needs `space`", "needs `secret`"]


def raising(problem):
    def look():
        raise problem

    return look


@pytest.mark.parametrize(
    ("problem", "status", "words"),
    [
        (ForbiddenError("cannot list nodes: forbidden"), "skipped", "not permitted to check"),
        (NotPermittedError("cannot write `x`: AccessDenied"), "WARN", "not permitted with your credentials"),
        (RemoteError("cannot list nodes: broken", hint="mend it"), "FAIL", "broken"),
        (KeyError("spec"), "FAIL", "bug in this check: KeyError"),
    ],
    ids=["forbidden", "bucket forbids", "refused", "bug"],
)
def test_not_being_permitted_is_no_failure_of_the_job(problem, status, words):
    """Whoever may not list nodes can still run jobs; what pods may do in the bucket is not what the user may do."""
    [row, after] = run([Check("x", "cluster", raising(problem)), Check("y", "here", lambda: ok(""), ("x",))])
    assert row.status == status
    assert words in row.found
    assert after.status == ("OK" if status == "skipped" else "skipped")


# Nodes


def node(name, *, free=True, labels=None, taints=(), cordoned=False, **resources):
    allocatable = {"cpu": "96", "memory": "1000Gi", "pods": "110"} | {
        key.replace("__", "/").replace("_", "."): value for key, value in resources.items()
    }
    return {
        "metadata": {"name": name, "labels": labels or {}},
        "spec": {"taints": list(taints), **({"unschedulable": True} if cordoned else {})},
        "status": {
            "allocatable": allocatable,
            "capacity": allocatable,
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


def gaudi_node(name, count="8", pages="64Gi", **rest):
    made = node(name, **rest)
    made["status"]["allocatable"] |= {"habana.ai/gaudi": count, "hugepages-2Mi": pages}
    return made


def holding(name, count):
    requests = {"requests": {"habana.ai/gaudi": count}, "limits": {"habana.ai/gaudi": count}}
    return {
        "metadata": {"name": f"p-{name}", "namespace": "other"},
        "spec": {"nodeName": name, "containers": [{"name": "c", "resources": requests}]},
        "status": {"phase": "Running"},
    }


def pod_set(job):
    return fit.PodSet(pod_spec=probe_pod.job_pod(job)["spec"], pods=job.nodes, fewest=job.fewest_nodes)


def gaudi(workers, **changes):
    return spec(accelerator="gaudi", workers=workers, **changes)


TAINT = {"key": "gaudi", "value": "yes", "effect": "NoSchedule"}

FITS = {
    "now": (gaudi(8), [gaudi_node("a")], [], "OK", ["1 pod with 8 habana.ai/gaudi", "now on a"]),
    "two now": (gaudi(16), [gaudi_node("a"), gaudi_node("b")], [], "OK", ["2 pods, each", "now on a, b"]),
    "half is in use": (
        gaudi(8),
        [gaudi_node("a"), gaudi_node("b")],
        [holding("a", "4"), holding("b", "6")],
        "WARN",
        ["0 fit now", "2 nodes lack habana.ai/gaudi (a pod needs 8, free: at most 4 on a)"],
    ),
    "one of two is in use": (gaudi(16), [gaudi_node("a"), gaudi_node("b")], [holding("b", "1")], "WARN", ["1 fit now"]),
    "too few nodes": (gaudi(16), [gaudi_node("a")], [], "FAIL", ["can never fit", "hold 1"]),
    "too small": (gaudi(8), [gaudi_node("a", "4")], [], "FAIL", ["can never fit", "needs 8, total: 4 on a"]),
    "no huge pages": (gaudi(8), [gaudi_node("a", pages="0")], [], "FAIL", ["1 node lacks hugepages-2Mi"]),
    "taint": (gaudi(8), [gaudi_node("a", taints=[TAINT])], [], "FAIL", ["with the taint `gaudi=yes:NoSchedule`"]),
    "taint tolerated": (
        gaudi(8, pod=PodOptions(toleration=("gaudi=yes:NoSchedule",))),
        [gaudi_node("a", taints=[TAINT])],
        [],
        "OK",
        ["now on a"],
    ),
    "selector": (
        gaudi(8, pod=PodOptions(node_selector=("zone=north",))),
        [gaudi_node("a", labels={"zone": "south"})],
        [],
        "FAIL",
        ["zone=north"],
    ),
    "cordoned": (gaudi(8), [gaudi_node("a", cordoned=True)], [], "FAIL", ["cordoned"]),
    "no nodes": (gaudi(8), [], [], "FAIL", ["there are no nodes"]),
    "usage unseen": (gaudi(8), [gaudi_node("a")], None, "WARN", ["not permitted to list"]),
    "cpu": (spec(workers=2), [node("a")], [], "OK", ["1 cpu and 8Gi memory"]),
    "cpu too small": (spec(workers=8), [node("a", memory="16Gi")], [], "FAIL", ["lacks memory (a pod needs 32Gi"]),
    "elastic takes fewer": (
        gaudi(16, elastic="1:2", train_flags=("--global-batch-size", "64")),
        [gaudi_node("a"), gaudi_node("b")],
        [holding("b", "1")],
        "OK",
        ["only 1 of them, which `--elastic` allows"],
    ),
}


@pytest.mark.parametrize("name", FITS)
def test_room_on_nodes_is_now_later_or_never(name):
    """Three different things to do: submit, wait, or ask for something else; the sentence names what is in the way."""
    job, nodes, pods, status, words = FITS[name]
    outcome = fit.fit(pod_set(job), nodes, pods)
    assert outcome.status == status, outcome
    assert [word for word in words if word not in outcome.found] == []
    assert outcome.status != "FAIL" or outcome.fix


def test_an_accelerator_that_no_node_offers_is_the_device_plugins_matter():
    """`habana.ai/gaudi` appears on nodes only once the plugin runs there."""
    assert fit.device_plugin("habana.ai/gaudi", [node("a")]).status == "FAIL"
    assert fit.device_plugin("habana.ai/gaudi", [gaudi_node("a"), node("b")]).found == "8 habana.ai/gaudi on 1 node"
    assert fit.device_plugin(None, []).status == "skipped"


def test_cards_that_are_not_healthy_are_told():
    """The node has eight, the plugin offers six."""
    ill = gaudi_node("a", "6")
    ill["status"]["capacity"] = {"habana.ai/gaudi": "8"}
    outcome = fit.device_plugin("habana.ai/gaudi", [ill])
    assert outcome.status == "WARN"
    assert "not healthy: 2 on a" in outcome.found


@pytest.mark.parametrize(
    ("nodes", "status"),
    [
        ([gaudi_node("a")], "OK"),
        ([gaudi_node("a"), gaudi_node("b", pages="1Gi")], "WARN"),
        ([gaudi_node("a", pages="0"), node("b", hugepages_2Mi="64Gi")], "FAIL"),
    ],
)
def test_huge_pages_must_be_where_the_accelerators_are(nodes, status):
    outcome = fit.huge_pages(pod_set(gaudi(8)).pod_spec, nodes)
    assert outcome.status == status
    assert "29008Mi" in outcome.found
    assert status == "OK" or "vm.nr_hugepages=14504" in outcome.fix


# Quota


def limited(hard, used=None, **rest):
    return {"metadata": {"name": "q"}, "spec": {"hard": hard, **rest}, "status": {"hard": hard, "used": used or {}}}


QUOTAS = {
    "none": ([], "OK"),
    "room": ([limited({"requests.habana.ai/gaudi": "16", "pods": "2"})], "OK"),
    "in use": ([limited({"requests.habana.ai/gaudi": "16"}, {"requests.habana.ai/gaudi": "4"})], "WARN"),
    "too small": ([limited({"requests.habana.ai/gaudi": "8"})], "FAIL"),
    "memory, by its short name": ([limited({"memory": "511Gi"})], "FAIL"),
    "memory limits": ([limited({"limits.memory": "511Gi"})], "FAIL"),
    "pods": ([limited({"pods": "1"})], "FAIL"),
    "claims": ([limited({"persistentvolumeclaims": "3"}, {"persistentvolumeclaims": "3"})], "WARN"),
    "jobs": ([limited({"count/pytorchjobs.kubeflow.org": "1"}, {"count/pytorchjobs.kubeflow.org": "1"})], "WARN"),
    "what it has too much of is not ours": ([limited({"secrets": "1"}, {"secrets": "2"})], "OK"),
    "counts limits that we do not set": ([limited({"limits.cpu": "1000"})], "WARN"),
    "of jobs with a deadline": ([limited({"pods": "0"}, scopes=["Terminating"])], "OK"),
    "of another priority": (
        [
            limited(
                {"pods": "0"},
                scopeSelector={
                    "matchExpressions": [{"scopeName": "PriorityClass", "operator": "In", "values": ["low"]}]
                },
            )
        ],
        "OK",
    ),
}


@pytest.mark.parametrize("name", QUOTAS)
def test_quota_leaves_room_now_later_or_never(name):
    """The operator's pods are refused one by one, and only an event on the job says so."""
    quotas, status = QUOTAS[name]
    outcome = quota(pod_set(gaudi(16)), quotas, priority_class="high", claims=1)
    assert outcome.status == status, outcome


# The API server and the operator


@pytest.mark.parametrize(
    ("version", "status"),
    [
        ("v1.34.4", "OK"),
        ("v1.27.0-eks-1", "OK"),
        ("v1.26.9", "WARN"),
        ("v1.37.0", "WARN"),
        ("v2.1", "WARN"),
        ("?", "WARN"),
    ],
)
def test_versions_of_kubernetes_beyond_what_is_known_are_told(version, status):
    assert operator.api_server(version, "https://x").status == status


def deployment(image="docker.io/kubeflow/training-operator:v1.9.4", ready=1, **container):
    return {
        "metadata": {"name": "training-operator", "namespace": "kubeflow"},
        "spec": {"replicas": ready, "template": {"spec": {"containers": [{"name": "o", "image": image, **container}]}}},
        "status": {"readyReplicas": ready},
    }


OPERATORS = {
    "good": ([deployment()], None, "OK"),
    "older": ([deployment("x/training-operator:v1.8.1")], None, "WARN"),
    "newer": ([deployment("x/training-operator:v1.10.0")], None, "WARN"),
    "digest": ([deployment("x/training-operator@sha256:1234")], None, "WARN"),
    "scaled to zero": ([deployment(ready=0)], None, "FAIL"),
    "absent": ([], None, "WARN"),
    "no gangs": ([deployment()], "team", "FAIL"),
    "gangs": ([deployment(args=["--gang-scheduler-name=volcano"])], "team", "OK"),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_the_operator_must_be_at_work(name):
    """Without it a job stays without pods, and nothing says why."""
    deployments, volcano_queue, status = OPERATORS[name]
    outcome = operator.operator(deployments, volcano_queue)
    assert outcome.status == status, outcome


# What others have made


def put(api, resource, name, **body):
    api.state.put(resource.path("team-a", name), {"metadata": {"name": name}, **body})


def registry_secret(*hosts):
    content = json.dumps({"auths": {host: {"auth": "c2VjcmV0"} for host in hosts}}).encode()
    data = {".dockerconfigjson": base64.b64encode(content).decode()}
    return {"type": "kubernetes.io/dockerconfigjson", "data": data}


def test_secrets_need_the_keys_that_pods_ask_for(cluster, api):
    """A pod with a key that is not there waits in CreateContainerConfigError; the value is nobody's business."""
    job = spec(
        s3=S3Options(secret="keys", csi_driver="s3.csi.scality.com"), pod=PodOptions(env_from_secret=("A=more:a",))
    )
    absent = references.secret(cluster, job)
    assert absent.status == "FAIL"
    assert "`keys` is not in namespace `team-a`" in absent.found
    put(api, SECRETS, "keys", data=KEYS | {"key_id": ""})
    put(api, SECRETS, "more", data={"a": "dmFsdWU="})
    incomplete = references.secret(cluster, job)
    assert incomplete.found == "`keys` has no access_key"
    put(api, SECRETS, "keys", data=KEYS | {"key_id": "", "access_key": "c2VjcmV0"})
    complete = references.secret(cluster, job)
    assert complete.status == "OK"
    assert "c2VjcmV0" not in complete.found


@pytest.mark.parametrize(
    ("image", "hosts", "status"),
    [
        ("registry.example/x:1", ["registry.example"], "OK"),
        ("registry.example:5000/x:1", ["https://registry.example:5000/v1/"], "OK"),
        ("library/x", ["https://index.docker.io/v1/"], "OK"),
        ("registry.example/x:1", ["other.example"], "WARN"),
    ],
)
def test_a_pull_secret_must_be_for_the_images_registry(cluster, api, image, hosts, status):
    """A Secret for another registry is there and does nothing."""
    put(api, SECRETS, "pull", **registry_secret(*hosts))
    job = spec(image=image, pod=PodOptions(image_pull_secret=("pull",)))
    outcome = references.pull_secret(cluster, job)
    assert outcome.status == status, outcome
    assert "c2VjcmV0" not in outcome.found


@pytest.mark.parametrize(
    ("phase", "modes", "workers", "status"),
    [
        ("Bound", ["ReadOnlyMany"], 16, "OK"),
        ("Bound", ["ReadWriteOnce"], 8, "OK"),
        ("Bound", ["ReadWriteOnce"], 16, "FAIL"),
        ("Pending", ["ReadOnlyMany"], 8, "WARN"),
        ("Lost", ["ReadOnlyMany"], 8, "FAIL"),
    ],
)
def test_a_claim_must_be_bound_and_reach_all_nodes(cluster, api, phase, modes, workers, status):
    put(api, CLAIMS, "xrays", spec={"accessModes": modes}, status={"phase": phase})
    job = gaudi(workers, data="", s3=S3Options(claim="xrays"))
    assert references.claim(cluster, job).status == status


@pytest.mark.parametrize(("on", "status"), [((), "FAIL"), (("a",), "WARN"), (("a", "b"), "OK")])
def test_the_csi_driver_must_be_at_work_on_nodes(on, status):
    """Installed is not registered: mounts fail until the driver's pod runs on the node."""
    nodes = [
        {"metadata": {"name": name}, "spec": {"drivers": [{"name": "s3.csi.aws.com"}] if name in on else None}}
        for name in "ab"
    ]
    assert references.registered("s3.csi.aws.com", nodes, "").status == status


@pytest.mark.parametrize(("active", "status"), [("True", "OK"), ("False", "FAIL")])
def test_a_queue_must_take_jobs(active, status):
    """A LocalQueue whose ClusterQueue is gone keeps jobs suspended for ever."""
    condition = {"type": "Active", "status": active, "message": "ClusterQueue is not there"}
    queue = {"metadata": {"name": "q"}, "spec": {"clusterQueue": "all"}, "status": {"conditions": [condition]}}
    assert references.queue_state(queue).status == status


def test_a_queue_without_kueue_is_a_failure(cluster):
    assert references.local_queue(cluster, spec(policy=PolicyOptions(queue="q"))).status == "FAIL"


# From here


def test_what_only_pods_see_is_not_looked_at_from_here():
    """A claim, a directory of the nodes, and a server that only the cluster's DNS knows."""
    claimed = run(from_here.checks(spec(data="", output="/srv/runs", s3=S3Options(claim="xrays"))))
    assert {row.status for row in claimed if row.check != "weights"} == {"skipped"}
    inner = spec(s3=S3Options(endpoint="http://minio.storage.svc:9000"), train_flags=("--weights", "none"))
    rows = {row.check: row for row in run(from_here.checks(inner))}
    assert rows["output"].found == "only pods can reach `http://minio.storage.svc:9000`"
    assert rows["output"].fix.startswith("--in-cluster")
    assert rows["weights"].status == "OK"


def test_weights_from_the_internet_are_warned_of():
    """The user's machine may have internet where pods have none."""
    rows = {row.check: row for row in run(from_here.checks(spec(data="/srv", output="/srv")))}
    assert rows["weights"].status == "WARN"
    assert "from `https://download.pytorch.org/models/densenet121-a639ec97.pth`" in rows["weights"].found


def test_the_jobs_endpoint_is_asked_and_the_environment_left_as_it_was(s3_server, s3, monkeypatch):
    """What another command of this shell uses must stay; what pods will use is what matters."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    job = spec(s3=S3Options(endpoint=s3_server, access="api"), train_flags=("--weights", "none"))
    rows = checks.doctor(job, None)
    import os

    assert os.environ["AWS_ENDPOINT_URL"] == "http://127.0.0.1:9"
    assert summary(rows) | {"data": "", "labels": "", "images": ""} == {
        **dict.fromkeys(("S3 server", "clock", "output", "weights"), "OK"),
        **dict.fromkeys(("data", "labels", "images"), ""),
    }
    assert summary(rows)["data"] == "FAIL"  # the bucket is empty
    assert {row.where for row in rows} == {"here"}


# From a pod


def test_the_pod_is_the_jobs_but_small_and_without_accelerators():
    """What it sees must be what the job sees: account, secrets, volumes, security; what it costs must be nothing."""
    job = gaudi(
        8,
        s3=S3Options(secret="keys", csi_driver="s3.csi.scality.com"),
        pod=PodOptions(service_account="trainer", node_selector=("zone=a",)),
    )
    body = probe_pod.pod(job)
    [container] = body["spec"]["containers"]
    theirs = probe_pod.job_pod(job)["spec"]
    assert container["command"] == ["python", "-m", "trainer", "probe"]
    assert container["args"] == to_argv(job.train)
    assert container["resources"]["limits"] == probe_pod.LIMITS
    assert container["env"] == theirs["containers"][0]["env"]
    same = ("serviceAccountName", "nodeSelector", "securityContext", "automountServiceAccountToken")
    assert {key: body["spec"][key] for key in same} == {key: theirs[key] for key in same}
    assert body["spec"]["activeDeadlineSeconds"] == probe_pod.LIMIT_S
    claims = [
        each["persistentVolumeClaim"]["claimName"]
        for each in body["spec"]["volumes"]
        if "persistentVolumeClaim" in each
    ]
    made = [each["metadata"]["name"] for each in probe_pod.objects(job) if each["kind"] == "PersistentVolumeClaim"]
    assert claims == made == ["t1-doctor-data"]


def test_the_longest_name_still_leaves_room():
    assert len(probe_pod.pod(spec(name="x" * 53))["metadata"]["name"]) <= 53


def pod_ends(api, phase="Succeeded", lines=(), waiting=None, exit_code=0):
    """Have the next pod end like this as soon as it is looked at."""

    def answer_pod(handler):
        state = {"waiting": waiting} if waiting else {"terminated": {"exitCode": exit_code, "reason": "Error"}}
        status = {"phase": phase, "containerStatuses": [{"name": "pytorch", "state": state}]}
        handler.answer({"metadata": {"name": "t1-doctor"}, "status": status})

    def answer_log(handler):
        content = "".join(f"2026-01-01T00:00:00Z {line}\n" for line in lines).encode()
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    api.state.faults.append(Fault("GET", "/log", answer_log, times=9))
    api.state.fail("GET", "/pods/t1-doctor", 404)  # nothing is left of an earlier look
    api.state.faults.append(Fault("GET", "/pods/t1-doctor", answer_pod, times=99))


def line(check, status="OK", **more):
    return json.dumps({"check": check, "status": status, "found": "f", "fix": ""} | more)


IN_API = {"s3": S3Options(access="api", secret="keys")}


def test_rows_are_read_from_the_pods_log_and_from_nothing_else_in_it(cluster, api):
    """Other code in the image may print anything, JSON included."""
    lines = [
        "warming up",
        line("output"),
        line("data", "FAIL", found="x\x1b[2J"),
        line("odd", "GREAT"),
        '{"check": 1}',
        "[]",
    ]
    pod_ends(api, lines=lines)
    rows = probe_pod.run_probe_pod(spec(**IN_API), cluster)
    assert summary(rows) == {"pod": "OK", "output": "OK", "data": "FAIL"}
    assert rows[2].found == "x\\x1b[2J"
    assert {row.where for row in rows} == {"pod"}
    assert not [path for path in api.state.objects if "doctor" in path]


TROUBLES = {
    "failed": (
        {"phase": "Failed", "exit_code": 2, "lines": ["error: no such command"]},
        ["exit code 2", "no such command"],
    ),
    "another image": ({"lines": ["hello"]}, ["without results", "hello"]),
    "image": (
        {"phase": "Pending", "waiting": {"reason": "ErrImagePull", "message": "not found"}},
        ["ErrImagePull: not found"],
    ),
    "secret": (
        {"phase": "Pending", "waiting": {"reason": "CreateContainerConfigError", "message": 'secret "keys" not found'}},
        ['secret "keys" not found'],
    ),
}


@pytest.mark.parametrize("name", TROUBLES)
def test_a_pod_that_can_not_run_says_why_and_is_removed(cluster, api, name):
    """The job's pods would fare the same."""
    how, words = TROUBLES[name]
    pod_ends(api, **how)
    seconds = iter(range(0, 10**6, 20))
    [row] = probe_pod.run_probe_pod(spec(**IN_API), cluster, clock=lambda: float(next(seconds)))
    assert row.status == "FAIL"
    assert [word for word in words if word not in row.found] == []
    assert api.state.asked("DELETE") == [f"{SPACE}/pods/t1-doctor"]


def test_a_pod_that_no_node_takes_is_given_up_and_removed(cluster, api):
    seconds = iter(range(0, 10**6, 20))
    about = {"kind": "Pod", "name": "t1-doctor"}
    event = {"metadata": {}, "involvedObject": about, "reason": "Pulling", "message": "pulling the image"}
    api.state.put(f"{SPACE}/events/e1", event)
    [row] = probe_pod.run_probe_pod(spec(**IN_API), cluster, clock=lambda: float(next(seconds)))
    assert "did not finish: Pulling: pulling the image" in row.found
    assert not [path for path in api.state.objects if "doctor" in path]


@pytest.mark.parametrize("kind", ["persistentvolumes", "persistentvolumeclaims", "pods"])
def test_what_was_made_for_the_pod_is_removed_when_the_rest_is_refused(cluster, api, kind):
    """A volume that is left behind belongs to nobody."""
    api.state.fail("POST", kind, 422, "no")
    [row] = probe_pod.run_probe_pod(spec(s3=S3Options(secret="keys")), cluster)
    assert row.status == "FAIL"
    assert not [path for path in api.state.objects if "doctor" in path]


def test_ctrl_c_removes_the_pod(cluster, api):
    """Nobody else would."""

    def interrupt(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        probe_pod.run_probe_pod(
            spec(**IN_API), replace(cluster, connection=replace(cluster.connection, sleep=interrupt))
        )
    assert not [path for path in api.state.objects if "doctor" in path]


def test_a_pod_left_by_an_earlier_look_makes_room(cluster, api):
    """A look that was killed can't remove its pod."""
    api.state.put(f"{SPACE}/pods/t1-doctor", probe_pod.pod(spec(**IN_API)))
    seconds = iter(range(0, 10**6, 20))
    rows = probe_pod.run_probe_pod(spec(**IN_API), cluster, clock=lambda: float(next(seconds)))
    assert "already exists" not in rows[0].found
    assert not [path for path in api.state.objects if "doctor" in path]


# All together


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
    rule = {"apiGroups": ["kubeflow.org"], "resources": ["pytorchjobs"]}
    hooks = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/v"
    api.state.put(hooks, {"metadata": {"name": "v"}, "webhooks": [{"rules": [rule]}]})
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


def test_a_user_without_rights_sees_what_he_lacks_and_no_other_failure(cluster, ready, s3):
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


def test_an_absent_namespace_is_named_and_nothing_in_it_is_asked_for(cluster, ready, s3):
    """A typing error in `-n` must not read as fifteen missing objects."""
    del ready.state.objects["/api/v1/namespaces/team-a"]
    rows = {row.check: row for row in checks.doctor(job_on(s3), cluster, in_cluster=True)}
    assert rows["namespace"].found == "the cluster has no namespace `team-a`"
    assert {rows[check].found for check in ("secret", "quota", "pod admission", "pod")} == {"needs `namespace`"}


def test_who_may_not_create_pods_gets_no_failure_for_it(cluster, ready):
    """Looking from inside is an extra; the operator makes the job's pods."""
    ready.state.forbidden |= {("create", "pods")}
    rows = {row.check: row for row in checks.doctor(gaudi(8, data="/srv", output="/srv"), cluster, in_cluster=True)}
    assert rows["pod"].status == "skipped"
    assert rows["rights"].status == "WARN"
    assert rows["rights"].found.startswith("you may not create pods (doctor --in-cluster)")


def test_pods_without_keys_for_their_server_are_warned_of(cluster):
    """AWS may give a role to an account; another server knows only keys."""
    assert references.secret(cluster, spec(s3=S3Options(endpoint="https://s3.example.org"))).status == "WARN"


def test_a_server_that_is_away_is_one_failure(cluster, api, s3):
    """Its checks are skipped, those from here go on."""
    api.stop()
    rows = checks.doctor(
        job_on(s3), replace(cluster, connection=replace(cluster.connection, sleep=lambda _: None)), in_cluster=True
    )
    assert [row.check for row in rows if row.status == "FAIL"] == ["API server"]
    assert rows[-1] == Row("pod", "skipped", "needs `API server`", "", "pod")


def test_without_the_operators_kind_of_job_nothing_is_submitted(cluster, ready, s3):
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
def test_what_admission_refuses_is_no_missing_right(cluster, ready, message, status):
    """Both are 403; only an event of the job would ever say so."""
    ready.state.fail("POST", f"{SPACE}/pods", 403, message)
    outcome = operator.pod_dry_run(cluster, probe_pod.job_pod(gaudi(8)))
    assert outcome.status == status
    assert message in outcome.found


# Shown


ROWS = [
    Row("API server", "OK", "up", "", "cluster"),
    Row("secret", "FAIL", "`keys` is not there", "make it", "cluster"),
    Row("output", "WARN", "slow", "", "here"),
]


def test_the_table_has_a_line_for_each_row_and_says_how_to_fix_it():
    assert checks.as_table(ROWS).splitlines() == [
        "OK    API server  cluster  up",
        "FAIL  secret      cluster  `keys` is not there",
        "                           fix: make it",
        "WARN  output      here     slow",
    ]


def test_json_has_a_schema_version_and_all_columns():
    document = json.loads(checks.as_json(ROWS))
    assert document["schema"] == 1
    assert document["checks"][1] == {
        "check": "secret",
        "status": "FAIL",
        "found": "`keys` is not there",
        "fix": "make it",
        "where": "cluster",
    }


def test_a_failure_is_an_exit_code_and_a_warning_is_none():
    """Scripts ask `launcher doctor && launcher submit`."""
    checks.check_passed([ROWS[0], ROWS[2]])
    with pytest.raises(RemoteError, match="1 of 3 checks failed: secret") as refusal:
        checks.check_passed(ROWS)
    assert refusal.value.exit_code == 4


def test_every_object_that_a_look_makes_is_labelled_as_ours():
    """Whoever finds one knows whose it is; a job's own selector does not match it."""
    for each in probe_pod.objects(gaudi(8)):
        assert each["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "chexnet-launcher"
    assert "training.kubeflow.org/job-name" not in probe_pod.pod(gaudi(8))["metadata"]["labels"]
    assert VOLUMES.kind in {each["kind"] for each in probe_pod.objects(gaudi(8))}
    assert probe_pod.objects(gaudi(8))[-1]["kind"] == PODS.kind
    assert render(gaudi(8))[-1]["metadata"]["name"] == "t1", "the job itself is as it was"
