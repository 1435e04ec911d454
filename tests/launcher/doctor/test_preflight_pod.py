"""The pod that checks from inside the cluster: what it is, how it is watched, and that it is removed."""

import json
from dataclasses import replace

import pytest
from apiserver import Fault
from doctor_samples import SPACE, gaudi, summary
from submitted import spec

from launcher.doctor import preflight_pod
from launcher.spec.options import PodOptions, S3Options
from trainer.config import to_argv
from trainer.errors import InputError


def test_preflight_pod_is_the_jobs_pod_but_small_and_without_accelerators():
    """What it sees must be what the job sees: account, secrets, volumes, security; what it costs must be nothing."""
    job = gaudi(
        8,
        s3=S3Options(secret="keys", csi_driver="s3.csi.scality.com"),
        pod=PodOptions(service_account="trainer", node_selector=("zone=a",)),
    )
    body = preflight_pod.pod(job)
    [container] = body["spec"]["containers"]
    theirs = preflight_pod.job_pod(job)["spec"]
    assert container["command"] == ["python", "-m", "trainer", "preflight", "--json"]
    assert container["args"] == to_argv(job.train)
    assert container["resources"] == {"requests": {"cpu": "100m", "memory": "1Gi"}, "limits": {"memory": "2Gi"}}
    assert container["env"] == theirs["containers"][0]["env"]
    same = ("serviceAccountName", "nodeSelector", "securityContext", "automountServiceAccountToken")
    assert {key: body["spec"][key] for key in same} == {key: theirs[key] for key in same}
    assert body["spec"]["activeDeadlineSeconds"] == preflight_pod.LIMIT_S
    claims = [
        each["persistentVolumeClaim"]["claimName"]
        for each in body["spec"]["volumes"]
        if "persistentVolumeClaim" in each
    ]
    made = [each["metadata"]["name"] for each in preflight_pod.objects(job) if each["kind"] == "PersistentVolumeClaim"]
    assert claims == made == ["t1-doctor-data"]


@pytest.mark.parametrize(
    ("longest", "changes"),
    [
        (53, {}),
        (52, {"workers": 101}),
        (48, {"api": "trainjob"}),
        (48, {"runtime": "ours"}),
        (46, {"api": "trainjob", "workers": 101}),
    ],
)
def test_preflight_pod_of_the_longest_job_name_has_a_valid_name(longest, changes):
    """It is a plain pod: the limits of the job's kind hold for the job's name only."""
    changes |= {"s3": S3Options(csi_driver="s3.csi.scality.com")}
    job = spec(name="x" * longest, accelerator="cuda", workers_per_node=1, **changes)
    with pytest.raises(InputError, match="as a name"):
        replace(job, name="x" * (longest + 1))
    made = preflight_pod.objects(job)
    assert [each["kind"] for each in made] == ["PersistentVolume", "PersistentVolumeClaim", "Pod"]
    assert 40 < len(made[-1]["metadata"]["name"]) <= 53
    assert [container["name"] for container in made[-1]["spec"]["containers"]] == [job.kind.container]


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


def test_check_results_are_read_from_the_preflight_pods_log(cluster, api):
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
    rows = preflight_pod.run_preflight_pod(spec(**IN_API), cluster)
    assert summary(rows) == {"pod": "OK", "output": "OK", "data": "FAIL"}
    assert rows[2].found == "x\\x1b[2J"
    assert {row.where for row in rows} == {"pod"}
    assert not [path for path in api.state.objects if "doctor" in path]


def test_failed_check_is_no_failure_of_the_pod(cluster, api):
    """The command exits with 3 then, for scripts; its rows say what failed."""
    lines = [line("output"), line("data", "FAIL"), "error: preflight failed:", "data: f"]
    pod_ends(api, phase="Failed", exit_code=3, lines=lines)
    rows = preflight_pod.run_preflight_pod(spec(**IN_API), cluster)
    assert summary(rows) == {"pod": "OK", "output": "OK", "data": "FAIL"}


def test_image_without_the_command_is_named(cluster, api):
    """Its trainer is older than this launcher."""
    answer = 'error: unknown command "preflight". Available commands: train, probe.'
    pod_ends(api, phase="Failed", exit_code=2, lines=[answer])
    [row] = preflight_pod.run_preflight_pod(spec(**IN_API), cluster)
    assert row.status == "FAIL"
    assert "earlier version" in row.found
    assert "image of this version" in row.fix


TROUBLES = {
    "failed": (
        {"phase": "Failed", "exit_code": 2, "lines": ["error: no such command"]},
        ["exit code 2", "no such command"],
    ),
    "crash after a failed check": (
        {"phase": "Failed", "exit_code": 1, "lines": [line("data", "FAIL"), "error: bug"]},
        ["exit code 1", "bug"],
    ),
    "another image": ({"lines": ["hello"]}, ["ended without results", "hello"]),
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
def test_preflight_pod_that_cannot_run_is_explained_and_removed(cluster, api, name):
    """The job's pods would fare the same."""
    how, words = TROUBLES[name]
    pod_ends(api, **how)
    seconds = iter(range(0, 10**6, 20))
    row, *_ = preflight_pod.run_preflight_pod(spec(**IN_API), cluster, clock=lambda: float(next(seconds)))
    assert row.status == "FAIL"
    assert [word for word in words if word not in row.found] == []
    assert api.state.asked("DELETE") == [f"{SPACE}/pods/t1-doctor"]


def test_unschedulable_preflight_pod_times_out_and_is_removed(cluster, api):
    seconds = iter(range(0, 10**6, 20))
    about = {"kind": "Pod", "name": "t1-doctor"}
    event = {"metadata": {}, "involvedObject": about, "reason": "Pulling", "message": "pulling the image"}
    api.state.put(f"{SPACE}/events/e1", event)
    [row] = preflight_pod.run_preflight_pod(spec(**IN_API), cluster, clock=lambda: float(next(seconds)))
    assert "did not finish: Pulling: pulling the image" in row.found
    assert not [path for path in api.state.objects if "doctor" in path]


@pytest.mark.parametrize("kind", ["persistentvolumes", "persistentvolumeclaims", "pods"])
def test_objects_of_the_preflight_pod_are_removed_when_the_rest_is_refused(cluster, api, kind):
    """A volume that is left behind belongs to nobody."""
    api.state.fail("POST", kind, 422, "no")
    [row] = preflight_pod.run_preflight_pod(spec(s3=S3Options(secret="keys")), cluster)
    assert row.status == "FAIL"
    assert not [path for path in api.state.objects if "doctor" in path]


def test_ctrl_c_removes_the_preflight_pod(cluster, api):
    """Nobody else would."""

    def interrupt(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        preflight_pod.run_preflight_pod(
            spec(**IN_API), replace(cluster, connection=replace(cluster.connection, sleep=interrupt))
        )
    assert not [path for path in api.state.objects if "doctor" in path]


def test_preflight_pod_left_by_an_earlier_doctor_is_replaced(cluster, api):
    """A look that was killed can't remove its pod."""
    api.state.put(f"{SPACE}/pods/t1-doctor", preflight_pod.pod(spec(**IN_API)))
    seconds = iter(range(0, 10**6, 20))
    rows = preflight_pod.run_preflight_pod(spec(**IN_API), cluster, clock=lambda: float(next(seconds)))
    assert "already exists" not in rows[0].found
    assert not [path for path in api.state.objects if "doctor" in path]
