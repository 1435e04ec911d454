"""Many objects into a folder, several at once."""

import threading

import pytest

from trainer.storage import AbsentError, LocalStorage, copy_all


class Barrier(LocalStorage):
    """Lets nobody go on before several ask at once."""

    all_or_raise = threading.Barrier(4, timeout=20)

    def chunks(self, key, *, first=0, stamp=None, verify=True):
        self.all_or_raise.wait()
        return super().chunks(key, first=first, stamp=stamp)


@pytest.fixture
def storage(tmp_path):
    return LocalStorage(str(tmp_path / "there"))


def test_all_objects_are_copied_several_at_a_time(tmp_path):
    """One after the other, 112,120 images take hours."""
    storage = Barrier(str(tmp_path / "there"))
    for number in range(200):
        storage.write(f"{number % 7}/{number}", bytes(number))
    heard = []
    done = sorted(copy_all(storage, storage.keys(""), tmp_path / "here", progress=heard.append))
    assert done == storage.keys("")
    assert all((tmp_path / "here" / key).read_bytes() == storage.read(key) for key in done)
    assert sum(heard) == sum(range(200))


def test_one_failed_copy_ends_all(storage, tmp_path):
    """The first problem is told, and nothing is left half-copied."""
    for number in range(100):
        storage.write(str(number), b"x")
    with pytest.raises(AbsentError):
        list(copy_all(storage, [*storage.keys(""), "absent"], tmp_path / "here"))
    assert not [path for path in (tmp_path / "here").iterdir() if path.name.startswith(".")]


def test_closing_the_iterator_ends_running_copies(storage, tmp_path):
    """Ctrl-C in an hour of downloading."""
    for number in range(300):
        storage.write(str(number), b"x")
    copies = copy_all(storage, storage.keys(""), tmp_path / "here")
    next(copies)
    copies.close()
    assert 1 <= len(list((tmp_path / "here").iterdir())) < 300


def test_copying_no_objects_succeeds(storage, tmp_path):
    """A second start."""
    assert list(copy_all(storage, [], tmp_path / "here")) == []
