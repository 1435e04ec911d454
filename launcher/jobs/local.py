"""Run the rendered objects on this machine: one process for each pod, with the environment that the operator would inject.

Differences from a cluster: host names are 127.0.0.1, the port is a free one, network interfaces are found by the libraries, paths
below a mount are those of this machine, `python` is this interpreter, and the rest of the environment is the user's.
"""

import os
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from launcher.cluster.resources import Object
from launcher.jobs import interpreter
from launcher.jobs.stop_signals import Terminated, signals_held, termination_raised
from launcher.kinds import pytorchjob
from launcher.spec import manifest
from launcher.spec.accelerators import POD_INTERFACE
from launcher.spec.job import CACHE_MOUNT, DATA_MOUNT, OUTPUT_MOUNT, JobSpec
from launcher.spec.pod_template import PORT, PORT_NAME, THREADS
from launcher.spec.trust import allowed
from trainer.config import flag_of
from trainer.errors import InputError, InterruptedByUser, JobFailedError, TryAgainError
from trainer.layout import JOB, LOCAL_RUN
from trainer.location import Location
from trainer.runtime import parent_watch
from trainer.runtime.cores import threads_per_worker

TRY_AGAIN: Final = frozenset({TryAgainError.exit_code, 128 + signal.SIGTERM})
"""Exit codes of pods that a later start can resume."""

SETTLE_S: Final = 5.0
"""Time for the other pods to detect by themselves that one has failed."""

POLL_S: Final = 0.1

KEPT: Final = frozenset({"HOME", THREADS})
"""Variables of the container that keep the user's value: requests for processors have no meaning on this machine."""

LOCAL_ADDRESS: Final = "PET_LOCAL_ADDR"
"""torchrun's `--local-addr`: under this address, not under the machine's name, workers meet."""

LOOPBACK: Final = "127.0.0.1"
"""Address of all pods: the name of this machine may not resolve, as on laptops."""

END_S: Final = 10.0
"""Maximum wait for killed processes to end."""

_RESUME_HINT: Final = "run the same command with this --name to resume from the newest checkpoint"

_TORCHRUN_PREFIXES: Final = ("MASTER_", "PET_", "TORCHELASTIC_")
_TORCHRUN_NAMES: Final = frozenset(
    {
        *("RANK", "LOCAL_RANK", "GROUP_RANK", "ROLE_RANK", "ROLE_NAME"),
        *("WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_WORLD_SIZE", "ROLE_WORLD_SIZE"),
    }
)
"""Variables of the user's shell that torchrun would read as its own."""


@dataclass(frozen=True)
class _Pod:
    name: str
    process: subprocess.Popen[bytes]
    grace_s: float


def check(spec: JobSpec) -> None:
    """Check that the job can run on this machine, before any process starts; creates the output directory.

    Raises: InputError.
    """
    from trainer.data.layouts import read_labels  # noqa: PLC0415 - loads NumPy
    from trainer.runs.earlier_run import decisions  # noqa: PLC0415 - the same
    from trainer.storage import open_storage  # noqa: PLC0415 - the same

    for field in ("data", "output"):
        place = getattr(spec, field)
        if Location(place).is_bucket or not place:  # with a claim, the data set is empty
            raise InputError(
                f"cannot use `{place}` with --local: it is not a directory of this machine (from `{flag_of(field)}`)",
                hint=f"{flag_of(field)} DIRECTORY",
            )
    if Location(spec.train.weights).is_bucket:
        allowed(spec.s3.endpoint)
    val_list = spec.train.val_list
    paths = {DATA_MOUNT: spec.data, OUTPUT_MOUNT: spec.output, CACHE_MOUNT: str(cache_of(spec))}
    _check_weights(on_this_machine(spec.train.weights, paths))
    read_labels(
        Path(spec.data),
        layout=spec.train.layout,
        split=spec.train.split,
        val_list=None if val_list is None else on_this_machine(val_list, paths),
        choices=spec.train.alone(),
        kept_split=decisions(open_storage(f"{spec.output.rstrip('/')}/{spec.train.name}"), spec.train).get("split"),
    )
    _check_writable(Path(spec.output))


def objects(spec: JobSpec) -> list[Object]:
    """The objects that `run` takes: always those of a PyTorchJob, as no cluster is involved."""
    return manifest.render(replace(spec, api="pytorchjob"))


def cache_of(spec: JobSpec) -> Path:
    """The directory that replaces the cache volume."""
    return Path(spec.output) / "cache"


def run(
    objects: Sequence[Object],
    *,
    scratch: Path,
    report: Callable[[str], None],
    python: str,
    out: int | None = None,
    settle_s: float = SETTLE_S,
) -> None:
    """Run the job and wait until it has finished. No process is left running, even if this process is killed.

    `scratch` is the cache of the first pod, folders in it are those of the others; `python` replaces the interpreter of the image;
    `out` is the descriptor for the pods' output, by default this process's stdout.

    Raises: JobFailedError, TryAgainError, InterruptedByUser.
    """
    job = objects[-1]
    mark = uuid.uuid4().hex
    pods: list[_Pod] = []
    with parent_watch.held() as life, termination_raised():
        try:
            port = _free_port()
            with signals_held():
                for role, index in _replicas(job):
                    pods.append(
                        _start(
                            job, role, index, scratch=scratch, port=port, python=python, mark=mark, out=out, life=life
                        )
                    )
            codes = _follow(pods, settle_s)
            _stop(pods)
        except Terminated:
            _stop(pods)
            raise TryAgainError("stopped by a signal", hint=_RESUME_HINT) from None
        except KeyboardInterrupt:
            report("stopping; press Ctrl-C again to kill the job at once")
            _stop(pods)
            raise InterruptedByUser("interrupted by Ctrl-C", hint=_RESUME_HINT) from None
        finally:
            _end(pods, mark)
    _check_outcome(codes)


def operator_environment(job: Object, role: str, index: int) -> dict[str, str]:
    """The environment of one pod's container: that of the manifest, overridden by what the operator injects.

    Only for jobs without elasticPolicy, as `render` makes them.
    Source: kubeflow/trainer v1.9.4, pkg/controller.v1/pytorch/{envvar,master}.go.
    """
    replicas = job["spec"]["pytorchReplicaSpecs"]
    container = _container(job, role)
    pods = sum(replica["replicas"] for replica in replicas.values())
    per_node = job["spec"]["nprocPerNode"]
    environment = {entry["name"]: entry["value"] for entry in container.get("env", []) if "value" in entry}
    environment["PYTHONUNBUFFERED"] = "1"
    if "Master" in replicas:
        ports = _container(job, "Master").get("ports", [])
        port = next((entry["containerPort"] for entry in ports if entry["name"] == PORT_NAME), PORT)
        node_rank = str(index if role == "Master" else index + 1)
        world = pods * int(per_node) if per_node.isdigit() else pods
        environment |= dict.fromkeys(("MASTER_ADDR", "PET_MASTER_ADDR"), _pod_name(job, "Master", 0))
        environment |= dict.fromkeys(("MASTER_PORT", "PET_MASTER_PORT"), str(port))
        environment |= {"WORLD_SIZE": str(world), "RANK": node_rank, "PET_NODE_RANK": node_rank}
    return environment | {"PET_NPROC_PER_NODE": per_node, "PET_NNODES": str(pods)}


def on_this_machine(value: str, paths: Mapping[str, str]) -> str:
    """Translate a path in the container, alone or after `--flag=`, to this machine; other values are unchanged.

    This includes the user's flags: `--weights /data/w.pt` is a file of the data set, as on a cluster. A directory of this machine
    that is itself named /data, /output or /cache can't be used.
    """
    flag, equals, path = value.partition("=") if value.startswith("--") else ("", "", value)
    for mount, directory in paths.items():
        if path == mount or path.startswith(f"{mount}/"):
            return f"{flag}{equals}{directory}{path[len(mount) :]}"
    return value


def _start(
    job: Object,
    role: str,
    index: int,
    *,
    scratch: Path,
    port: int,
    python: str,
    mark: str,
    out: int | None,
    life: int,
) -> _Pod:
    container = _container(job, role)
    paths = _paths(job, role, scratch if index == 0 else scratch / f"pod-{index}")  # pods share no cache
    command = [on_this_machine(word, paths) for word in [*container["command"], *container["args"]]]
    if command[0] == "python":
        command[0] = python
    injected = {
        name: _reachable(job, name, on_this_machine(value, paths), port)
        for name, value in operator_environment(job, role, index).items()
        if name not in KEPT and not (name.endswith("_SOCKET_IFNAME") and value == POD_INTERFACE)
    }
    inherited = {name: value for name, value in os.environ.items() if not _is_torchruns(name)}
    return _Pod(
        _pod_name(job, role, index),
        # A session of its own: Ctrl-C only reaches the launcher, which stops the pods.
        subprocess.Popen(
            command,
            env={THREADS: str(_threads(job))}
            | inherited
            | injected
            | interpreter.environment()
            | {LOCAL_ADDRESS: LOOPBACK, LOCAL_RUN: mark, JOB: mark, parent_watch.LIFELINE: str(life)},
            stdout=out,
            start_new_session=True,
            pass_fds=[life],
        ),
        _pod_spec(job, role)["terminationGracePeriodSeconds"],
    )


def _threads(job: Object) -> int:
    """Threads of each worker: all pods share the processors of this machine."""
    per_node = str(job["spec"].get("nprocPerNode", "1"))
    pods = len(list(_replicas(job)))
    return threads_per_worker(pods * (int(per_node) if per_node.isdigit() else 1))


def _is_torchruns(name: str) -> bool:
    return name in _TORCHRUN_NAMES or name.startswith(_TORCHRUN_PREFIXES)


def _reachable(job: Object, name: str, value: str, port: int) -> str:
    """Translate an address of the rendezvous to this machine; other values are unchanged."""
    if name in {"MASTER_PORT", "PET_MASTER_PORT"}:
        return str(port)
    hosts = [_pod_name(job, role, 0) for role in job["spec"]["pytorchReplicaSpecs"]]
    host, colon, _ = value.partition(":")
    return f"{LOOPBACK}{colon}{port if colon else ''}" if host in hosts else value


def _paths(job: Object, role: str, scratch: Path) -> dict[str, str]:
    """Directories of this machine by mount path of the container."""
    volumes = {volume["name"]: volume for volume in _pod_spec(job, role).get("volumes", [])}
    paths = {}
    for mount in _container(job, role).get("volumeMounts", []):
        volume = volumes[mount["name"]]
        if "hostPath" in volume:
            paths[mount["mountPath"]] = volume["hostPath"]["path"]
        elif mount["mountPath"] == CACHE_MOUNT:
            paths[mount["mountPath"]] = str(scratch)
    return paths


def _replicas(job: Object) -> Iterator[tuple[str, int]]:
    for role, replica in job["spec"]["pytorchReplicaSpecs"].items():
        for index in range(replica["replicas"]):
            yield role, index


def _pod_spec(job: Object, role: str) -> Object:
    spec: Object = job["spec"]["pytorchReplicaSpecs"][role]["template"]["spec"]
    return spec


def _container(job: Object, role: str) -> Object:
    containers: list[Object] = _pod_spec(job, role)["containers"]
    return next(container for container in containers if container["name"] == pytorchjob.container)


def _pod_name(job: Object, role: str, index: int) -> str:
    return f"{job['metadata']['name']}-{role.lower()}-{index}"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def _follow(pods: Sequence[_Pod], settle_s: float) -> dict[str, int]:
    """Wait until all pods have ended, or `settle_s` after one failed; returns the exit codes by pod."""
    processes = [pod.process for pod in pods]
    _wait_until(lambda: any(p.poll() for p in processes) or all(p.poll() == 0 for p in processes))
    _wait_until(lambda: all(p.poll() is not None for p in processes), settle_s)
    return {pod.name: pod.process.returncode for pod in pods if pod.process.returncode is not None}


def _stop(pods: Sequence[_Pod]) -> None:
    """Send SIGTERM to the first process of each pod, as the kubelet does, and wait for the grace period."""
    running = [pod for pod in pods if pod.process.poll() is None]
    for pod in running:
        pod.process.terminate()
    _wait_until(lambda: all(pod.process.poll() is not None for pod in running), max([0, *(p.grace_s for p in running)]))


def _end(pods: Sequence[_Pod], mark: str) -> None:
    """Send SIGKILL to all remaining processes of the run."""
    for pod in pods:
        with suppress(ProcessLookupError):
            os.killpg(pod.process.pid, signal.SIGKILL)
    _wait_until(lambda: not _kill_marked(mark), END_S)
    for pod in pods:
        pod.process.wait()


def _kill_marked(mark: str) -> bool:
    """Send SIGKILL to all processes with this mark, found in /proc, so on Linux only; whether there were any."""
    killed = False
    for environment in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            if f"{LOCAL_RUN}={mark}".encode() in environment.read_bytes():
                killed = True
                os.kill(int(environment.parent.name), signal.SIGKILL)
    return killed


def _wait_until(condition: Callable[[], bool], limit_s: float = float("inf")) -> None:
    end = time.monotonic() + limit_s
    while not condition() and time.monotonic() < end:
        time.sleep(POLL_S)


def _check_outcome(codes: Mapping[str, int]) -> None:
    """Raise the job's error from the exit codes of its pods; a failure that a restart can't fix has precedence."""
    failed = sorted(((name, code) for name, code in codes.items() if code), key=lambda pod: pod[1] in TRY_AGAIN)
    if not failed:
        return
    name, code = failed[0]
    if code in TRY_AGAIN:
        raise TryAgainError(
            f"the job was stopped: pod `{name}` ended with exit code {code}",
            hint=_RESUME_HINT,
        )
    ending = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    raise JobFailedError(f"the job failed: pod `{name}` {ending}", hint="see the lines above for the reason")


def _check_weights(weights: str) -> None:
    """Check that a file of weights exists; ImageNet weights are checked by the trainer, which has torch."""
    if weights not in {"imagenet", "none"} and not Path(weights).is_file():
        raise InputError(
            f"cannot read weights: no such file, got `{weights}` (from `--weights`)",
            hint="--weights accepts imagenet, none, or a file with a state dict",
        )


def _check_writable(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as problem:
        raise InputError(
            f"cannot write to `{directory}`: {problem.strerror} (from `--output`)",
            hint="--output DIRECTORY with write permission",
        ) from problem
