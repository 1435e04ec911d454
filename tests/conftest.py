"""Fixtures that tests of both programs share, and the order in which tests run."""

import gc
import logging
import signal
import sys
import tempfile
import urllib.request
from pathlib import Path

import boto3
import pytest
from faultproxy import FaultProxy
from moto.server import ThreadedMotoServer
from rclone_server import RcloneServer
from warm import Warm

from trainer import redaction

SHARED = Path(__file__).parents[2] / "shared"

gc.disable()  # until all tests are collected: what is loaded until then stays


def pytest_collection_modifyitems(items):
    """Files that start several processes come first, then those that train: a worker that begins a long one last would end alone."""
    first = {item.path for item in items if item.get_closest_marker("e2e")}
    items.sort(key=lambda item: (item.path not in first, item.path.parent.name != "training"))


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop():
    """Collect garbage again, but never among the million objects of loaded modules and collected tests."""
    gc.freeze()
    gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup():
    """Each test, and what fixtures of any scope compute for it, begins with one thread of torch, whatever the one before has set.

    Small networks on a busy machine lose more to threads that wait for each other than they gain, and results depend on their number.
    """
    if "torch" in sys.modules:  # tests of the launcher alone do not load it
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def signals_are_heard():
    """SIGINT and SIGHUP end this process and those it starts, as in a terminal.

    A shell starts the background jobs of a script with SIGINT ignored, and nohup with SIGHUP, and everything they start inherits that:
    a test of either would wait for its time limit. A handler of Python's becomes the default action in a child, an ignored signal
    stays ignored.
    """
    before = {
        signal.SIGINT: signal.signal(signal.SIGINT, signal.default_int_handler),
        signal.SIGHUP: signal.signal(signal.SIGHUP, signal.SIG_DFL),
    }
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(autouse=True)
def nothing_learned(monkeypatch):
    """What one test's process has learnt to leave out, the next one's may say."""
    monkeypatch.setattr(redaction, "_learned", frozenset())


@pytest.fixture(autouse=True)
def logging_enabled():
    """The entrypoint, run in this process by a test, disables logging, as it does for the rest of its own process."""
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture
def shared() -> Path:
    """The folder of real samples beside the repository."""
    if not (SHARED / "data").is_dir():
        pytest.skip("no shared data")
    return SHARED


@pytest.fixture(scope="session")
def warm():
    """A `python` that starts workers and trainings at once: see `Warm`. As `PYTHON_EXEC` it is torchrun's for its workers."""
    with tempfile.TemporaryDirectory(prefix="warm-") as folder:  # a socket's path is short
        made = Warm(Path(folder), "trainer.commands.train", "torch.distributed.run", "torch.utils.tensorboard", "boto3")
        yield str(made.python)
        made.close()


@pytest.fixture(scope="session")
def s3_server():
    """A server with S3's semantics, in this process."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield f"http://127.0.0.1:{server.get_host_and_port()[1]}"
    server.stop()


@pytest.fixture
def s3(s3_server, monkeypatch):
    """That server, empty, as this process's S3."""
    requests = urllib.request.Request(f"{s3_server}/moto-api/reset", method="POST")
    with urllib.request.urlopen(requests):
        pass
    settings = {
        "AWS_ENDPOINT_URL": s3_server,
        "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "secret-of-the-test",
    }
    for name, value in {
        **settings,
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": "/dev/null",
    }.items():
        monkeypatch.setenv(name, value)
    boto3.client("s3").create_bucket(Bucket="cxr")
    return s3_server


@pytest.fixture
def fault_proxy(s3, monkeypatch):
    """This process's S3 through a proxy that spoils what it is told to: see `FaultProxy.script`."""
    with FaultProxy(s3) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        yield proxy


@pytest.fixture
def rclone(tmp_path, monkeypatch):
    """A real server with the bucket `cxr`, as this process's S3: see `RcloneServer`."""
    server = RcloneServer(tmp_path / "rclone")
    (server.folder / "cxr").mkdir(parents=True)
    server.start()
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    yield server
    server.kill()
