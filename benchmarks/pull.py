"""`launcher pull` against `aws s3 cp --recursive` and `rclone copy`: a run of 30 files and 1 GB from an S3 server on this machine.

    python benchmarks/pull.py --aws 'uv tool run --from awscli aws'

They take turns, in an order that changes from round to round; each starts with an empty directory. The server is rclone's, which
checks signatures, and shares processors and disk with its clients. awscli is no dependency of this project: without --aws it is left out.
"""

import argparse
import hashlib
import json
import os
import random
import secrets
import shlex
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from trainer.layout import manifest_key, state_key
from trainer.runs.manifest import Manifest

ROOT = Path(__file__).parents[1]
RCLONE = Path(sys.executable).with_name("rclone")
FILES = 30
TOTAL_BYTES = 10**9
STEP = 500


def write_run(folder: Path) -> None:
    """A checkpoint, and logs that make up the rest, one after the other: what this process holds its children would inherit."""
    size = TOTAL_BYTES // (FILES - 1)
    state = os.urandom(size)
    manifest = Manifest(
        step=STEP, epoch=1.0, world_size=8, bytes=size, sha256=hashlib.sha256(state).hexdigest(), val_auroc=0.8
    )
    put(folder / state_key(STEP), state)
    put(folder / manifest_key(STEP), json.dumps(asdict(manifest)).encode())
    for rank in range(FILES - 2):
        put(folder / f"logs/rank-{rank:05d}.log", os.urandom(size))


def put(path: Path, content: bytes) -> None:
    """A file, in folders that are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


@contextmanager
def served(folder: Path, etag: str) -> Iterator[dict[str, str]]:
    """Rclone as S3 server over the folder; the variables by which a client uses it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    key, secret = "benchmark", secrets.token_hex(20)
    options = ["--addr", address, "--auth-key", f"{key},{secret}", "--etag-hash", etag, "--config", os.devnull]
    server = subprocess.Popen([RCLONE, "serve", "s3", *options, folder], stderr=subprocess.DEVNULL)
    try:
        wait_for(address)
        yield {
            "AWS_ENDPOINT_URL": f"http://{address}",
            "AWS_ACCESS_KEY_ID": key,
            "AWS_SECRET_ACCESS_KEY": secret,
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_CONFIG_FILE": os.devnull,
            "RCLONE_CONFIG": os.devnull,
            "RCLONE_CONFIG_S3_TYPE": "s3",
            "RCLONE_CONFIG_S3_PROVIDER": "Rclone",
            "RCLONE_CONFIG_S3_ENDPOINT": f"http://{address}",
            "RCLONE_CONFIG_S3_ACCESS_KEY_ID": key,
            "RCLONE_CONFIG_S3_SECRET_ACCESS_KEY": secret,
        }
    finally:
        server.kill()
        server.wait()


def wait_for(address: str) -> None:
    """Return once the server listens."""
    host, _, port = address.partition(":")
    end = time.monotonic() + 30
    while True:
        try:
            socket.create_connection((host, int(port))).close()
        except OSError:
            assert time.monotonic() < end, "the server does not start"
            time.sleep(0.05)
        else:
            return


@dataclass(frozen=True)
class Cost:
    """What one client took."""

    wall_s: float
    cpu_s: float
    peak_mib: float


def cost(command: Sequence[str], environment: Mapping[str, str], folder: Path) -> Cost:
    """Run a client in a child that measures it; it must leave all files."""
    code = (
        "import json, resource, subprocess, sys, time; start = time.perf_counter();"
        "subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True);"
        "took = time.perf_counter() - start; used = resource.getrusage(resource.RUSAGE_CHILDREN);"
        "print(json.dumps([took, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *command],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}: {done.stderr}"
    found = [path for path in folder.rglob("*") if path.is_file()]
    assert len(found) == FILES, f"{command}: {len(found)} files"
    return Cost(*json.loads(done.stdout))


def told(values: Sequence[float], digits: int = 2) -> str:
    """Median and range."""
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--aws", default="", help="command that runs awscli")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--etag", default="MD5", help="hash by which the server knows objects")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        measure(Path(scratch), shlex.split(given.aws), given.rounds, given.etag)


def measure(scratch: Path, aws: Sequence[str], rounds: int, etag: str) -> None:
    """Print what each client takes, and the ratios."""
    write_run(scratch / "server/cxr/runs/bench")
    target = scratch / "pulled"
    commands: dict[str, list[str]] = {
        "launcher pull": [
            *(sys.executable, "-m", "launcher", "pull", "bench", "--output", "s3://cxr/runs"),
            "--to",
            str(target),
        ],
        "rclone copy": [str(RCLONE), "copy", "s3:cxr/runs/bench", str(target)],
    }
    if aws:
        commands["aws s3 cp"] = [*aws, "s3", "cp", "--recursive", "s3://cxr/runs/bench", str(target)]
    costs: dict[str, list[Cost]] = {name: [] for name in commands}
    with served(scratch / "server", etag) as environment:
        for number in range(rounds + 1):
            for name in random.Random(number).sample(sorted(commands), len(commands)):
                shutil.rmtree(target, ignore_errors=True)
                used = cost(commands[name], environment | {"PYTHONPATH": str(ROOT)}, target)
                print(f"round {number} {name}: {used}", file=sys.stderr)
                if number:  # the first warms caches
                    costs[name].append(used)
    for name, each in costs.items():
        peak = max(one.peak_mib for one in each)
        print(
            f"{name:14} wall {told([one.wall_s for one in each])} s, cpu {told([one.cpu_s for one in each])} s, {peak:.0f} MiB"
        )
    ours = costs.pop("launcher pull")
    for name, each in costs.items():
        wall = [one.wall_s / other.wall_s for one, other in zip(ours, each, strict=True)]
        cpu = [one.cpu_s / other.cpu_s for one, other in zip(ours, each, strict=True)]
        print(f"launcher pull / {name}: wall {told(wall)}, cpu {told(cpu)}")


if __name__ == "__main__":
    main()
