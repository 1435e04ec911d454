"""A container's CPU limit is below the number of the node's cores, which its affinity names."""

import os

import pytest

from trainer.runtime import cores
from trainer.runtime.cores import threads_per_worker, usable_cores


@pytest.fixture(autouse=True)
def node_of_64(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))


def counted(folder, files, membership="0::/\n"):
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / "membership").write_text(membership)
    return usable_cores(folder, folder / "membership")


@pytest.mark.parametrize(
    ("files", "membership", "cores"),
    [
        ({}, "0::/\n", 64),
        ({"cpu.max": "max 100000\n"}, "0::/\n", 64),
        ({"cpu.max": "400000 100000\n"}, "0::/\n", 4),
        ({"cpu.max": "150000 100000\n"}, "0::/\n", 2),
        ({"cpu.max": "10000 100000\n"}, "0::/\n", 1),
        ({"cpu.max": "nonsense\n"}, "0::/\n", 64),
        ({"cpu.max": "9900000 100000\n"}, "0::/\n", 64),
        ({"pods/one/cpu.max": "200000 100000\n"}, "0::/pods/one\n", 2),
        ({"pods/one/cpu.max": "max 100000\n", "pods/cpu.max": "300000 100000\n"}, "0::/pods/one\n", 3),
        ({"cpu.max": "200000 100000\n"}, "0::/../../elsewhere\n", 2),
        ({"cpu/cpu.cfs_quota_us": "200000\n", "cpu/cpu.cfs_period_us": "100000\n"}, "4:cpu,cpuacct:/x\n", 2),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, "4:cpu,cpuacct:/x\n", 64),
        (
            {"cpu,cpuacct/pod/cpu.cfs_quota_us": "300000\n", "cpu,cpuacct/pod/cpu.cfs_period_us": "100000\n"},
            "4:cpu,cpuacct:/pod\n",
            3,
        ),
    ],
)
def test_smallest_limit_of_the_cgroups_above_counts(files, membership, cores, tmp_path):
    assert counted(tmp_path, files, membership) == cores


def test_affinity_counts_where_it_is_smaller(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    assert counted(tmp_path, {"cpu.max": "400000 100000\n"}) == 2


def test_this_machine_has_some():
    assert usable_cores() >= 1


@pytest.mark.parametrize(("workers", "threads"), [(1, 6), (2, 3), (4, 1), (8, 1), (0, 6)])
def test_workers_share_the_processors(monkeypatch, workers, threads):
    """One too many would make all wait for it; none at all is no thread."""
    monkeypatch.setattr(cores, "usable_cores", lambda: 6)
    assert threads_per_worker(workers) == threads
