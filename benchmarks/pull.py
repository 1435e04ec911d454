"""`launcher pull` against `aws s3 cp --recursive` and `rclone copy`: a run of 30 files and 1 GB from an S3 server on this machine.

    python benchmarks/pull.py --aws 'uv tool run --from awscli aws'

They take turns, in an order that changes from round to round; each starts with an empty directory. The server is rclone's, which
checks signatures, and shares processors and disk with its clients. awscli is no dependency of this project: without --aws it is left out.
"""

import argparse
import hashlib
import json
import os
import shlex
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from s3_clients import RCLONE, compared, print_costs, served

from trainer.layout import manifest_key, state_key
from trainer.runs.manifest import Manifest

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
    with served(scratch / "server", etag) as environment:
        print_costs(compared(commands, environment, target, files=FILES, rounds=rounds), "launcher pull")


if __name__ == "__main__":
    main()
