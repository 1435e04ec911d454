"""`launcher prepare` from its command line."""

import pytest
import yaml

from launcher.__main__ import main

GIVEN = ["prepare", "--data", "s3://raw/nih", "--out", "s3://packed/nih", "--image", "i:1", "-n", "cxr"]


@pytest.fixture(autouse=True)
def no_settings(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))


def printed(capsys, *flags):
    assert main([*GIVEN, "--dry-run", "client", *flags]) == 0
    return yaml.safe_load(capsys.readouterr().out)


def test_client_dry_run_prints_the_job_with_the_flags_after_the_dashes(capsys):
    made = printed(capsys, "--pods", "3", "--", "--pack-side", "320")
    assert (made["kind"], made["spec"]["completions"]) == ("Job", 3)
    assert "--pack-side=320" in made["spec"]["template"]["spec"]["containers"][0]["args"]
    assert made["metadata"]["name"].startswith("chexnet-")


def test_settings_of_the_project_are_used_but_for_the_data_set_of_trainings(capsys, tmp_path):
    (tmp_path / "launcher.yaml").write_text(
        "image: other:2\ndata: s3://packed/nih\ndata_pvc: claim\nqueue: team\ntrain_flags: [--epochs, '3']\n"
    )
    made = printed(capsys)
    assert made["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team"
    container = made["spec"]["template"]["spec"]["containers"][0]
    assert container["image"] == "i:1"
    assert "--data=s3://raw/nih" in container["args"]
    assert not any("epochs" in word for word in container["args"])


def test_missing_flags_are_listed_together(capsys):
    assert main(["prepare", "--pods", "3"]) == 2
    assert "`--image`, `--data`, `--out` not given" in capsys.readouterr().err


def test_flag_that_the_trainer_does_not_know_is_refused_before_anything_is_sent(capsys):
    assert main([*GIVEN, "--dry-run", "client", "--", "--epochs", "3"]) == 2
    assert "cannot use the flags of `trainer prepare`" in capsys.readouterr().err


def test_job_is_created_in_the_cluster(capsys, api, tmp_path):
    assert main([*GIVEN, "--kubeconfig", str(api.kubeconfig(tmp_path / "kubeconfig")), "--name", "p1"]) == 0
    captured = capsys.readouterr()
    assert captured.out == "job.batch/p1\n"
    assert "created in cxr; output: s3://packed/nih" in captured.err
    assert "python -m launcher status p1 --kubeconfig" in captured.err
    assert "/apis/batch/v1/namespaces/cxr/jobs/p1" in api.state.objects


def test_hint_for_the_data_set_does_not_lead_to_a_file_that_is_not_read_for_it(capsys):
    assert main(["prepare", "--out", "s3://packed/nih", "--image", "i:1"]) == 2
    captured = capsys.readouterr().err
    assert "`--data` not given" in captured
    assert "launcher.yaml" not in captured
