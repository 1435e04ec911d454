"""The patch of the pod template: merged as `kubectl patch` does, and refused where it could only surprise."""

import json
import shutil
import subprocess

import pytest
from cyclopts import Token

from launcher.__main__ import main
from launcher.spec.job import JobSpec
from launcher.spec.manifest import render
from launcher.spec.options import PodOptions
from launcher.spec.overlay import merged, read_overlay
from trainer.errors import InputError

BASE = {
    "metadata": {"labels": {"a": "1", "b": "2"}},
    "spec": {
        "hostIPC": False,
        "tolerations": [{"key": "old"}],
        "containers": [
            {
                "name": "pytorch",
                "image": "r/c:1",
                "args": ["x", "y"],
                "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
                "resources": {"limits": {"memory": "1Gi"}},
                "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
            }
        ],
        "volumes": [{"name": "tmp", "emptyDir": {}}],
    },
}


def container(patch):
    """A patch of the container."""
    return {"spec": {"containers": [{"name": "pytorch"} | patch]}}


PATCHES = {
    "nothing": {"spec": {}},
    "a field": {"spec": {"hostIPC": True}},
    "a map": {"metadata": {"labels": {"b": "3", "c": "4"}}},
    "a field removed": {"spec": {"hostIPC": None}, "metadata": {"labels": {"a": None}}},
    "a variable changed": container({"env": [{"name": "B", "value": "3"}]}),
    "a variable added": container({"env": [{"name": "C", "value": "3"}]}),
    "a variable removed": container({"env": [{"name": "A", "$patch": "delete"}]}),
    "what is not there removed": container({"env": [{"name": "Z", "$patch": "delete"}]}),
    "a plain list replaced": container({"args": ["z"]}),
    "a list without names replaced": {"spec": {"tolerations": [{"key": "new", "operator": "Exists"}]}},
    "another container": {"spec": {"containers": [{"name": "sidecar", "image": "r/s:1"}]}},
    "a list that was not there": {"spec": {"initContainers": [{"name": "i", "image": "r/i:1"}]}},
    "a map that was not there": container({"securityContext": {"capabilities": {"add": ["SYS_NICE"]}}}),
    "deep in a map": container({"resources": {"limits": {"memory": "2Gi", "cpu": "4"}}}),
    "a mount by its path": container({"volumeMounts": [{"mountPath": "/tmp", "name": "other"}]}),
    "one kind of volume for another": {
        "spec": {"volumes": [{"name": "tmp", "emptyDir": None, "hostPath": {"path": "/nvme"}}]}
    },
}


def sorted_lists(value):
    """The same with lists of named elements in order: a merge may put them as it likes."""
    if isinstance(value, dict):
        return {key: sorted_lists(each) for key, each in value.items()}
    if isinstance(value, list) and all(isinstance(each, dict) for each in value):
        return sorted((sorted_lists(each) for each in value), key=json.dumps)
    return value


@pytest.mark.parametrize("name", PATCHES)
def test_patch_is_applied_as_kubectl_applies_it(name):
    """The rules are kubectl's, so its own program is asked; users know them, and so do the other tools they use."""
    if shutil.which("kubectl") is None:
        pytest.skip("no kubectl")
    pod = {"apiVersion": "v1", "kind": "Pod", **BASE}
    command = [
        "kubectl",
        "patch",
        "--local",
        "-f",
        "-",
        "-o",
        "json",
        "--type=strategic",
        "-p",
        json.dumps(PATCHES[name]),
    ]
    done = subprocess.run(command, input=json.dumps(pod), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    theirs = json.loads(done.stdout)
    ours = merged(BASE, PATCHES[name])
    assert sorted_lists({key: theirs[key] for key in ours}) == sorted_lists(ours)


def test_neither_template_nor_patch_is_changed():
    """Both are shown and used again."""
    before = json.dumps([BASE, PATCHES])
    for patch in PATCHES.values():
        merged(BASE, patch)["spec"].setdefault("containers", []).append("x")
    assert json.dumps([BASE, PATCHES]) == before


INLINE = '{spec: {hostIPC: true, priority: 7, nodeSelector: {pool: "1.10"}}}'


def read(path):
    """As the command line reads it."""
    return read_overlay(None, [Token(keyword="--overlay", value=str(path))])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("", "it must have `metadata` or `spec` of a pod template only", id="empty"),
        pytest.param("[1]", "of a pod template only", id="a list"),
        pytest.param("containers: []", "of a pod template only", id="a pod spec"),
        pytest.param("apiVersion: v1\nkind: Pod\nspec: {}", "of a pod template only", id="a whole pod"),
        pytest.param("spec: {", "cannot read the overlay", id="no YAML"),
        pytest.param("spec: !!python/object/apply:os.system [id]", "cannot read the overlay", id="YAML that runs"),
        pytest.param("spec: {containers: [{image: x}]}", "has no `name`", id="a container without a name"),
        pytest.param("spec: {containers: [pytorch]}", "has no `name`", id="a name without a container"),
        pytest.param("spec: {containers: [{name: a, $patch: replace}]}", "`$patch`", id="another directive"),
        pytest.param("spec: {$retainKeys: [x]}", "`$retainKeys`", id="a directive of kubectl apply"),
        pytest.param("spec: {priority: .nan}", "must be a text or a number", id="no number"),
        pytest.param("metadata: {annotations: {built: 2026-01-01}}", "`2026-01-01`", id="a date"),
        pytest.param("spec: {nodeSelector: {1: a}}", "key `1`", id="a number as a key"),
    ],
)
def test_invalid_overlay_files_are_refused(tmp_path, text, words):
    """With one line that says what is wrong, and an example that works."""
    path = tmp_path / "patch.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as refusal:
        read(path)
    assert words in str(refusal.value.args[0])
    assert str(path) in str(refusal.value.args[0])
    assert "\n" not in str(refusal.value.args[0])
    assert refusal.value.hint.startswith("{spec: {containers: [{name: pytorch")


def test_a_file_that_is_not_there_is_named(tmp_path):
    """As any other."""
    with pytest.raises(InputError, match=r"nowhere\.yaml`: No such file"):
        read(tmp_path / "nowhere.yaml")


@pytest.mark.parametrize(
    ("line", "files", "environment"),
    [
        pytest.param(["--overlay", "patch.yaml"], {"patch.yaml": INLINE}, {}, id="file"),
        pytest.param(["--overlay", INLINE], {}, {}, id="flag"),
        pytest.param(["--set", f"overlay={INLINE}"], {}, {}, id="--set"),
        pytest.param([], {}, {"LAUNCHER_OVERLAY": INLINE}, id="variable"),
        pytest.param([], {"launcher.yaml": f"workers: 1\noverlay: {INLINE}\n"}, {}, id="settings file"),
        pytest.param(
            [], {"launcher.yaml": "overlay: patch.yaml", "patch.yaml": INLINE}, {}, id="file of a settings file"
        ),
    ],
)
def test_overlay_from_file_flag_or_settings_gives_the_same_patch(
    tmp_path, monkeypatch, capsys, line, files, environment
):
    """Numbers and truths in it are none of the texts that other settings are."""
    monkeypatch.chdir(tmp_path)
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    for name, text in environment.items():
        monkeypatch.setenv(name, text)
    flags = ["--accelerator=cpu", "--image=i", "--data=/d", "--output=/o", "--name=t1", "-o", "json"]
    assert main(["render", *flags, *line]) == 0
    job = json.loads(capsys.readouterr().out)
    pod = job["spec"]["pytorchReplicaSpecs"]["Master"]["template"]["spec"]
    assert pod.items() >= {"hostIPC": True, "priority": 7, "nodeSelector": {"pool": "1.10"}}.items()


@pytest.mark.parametrize(
    ("patch", "message"),
    [
        ("{a: 1}", "cannot use the overlay: it must have `metadata` or `spec` of a pod template only (from `--set`)"),
        (
            "{spec: {containers: [{image: x}]}}",
            "an element of a list has no `name`, which is its merge key (from `--set`)",
        ),
    ],
)
def test_invalid_patch_is_refused_with_its_source(monkeypatch, tmp_path, capsys, patch, message):
    monkeypatch.chdir(tmp_path)
    flags = ["--accelerator=cpu", "--image=i", "--data=/d", "--output=/o", "--name=t1"]
    assert main(["render", *flags, "--set", f"overlay={patch}"]) == 2
    assert message in capsys.readouterr().err


def test_the_patch_is_applied_last(tmp_path):
    """It changes what the launcher itself decides; nothing else can."""
    path = tmp_path / "patch.yaml"
    path.write_text(
        "spec: {terminationGracePeriodSeconds: 600, containers: [{name: pytorch, resources: {limits: {memory: 64Gi}}}]}",
        encoding="utf-8",
    )
    spec = JobSpec(accelerator="cpu", image="r/c:1", data="/d", output="/o", name="t1")
    patched = JobSpec(
        accelerator="cpu", image="r/c:1", data="/d", output="/o", name="t1", pod=PodOptions(overlay=read(path))
    )
    before, after = (
        each["spec"]["pytorchReplicaSpecs"]["Master"]["template"]["spec"]
        for each in (render(spec)[-1], render(patched)[-1])
    )
    assert after["terminationGracePeriodSeconds"] == 600
    assert after["containers"][0]["resources"]["limits"] == {"memory": "64Gi"}
    assert after["containers"][0]["args"] == before["containers"][0]["args"]
