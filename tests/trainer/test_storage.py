"""Objects in a directory: whole or absent, and errors that say which."""

import errno
import os
from pathlib import Path

import pytest

from trainer.errors import InputError, TryAgainError
from trainer.storage import AbsentError, LocalStorage, open_storage


@pytest.fixture
def storage(tmp_path):
    return LocalStorage(str(tmp_path / "run"))


def test_written_object_is_read_back(storage):
    """The base of all else."""
    storage.write("a/b.json", b"1")
    storage.write("a/b.json", b"22")
    assert storage.read("a/b.json") == b"22"


def test_keys_are_sorted_and_start_with_the_prefix(storage):
    """Checkpoints are found by listing."""
    for key in ("checkpoints/step-2/x", "checkpoints/step-1/x", "run.json"):
        storage.write(key, b"")
    assert storage.keys("checkpoints/") == ["checkpoints/step-1/x", "checkpoints/step-2/x"]
    assert storage.keys("nothing/") == []


def test_absent_object_is_its_own_error(storage):
    """Starting afresh is right only where nothing is there, not where it can't be read."""
    with pytest.raises(AbsentError):
        storage.read("run.json")


def test_interrupted_write_leaves_the_old_object_and_no_other(storage, monkeypatch):
    """A checkpoint half written must never be taken for one."""
    storage.write("a", b"old")

    def break_off(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", break_off)
    with pytest.raises(KeyboardInterrupt):
        storage.write("a", b"new")
    assert storage.read("a") == b"old"
    assert storage.keys("") == ["a"]


def test_full_disk_asks_to_try_again(storage, monkeypatch):
    """Room can be made, and the run goes on: not an error for good."""

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(TryAgainError, match="no space left"):
        storage.write("a", b"new")


def test_output_that_is_a_file_is_refused_by_name(tmp_path):
    """Permission can't be tested as root; a file in the way is refused the same way."""
    (tmp_path / "run").write_text("")
    with pytest.raises(InputError, match=str(tmp_path / "run")):
        LocalStorage(str(tmp_path / "run")).write("a", b"")


def test_second_writer_is_refused_while_the_first_is_there(storage, tmp_path):
    """Two runs on one prefix would prune each other's checkpoints."""
    other = LocalStorage(str(tmp_path / "run"))
    with storage.claim():
        with pytest.raises(InputError, match="another process is training it"), other.claim():
            pass
        assert storage.keys("") == []  # the lock is no object
    with other.claim():
        pass


def test_written_files_can_be_read_by_others(storage, tmp_path):
    """A cache and an output are shared; the user's umask decides, not a temporary file's mode."""
    storage.write("a", b"")
    umask = os.umask(0)
    os.umask(umask)
    assert (tmp_path / "run/a").stat().st_mode & 0o777 == 0o666 & ~umask


def test_deleting_removes_the_folder_that_becomes_empty(storage, tmp_path):
    """Pruned checkpoints leave no empty folders behind."""
    storage.write("checkpoints/step-1/state.pt", b"")
    storage.delete("checkpoints/step-1/state.pt")
    storage.delete("checkpoints/step-1/state.pt")
    assert not Path(tmp_path / "run/checkpoints/step-1").exists()


def test_storage_that_is_not_supported_is_refused():
    """An unknown scheme must not become a directory of that name."""
    with pytest.raises(InputError, match="s3://"):
        open_storage("s3://bucket/runs")
