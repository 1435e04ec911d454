"""Times of several sizes as speed-up and efficiency, for people and for programs: computed by `trainer report`."""

import csv
import io
import json

import pytest
from finished import leave_results

from launcher.scale import table
from launcher.scale.members import ScaleSpec, members
from trainer.errors import InputError

PAPER = {1: 2577.02, 2: 1591.17, 4: 1061.26}
"""Seconds of VGG16 on so many cards. Source: Kumar & Moghal, figure 27."""

PLACES = {"accelerator": "cpu", "image": "i", "data": "s3://cxr/nih", "output": "s3://cxr/runs"}


def leave(folder, job, **results):
    """Results as a run of this job leaves them, in its folder."""
    leave_results(str(folder), job.name, job.train, job.workers, **results)


@pytest.fixture(scope="module")
def paper(tmp_path_factory):
    """The jobs of the paper's VGG16, and what is known of them, with one size missing."""
    folder = tmp_path_factory.mktemp("runs")
    recipe = ("--preset", "pneumonia")
    jobs = members(ScaleSpec(**PLACES, name="chest", sizes=(1, 2, 4, 8), models=("vgg16",), train_flags=recipe))
    for job in jobs[:3]:
        leave(
            folder,
            job,
            training_s=PAPER[job.workers],
            images_per_s=100.0 * job.workers,
            utilisation=0.5,
            world_size=job.workers,
            peak_device_memory_bytes=3 * 2**30,
            val={"mean_auroc": 0.1},
            test={"mean_auroc": 0.95, "classes": {"accuracy": {"value": 0.896, "correct": 896, "total": 1000}}},
        )
    return jobs, table.numbers([job.name for job in jobs[:3]], folder)


def test_table_shows_speed_up_and_efficiency(paper):
    """The paper's times give what its readers compute: 2.43 times as fast on four cards."""
    first, _, third, missing = [line.split() for line in table.shown(*paper, "table").splitlines()[1:]]
    assert first == ["vgg16", "1", "64", "2577.02", "1.00", "1.00", "100.0", "89.60%", "0.9500", "3.0", "GiB", "50%"]
    assert third[3:6] == ["1061.26", "2.43", "0.61"]
    assert missing == ["vgg16", "8", "64", *"--------"]


def test_json_and_csv_have_numbers_and_null_for_missing_ones(paper):
    document = json.loads(table.shown(*paper, "json"))
    assert document["runs"][1]["speed_up"] == pytest.approx(1.6196, abs=1e-4)
    assert document["runs"][3]["elapsed_s"] is None
    lines = list(csv.DictReader(io.StringIO(table.shown(*paper, "csv"))))
    assert lines[0]["peak_device_memory_bytes"] == str(3 * 2**30)
    assert lines[3]["efficiency"] == ""
    assert list(lines[0]) == list(document["runs"][0]) == list(table.COLUMNS)


@pytest.mark.parametrize(("limit", "expected"), [((), [1.0, 2.0]), (("--max-steps", "10"), [1.0, 1.0])])
def test_growing_batches_are_compared_where_the_work_is_the_same(tmp_path, limit, expected):
    """Ten steps of twice the batch are twice the work, and epochs are not."""
    jobs = members(ScaleSpec(**PLACES, name="chest", sizes=(1, 2), weak=True, train_flags=limit))
    for job in jobs:
        last_step = {"last_step": 10} if limit else {}
        leave(
            tmp_path,
            job,
            training_s=10.0 / job.workers,
            peak_device_memory_bytes=0,
            world_size=job.workers,
            **last_step,
        )
    rows = json.loads(table.shown(jobs, table.numbers([job.name for job in jobs], tmp_path), "json"))["runs"]
    assert [row["speed_up"] for row in rows] == expected
    assert [row["peak_device_memory_bytes"] for row in rows] == [None, None]


def test_runs_that_the_report_cannot_read_are_refused(tmp_path, capfd):
    """Its reason stands in the lines before."""
    with pytest.raises(InputError, match="cannot compare the runs"):
        table.numbers(["none"], tmp_path)
    assert capfd.readouterr().err.startswith("error: ")
