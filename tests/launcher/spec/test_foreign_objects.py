"""Text of others in whatever the launcher reads moves no terminal and begins no line, whichever command shows it."""

import gzip
import json
from pathlib import Path

import boto3
import pytest
import yaml
from canary import CANARY, check_quiet
from cluster_objects import event, job, pod
from finished import record, write_run

from launcher.__main__ import main
from launcher.spec.metadata import SETTINGS
from trainer.storage import open_storage

AT = "/api/v1/namespaces/team-a"
JOBS = "/apis/kubeflow.org/v1/namespaces/team-a/pytorchjobs"


def spoiled(value, *, but=()):
    """The same with the canary behind every text that is not needed to find the object."""
    if isinstance(value, dict):
        return {key: each if key in but else spoiled(each, but=but) for key, each in value.items()}
    if isinstance(value, list):
        return [spoiled(each, but=but) for each in value]
    return f"{value}{CANARY}" if isinstance(value, str) else value


KEPT = {
    "labels",
    "creationTimestamp",
    "namespace",
    "requests",
    "limits",
    "startedAt",
    "phase",
    "uid",
    "lastTransitionTime",
}
KEPT |= {"lastTimestamp", "involvedObject", "ownerReferences", "annotations"}


@pytest.fixture
def hostile(api, kubeconfig, monkeypatch, tmp_path):
    """A cluster whose every text has the canary behind it; flags that lead there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KUBECONFIG", kubeconfig)
    theirs = spoiled(job(replicas=1, state="Created"), but=KEPT | {"name", "type", "status"})
    theirs["metadata"] |= {
        "annotations": {SETTINGS: json.dumps({"image": CANARY, "output": f"s3://{CANARY}"})},
        "uid": "j1",
    }
    theirs["status"]["conditions"][0] |= {"reason": CANARY, "message": CANARY}
    api.state.put(f"{JOBS}/t1", theirs)
    waiting = {"waiting": {"reason": f"CrashLoopBackOff{CANARY}", "message": CANARY}}
    statuses = [
        {
            "name": "pytorch",
            "restartCount": 3,
            "state": waiting,
            "lastState": {"terminated": {"exitCode": 1, "message": CANARY, "reason": CANARY}},
        }
    ]
    sick = spoiled(pod(0, phase="Pending", containerStatuses=statuses), but=KEPT | {"name"})
    sick["metadata"]["ownerReferences"] = [{"uid": "j1"}]
    sick["status"]["conditions"] = [{"type": "PodScheduled", "status": "False", "reason": CANARY, "message": CANARY}]
    api.state.put(f"{AT}/pods/t1-worker-0", sick)
    noted = spoiled(event(CANARY), but=KEPT)
    noted["involvedObject"] = {"kind": "Pod", "name": "t1-worker-0", "namespace": "team-a", "uid": "0"}
    api.state.put(f"{AT}/events/e1", noted)
    return api


COMMANDS = [
    *(f"list -o {form}" for form in ("table", "wide", "json", "yaml", "name")),
    *(f"status t1 -o {form}" for form in ("table", "wide", "json", "yaml", "name")),
    *(f"events t1 -o {form}" for form in ("table", "json", "yaml", "name")),
    *(
        "logs t1",
        "delete t1 -y --timeout 1s",
        "wait t1 --timeout 0s",
        "checkpoints t1",
        "pull t1",
        "resume t1 -y --dry-run client",
        "clone t1 --dry-run client",
    ),
]


@pytest.mark.parametrize("line", COMMANDS)
def test_control_characters_in_cluster_objects_are_escaped(hostile, capsys, line):
    """Whoever may make pods writes their messages."""
    main([*line.split(), "-n", "team-a"])
    assert any(check_quiet(capsys))


@pytest.mark.parametrize("status", [400, 403, 404])
@pytest.mark.parametrize(
    "line",
    ["list", "status t1", "delete t1 -y --timeout 1s", "doctor --accelerator cpu --image i --data /d --output /o"],
)
def test_control_characters_in_server_refusals_are_escaped(hostile, capsys, status, line):
    """Webhooks of others put their words into them."""
    for method in ("GET", "POST", "DELETE"):
        hostile.state.fail(method, "", status, CANARY, times=100)
    main([*line.split(), "-n", "team-a"])
    assert any(check_quiet(capsys))


def test_control_characters_in_versions_and_names_of_doctor_are_escaped(hostile, capsys):
    hostile.state.put(
        f"/api/v1/nodes/n{1}",
        spoiled({"metadata": {"name": "n", "labels": {}}, "status": {"allocatable": {"cpu": "1"}}}),
    )
    main(
        ["doctor", "--accelerator", "cpu", "--image", "i", "--data", "s3://b/d", "--output", "s3://b/o", "-n", "team-a"]
    )
    assert any(check_quiet(capsys))


def test_control_characters_in_a_kubeconfig_are_escaped(hostile, capsys, tmp_path, kubeconfig):
    """A file that an administrator, or somebody else, has sent."""
    theirs = yaml.safe_load(Path(kubeconfig).read_text(encoding="utf-8"))
    theirs["contexts"] += [{"name": f"a{CANARY}", "context": {"cluster": CANARY, "user": CANARY, "namespace": CANARY}}]
    path = tmp_path / "theirs"
    for current in (CANARY, f"a{CANARY}", None):
        path.write_text(yaml.safe_dump(theirs | {"current-context": current}), encoding="utf-8")
        assert main(["list", "--kubeconfig", str(path)]) != 0
        check_quiet(capsys)
        main(["config"])
        check_quiet(capsys)
    assert main(["list", "--kubeconfig", str(path), "--context", CANARY]) == 2
    check_quiet(capsys)


KEYS = [
    "image",
    "data",
    "output",
    "name",
    "namespace",
    "s3_endpoint",
    "s3_region",
    "s3_secret",
    "env",
    "label",
    "toleration",
    "elastic",
]
KEYS += ["train_flags", "overlay", "workers", "accelerator", "queue", "ttl", "node_selector", "env_from_secret", CANARY]
LISTS = {"env", "label", "toleration", "train_flags", "node_selector", "env_from_secret"}


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key if key.isprintable() else "unknown")
@pytest.mark.parametrize("by", ["file", "set", "environment", "-f", "overlay"])
def test_control_characters_in_settings_are_escaped(monkeypatch, tmp_path, capsys, key, by):
    """Of a folder that others have filled."""
    monkeypatch.chdir(tmp_path)
    value = [f"a={CANARY}"] if key in LISTS else CANARY
    flags = []
    if by in {"file", "-f"}:
        path = Path("launcher.yaml" if by == "file" else "job.yaml")
        path.write_text(yaml.safe_dump({key: value}), encoding="utf-8")
        flags = ["-f", "job.yaml"] if by == "-f" else []
    elif by == "set":
        flags = [f"--set={key}={json.dumps(value)}"]
    elif by == "environment":
        monkeypatch.setenv(f"LAUNCHER_{key.upper()}".replace("\0", ""), json.dumps(value))
    else:
        Path("patch.yaml").write_text(yaml.safe_dump({"spec": {key: {f"$patch{CANARY}": value}}}), encoding="utf-8")
        flags = ["--overlay", "patch.yaml"]
    rest = ["--accelerator=cpu", "--image=i", "--data=s3://b/d", "--output=s3://b/o"]
    rest = [flag for flag in rest if not flag.startswith(f"--{key}=")]
    looked_at = [["config"]] if by in {"file", "environment"} else []
    for command in (["render", *rest, *flags], *looked_at):
        main(command)
        check_quiet(capsys)


def test_control_characters_in_flags_and_names_are_escaped(capsys, kubeconfig):
    """A name is pasted from somewhere."""
    for argv in (
        [CANARY],
        ["status", CANARY],
        ["list", CANARY],
        ["logs", "t1", "--ranks", CANARY],
        ["list", f"--{CANARY}"],
        ["pull", CANARY],
    ):
        main([*argv, "--kubeconfig", kubeconfig])
        assert any(check_quiet(capsys))


def test_control_characters_in_a_run_in_a_bucket_are_escaped(s3, monkeypatch, tmp_path, capsys, kubeconfig):
    """Whoever may write to the output's prefix writes its records, and names objects."""
    monkeypatch.chdir(tmp_path)
    storage = write_run("s3://cxr/runs")
    client = boto3.client("s3")
    for key in ("logs/x\x1b]0;y\x07\u202e.log", "report/\u2028[rank 0] forged", "checkpoints/step-00000010/x\x1bz"):
        client.put_object(Bucket="cxr", Key=f"runs/demo/{key}", Body=b"x")
    place = ["--output", "s3://cxr/runs", "--kubeconfig", kubeconfig]
    told = record()
    hostile_records = [
        json.dumps(spoiled(told)).encode(),
        json.dumps(told | {"device": CANARY, "world_size": CANARY}).encode(),
        json.dumps({**told, "config": {CANARY: 1}}).encode(),
        CANARY.encode(),
    ]
    for content in hostile_records:
        storage.write("run.json", content)
        storage.write("checkpoints/step-00000020/manifest.json", json.dumps({"step": CANARY}).encode())
        for command in (
            "checkpoints demo",
            "pull demo",
            "resume demo --dry-run client --set image=i --set data=s3://b/d",
        ):
            main([*command.split(), *place])
            assert any(check_quiet(capsys))


def test_control_characters_in_a_pulled_run_are_escaped(tmp_path, capsys, monkeypatch):
    """A folder of runs that others have sent."""
    monkeypatch.chdir(tmp_path)
    storage = open_storage(str(tmp_path / "runs" / "demo"))
    for key in ("run.json", "results.json"):
        storage.write(key, json.dumps(spoiled(record())).encode())
    storage.write("split.csv.gz", gzip.compress(CANARY.encode()))
    main(["checkpoints", "demo", "--output", str(tmp_path / "runs")])
    check_quiet(capsys)
