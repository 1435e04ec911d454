"""Forked workers behave as processes that were started as `python -m MODULE`, and are ready when they start."""

import errno
import importlib
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import pytest

from trainer.data.synthetic import write_phantoms
from trainer.runtime import entrypoint, fork_server, worker_proxy

SERVER = """
import json, subprocess, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])  # the process was forked when PYTHONPATH had been read
from trainer.runtime.fork_server import command, fork_server
with fork_server(Path(sys.argv[1]), [sys.argv[3]]):
    workers = [
        subprocess.Popen(command(sys.argv[1], ["-u", "-m", *argv]), start_new_session=True) for argv in json.loads(sys.argv[4])
    ]
    sys.stdout.write(json.dumps([worker.wait() for worker in workers]))
"""
"""A parent with some workers; prints their exit codes."""

ENDINGS = {
    "pass": 0,
    "sys.exit(75)": 75,
    "os._exit(3)": 3,
    "sys.exit('no such file')": 1,
    "{}[14]": 1,
    "os.kill(os.getpid(), signal.SIGKILL)": -9,
    "os.kill(os.getpid(), signal.SIGTERM)": -15,
    "os.abort()": -6,
}


@pytest.fixture
def programs(tmp_path):
    """A folder with modules to run."""
    folder = tmp_path / "programs"
    folder.mkdir()
    (folder / "ends.py").write_text("import os, signal, sys\nexec(sys.argv[1])\n")
    (folder / "describes.py").write_text(
        "import json, os, signal, sys\n"
        "print('first', end=' ', flush=False); os.write(1, b'second\\n')\n"
        "here = {'argv': sys.argv, 'name': __name__, 'cwd': os.getcwd(), 'session': os.getsid(0) == os.getpid(),\n"
        "  'variable': os.environ.get('VARIABLE'),\n"
        "  'loaded': 'wave' in sys.modules, 'threads': len(os.listdir('/proc/self/task')),\n"
        "  'signals': [getattr(signal.getsignal(each), '__name__', signal.getsignal(each)) for each in (15, 2, 17, 1)], 'mask': list(signal.pthread_sigmask(0, [])),\n"
        "  'open': len(os.listdir('/proc/self/fd')), 'stdin': sys.stdin.read(), 'encoding': sys.stdout.encoding}\n"
        "print(json.dumps(here)); print('said', file=sys.stderr)\n"
    )
    (folder / "waits.py").write_text(
        "import os, pathlib, signal, sys, time\n"
        "from trainer.runtime.parent_watch import end_with_parent\n"
        "end_with_parent()\n"
        "def stop(*_): print('stopped', flush=True); sys.exit(75)\n"
        "signal.signal(signal.SIGTERM, stop)\n"
        "pathlib.Path(sys.argv[1], f'{os.getpid()}.{os.getppid()}.pid').touch()\n"
        "time.sleep(60)\n"
    )
    return folder


def start(warm, tmp_path, programs, *workers, modules="wave", **options):
    """A parent, its server and workers that run `python -m WORKER`."""
    environment = {**os.environ, "PYTHONPATH": str(programs), "VARIABLE": "äöü"}
    return subprocess.Popen(
        [warm, "-c", SERVER, str(tmp_path), str(programs), modules, json.dumps(workers)],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


@pytest.mark.e2e
@pytest.mark.parametrize("modules", ["wave", "no_such_module"], ids=["forked", "by the proxy itself"])
def test_worker_ends_as_it_would_by_itself(warm, tmp_path, programs, modules):
    """torchrun sees the proxy's end only. A server that cannot import leaves the program to the proxy."""
    process = start(warm, tmp_path, programs, *(["ends", ending] for ending in ENDINGS), modules=modules)
    out, said = process.communicate(timeout=60)
    assert dict(zip(ENDINGS, json.loads(out), strict=True)) == ENDINGS
    assert "no such file" in said
    assert "KeyError: 14" in said


@pytest.mark.e2e
def test_worker_is_the_process_that_python_would_be(warm, tmp_path, programs):
    """Its arguments, environment, directory, streams, signals and descriptors; and one thread, with the modules loaded."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    process = start(warm, tmp_path, programs, ["describes", "--name", "x y", ""], cwd=elsewhere)
    out, said = process.communicate(timeout=60)
    assert said == "said\n"
    first, written, codes = out.splitlines()
    assert (first, codes) == ("first second", "[0]")  # unbuffered
    here = json.loads(written)
    assert here["argv"] == [str(programs / "describes.py"), "--name", "x y", ""]
    assert (here["name"], here["cwd"], here["variable"]) == ("__main__", str(elsewhere), "äöü")
    assert (here["session"], here["stdin"], here["encoding"]) == (True, "", "utf-8")
    assert (here["loaded"], here["threads"]) == (True, 1)
    assert here["signals"] == [0, "default_int_handler", 0, 0]
    assert here["mask"] == []
    assert here["open"] == 4, "no descriptor but the streams and that of this listing"


@pytest.mark.e2e
def test_process_that_an_imported_module_has_left_does_not_end_the_server(warm, tmp_path, programs):
    (programs / "leaves.py").write_text("import os\nos.fork() or os._exit(0)\n")
    process = start(warm, tmp_path, programs, ["ends", "assert 'leaves' in sys.modules"], modules="leaves")
    out, said = process.communicate(timeout=60)
    assert (out, said) == ("[0]", "")


def started(tmp_path, process):
    """Process IDs of the worker and of its parent, the server."""
    while not (files := list(tmp_path.glob("*.pid"))):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    worker, server, _ = files[0].name.split(".")
    return int(worker), int(server)


def proxies(parent):
    """Processes that this one has started, but for the server."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return [int(each) for each in children if b"worker_proxy" in Path(f"/proc/{each}/cmdline").read_bytes()]


def started_by(server):
    """The newest worker of a server."""
    return max(map(int, Path(f"/proc/{server}/task/{server}/children").read_text().split()))


def ended(process):
    """Wait until a process that is no child of this one is gone."""
    while Path(f"/proc/{process}").exists() and "Z" not in Path(f"/proc/{process}/stat").read_text().split()[2]:
        time.sleep(0.01)
    return True


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("victim", "number", "out"),
    [
        ("proxy", signal.SIGTERM, "stopped\n[75]"),
        ("proxy", signal.SIGKILL, "[-9]"),
        ("server", signal.SIGTERM, "stopped\n[75]"),
        ("server", signal.SIGKILL, "[-9]"),
        ("parent", signal.SIGKILL, ""),
    ],
)
def test_signals_reach_the_worker_and_no_worker_is_left(warm, tmp_path, programs, victim, number, out):
    """torchrun signals and kills the proxy; the kernel, for want of memory, any of them. The server ends with its parent."""
    process = start(warm, tmp_path, programs, ["waits", str(tmp_path)])
    worker, server = started(tmp_path, process)
    parent = int(Path(f"/proc/{server}/stat").read_text().rpartition(")")[2].split()[1])
    (proxy,) = proxies(parent)
    os.kill({"proxy": proxy, "server": server, "parent": parent}[victim], number)
    if (victim, number) == ("server", signal.SIGTERM):
        os.kill(proxy, signal.SIGTERM)
    found, said = process.communicate(timeout=60)
    assert (found, said) == (out, "")
    assert all(ended(each) for each in (worker, proxy, server))


def test_worker_starts_when_its_proxy_passes_signals_on(tmp_path, silent):
    """One that started before could be ready for SIGTERM while its proxy, which is not, ends by it: the server would kill the worker."""
    stopped_at_start = f"""
import os, signal
from trainer.runtime import worker_proxy
write = os.write
def stop(pipe, content):
    os.kill(os.getpid(), signal.SIGTERM)
    return write(pipe, content)
os.write = stop
worker_proxy.main({str(tmp_path)!r}, ["-c", "pass"])
"""
    proxy = subprocess.Popen([sys.executable, "-c", stopped_at_start])
    line, _ = silent.accept()
    line.settimeout(60)
    _, descriptors = fork_server._received(line)
    line.sendall(worker_proxy.FORKED)
    assert line.recv(1) == bytes([signal.SIGTERM])
    assert os.read(descriptors[4], 1) == worker_proxy.START
    fork_server._close(descriptors)
    line.sendall(b"75")
    line.close()
    assert proxy.wait(60) == 75


@pytest.mark.e2e
@pytest.mark.parametrize("victim", ["proxy", "server"])
def test_worker_whose_proxy_or_server_ends_before_it_starts_runs_nothing(warm, tmp_path, programs, monkeypatch, victim):
    """The test is the proxy. torchrun starts the worker again: an orphan would train beside it."""
    parent = start(warm, tmp_path, programs, ["waits", str(tmp_path)])
    _, server = started(tmp_path, parent)
    monkeypatch.chdir(tmp_path)
    program = ["-m", "ends", f"open({str(tmp_path / 'ran')!r}, 'w')"]
    may_start, begin = os.pipe()
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(60)
        line.connect(worker_proxy.SOCKET)
        request = json.dumps([program, dict(os.environ)]).encode()
        here = os.open(".", worker_proxy.HERE)
        socket.send_fds(line, [len(request).to_bytes(worker_proxy.HEAD_BYTES, "big")], [0, 1, 2, here, may_start])
        line.sendall(request)
        assert line.recv(1) == worker_proxy.FORKED
        assert (worker := started_by(server))
        if victim == "server":
            os.kill(server, signal.SIGKILL)
            assert ended(server)
            os.write(begin, worker_proxy.START)
        os.close(begin)
        assert line.recv(16) == (b"1" if victim == "proxy" else b"")
    assert ended(worker)
    for descriptor in (here, may_start):
        os.close(descriptor)
    parent.kill()
    parent.communicate(timeout=60)
    assert not (tmp_path / "ran").exists()


def test_proxy_without_a_server_runs_the_program_itself(tmp_path):
    """As when the server was killed for want of memory, and torchrun starts the workers again."""
    command = fork_server.command(tmp_path / "none", ["-c", "import os; print(os.getcwd(), os.environ['VARIABLE'])"])
    environment = {**os.environ, "VARIABLE": "1"}
    out = subprocess.check_output(command, env=environment, cwd=tmp_path, text=True)
    assert out == f"{tmp_path} 1\n"


@pytest.fixture
def silent(tmp_path, monkeypatch):
    """A server that answers nobody, as one that still imports."""
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(worker_proxy.SOCKET)
        listener.listen()
        listener.settimeout(60)
        yield listener


def test_ctrl_c_while_the_server_imports_ends_the_proxy_without_a_traceback(tmp_path, silent):
    """torchrun passes it on."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a shell's background
    try:
        proxy = subprocess.Popen(fork_server.command(tmp_path, ["-c", "pass"]), stderr=subprocess.PIPE)
    finally:
        signal.signal(signal.SIGINT, before)
    line, _ = silent.accept()
    line.recv(1, socket.MSG_PEEK)  # the proxy has sent its request, and waits for the answer
    proxy.send_signal(signal.SIGINT)
    assert proxy.wait(60) == -signal.SIGINT
    line.close()  # its streams are in the request, and stay open until that is read or dropped
    assert proxy.communicate(timeout=60)[1] == b""


def test_proxy_without_a_server_and_without_torchrun_runs_nothing(tmp_path, silent):
    """When torchrun is killed, the server ends while it imports, with proxies that wait for it: nobody would end their programs."""
    torchrun = [sys.executable, "-c", "import subprocess, sys; subprocess.call(sys.argv[1:])"]
    program = ["-c", f"open({str(tmp_path / 'ran')!r}, 'w')"]
    parent = subprocess.Popen([*torchrun, *fork_server.command(tmp_path, program)])
    line, _ = silent.accept()
    proxy, _, _ = struct.unpack("3i", line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    parent.kill()
    parent.wait()
    line.close()
    assert ended(proxy)
    assert not (tmp_path / "ran").exists()


def test_no_descriptor_stays_open_where_no_process_can_be_made(tmp_path, silent, monkeypatch):
    """The streams are pipes, whose readers would wait for this process."""
    server = object.__new__(fork_server._Server)
    server._listener = silent
    proxy = subprocess.Popen(fork_server.command(tmp_path, ["-c", "pass"]))
    received, passed = fork_server._received, []

    def noted(line):
        request, descriptors = received(line)
        passed.extend(descriptors)
        return request, descriptors

    def refuse():
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(fork_server, "_received", noted)
    monkeypatch.setattr(os, "fork", refuse)
    server._answer()
    assert proxy.wait(60) == 0
    assert len(passed) == 5
    assert not any(Path(f"/proc/self/fd/{descriptor}").exists() for descriptor in passed)


@pytest.mark.parametrize("rest", [b"", b'["-c"', b"\xff"])
def test_no_descriptor_of_a_request_that_was_cut_off_stays_open(tmp_path, silent, rest):
    """Its proxy was killed; who reads its streams would wait for this process."""
    server = object.__new__(fork_server._Server)
    server._listener = silent
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(worker_proxy.SOCKET)
        socket.send_fds(line, [(99).to_bytes(worker_proxy.HEAD_BYTES, "big")], [writing] * 5)
        line.sendall(rest)
    server._answer()
    os.close(writing)
    assert os.read(reading, 1) == b"", "the end"
    os.close(reading)


def test_working_directory_need_not_be_readable(tmp_path, monkeypatch):
    """A container's may be root's. Root, who may be running this test, reads any: hence the flag."""
    opened = []
    real = os.open
    monkeypatch.setattr(os, "open", lambda path, flags: opened.append((path, flags)) or real(path, flags))
    with fork_server._listening(tmp_path):
        worker_proxy._handed_over(str(tmp_path / "none"), [], 0)
    assert opened == [(".", os.O_PATH | os.O_DIRECTORY)] * 2


def test_folder_that_takes_no_socket_leaves_the_program_to_the_proxy(tmp_path):
    """As a mount of a bucket."""
    with fork_server.fork_server(tmp_path / "none", []):
        command = fork_server.command(tmp_path / "none", ["-c", "print(1)"])
        assert subprocess.check_output(command, text=True) == "1\n"


def test_proxy_loads_little():
    """It is started for each worker, and stays."""
    code = f"import runpy, sys; runpy.run_path({worker_proxy.__file__!r}); print(len(sys.modules))"
    assert int(subprocess.check_output([sys.executable, "-ISc", code])) < 80


PRELOADED = """
import importlib, json, os, sys
from trainer.runtime import entrypoint
from trainer.loading import uncollected
with uncollected():
    import torch.distributed.run
    for module in entrypoint.PRELOADED:
        importlib.import_module(module)
before = set(sys.modules)
import torch
server = {"threads": len(os.listdir("/proc/self/task")), "cuda": torch.cuda.is_initialized()}
from trainer.training import loop
step = loop.train_step
def first(*arguments):
    step(*arguments)
    print(json.dumps(server | {"before": sorted(before), "new": sorted(set(sys.modules) - before)}), flush=True)
    os._exit(0)
loop.train_step = first
import trainer.__main__
trainer.__main__.main(sys.argv[1:])
"""

NOT_BEFORE_THE_FIRST_STEP = {
    "IPython",
    "boto3",
    "botocore",
    "matplotlib",
    "onnx",
    "onnxruntime",
    "openpyxl",
    "pandas",
    "pydicom",
    "pyarrow",
    "scipy",
    "sklearn",
    "tensorboard",
    "tqdm",
    "jinja2",
    "trainer.explanation",
    "trainer.inference",
    "trainer.report",
    "torch.utils.tensorboard",
}
"""Packages of later commands, of the run's end, or of buckets, where this run has none."""


@pytest.mark.e2e
def test_a_worker_loads_torch_and_little_else_before_its_first_step(tmp_path):
    """All of it in the fork server, which has one thread and no device when it forks."""
    phantoms = tmp_path / "data"
    write_phantoms(phantoms, images=30, side=48)
    places = ["--data", str(phantoms), "--output", str(tmp_path / "runs"), "--cache-dir", str(tmp_path / "cache")]
    recipe = "--name r --preset smoke --model densenet_tiny --pack-side 36 --crop-px 32 --batch-size 4 --device cpu"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-c", PRELOADED, "train", *places, *recipe.split()]
    found = json.loads(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)
    assert (found["threads"], found["cuda"]) == (1, False)
    loaded = {*found["before"], *found["new"]}
    assert loaded & NOT_BEFORE_THE_FIRST_STEP == set()
    assert len(found["new"]) < 40, "the rest, of some milliseconds"
    assert {name.split(".")[0] for name in found["new"]} <= {name.split(".")[0] for name in found["before"]}


@pytest.mark.parametrize(
    ("argv", "forks", "threads"),
    [
        (["--nproc-per-node=4", "-m", "trainer", "train"], True, "2"),
        (["--nproc_per_node", "2", "--module", "trainer", "train", "--nproc-per-node", "8"], True, "4"),
        (["-m", "trainer", "train"], True, "8"),
        (["--nproc-per-node=gpu", "-m", "trainer", "train"], False, None),
        (["-m", "another", "train"], False, None),
        (["worker.py", "-m", "x"], False, None),
    ],
)
def test_workers_of_the_trainer_are_forked_with_their_share_of_the_cores(monkeypatch, argv, forks, threads):
    """OpenMP reads the number when torch is loaded, before torchrun has read its flags."""
    monkeypatch.setattr(os, "environ", {})
    monkeypatch.setattr(entrypoint, "threads_per_worker", lambda workers: 8 // workers)
    assert entrypoint._prepare_to_fork(argv) is forks
    assert os.environ.get("OMP_NUM_THREADS") == threads


@pytest.mark.parametrize(
    ("flags", "program", "modules"),
    [
        ([], ["train", "--output", "/runs"], ["trainer.commands.train"]),
        ([], ["train", "--output=s3://b/runs"], ["trainer.commands.train", *entrypoint._OF_BUCKETS]),
        (["--no-python"], ["train"], None),
        (["--run-path"], ["train"], None),
    ],
)
def test_torchrun_starts_proxies_of_the_fork_server(tmp_path, monkeypatch, flags, program, modules):
    """By flags of its own: its program is the proxy, not Python. What else starts the program leaves nothing to fork."""
    from torch.distributed.run import parse_args

    begun = []
    monkeypatch.setattr(entrypoint, "fork_server", lambda folder, modules: begun.extend(modules) or nullcontext())
    module = [] if flags else ["-m"]
    arguments = parse_args([*flags, *module, "trainer", *program])
    with entrypoint._workers(arguments, tmp_path):
        pass
    started = [arguments.training_script, *arguments.training_script_args]
    if modules is None:
        assert (begun, started) == ([], ["trainer", *program])
        return
    assert begun == modules
    assert (arguments.no_python, arguments.module) == (True, False)
    assert started == fork_server.command(tmp_path, ["-u", "-m", "trainer", *program])


def test_libraries_of_buckets_are_there():
    """One that is missing would leave all workers unforked."""
    for module in entrypoint._OF_BUCKETS:
        importlib.import_module(module)


def test_backends_of_other_packages_are_not_loaded_before_the_fork(monkeypatch):
    """Gaudi's bridge reads LOCAL_RANK, and takes a card."""
    monkeypatch.setenv("TORCH_DEVICE_BACKEND_AUTOLOAD", "1")
    with entrypoint._no_backends():
        assert os.environ["TORCH_DEVICE_BACKEND_AUTOLOAD"] == "0"
    assert os.environ["TORCH_DEVICE_BACKEND_AUTOLOAD"] == "1"
