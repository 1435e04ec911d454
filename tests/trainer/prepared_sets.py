"""Sources of prepared sets for tests, and decoders that run in this process."""

import io
import shutil
import tarfile
import zipfile
from concurrent.futures import Executor, Future
from contextlib import contextmanager

import pytest

from trainer.data.packs import decoding
from trainer.data.preparing import prepare as module
from trainer.prepare_config import PrepareConfig
from trainer.runtime.console import Reporter

SIDE = 16


class Inline(Executor):
    """Runs each task at once."""

    def submit(self, function, *args):
        future = Future()
        try:
            future.set_result(function(*args))
        except Exception as problem:  # noqa: BLE001 - as a pool does
            future.set_exception(problem)
        return future


@contextmanager
def inline_decoders(count, image_of):
    yield Inline()


@pytest.fixture
def inline(monkeypatch):
    """No processes: tests of what is written need none."""
    monkeypatch.setattr(module, "decoders", inline_decoders)
    monkeypatch.setattr(decoding, "note_image", lambda number: None)


class Log(Reporter):
    def __init__(self):
        super().__init__(None)
        self.lines = []

    def line(self, text):
        self.lines.append(text)


def run(data, out, **flags):
    """Prepare; what was prepared, and what was said."""
    log = Log()
    flags = {"pack_side": SIDE, "workers": 2} | flags
    return module.prepare(PrepareConfig(data=str(data), out=str(out), **flags), log), log.lines


def label_files(data, out):
    """The data set's label files, without images."""
    out.mkdir(parents=True, exist_ok=True)
    for path in data.iterdir():
        if path.suffix in {".csv", ".txt"}:
            shutil.copy(path, out / path.name)
    return out


def images_of(data):
    return sorted((data / "images").iterdir())


def tarred(path, files, *, prefix="images/", gz=True):
    """An archive of these files, and of what else is a tuple of name and content."""
    with tarfile.open(path, "w:gz" if gz else "w") as archive:
        for file in files:
            name, content = file if isinstance(file, tuple) else (prefix + file.name, file.read_bytes())
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def zipped(path, files, *, prefix="images/"):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in files:
            archive.writestr(prefix + file.name, file.read_bytes())
    return path


def archived(data, out):
    """The data set with its images in a tar.gz, a tar and a zip."""
    label_files(data, out)
    images = images_of(data)
    third = len(images) // 3
    tarred(out / "images_01.tar.gz", images[:third])
    tarred(out / "images_02.tar", images[third : 2 * third], gz=False)
    zipped(out / "images_03.zip", images[2 * third :])
    return out


def content(folder):
    """Each file of a folder, for comparison."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
