"""What checkpoints to a slow bucket cost a training, in one run.

    python benchmarks/checkpoint.py

DenseNet-121 with Adam (84 MB of state) trains on one core; the thread that publishes, the server and the proxy have another, as an
accelerator's host has cores left. Twenty steps with a checkpoint after the first, twenty without, in turns; the bucket is a real S3 server
behind a proxy that answers after 50 ms and takes 20 MB/s. Prints the ratio of the times of the pairs, and how long training stood still
for a snapshot.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))  # the server and the proxy are those of the tests

from faultproxy import FaultProxy  # noqa: E402
from rclone_server import RcloneServer  # noqa: E402

from trainer.config import from_argv  # noqa: E402
from trainer.data.loader import training_batches, training_order  # noqa: E402
from trainer.data.synthetic import write_phantoms  # noqa: E402
from trainer.runs.rank_log import RankLog  # noqa: E402
from trainer.runtime.console import Reporter  # noqa: E402
from trainer.runtime.world import World  # noqa: E402
from trainer.training.loop import take_checkpoint, train_step  # noqa: E402
from trainer.training.run import Run  # noqa: E402
from trainer.training.setup import opened  # noqa: E402
from trainer.training.state import Training, prepare_epoch  # noqa: E402
from trainer.training.step_inputs import EpochInputs  # noqa: E402

PAIRS = 7
CORES = sorted(os.sched_getaffinity(0))
STEPS = 20
LATENCY_S = 0.05
UPLOAD_BYTES_PER_S = 20e6


@contextmanager
def slow_bucket(folder: Path) -> Iterator[dict[str, str]]:
    """Variables of a server whose proxy is a process of its own, so that it takes none of the training's time."""
    server = RcloneServer(folder)
    (folder / "cxr").mkdir(parents=True)
    server.start()
    command = [sys.executable, __file__, "--proxy", server.endpoint]
    try:
        with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True) as proxy:
            assert proxy.stdout is not None
            yield server.environment | {"AWS_ENDPOINT_URL": proxy.stdout.readline().strip()}
            proxy.terminate()
    finally:
        server.kill()


def serve(upstream: str) -> None:
    """Be that proxy until standard input ends."""
    with FaultProxy(upstream, latency_s=LATENCY_S, upload_bytes_per_s=UPLOAD_BYTES_PER_S) as proxy:
        print(proxy.url, flush=True)
        sys.stdin.read()


def block_s(run: Run, training: Training, *, checkpoint: bool) -> float:
    """Seconds for twenty steps, one of them with a checkpoint or not."""
    order = training_order(run.rows["train"], seed=0, epoch=0, global_batch=run.global_batch)
    batches = training_batches(order, rank=0, world=1, first_step=0)
    inputs = EpochInputs(batches, 0, training.feed.draws, run.on)
    start_s = time.perf_counter()
    for number in range(STEPS):
        step = number % len(batches)
        for batch in run.loader.batches([batches[step]]):
            train_step(run, training, batch, inputs.of(step)).loss.item()
            training.step += 1
        if checkpoint and number == 0:
            take_checkpoint(run, training)
    return time.perf_counter() - start_s


def measure(folder: Path) -> None:
    """Train, and print what it says."""
    write_phantoms(folder / "cxr", images=120, side=96)
    argv = [
        "--data",
        str(folder / "cxr"),
        "--output",
        "s3://cxr/runs",
        "--name",
        "bench",
        "--cache-dir",
        str(folder / "cache"),
    ]
    recipe = ["--preset", "smoke", "--device", "cpu", "--batch-size", "16", "--hang-after", "1h", "--lr", "1e-5"]
    with opened(from_argv([*argv, *recipe]), World(), Reporter(0), RankLog(0)) as (run, training):
        prepare_epoch(run, training, 0)
        with run.prefix.writer.running():
            os.sched_setaffinity(0, {CORES[0]})  # of this thread alone; the others keep theirs
            block_s(run, training, checkpoint=True)
            pairs = []
            training.snapshots_s.clear()
            for number in range(PAIRS):
                kinds = (True, False) if number % 2 else (False, True)
                times = {kind: block_s(run, training, checkpoint=kind) for kind in kinds}
                run.prefix.writer.flush(lambda: False)
                pairs.append(times[True] / times[False])
                print(f"{times[True]:.2f} s with a checkpoint, {times[False]:.2f} s without", flush=True)
            state = max((folder / "buckets").rglob("state.pt"), key=lambda path: path.stat().st_mtime)
            print(f"state: {state.stat().st_size / 1e6:.0f} MB, step {1e3 * times[False] / STEPS:.0f} ms")
    stalls = [1e3 * stall for stall in training.snapshots_s]
    print(
        f"steps with a checkpoint every {STEPS}: {statistics.median(pairs):.3f} ({min(pairs):.3f}-{max(pairs):.3f}) x"
    )
    print(f"snapshot stall: {statistics.median(stalls):.0f} ms ({min(stalls):.0f}-{max(stalls):.0f})")


def main() -> None:
    if sys.argv[1:2] == ["--proxy"]:
        serve(sys.argv[2])
        return
    assert len(CORES) > 1, "needs two cores"
    torch.set_num_threads(1)
    os.sched_setaffinity(0, CORES[1:])
    with tempfile.TemporaryDirectory() as name, slow_bucket(Path(name) / "buckets") as environment:
        os.environ.update(environment)
        measure(Path(name))


if __name__ == "__main__":
    main()
