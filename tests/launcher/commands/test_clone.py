"""`launcher clone`: the same job again, but for what is named."""

import json

import pytest
import yaml

from launcher.__main__ import main
from launcher.kinds.lookup import get as get_job
from launcher.spec.metadata import SETTINGS

FLAGS = ["--accelerator=cpu", "--image=i", "--data=s3://cxr/nih", "--output=s3://cxr/runs", "--toleration=a"]


@pytest.fixture
def submitted(kubeconfig, capsys, tmp_path, monkeypatch):
    """A job `t1` on the double; where nothing else gives settings."""
    monkeypatch.chdir(tmp_path)
    assert main(["submit", f"--kubeconfig={kubeconfig}", *FLAGS, "--name=t1", "--", "--epochs", "3"]) == 0
    capsys.readouterr()
    return kubeconfig


def settings(cluster, name):
    return json.loads(get_job(cluster, name)["metadata"]["annotations"][SETTINGS])


def test_clone_has_all_settings_but_the_name(submitted, cluster, capsys):
    """A second run of the same recipe."""
    assert main(["clone", "t1", f"--kubeconfig={submitted}", "--name=t2"]) == 0
    assert capsys.readouterr().out == "pytorchjob.kubeflow.org/t2\n"
    assert settings(cluster, "t2") == settings(cluster, "t1")


def test_clone_changes_the_settings_given_as_flags(submitted, cluster):
    assert (
        main(["clone", "t1", f"--kubeconfig={submitted}", "--name=t2", "--set", "workers=2", "--set", "train_flags=[]"])
        == 0
    )
    assert settings(cluster, "t2")["workers"] == "2"


@pytest.mark.parametrize("value", ["null", "~", "[]"])
def test_clone_leaves_out_a_setting_that_is_set_to_nothing(submitted, cluster, value):
    """Settings that the other kind of jobs lacks must not keep a job from becoming one."""
    key = "toleration" if value == "[]" else "train_flags"
    assert main(["clone", "t1", f"--kubeconfig={submitted}", "--name=t2", "--set", f"{key}={value}"]) == 0
    assert settings(cluster, "t2") == {name: each for name, each in settings(cluster, "t1").items() if name != key}


def test_clone_of_a_job_with_a_ttl_as_a_train_job_leaves_it_out_when_told(
    kubeconfig, cluster, capsys, tmp_path, monkeypatch
):
    """It is refused by name, and the hint is what helps."""
    monkeypatch.chdir(tmp_path)
    assert main(["submit", f"--kubeconfig={kubeconfig}", *FLAGS, "--name=t1", "--ttl=2d"]) == 0
    words = ["clone", "t1", f"--kubeconfig={kubeconfig}", "--name=t2", "--set=api=trainjob", "--dry-run=client"]
    assert main(words) == 2
    assert "--set ttl=null" in capsys.readouterr().err
    assert main([*words, "--set=ttl=null"]) == 0
    assert list(yaml.safe_load_all(capsys.readouterr().out))[-1]["kind"] == "TrainJob"


PATCH = {"spec": {"hostIPC": True, "priority": 600, "nodeSelector": {"pool": "1.10", "old": "no"}}}


def test_clone_keeps_the_overlay_of_the_job(kubeconfig, cluster, tmp_path, monkeypatch, capsys):
    """Whoever clones it, perhaps elsewhere, has not its file; what it says is in the job."""
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "patch.yaml"
    file.write_text(yaml.safe_dump(PATCH), encoding="utf-8")
    assert main(["submit", f"--kubeconfig={kubeconfig}", *FLAGS, "--name=t1", "--overlay=patch.yaml"]) == 0
    file.unlink()
    assert main(["clone", "t1", f"--kubeconfig={kubeconfig}", "--name=t2"]) == 0
    assert settings(cluster, "t2") == settings(cluster, "t1")
    assert settings(cluster, "t2")["overlay"] == PATCH
    [replica] = get_job(cluster, "t2")["spec"]["pytorchReplicaSpecs"].values()
    assert replica["template"]["spec"].items() >= PATCH["spec"].items()


def test_clone_can_replace_the_overlay(kubeconfig, cluster, tmp_path, monkeypatch, capsys):
    """As any other setting."""
    monkeypatch.chdir(tmp_path)
    overlay = f"--overlay={json.dumps(PATCH)}"
    assert main(["submit", f"--kubeconfig={kubeconfig}", *FLAGS, "--name=t1", overlay]) == 0
    change = "--set=overlay={spec: {priority: 7}}"
    assert main(["clone", "t1", f"--kubeconfig={kubeconfig}", "--name=t2", change]) == 0
    assert settings(cluster, "t2")["overlay"] == {"spec": {"priority": 7}}


def test_neither_environment_nor_files_get_into_a_clone(submitted, cluster, monkeypatch, tmp_path):
    """They say what a job of today is to be, not what that one was."""
    monkeypatch.setenv("LAUNCHER_WORKERS", "4")
    (tmp_path / "launcher.yaml").write_text("backoff: 9\n", encoding="utf-8")
    assert main(["clone", "t1", f"--kubeconfig={submitted}", "--name=t2"]) == 0
    assert settings(cluster, "t2") == settings(cluster, "t1")


def test_dry_run_prints_and_creates_nothing(submitted, api, capsys):
    assert main(["clone", "t1", f"--kubeconfig={submitted}", "--name=t2", "--dry-run=client"]) == 0
    names = {each["metadata"]["name"] for each in yaml.safe_load_all(capsys.readouterr().out)}
    assert "t2" in names
    assert not [path for path in api.state.objects if "t2" in path]


@pytest.mark.parametrize("change", ["name=t3", "namespace=team-b"])
def test_set_is_refused_for_settings_that_a_flag_decides(submitted, capsys, change):
    """It would be ignored."""
    assert main(["clone", "t1", f"--kubeconfig={submitted}", "--set", change]) == 2
    assert f"cannot change `{change.partition('=')[0]}`" in capsys.readouterr().err


def test_clone_keeps_the_kind_unless_told_otherwise(submitted, api, cluster, capsys):
    """`auto` would choose anew, by another cluster's or day's kinds."""
    api.state.serve_trainer()
    assert main(["clone", "t1", f"--kubeconfig={submitted}", "--name=t2", "--set", "api=trainjob"]) == 0
    assert capsys.readouterr().out == "trainjob.trainer.kubeflow.org/t2\n"
    assert settings(cluster, "t2") == settings(cluster, "t1") | {"api": "trainjob"}
    assert main(["clone", "t2", f"--kubeconfig={submitted}", "--name=t3"]) == 0
    assert capsys.readouterr().out == "trainjob.trainer.kubeflow.org/t3\n"
    assert main(["clone", "t3", f"--kubeconfig={submitted}", "--name=t4", "--set", "api=pytorchjob"]) == 0
    assert capsys.readouterr().out == "pytorchjob.kubeflow.org/t4\n"
    assert settings(cluster, "t4") == settings(cluster, "t1")


def test_clone_to_the_other_kind_leaves_the_runtime_of_an_administrator(submitted, api, cluster, capsys):
    api.state.serve_trainer()
    flags = [f"--kubeconfig={submitted}", "--set", "api=trainjob", "--set", "runtime=chexnet"]
    assert main(["clone", "t1", "--name=t2", *flags]) == 0
    assert main(["clone", "t2", "--name=t3", f"--kubeconfig={submitted}", "--set", "api=pytorchjob"]) == 0
    assert "runtime" not in settings(cluster, "t3")


def test_clone_from_a_name_of_both_kinds_needs_the_flag(submitted, api, cluster, capsys):
    """And nothing is created on a guess."""
    api.state.serve_trainer()
    place = "/apis/trainer.kubeflow.org/v1alpha1/namespaces/team-a/trainjobs/t1"
    api.state.put(place, {"metadata": {"name": "t1", "namespace": "team-a"}, "spec": {"trainer": {}}})
    assert main(["clone", "t1", f"--kubeconfig={submitted}", "--name=t2"]) == 2
    assert "--api pytorchjob or --api trainjob" in capsys.readouterr().err
    assert main(["clone", "t1", f"--kubeconfig={submitted}", "--name=t2", "--api=pytorchjob"]) == 0


def test_api_makes_the_clone_of_that_kind_where_only_the_other_kind_has_the_name(submitted, api, cluster, capsys):
    """As `--set api=…`: the flag must be neither ignored nor hide the job."""
    api.state.serve_trainer()
    words = ["clone", "t1", f"--kubeconfig={submitted}", "--api=trainjob"]
    assert main([*words, "--name=t2", "--set=api=pytorchjob"]) == 2
    assert "cannot make a job with --api trainjob and --set api=pytorchjob" in capsys.readouterr().err
    for name, more in (("t2", []), ("t3", ["--set=api=trainjob"])):
        assert main([*words, f"--name={name}", *more]) == 0
        assert capsys.readouterr().out == f"trainjob.trainer.kubeflow.org/{name}\n"
    assert main(["clone", "nix", f"--kubeconfig={submitted}", "--api=trainjob"]) == 4
    assert "there is no PyTorchJob and no TrainJob of this name" in capsys.readouterr().err
