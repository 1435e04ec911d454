"""The jobs of a comparison: their names, and that all of one comparison get the same batch."""

import pytest

from launcher.scale.members import ScaleSpec, members
from launcher.spec.job import JobSpec


def scale_spec(*train_flags, **changes):
    """The jobs of a comparison."""
    fields = {"accelerator": "cpu", "image": "i", "data": "s3://cxr/nih", "output": "s3://cxr/runs", "name": "chest"}
    return members(ScaleSpec(**fields, train_flags=train_flags, **changes))


@pytest.mark.parametrize(
    ("train_flags", "weak", "batches"),
    [
        ((), False, [(16, 16), (8, 16), (4, 16)]),
        (("--preset", "pneumonia"), False, [(64, 64), (32, 64), (16, 64)]),
        (("--global-batch-size", "8"), False, [(8, 8), (4, 8), (2, 8)]),
        ((), True, [(16, 16), (16, 32), (16, 64)]),
        (("--batch-size", "5"), True, [(5, 5), (5, 10), (5, 20)]),
    ],
)
def test_global_batch_is_constant_unless_it_is_to_grow(train_flags, weak, batches):
    """As in the paper, where the loader's batch is shared among the cards."""
    jobs = scale_spec(*train_flags, sizes=(1, 2, 4), weak=weak)
    found = [(batch := job.train.batch_per_worker(job.workers), batch * job.workers) for job in jobs]
    assert found == batches


def test_member_names_hold_model_and_size_and_are_valid_in_kubernetes():
    """An underscore can't be in one."""
    jobs = scale_spec("--preset", "smoke", sizes=(1, 8), models=("densenet_tiny",))
    assert [(job.name, job.workers, job.train.model) for job in jobs] == [
        ("chest-densenet-tiny-w1", 1, "densenet_tiny"),
        ("chest-densenet-tiny-w8", 8, "densenet_tiny"),
    ]
    assert all(type(job) is JobSpec for job in jobs)
