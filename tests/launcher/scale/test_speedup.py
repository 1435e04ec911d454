"""Times of several sizes as speed-up and efficiency, for people and for programs."""

import csv
import io
import json

import pytest

from launcher.scale.members import ScaleSpec, members
from launcher.scale.speedup import rows, shown

PAPER = {1: 2577.02, 2: 1591.17, 4: 1061.26}
"""Seconds of VGG16 on so many cards. Source: Kumar & Moghal, figure 27."""


@pytest.fixture
def paper():
    """Rows of the paper's VGG16, with one size missing."""
    places = {"accelerator": "cpu", "image": "i", "data": "s3://cxr/nih", "output": "s3://cxr/runs"}
    recipe = ("--preset", "pneumonia")
    jobs = members(ScaleSpec(**places, name="chest", sizes=(1, 2, 4, 8), models=("vgg16",), train_flags=recipe))
    results = {
        f"chest-vgg16-w{size}": {
            "training_s": seconds,
            "images_per_s": 100.0 * size,
            "utilisation": 0.5,
            "peak_device_memory_bytes": 3 * 2**30,
            "val": {"mean_auroc": 0.1},
            "test": {"mean_auroc": 0.95, "classes": {"accuracy": {"value": 0.896}}},
        }
        for size, seconds in PAPER.items()
    }
    return rows(jobs, results)


def test_table_tells_speed_up_and_efficiency(paper):
    """The paper's times give what its readers compute: 2.43 times as fast on four cards."""
    first, _, third, missing = [line.split() for line in shown(paper, "table").splitlines()[1:]]
    assert first == ["vgg16", "1", "64", "2577.02", "1.00", "1.00", "100.0", "89.60%", "0.9500", "3.0", "GiB", "50%"]
    assert third[3:6] == ["1061.26", "2.43", "0.61"]
    assert missing == ["vgg16", "8", "64", *"--------"]


def test_programs_get_numbers_and_nothing_for_what_is_missing(paper):
    document = json.loads(shown(paper, "json"))
    assert document["runs"][1]["speed_up"] == pytest.approx(1.6196, abs=1e-4)
    assert document["runs"][3]["elapsed_s"] is None
    lines = list(csv.DictReader(io.StringIO(shown(paper, "csv"))))
    assert lines[0]["peak_device_memory_bytes"] == str(3 * 2**30)
    assert lines[3]["efficiency"] == ""
    assert list(lines[0]) == list(document["runs"][0])


@pytest.mark.parametrize(("limit", "expected"), [((), [1.0, 2.0]), (("--max-steps", "10"), [1.0, 1.0])])
def test_batches_that_grow_are_compared_where_the_work_is_the_same(limit, expected):
    """Ten steps of twice the batch are twice the work, and epochs are not."""
    places = {"accelerator": "cpu", "image": "i", "data": "s3://cxr/nih", "output": "s3://cxr/runs"}
    jobs = members(ScaleSpec(**places, name="chest", sizes=(1, 2), weak=True, train_flags=limit))
    found = {job.name: {"training_s": 10.0 / job.workers, "peak_device_memory_bytes": 0} for job in jobs}
    assert [row.speed_up for row in rows(jobs, found)] == expected
    assert [row.peak_device_memory_bytes for row in rows(jobs, found)] == [None, None]
