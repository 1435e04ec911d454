"""How soon a job trains: after its start, after a worker was killed, and on a cluster after a pod was deleted.

    python benchmarks/train_again.py [--before GIT_REF] [--rounds 5]
    KUBECONFIG=... E2E_HOST=ADDRESS python benchmarks/train_again.py --image NOW [--before-image BEFORE] [--rounds 3]

The first starts two workers on processors through the entrypoint, kills one when checkpoints are there, and waits for the next step.
`--before` does the same with the code of another commit, in turns. Prints seconds of the clock, the processor's seconds of the whole
run, and the memory of all its processes (PSS) at the first step; medians with ranges, and the ratio of each round.

The second submits a job of two pods, deletes the pod of worker 1 after a third of its steps, and waits until training continues; with
two images in turns. The pods reach a bucket on this machine at E2E_HOST. The seconds are those from the deletion, and from the start of
the new container, to the first checkpoint of the new start, after at most five steps.
"""

import argparse
import os
import resource
import secrets
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parents[1] / "tests/e2e"))  # jobs on a cluster are those of its tests

from arguments import commit, positive
from earlier_code import trees
from prepare import children, pss_kib

from trainer.data.synthetic import write_phantoms

RECIPE: Final = "--preset smoke --model densenet_tiny --pack-side 36 --crop-px 32 --batch-size 2 --device cpu --epochs 1000 --no-report"
FIRST_STEP: Final = "training 1/"
"""What rank 0 says after its first step, in each of its starts."""

PATIENCE_S: Final = 300.0

Measured = dict[str, float]
"""Values of one round, by what they are."""


@dataclass(frozen=True)
class Line:
    """A line of a job's log, and when it came."""

    at_s: float
    text: str


class Job:
    """Two workers under the entrypoint of the code in a folder."""

    def __init__(self, tree: Path, data: Path, root: Path) -> None:
        self._output = root / f"runs-{secrets.token_hex(4)}"
        places = ["--data", data, "--output", self._output, "--name", "r", "--cache-dir", root / f"cache-{tree.name}"]
        train = ["-m", "trainer", "train", *RECIPE.split(), "--checkpoint-every-steps", "4", *places]
        entrypoint = ["-m", "trainer.runtime.entrypoint", "--nproc-per-node=2", "--max-restarts=3"]
        self.started_s = time.perf_counter()
        self.process = subprocess.Popen(
            [sys.executable, *entrypoint, *map(str, train)],
            cwd=tree,
            env=os.environ
            | {"OMP_NUM_THREADS": "1", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"},  # as the launcher's pods
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._lines: list[Line] = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for text in self.process.stderr:
            self._lines.append(Line(time.perf_counter(), text))

    def trains(self, since_s: float) -> float:
        """Wait for the first step of a start after this moment; when it was done."""
        found: list[float] = []

        def looks() -> bool:
            found[:] = [line.at_s for line in self._lines if FIRST_STEP in line.text and line.at_s > since_s]
            return bool(found)

        self.wait_for(looks)
        return found[0]

    def wait_for(self, holds: Callable[[], object]) -> None:
        """Raises: RuntimeError with the log where the job ends, or nothing happens."""
        until_s = time.perf_counter() + PATIENCE_S
        while not holds():
            if self.process.poll() is not None or time.perf_counter() > until_s:
                raise RuntimeError("".join(line.text for line in self._lines))
            time.sleep(0.005)

    def kill_worker(self) -> float:
        """Kill worker 1 once there is a checkpoint; when."""
        self.wait_for(lambda: list(self._output.glob("r/checkpoints/*/manifest.json")))
        for process in children(self.process.pid):
            if b"\0RANK=1\0" in Path(f"/proc/{process}/environ").read_bytes():
                os.kill(process, signal.SIGKILL)
                return time.perf_counter()
        raise RuntimeError("there is no worker 1")

    def end(self) -> None:
        self.process.terminate()
        self.process.wait()


def local_round(tree: Path, data: Path, root: Path) -> Measured:
    """One start of a job, and one of its workers killed."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    job = Job(tree, data, root)
    first_s = job.trains(job.started_s)
    memory = pss_kib(children(job.process.pid)) / 1024
    killed_s = job.kill_worker()
    again_s = job.trains(killed_s)
    job.end()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "s from the start to the first step": first_s - job.started_s,
        "s from a killed worker to the next step": again_s - killed_s,
        "s of the processor, the whole run": cpu_s,
        "MiB of memory at the first step": memory,
    }


def local(asked: argparse.Namespace) -> None:
    """Both codes in turns, after one uncounted start of each, which decodes the images."""
    with TemporaryDirectory() as folder, trees(asked.before, Path(folder)) as codes:
        root = Path(folder)
        write_phantoms(root / "data", images=90, side=48)
        ways = {name: partial(local_round, tree, root / "data", root) for name, tree in codes.items()}
        for way in ways.values():
            way()
        print_rounds(ways, asked.rounds)


def print_rounds(ways: dict[str, Callable[[], Measured]], rounds: int) -> None:
    """Measure the ways in turns, and print a table."""
    found: dict[str, list[Measured]] = {name: [] for name in ways}
    for number in range(rounds):
        for name, way in ways.items():
            found[name].append(way())
            print(f"round {number + 1}, {name}: {found[name][-1]}", file=sys.stderr, flush=True)
    print(f"{rounds} rounds in turns; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    for title in next(iter(found.values()))[0]:
        columns = {name: [one[title] for one in measured] for name, measured in found.items()}
        cells = [f"{name} {spread(values)}" for name, values in columns.items()]
        if len(columns) == 2:
            earlier, now = columns.values()
            cells.append(f"ratio {spread([b / a for a, b in zip(earlier, now, strict=True)])}")
        print(f"{title:<48}{'   '.join(cells)}")


def spread(values: Sequence[float]) -> str:
    """Median with range."""
    return f"{statistics.median(values):.2f} ({min(values):.2f}-{max(values):.2f})"


@contextmanager
def cluster_jobs(root: Path) -> Iterator[tuple[Any, Any]]:
    """A namespace with the Secret of a bucket, and the bucket, which holds phantoms."""
    from cluster_site import Bucket, S3Server, Site  # noqa: PLC0415 - with --image only

    (root / "buckets/cxr").mkdir(parents=True)
    write_phantoms(root / "buckets/cxr/phantoms", images=90, side=48)
    key, secret = "e2e-access-key", secrets.token_hex(20)
    bucket = Bucket(S3Server(root / "buckets", os.environ["E2E_HOST"], key, secret), root / "buckets", key, secret)
    settings = {
        "LAUNCHER_S3_ENDPOINT": bucket.endpoint,
        "LAUNCHER_S3_REGION": "us-east-1",
        "LAUNCHER_S3_SECRET": "s3",
        "LAUNCHER_OUTPUT": "s3://cxr/runs",
    }
    name = f"again-{secrets.token_hex(3)}"
    site = Site(os.environ["KUBECONFIG"], name, "", settings | bucket.environment)
    bucket.server.start()
    site.kubectl("create", "namespace", name)
    try:
        words = {"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret, "key_id": key, "access_key": secret}
        site.kubectl(
            "create", "secret", "generic", "s3", *(f"--from-literal={name}={word}" for name, word in words.items())
        )
        yield site, bucket
    finally:
        site.kubectl("delete", "namespace", site.namespace, "--wait=false")
        bucket.server.stop()


def cluster_round(site: Any, bucket: Any, image: str) -> Measured:  # noqa: ANN401 - of the tests
    """One job, one of whose pods is deleted; the job is deleted once it trains again."""
    from bucket_run import OFTEN, Training  # noqa: PLC0415 - with --image only

    name = f"r-{secrets.token_hex(3)}"
    run = Training(replace(site, image=image), name, bucket.folder / "cxr/runs" / name)
    run.submit("s3://cxr/phantoms", *OFTEN, epochs=2000)
    try:
        run.trains()
        pod = site.pod(name, 1)["metadata"]["name"]
        fault = datetime.now(timezone.utc)
        site.kubectl("delete", "pod", pod, "--wait=false")
        again = trains_again(run)
        started = max(run.starts())
    finally:
        run.site.launcher("delete", name, "-y")
    return {
        "s from a deleted pod to the next steps": (again - fault).total_seconds(),
        "s from the new container's start to them": (again - started).total_seconds(),
    }


def trains_again(run: Any) -> datetime:  # noqa: ANN401 - of the tests
    """When the run had its first checkpoint of a new start; there is one after each 5 steps."""
    reached: dict[int, datetime] = {}
    until_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < until_s:
        step = run.step
        reached.setdefault(step, datetime.now(timezone.utc))
        starts: list[str] = []
        with suppress(FileNotFoundError):  # for a moment, while the server replaces the log
            starts = run.said(r"continuing from step (\d+)")
        later = [moment for each, moment in reached.items() if starts and each > int(starts[-1])]
        if later:
            return min(later)
        time.sleep(0.02)
    raise RuntimeError(f"{run.name} does not train again: {[text for _, text in run.lines()][-20:]}")


def cluster(asked: argparse.Namespace) -> None:
    """Both images in turns."""
    images = {"before": asked.before_image} if asked.before_image else {}
    with TemporaryDirectory() as folder, cluster_jobs(Path(folder)) as (site, bucket):
        named = (images | {"now": asked.image}).items()
        print_rounds({name: partial(cluster_round, site, bucket, image) for name, image in named}, asked.rounds)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=positive, default=5)
    parser.add_argument("--before", type=commit, metavar="GIT_REF", help="compare with the code of this commit")
    parser.add_argument("--image", help="measure on the cluster of KUBECONFIG, with this image")
    parser.add_argument("--before-image", help="compare with this image")
    asked = parser.parse_args()
    if asked.image:
        cluster(asked)
    else:
        local(asked)


if __name__ == "__main__":
    main()
