"""Objects in a directory: whole or absent, and errors that say which."""

import errno
import os
from pathlib import Path

import pytest

from trainer.errors import InputError, RemoteError, TryAgainError
from trainer.storage import AbsentError, LocalStorage, open_storage


@pytest.fixture
def storage(tmp_path):
    return LocalStorage(str(tmp_path / "run"))


@pytest.fixture(params=["directory", "bucket", "whole bucket"])
def anywhere(request, tmp_path):
    """Storage of each kind: what holds for one holds for all."""
    if request.param == "directory":
        return LocalStorage(str(tmp_path / "run"))
    request.getfixturevalue("s3")
    return open_storage("s3://cxr/runs/one" if request.param == "bucket" else "s3://cxr")


def test_written_object_is_read_back(anywhere):
    """The base of all else."""
    anywhere.write("a/b.json", b"1")
    anywhere.write("a/b.json", b"22")
    assert anywhere.read("a/b.json") == b"22"


def test_keys_are_sorted_and_start_with_the_prefix(anywhere):
    """Checkpoints are found by listing."""
    for key in ("checkpoints/step-2/x", "checkpoints/step-1/x", "run.json"):
        anywhere.write(key, b"")
    assert anywhere.keys("checkpoints/") == ["checkpoints/step-1/x", "checkpoints/step-2/x"]
    assert anywhere.keys("nothing/") == []


def test_absent_object_is_its_own_error(anywhere):
    """Starting afresh is right only where nothing is there, not where it can't be read."""
    with pytest.raises(AbsentError):
        anywhere.read("run.json")


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
    with storage.claim("job", print):
        with pytest.raises(InputError, match="another process is training it"), other.claim("job", print):
            pass
        assert storage.keys("") == []  # the lock is no object
    with other.claim("job", print):
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


@pytest.mark.parametrize("url", ["gs://bucket/runs", "s3://", "s3:///runs"])
def test_storage_that_is_not_supported_is_refused(url):
    """An unknown scheme must not become a directory of that name."""
    with pytest.raises(InputError, match="neither a directory nor"):
        open_storage(url)


def test_deleted_object_is_gone_and_deleting_again_is_fine(anywhere):
    """Pruning may be cut off and start again."""
    anywhere.write("checkpoints/step-1/state.pt", b"1")
    anywhere.delete("checkpoints/step-1/state.pt")
    anywhere.delete("checkpoints/step-1/state.pt")
    assert anywhere.keys("checkpoints/") == []


def test_claim_leaves_no_object(anywhere):
    """It is a question, not a file of the run."""
    with anywhere.claim("job", print):
        pass
    assert anywhere.keys("") == []


def test_prefixes_of_one_bucket_do_not_see_each_other(s3):
    """Two runs in one output."""
    one, other = open_storage("s3://cxr/runs/one"), open_storage("s3://cxr/runs/other/")
    one.write("run.json", b"1")
    assert other.keys("") == []
    assert open_storage("s3://cxr/runs").keys("") == ["one/run.json"]


def test_more_keys_than_one_page_are_all_listed(s3):
    """A listing has a thousand names a page."""
    storage = open_storage("s3://cxr/many")
    for number in range(1001):
        storage.write(f"{number:04d}", b"")
    assert len(storage.keys("")) == 1001


def test_missing_bucket_is_not_taken_for_an_absent_object(s3):
    """The run would start afresh in a bucket that is not there."""
    with pytest.raises(RemoteError, match="no such bucket"):
        open_storage("s3://nowhere/runs").read("run.json")


def test_unreachable_server_is_named(monkeypatch, s3):
    """Not absent, not refused."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(RemoteError, match=r"could not connect to the endpoint URL.*127\.0\.0\.1:9") as refusal:
        open_storage("s3://cxr/runs", patience_s=0).read("run.json")
    assert "secret-of-the-test" not in str(refusal.value)


def test_missing_credentials_are_named(s3, monkeypatch):
    """The usual mistake in a new namespace."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    with pytest.raises(RemoteError, match="unable to locate credentials"):
        open_storage("s3://cxr/runs").read("run.json")
