"""`launcher checkpoints`: a run is found by its job or by an output, and what it has left is told."""

import json
import os
from functools import partial

import pytest
import yaml
from finished import STATES, write_checkpoint, write_run

from launcher.__main__ import main
from launcher.output import size
from launcher.runs.locate import Run
from launcher.spec.metadata import SETTINGS
from launcher.spec.options import S3Options
from trainer.layout import manifest_key, state_key
from trainer.storage import UnreachableError, open_storage

JOB_PATH = "/apis/kubeflow.org/v1/namespaces/team-a/pytorchjobs"


@pytest.fixture
def launcher(capsys, monkeypatch, tmp_path):
    """Run a command in an empty directory: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def launch(line):
        code = main(line.split())
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return launch


def put_job(api, name="demo", **settings):
    """A job that is over, made from these settings."""
    given = {"accelerator": "cpu", "image": "i", "data": "s3://cxr/nih", "output": "s3://cxr/runs"} | settings
    job = {
        "metadata": {"name": name, "namespace": "team-a", "annotations": {SETTINGS: json.dumps(given)}},
        "status": {"conditions": [{"type": "Succeeded", "status": "True"}]},
    }
    api.state.put(f"{JOB_PATH}/{name}", job)


def test_table_tells_the_newest_first_and_which_is_best_and_last(launcher):
    """What one chooses by."""
    write_run("runs")
    code, out, err = launcher("checkpoints demo --output runs")
    assert (code, err) == (0, "")
    head, *rows = (line.split() for line in out.splitlines())
    assert head == ["STEP", "EPOCH", "VAL", "AUROC", "SIZE", "AGE", "MARK"]
    assert [(row[0], row[1], row[2], row[6:]) for row in rows] == [
        ("30", "3", "0.7000", ["last"]),
        ("20", "2", "0.7200", ["best"]),
        ("10", "1", "0.6100", []),
    ]


def test_json_and_yaml_have_numbers_as_numbers(launcher):
    """For programs."""
    write_run("runs")
    found = json.loads(launcher("checkpoints demo --output runs -o json")[1])
    assert yaml.safe_load(launcher("checkpoints demo --output runs -o yaml")[1]) == found
    newest = found["checkpoints"][0]
    assert (newest["step"], newest["val_auroc"], newest["size_bytes"]) == (30, 0.7, len(STATES[30]))
    assert newest["state"] == f"{found['run']}/checkpoints/step-00000030/state.pt"
    assert [each["best"] for each in found["checkpoints"]] == [False, True, False]


def test_name_output_lists_steps_as_pull_takes_them(launcher):
    write_run("runs")
    assert launcher("checkpoints demo --output runs -o name") == (0, "30\n20\n10\n", "")


def test_checkpoint_that_was_not_validated_has_no_score(launcher):
    """An empty cell is no zero."""
    write_checkpoint(open_storage("runs/demo"), 5, b"state")
    rows = launcher("checkpoints demo --output runs")[1].splitlines()
    assert rows[1].split()[:4] == ["5", "0.5", "5", "B"]
    assert rows[1].endswith("best last")


def test_run_without_checkpoints_is_no_error_and_no_run_is(launcher):
    """A job that decodes images has none yet; a slip in the name has none ever."""
    open_storage("runs/demo").write("starts.json", b"{}")
    assert launcher("checkpoints demo --output runs") == (0, "no checkpoints yet\n", "")
    code, out, err = launcher("checkpoints dmo --output runs")
    assert (code, out) == (2, "")
    assert "there are no files at `runs/dmo`" in err


def test_file_whose_name_begins_as_the_record_is_no_run(launcher, tmp_path):
    """An editor's copy of it."""
    (tmp_path / "runs/demo").mkdir(parents=True)
    (tmp_path / "runs/demo/run.json.bak").touch()
    code, _, err = launcher("checkpoints demo --output runs")
    assert (code, "there are no files at `runs/demo`" in err) == (2, True)


@pytest.fixture
def broken():
    """A run whose newest state is cut short, whose best is gone, and whose first manifest is damaged."""
    storage = write_run("runs")
    storage.write(state_key(30), b"short")
    storage.delete(state_key(20))
    storage.write(manifest_key(10), b"{")
    write_checkpoint(storage, 5, b"state", 0.5)
    return storage


def test_broken_checkpoints_are_marked(launcher, broken):
    """Whoever plans to go on from one hears of it now."""
    code, out, err = launcher("checkpoints demo --output runs")
    assert code == 0
    assert [(line.split()[0], line.split()[-1]) for line in out.splitlines()[1:3]] == [
        ("30", "damaged"),
        ("20", "missing"),
    ]
    assert [line.split()[0] for line in out.splitlines()[3:]] == ["10", "5"]
    assert out.splitlines()[3].endswith("damaged")
    assert "step-00000010/manifest.json" in err
    found = json.loads(launcher("checkpoints demo --output runs -o json")[1])["checkpoints"]
    assert [each["problem"] for each in found] == ["damaged", "missing", "damaged", None]
    assert (found[2]["sha256"], found[2]["best"]) == (None, False)
    assert launcher("checkpoints demo --output runs -o name")[1] == "5\n", "what pull can fetch"


@pytest.mark.parametrize(
    ("step", "file"),
    [("last", "step-00000030/state.pt"), ("best", "step-00000020/state.pt"), ("10", "step-00000010/manifest.json")],
)
def test_broken_checkpoint_is_not_pulled_and_the_whole_ones_are_named(launcher, broken, step, file):
    """That it was removed by a run that trains is no help where none does."""
    code, out, err = launcher(f"pull demo --output runs --to there --step {step}")
    assert (code, out) == (2, "")
    assert f"{file}` is " in err
    assert "hint: --step 5 is undamaged" in err
    assert launcher("pull demo --output runs --to there --step 5")[0] == 0


def test_run_whose_manifests_are_all_damaged_has_checkpoints(launcher):
    """It is not one that has none yet."""
    write_run("runs")
    for step in STATES:
        open_storage("runs/demo").write(manifest_key(step), b"{")
    code, out, _ = launcher("checkpoints demo --output runs")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()[1:]] == ["30", "20", "10"]
    code, _, err = launcher("pull demo --output runs --to there")
    assert code == 2
    assert "all its checkpoints are damaged or incomplete" in err


def test_output_and_endpoint_are_taken_from_the_job(launcher, api, kubeconfig, s3, monkeypatch):
    """By name alone: neither output nor endpoint need be typed again, and the job's are stronger than today's settings."""
    write_run("s3://cxr/runs")
    put_job(api, s3_endpoint=s3, s3_region="us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("LAUNCHER_OUTPUT", "s3://other/place")
    monkeypatch.setenv("LAUNCHER_S3_ENDPOINT", "http://127.0.0.1:9")
    assert launcher(f"checkpoints demo -o name --kubeconfig {kubeconfig}") == (0, "30\n20\n10\n", "")


def test_without_a_job_the_output_of_the_settings_is_used(launcher, kubeconfig, s3, tmp_path):
    """Which stand in launcher.yaml, the server's address too."""
    write_run("s3://cxr/runs")
    (tmp_path / "launcher.yaml").write_text(f"output: s3://cxr/runs\ns3_endpoint: {s3}\n", encoding="utf-8")
    code, out, err = launcher(f"checkpoints demo -o name --kubeconfig {kubeconfig}")
    assert (code, out) == (0, "30\n20\n10\n")
    told = f"note: sending S3 requests with your credentials to {s3} (from `launcher.yaml`)\n"
    assert err == f"there is no job `demo`; looking in s3://cxr/runs\n{told}"


def test_output_flag_needs_no_cluster(launcher, api, kubeconfig):
    """A run of `submit --local` has none."""
    write_run("runs")
    assert launcher(f"checkpoints demo -o name --output runs --kubeconfig {kubeconfig}")[:2] == (0, "30\n20\n10\n")
    assert api.state.requests == []


def test_without_job_and_output_the_error_names_both_ways(launcher, kubeconfig):
    code, out, err = launcher(f"checkpoints demo --kubeconfig {kubeconfig}")
    assert (code, out) == (4, "")
    assert "there is no job `demo`" in err
    assert "--output" in err
    code, _, err = launcher("checkpoints demo")
    assert code == 2
    assert "--output" in err


def test_output_that_only_nodes_see_is_reported(launcher, api, kubeconfig):
    """Not that the run is missing."""
    put_job(api, output="/mnt/of-the-nodes")
    code, _, err = launcher(f"checkpoints demo --kubeconfig {kubeconfig}")
    assert code == 2
    assert "only the cluster's nodes can read `/mnt/of-the-nodes`" in err


def test_foreign_job_of_the_name_is_ignored(launcher, api, kubeconfig, monkeypatch):
    """It has no settings of ours, the output may be known all the same."""
    api.state.put(f"{JOB_PATH}/demo", {"metadata": {"name": "demo", "namespace": "team-a"}})
    assert launcher(f"checkpoints demo --kubeconfig {kubeconfig}")[0] == 2
    write_run("runs")
    monkeypatch.setenv("LAUNCHER_OUTPUT", "runs")
    assert launcher(f"checkpoints demo -o name --kubeconfig {kubeconfig}")[:2] == (0, "30\n20\n10\n")


@pytest.fixture
def impatient(monkeypatch):
    """A server that does not answer is not asked twice."""
    monkeypatch.setattr("launcher.runs.locate.open_storage", partial(open_storage, patience_s=0))


def test_error_for_an_unreachable_server_suggests_another_endpoint(s3, impatient):
    """The job's may be one that only pods reach."""
    run = Run("demo", "s3://cxr/runs/demo", S3Options(endpoint="http://127.0.0.1:9"))
    with pytest.raises(UnreachableError) as caught, run.opened():
        pass
    assert "--s3-endpoint" in str(caught.value)


def test_error_for_a_server_lost_later_suggests_no_other_endpoint(s3):
    """What to do then is said by whoever asked."""
    with pytest.raises(UnreachableError) as caught, Run("demo", "s3://cxr/runs/demo", S3Options()).opened():
        raise UnreachableError("cannot read: no answer", hint="the same command goes on")
    assert caught.value.hint == "the same command goes on"


def test_endpoint_flag_overrides_variables(launcher, s3, monkeypatch):
    """The special one for S3 wins over the general one."""
    write_run("s3://cxr/runs")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    assert launcher(f"checkpoints demo -o name --output s3://cxr/runs --s3-endpoint {s3}")[:2] == (0, "30\n20\n10\n")
    assert os.environ["AWS_ENDPOINT_URL_S3"] == "http://127.0.0.1:9"


def test_missing_credentials_error_names_their_variables(launcher, s3, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    code, _, err = launcher("checkpoints demo --output s3://cxr/runs")
    assert code == 4
    assert "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" in err
    assert "AWS_PROFILE" in err


@pytest.mark.parametrize("output", ["s3://", "s3:///", "/", ""])
def test_invalid_output_is_refused(launcher, output):
    """The run's name would become the bucket's, or lie at the root."""
    code, _, err = launcher(f"checkpoints demo --output={output}")
    assert code == 2
    assert "(from `--output`)" in err


@pytest.mark.parametrize("name", ["../demo", "Demo", "a/b"])
def test_invalid_run_name_is_refused(launcher, name):
    """It would become a part of a path."""
    assert launcher(f"checkpoints {name} --output runs")[0] == 2


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (84 << 20, "84.0 MiB"), (3 << 40, "3072.0 GiB")],
)
def test_sizes_have_binary_units(size_bytes, text):
    assert size(size_bytes) == text


def test_dead_proxy_is_named_without_the_flag_of_the_server(launcher, s3, impatient, monkeypatch):
    """No address of a server makes it answer."""
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    code, _, err = launcher("checkpoints demo --output s3://cxr/runs")
    assert (code, "no connection through the proxy `http://127.0.0.1:9`" in err) == (4, True)
    assert "--s3-endpoint" not in err
