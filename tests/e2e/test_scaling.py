"""`launcher scale` with real jobs: sizes one and two, their results and the plot of them."""

import csv
import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from cluster_site import ROOT, wait_until

from trainer.data.synthetic import write_phantoms

RECIPE = [
    *("--", "--preset", "smoke", "--model", "densenet_tiny", "--pack-side", "36", "--crop-px", "32", "--epochs", "1"),
]


def check_comparison(printed: str, to: Path) -> None:
    """What is printed, what lies in the folder and what the trainer's table says is one comparison."""
    runs = json.loads(printed)["runs"]
    assert [(run["workers"], run["global_batch"]) for run in runs] == [(1, 16), (2, 16)]
    assert all(run["elapsed_s"] > 0 and 0 <= run["mean_auroc"] <= 1 for run in runs)
    assert runs[1]["speed_up"] == pytest.approx(runs[0]["elapsed_s"] / runs[1]["elapsed_s"])
    with (to / "scaling.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["run"], row["speed_up"], row["efficiency"]) for row in rows] == [
        (run["run"], str(run["speed_up"]), str(run["efficiency"])) for run in runs
    ]
    assert (to / "scaling.png").read_bytes().startswith(b"\x89PNG")
    assert all((to / run["run"] / "results.json").is_file() for run in runs)


@pytest.mark.e2e
def test_scale_compares_sizes_on_this_machine(tmp_path, warm):
    """Without a cluster, by one command, one after the other."""
    write_phantoms(tmp_path / "cxr", images=90, side=48)
    places = ["--data", tmp_path / "cxr", "--output", tmp_path / "runs", "--to", tmp_path / "all"]
    job = ["--local", "--accelerator", "cpu", "--workers", "1,2", "--name", "t", *places, "-o", "json"]
    done = subprocess.run(
        [warm, "-m", "launcher", "scale", *map(str, job), *RECIPE, "--no-report"],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "XDG_CONFIG_HOME": str(tmp_path), "PYTHON_EXEC": warm},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    check_comparison(done.stdout, tmp_path / "all")
    assert done.stderr.index("t-densenet-tiny-w1: done") < done.stderr.index(
        "t-densenet-tiny-w2: running on this machine, 2 of 2"
    )


@pytest.mark.cluster
@pytest.mark.timeout(900)
def test_scale_compares_sizes_on_a_cluster(stored, phantoms, tmp_path):
    """Interrupted while the first job runs, and gone on with by the same command; the job is not made twice."""
    to = tmp_path / "all"
    places = ["--data", phantoms, "--data-access", "api", "--to", to]
    job = ["scale", "--accelerator", "cpu", "--workers", "1,2", "--name", "t", *places, "-o", "json", *RECIPE]
    first, second = "t-densenet-tiny-w1", "t-densenet-tiny-w2"

    begun = stored.start_launcher(*job)
    wait_until("the first job is there", lambda: stored.kubectl("get", "pytorchjob", "-o", "name"))
    begun.send_signal(signal.SIGINT)
    out, err = begun.communicate(timeout=60)
    assert (begun.returncode, out) == (130, ""), err
    assert f"launcher delete {first} -n {stored.namespace} deletes it" in err
    uids = uids_of(stored)
    assert list(uids) == [first]

    done = stored.launcher(*job)
    check_comparison(done.stdout, to)
    assert f"{first}: Succeeded" in done.stderr
    assert done.stderr.index(f"{first}: Succeeded") < done.stderr.index(f"{second}: submitted")
    assert uids_of(stored)[first] == uids[first]

    again = stored.launcher(*job)
    assert again.stdout == done.stdout
    assert "submitted" not in again.stderr
    stored.launcher("delete", first, second, "-y")


@pytest.mark.cluster
@pytest.mark.timeout(900)
def test_jobs_that_failed_are_made_again_once_their_reason_is_gone(stored, bucket, phantoms, tmp_path):
    """Both at once; each is named with what its pods said."""
    places = ["--data", f"s3://{bucket.name}/late", "--data-access", "api", "--to", tmp_path / "all"]
    job = ["scale", "--accelerator", "cpu", "--workers", "1,2", "--parallel", "2", "--name", "late", *places]
    job += ["--backoff", "0", "-o", "json", *RECIPE]

    failed = stored.launcher(*job, code=3)
    assert [run["elapsed_s"] for run in json.loads(failed.stdout)["runs"]] == [None, None]
    assert "2 of 2 runs have no results" in failed.stderr
    assert f"s3://{bucket.name}/late" in failed.stderr.partition("2 of 2")[2]
    assert failed.stderr.index("w2: submitted") < failed.stderr.index("w1: Failed")

    shutil.copytree(bucket.folder / bucket.name / "phantoms", bucket.folder / bucket.name / "late")
    done = stored.launcher(*job)
    check_comparison(done.stdout, tmp_path / "all")
    assert done.stderr.count("finished without results") == 2
    stored.launcher("delete", "late-densenet-tiny-w1", "late-densenet-tiny-w2", "-y")


def uids_of(site) -> dict[str, str]:
    """Of all jobs, by name."""
    return {each["metadata"]["name"]: each["metadata"]["uid"] for each in site.objects("pytorchjob")}
