"""Checks of a node: its disks and shared memory, and the name by which a run knows it again."""

import shutil
import socket
from types import SimpleNamespace

import pytest

from trainer.layout import POD_NODE
from trainer.runs import node_checks
from trainer.runs.checks import Outcome, Row, from_json

MIB = 1 << 20


@pytest.fixture
def free(monkeypatch, tmp_path):
    """Set the free space of the cache's disk, and of that of the temporary directory."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr(node_checks.tempfile, "gettempdir", lambda: str(temporary))

    def set_free(cache_bytes, temporary_bytes=1 << 40, total_bytes=1 << 50):
        def usage(path):
            return SimpleNamespace(total=total_bytes, free=temporary_bytes if path == temporary else cache_bytes)

        monkeypatch.setattr(shutil, "disk_usage", usage)

    return set_free


@pytest.mark.parametrize(
    ("free_bytes", "status"),
    [(356 * MIB, "OK"), (356 * MIB - 1, "WARN"), (100 * MIB, "WARN"), (100 * MIB - 1, "FAIL")],
)
def test_disk_needs_room_for_images_and_should_have_some_for_checkpoints(tmp_path, free, free_bytes, status):
    free(free_bytes)
    found = node_checks.disk(tmp_path / "not/yet/there", 100 * MIB)
    assert found.status == status
    assert "the run adds at most 100 MiB of images" in found.found
    assert ("256 MiB of checkpoints" in found.found) == (status == "WARN")
    assert ("--cache-dir" in found.fix) == (status != "OK")


def test_images_that_are_decoded_already_need_no_room(tmp_path, free):
    """A run that resumes on a nearly full disk."""
    free(50 * MIB)
    pack = tmp_path / "packs/0123"
    pack.mkdir(parents=True)
    with (pack / "shard").open("wb") as file:
        file.truncate(100 * MIB)
    assert node_checks.disk(tmp_path, 100 * MIB).status == "WARN"
    assert node_checks.disk(tmp_path, 150 * MIB).status == "WARN"
    assert node_checks.disk(tmp_path, 151 * MIB).status == "FAIL"


def test_file_system_that_does_not_report_its_size_fails_nothing(tmp_path, free):
    """As some of those in user space."""
    free(0, total_bytes=0)
    assert node_checks.disk(tmp_path, 100 * MIB).status == "skipped"


def test_nearly_full_temporary_directory_is_a_warning(tmp_path, free):
    free(1 << 40, 10 * MIB)
    found = node_checks.disk(tmp_path / "cache", 0)
    assert (found.status, "is nearly full" in found.found) == ("WARN", True)


@pytest.mark.parametrize(("size_mib", "status"), [(64, "FAIL"), (65, "OK")])
def test_shared_memory_of_a_containers_default_is_too_small(monkeypatch, size_mib, status):
    monkeypatch.setattr(node_checks.os, "statvfs", lambda _: SimpleNamespace(f_frsize=4096, f_blocks=size_mib * 256))
    found = node_checks.shared_memory()
    assert (found.status, found.found.startswith(f"{size_mib} MiB")) == (status, True)


def test_node_has_the_name_that_kubernetes_states(monkeypatch):
    """A pod's host name is the pod's, and stays when the pod is recreated on another node."""
    monkeypatch.setenv(POD_NODE, "gpu-7")
    assert node_checks.node_name() == "gpu-7"
    monkeypatch.setenv(POD_NODE, "")
    assert node_checks.node_name() == socket.gethostname()
    monkeypatch.setenv(POD_NODE, "a\x1b[2J")
    assert node_checks.node_name().isprintable()


def test_row_survives_its_line_of_json():
    row = Row("disk", Outcome("WARN", "näher", "free space"))
    assert from_json(row.as_json()) == row
