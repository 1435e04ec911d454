"""Fetching a prepared set to a node's cache against `rclone copy` and `aws s3 cp`: 1 GB from an S3 server on this machine.

    python benchmarks/staging.py --aws 'uv tool run --from awscli aws'

The set has 16,384 records of 256 x 256 pixels, noise, in 16 shards. Clients take turns, in an order that changes from round to round; each starts
without a cache, and ours compares every file with the SHA-256 in the index. First without latency, then with 20 ms for each round trip, added by a
relay. The server is rclone's, which checks signatures, and shares processors and disk with its clients.
"""

import argparse
import hashlib
import os
import shlex
import sys
import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from s3_clients import RCLONE, compared, print_costs, served

from trainer.data.packs.index import CHECKSUMS, INDEX, NAMES, SIZES
from trainer.data.packs.prepared import LABELS, NOTICE, Part, PreparedIndex, as_bytes, shard_name
from trainer.data.packs.records import Geometry
from trainer.data.packs.staging import stage

URL = "s3://cxr/packed"
SIDE = 256
PER_SHARD = 1024
SHARDS = 16
LATENCIES_S = (0.0, 0.02)


def write_set(folder: Path) -> int:
    """A prepared set of noise whose index holds; returns the number of its files."""
    folder.mkdir(parents=True)
    count = SHARDS * PER_SHARD
    small = {NAMES: b"".join(b"%08d_000.png\n" % row for row in range(count)), SIZES: bytes(8 * count)}
    small |= {CHECKSUMS: bytes(4 * count), LABELS: b"", NOTICE: b""}
    files = {name: written(folder / name, content) for name, content in small.items()}
    shards = tuple(shard_name(0, number) for number in range(SHARDS))
    files |= {name: written(folder / name, os.urandom(PER_SHARD * SIDE**2)) for name in shards}
    index = PreparedIndex(
        layout="csv",
        source_sha256="0" * 64,
        geometry=Geometry(side=SIDE, fit="crop"),
        pillow="",
        count=count,
        findings=(),
        parts=(Part(name="noise", first=0, records=count, shards=shards, source_sha256="0" * 64),),
        files=files,
        unreadable={},
        missing=0,
        greatest=None,
        turned=0,
    )
    written(folder / INDEX, as_bytes(index))
    return len(files) + 1


def written(path: Path, content: bytes) -> tuple[int, str]:
    """Write a file; its size and SHA-256."""
    path.write_bytes(content)
    return len(content), hashlib.sha256(content).hexdigest()


def main() -> None:
    """Measure, or be one of the measured clients."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--aws", default="", help="command that runs awscli")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--stage", type=Path, help="only fetch the set, to this cache")
    given = parser.parse_args()
    if given.stage is not None:
        stage(URL, given.stage, lambda _: nullcontext(lambda _done, _words: None))
        return
    with tempfile.TemporaryDirectory() as scratch:
        measure(Path(scratch), shlex.split(given.aws), given.rounds)


def measure(scratch: Path, aws: Sequence[str], rounds: int) -> None:
    """Print what each client takes, and the ratios, for each latency."""
    files, target = write_set(scratch / "server/cxr/packed"), scratch / "cache"
    commands = {
        "staging": [sys.executable, __file__, "--stage", str(target)],
        "rclone copy": [str(RCLONE), "copy", "s3:cxr/packed", str(target), "--transfers", "16"],
    }
    if aws:
        commands["aws s3 cp"] = [*aws, "s3", "cp", "--recursive", URL, str(target)]
    for latency_s in LATENCIES_S:
        print(f"{latency_s * 1000:.0f} ms")
        with served(scratch / "server", delay_s=latency_s) as environment:
            print_costs(compared(commands, environment, target, files=files, rounds=rounds), "staging")


if __name__ == "__main__":
    main()
