"""A decoder that the system kills: the message names the image that it was decoding, and what to do."""

import errno
import os
import signal
import threading
import time
from multiprocessing import connection
from multiprocessing.context import SpawnProcess
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainer.data.locks import locked
from trainer.data.packs import building, decoders
from trainer.data.packs.records import Geometry
from trainer.errors import InputError

HOOK = """
import importlib.abc, importlib.machinery, os, signal, sys

def spoil(module):
    real = module.to_record
    def to_record(path, geometry):
        if path.name == "heavy.png":
            {deed}
        return real(path, geometry)
    module.to_record = to_record

class Loader(importlib.machinery.SourceFileLoader):
    def exec_module(self, module):
        super().exec_module(module)
        spoil(module)

class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, fullname, path, target=None):
        if fullname == "trainer.data.packs.records":
            spec = importlib.machinery.PathFinder.find_spec(fullname, path)
            spec.loader = Loader(fullname, spec.origin)
            return spec

sys.meta_path.insert(0, Finder())
"""

DEEDS = {
    "os.kill(os.getpid(), signal.SIGKILL)": "its decoder was killed, probably for lack of memory",
    "os.kill(os.getpid(), signal.SIGSEGV)": "its decoder crashed with signal 11",
    "os._exit(7)": "its decoder crashed with exit code 7",
    "raise MemoryError": "there is not enough memory",
}


@pytest.mark.parametrize("deed", DEEDS)
def test_image_that_kills_its_decoder_process_is_named(tmp_path, monkeypatch, deed):
    """`bug: BrokenProcessPool` names neither the image nor what to do; and trying again would meet it again."""
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook/sitecustomize.py").write_text(HOOK.format(deed=deed))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "hook"), str(Path(__file__).parents[3])]))
    names = [f"{number:02}.png" for number in range(70)]
    names[40] = "heavy.png"
    for name in names:
        Image.fromarray(np.full((16, 16), 9, np.uint8)).save(tmp_path / name)
    with locked(tmp_path / "p"), pytest.raises(InputError) as caught:
        building.build(
            tmp_path / "p",
            names,
            [tmp_path / name for name in names],
            Geometry(side=8, fit="crop"),
            progress=lambda _: None,
        )
    text = str(caught.value)
    assert DEEDS[deed] in text
    assert f"{tmp_path}/heavy.png" in text
    assert "0.png" not in text
    assert "more memory" in caught.value.hint
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".partial")] == []


@pytest.mark.parametrize("victim", [1, 2])
def test_decoder_process_killed_during_its_start_is_reported(tmp_path, monkeypatch, victim):
    """Memory may run out while all of them import NumPy. A build must not wait for a decoder that never got ready."""
    starts = []

    def start(self):
        starts.append(self)
        BaseProcess.start(self)
        if len(starts) == victim:
            os.kill(self.pid, signal.SIGKILL)

    monkeypatch.setattr(SpawnProcess, "start", start, raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    paths = [tmp_path / f"{number}.png" for number in range(200)]

    def work():
        with decoders.decoders(2, lambda row: str(paths[row])) as pool:
            for each in [pool.submit(time.sleep, 0.01) for _ in range(300)]:
                each.result()

    with pytest.raises(InputError, match="cannot decode the images: its decoder was killed") as caught:
        work()
    assert "more memory" in caught.value.hint
    assert len(starts) >= victim
    assert not [process for process in starts if process.is_alive()]


def test_all_decoders_start_before_the_pool_watches_them(monkeypatch):
    """The pool closes its queues when one ends; starting another one meanwhile fails with an error of the queue, or of its descriptors."""
    starts, watching = [], []

    def start(self):
        starts.append(self)
        watching.extend(each for each in threading.enumerate() if "ExecutorManager" in type(each).__name__)
        if len(starts) == 2:
            os.kill(starts[0].pid, signal.SIGKILL)
            connection.wait([starts[0].sentinel])
        BaseProcess.start(self)

    monkeypatch.setattr(SpawnProcess, "start", start, raising=False)

    def work():
        with decoders.decoders(3, str) as pool:
            pool.submit(time.sleep, 60).result()

    with pytest.raises(InputError, match="its decoder was killed"):
        work()
    assert (len(starts), watching) == (3, [])
    assert not [process for process in starts if process.is_alive()]


def test_decoder_that_cannot_be_started_is_reported_and_the_others_end(monkeypatch):
    """As with many decoders and few open files. The pool does not wait for those that it had started."""
    starts = []

    def start(self):
        if len(starts) == 2:
            raise OSError(errno.EMFILE, "Too many open files")
        starts.append(self)
        BaseProcess.start(self)

    monkeypatch.setattr(SpawnProcess, "start", start, raising=False)

    def work():
        with decoders.decoders(3, str) as pool:
            pool.submit(time.sleep, 60).result()

    with pytest.raises(InputError, match="cannot start a process that decodes images: Too many open files") as caught:
        work()
    assert "ulimit -n" in caught.value.hint
    assert [process.exitcode for process in starts] == [-signal.SIGTERM] * 2


def test_ctrl_c_does_not_reach_a_decoder():
    """Each would print a traceback, even while it still imports NumPy."""
    with decoders.decoders(1, str) as pool:
        blocked = pool.submit(signal.pthread_sigmask, signal.SIG_BLOCK, []).result()
    assert signal.SIGINT in blocked
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
