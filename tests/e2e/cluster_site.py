"""A cluster as a user of the launcher meets it: kubectl, the launcher's command line, a namespace, a bucket."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

ROOT = Path(__file__).parents[2]

PATIENCE_S = 240
"""How long to wait for what takes seconds on a quiet machine; tests assert what happens, not how fast."""

TINY = ["--preset", "smoke", "--model", "densenet_tiny", "--pack-side", "36", "--crop-px", "32", "--batch-size", "8"]


class S3Server:
    """rclone's S3 server: checks signatures, keeps its objects on disk, and comes back at the address that it had."""

    def __init__(self, folder: Path, host: str, key: str, secret: str) -> None:
        with socket.socket() as probe:
            probe.bind((host, 0))
            self._at = host, probe.getsockname()[1]
        self.address = f"{host}:{self._at[1]}"
        flags = ["--addr", self.address, "--auth-key", f"{key},{secret}", "--dir-cache-time=1s"]
        self._command = [Path(sys.executable).with_name("rclone"), "serve", "s3", *flags, folder]
        self._log = folder.parent / "rclone.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Return when it listens."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        wait_until("the S3 server listens", self._listens, 30)

    def stop(self) -> None:
        """Return when it is gone."""
        assert self._process is not None
        self._process.terminate()
        self._process.wait(30)

    def _listens(self) -> bool:
        with socket.socket() as probe:
            probe.settimeout(1)
            return probe.connect_ex(self._at) == 0


@dataclass(frozen=True)
class Bucket:
    """A real S3 server that pods and this machine reach, and its key."""

    server: S3Server
    folder: Path
    """Where the server keeps its buckets, each a directory."""

    key: str
    secret: str
    name: str = "cxr"

    @property
    def endpoint(self) -> str:
        return f"http://{self.server.address}"

    @property
    def environment(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": self.key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
        }


@dataclass(frozen=True)
class Api:
    """How a kind of jobs and its pods look to kubectl."""

    name: str
    job_label: str
    index_label: str
    container: str
    group: str


APIS = {
    "pytorchjob": Api(
        "pytorchjob",
        "training.kubeflow.org/job-name",
        "training.kubeflow.org/replica-index",
        "pytorch",
        "kubeflow.org",
    ),
    "trainjob": Api(
        "trainjob",
        "jobset.sigs.k8s.io/jobset-name",
        "batch.kubernetes.io/job-completion-index",
        "node",
        "trainer.kubeflow.org",
    ),
}


@dataclass(frozen=True)
class Site:
    """One namespace of the cluster, and the kind of jobs in it."""

    kubeconfig: str
    namespace: str
    image: str
    environment: dict[str, str] = field(default_factory=dict)
    api: Api = APIS["pytorchjob"]

    def of_api(self, name: str) -> "Site":
        """The same namespace with jobs of another kind."""
        return replace(self, api=APIS[name], environment=self.environment | {"LAUNCHER_API": name})

    def kubectl(self, *argv: object, check: bool = True, stdin: str | None = None) -> str:
        command = ["kubectl", "--kubeconfig", self.kubeconfig, "-n", self.namespace, *map(str, argv)]
        done = subprocess.run(command, capture_output=True, text=True, input=stdin, timeout=PATIENCE_S, check=False)
        assert not check or done.returncode == 0, f"{command}\n{done.stderr}"
        return done.stdout if done.returncode == 0 else done.stderr

    def start_launcher(self, *argv: object, **environment: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-m", "launcher", *map(str, argv)],
            cwd=ROOT,
            env=self._launcher_environment(environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def launcher(self, *argv: object, code: int | None = 0, **environment: str) -> "subprocess.CompletedProcess[str]":
        """Run one command; its exit code must be `code`, None is any."""
        done = subprocess.run(
            [sys.executable, "-m", "launcher", *map(str, argv)],
            cwd=ROOT,
            env=self._launcher_environment(environment),
            capture_output=True,
            text=True,
            timeout=2 * PATIENCE_S,
            check=False,
        )
        print(f"$ launcher {' '.join(map(str, argv))}\n{done.stdout}{done.stderr}")
        assert "Traceback" not in done.stderr
        assert code is None or done.returncode == code, f"exit code {done.returncode}"
        return done

    def _launcher_environment(self, extra: dict[str, str]) -> dict[str, str]:
        ours = {name: value for name, value in os.environ.items() if not name.startswith(("LAUNCHER_", "AWS_"))}
        settings = {"KUBECONFIG": self.kubeconfig, "LAUNCHER_NAMESPACE": self.namespace, "LAUNCHER_IMAGE": self.image}
        return ours | settings | self.environment | extra

    def objects(self, kind: str, *argv: object) -> list[dict]:
        return json.loads(self.kubectl("get", kind, "-o", "json", *argv))["items"]

    def pods(self, job: str) -> list[dict]:
        """The newest pod of each index, in order."""
        found = self.objects("pods", "-l", f"{self.api.job_label}={job}")
        found.sort(key=lambda pod: pod["metadata"]["creationTimestamp"])
        newest = {int(pod["metadata"]["labels"][self.api.index_label]): pod for pod in found}
        return [newest[index] for index in sorted(newest)]

    def pod(self, job: str, index: int) -> dict:
        """The newest pod of an index."""
        return next(each for each in self.pods(job) if each["metadata"]["labels"][self.api.index_label] == str(index))

    def log(self, pod: str) -> str:
        """The log of a pod's trainer; what kubectl says without one."""
        return self.kubectl("logs", pod, "-c", self.api.container, check=False)

    def conditions(self, job: str) -> set[str]:
        status = json.loads(self.kubectl("get", self.api.name, job, "-o", "json")).get("status", {})
        return {entry["type"] for entry in status.get("conditions", []) if entry["status"] == "True"}

    def over(self, job: str) -> bool:
        return bool(self.conditions(job) & {"Succeeded", "Complete", "Failed"})


def wait_until(what: str, holds: Callable[[], object], patience_s: float = PATIENCE_S) -> None:
    """Wait for something that another program does."""
    end = time.monotonic() + patience_s
    while not holds():
        assert time.monotonic() < end, f"not within {patience_s} s: {what}"
        time.sleep(0.5)


def created_after_its_runtime(site: Site, job: dict, *argv: str) -> str:
    """Create a job whose other objects exist; webhooks know a new runtime only after a moment."""
    said: list[str] = []

    def taken() -> bool:
        said.append(site.kubectl("create", *argv, "-f", "-", stdin=json.dumps(job), check=False))
        return not any(text in said[-1] for text in ("must be created before", "not found"))

    wait_until("the webhooks know the runtime", taken, 60)
    return said[-1]
