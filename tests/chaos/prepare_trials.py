"""Kills `trainer prepare` at random moments, and compares the set that the last start leaves.

    python tests/chaos/prepare_trials.py [--kills 20] [--seed 0] [--images 900]

Not part of the test suite: the moments are random, and it takes minutes. The tests kill at every write instead.
"""

import argparse
import hashlib
import random
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

from trainer.data.synthetic import write_phantoms


def command(data: Path, out: Path) -> list[str]:
    flags = ["--data", str(data), "--out", str(out), "--pack-side", "224"]
    return [sys.executable, "-m", "trainer", "prepare", *flags]


def archived(folder: Path, images: int) -> Path:
    """Phantoms in eight archives and, a tenth of them, in files."""
    write_phantoms(folder, images=images, side=320)
    paths = sorted((folder / "images").iterdir())
    for part in range(8):
        with tarfile.open(folder / f"images_{part}.tar.gz", "w:gz", compresslevel=1) as archive:
            for path in paths[part : images * 9 // 10 : 8]:
                archive.add(path, f"images/{path.name}")
    for path in paths[: images * 9 // 10]:
        path.unlink()
    return folder


def hashes(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--images", type=int, default=900)
    given = parser.parse_args()
    draw = random.Random(given.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = archived(folder / "data", given.images)
        start_s = time.monotonic()
        subprocess.run(command(data, folder / "whole"), check=True, capture_output=True)
        whole_s, expected = time.monotonic() - start_s, hashes(folder / "whole")
        killed = trials = 0
        while killed < given.kills:
            trials += 1
            out = folder / f"trial-{trials}"
            for _ in range(draw.randint(1, 4)):
                process = subprocess.Popen(command(data, out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                time.sleep(draw.uniform(0.1, whole_s))
                killed += process.poll() is None
                process.kill()
                process.wait()
            time.sleep(1.1)  # younger partial files may belong to a process that lives
            subprocess.run(command(data, out), check=True, capture_output=True)
            assert hashes(out) == expected, f"seed {given.seed}, trial {trials}"
        index = expected["manifest.json"]
    print(f"{killed} kills in {trials} trials: the same {len(expected)} files each time, index {index[:12]}")  # noqa: T201


if __name__ == "__main__":
    main()
