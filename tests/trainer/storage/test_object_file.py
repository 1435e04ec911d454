"""Objects as files."""

import io
import os
import zipfile

import pytest

from trainer.storage import ChangedError, LocalStorage, open_storage
from trainer.storage.object_file import ObjectFile


@pytest.fixture(params=["directory", "bucket"])
def storage(request, tmp_path):
    if request.param == "directory":
        return LocalStorage(str(tmp_path))
    request.getfixturevalue("s3")
    return open_storage("s3://cxr/objects")


def opened(storage, key="x"):
    return ObjectFile(storage, key, storage.stat(key))


class _Unclosed(io.RawIOBase):
    """A file that stays open when its buffer is gone."""

    def __init__(self, file):
        self.readinto = file.readinto

    def readable(self):
        return True


def test_any_order_of_reads_and_jumps_gives_the_bytes_of_the_object(storage, monkeypatch):
    content = os.urandom(40_000)
    storage.write("x", content)
    monkeypatch.setattr("trainer.storage.object_file._SKIP_BYTES", 1000)
    reference, file = io.BytesIO(content), opened(storage)
    moves = [(0, 0, 10), (500, 1, 100), (39_000, 0, 5000), (3, 0, 7), (-10, 2, 100), (0, 2, 1), (50_000, 0, 1)]
    for at, whence, count in [*moves, (1000, 0, 20_000), (1, 1, 1)]:
        assert file.seek(at, whence) == reference.seek(at, whence)
        assert io.BufferedReader(_Unclosed(file)).read(count) == reference.read(count)
        file.seek(reference.tell())
    with pytest.raises(OSError, match="negative"):
        file.seek(-1)


def test_zip_is_read_through_it(storage):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for number in range(20):
            archive.writestr(f"{number}.bin", bytes([number]) * 5000)
    storage.write("x", packed.getvalue())
    with io.BufferedReader(opened(storage)) as file, zipfile.ZipFile(file) as archive:
        assert [archive.read(f"{number}.bin")[:1] for number in (7, 3, 19)] == [b"\7", b"\3", b"\x13"]


def test_object_that_was_replaced_is_noticed(storage):
    """Half of one archive and half of another would be decoded."""
    storage.write("x", b"a" * 3000)
    file = opened(storage)
    storage.write("x", b"b" * 3000)
    with pytest.raises(ChangedError):
        file.read(10)
