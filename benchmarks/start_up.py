"""Seconds from start to first step outside decoding, and memory of rank 0, for a data set of the size of ChestX-ray14.

    python benchmarks/start_up.py [--images 112120] [--labels FOLDER] [--rounds 3] [--before GIT_REF]

Draws images of 8 x 8 pixels and lists of labels; with `--labels` the names and labels are those of the published lists there
(`train_list.txt` and so on, also `.gz`). Starts `trainer train` on one CPU process with the tiny network: once with an empty cache,
which decodes the images, then `--rounds` times with the decoded images in the cache. Each start ends after its first step. Prints
the seconds since the process started, of them those of decoding, the processor's seconds outside decoding, which other processes
disturb less, the memory at the highest, and the number of loaded modules; medians with ranges. `--before` does the same with the code
of another commit, in turns.
"""

import argparse
import gzip
import json
import os
import resource
import statistics
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
from arguments import commit, positive
from earlier_code import trees

SPLITS: Final = {"train": 0.7, "val": 0.1, "test": 0.2}
SIDE: Final = 8
FINDINGS: Final = 14

RECIPE: Final = "--preset smoke --model densenet_tiny --pack-side 36 --crop-px 32 --batch-size 8 --device cpu --epochs 1 --no-report"


def drawn_lists(images: int) -> dict[str, list[str]]:
    """Lines of the lists: names in NIH's form, four images for each patient, and labels as rare as there."""
    random = np.random.default_rng(0)
    labels_NK = (random.random((images, FINDINGS)) < 0.05).astype(int)
    lines = [
        f"{row // 4 + 1:08d}_{row % 4:03d}.png {' '.join(map(str, labels))}"
        for row, labels in enumerate(labels_NK.tolist())
    ]
    ends = (np.cumsum(list(SPLITS.values())) * (images // 4)).round().astype(int) * 4
    starts = [0, *ends[:-1].tolist()]
    return {split: lines[start:end] for split, start, end in zip(SPLITS, starts, ends.tolist(), strict=True)}


def published_lists(folder: Path) -> dict[str, list[str]]:
    """Lines of the lists in a folder."""
    lists = {}
    for split in SPLITS:
        plain, packed = folder / f"{split}_list.txt", folder / f"{split}_list.txt.gz"
        text = plain.read_text() if plain.exists() else gzip.decompress(packed.read_bytes()).decode()
        lists[split] = text.splitlines()
    return lists


def write_data_set(root: Path, lists: dict[str, list[str]]) -> int:
    """Lists, and an image for each of their names; returns the number of images."""
    (root / "images").mkdir(parents=True)
    random, count = np.random.default_rng(0), 0
    for split, lines in lists.items():
        (root / f"{split}_list.txt").write_text("\n".join(lines) + "\n")
        for line in lines:
            (root / "images" / line.split()[0]).write_bytes(png(random.integers(0, 256, (SIDE, SIDE), np.uint8)))
            count += 1
    return count


def png(gray_SS: Any) -> bytes:  # noqa: ANN401 - an array
    """An 8-bit gray image; written here, as a library takes minutes for all."""
    rows = b"".join(b"\0" + row.tobytes() for row in gray_SS)
    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", SIDE, SIDE, 8, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows, 1)),
        (b"IEND", b""),
    )
    chunks = (
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def child(started_s: float, argv: Sequence[str]) -> None:
    """Train up to the first step, and print what it took."""
    from trainer.config import from_argv  # noqa: PLC0415 - its import is part of the measured time
    from trainer.runs.rank_log import RankLog  # noqa: PLC0415
    from trainer.runtime.console import Reporter  # noqa: PLC0415
    from trainer.runtime.world import World  # noqa: PLC0415
    from trainer.training import loop  # noqa: PLC0415

    imported_s, imported_cpu_s, decoding, decoding_cpu = time.time() - started_s, time.process_time(), [0.0], [0.0]

    def timed(act: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **named: Any) -> Any:  # noqa: ANN401
            start, start_cpu = time.perf_counter(), time.process_time()
            result = act(*args, **named)
            decoding[0] += time.perf_counter() - start
            decoding_cpu[0] += time.process_time() - start_cpu
            return result

        return call

    def first_step(step: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> None:  # noqa: ANN401
            step(*args)
            cpu_s = time.process_time() - decoding_cpu[0]
            total_s, peak = time.time() - started_s, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            print(
                json.dumps(
                    {"total": total_s, "import": imported_s, "decoding": decoding[0], "cpu": cpu_s, "MiB": peak}
                    | {"import cpu": imported_cpu_s, "modules": len(sys.modules)}
                ),
                flush=True,
            )
            os._exit(0)

        return call

    holder = "decoded_images" if find_spec("trainer.data.decoded_images") else "dataset"  # in earlier versions
    images = import_module(f"trainer.data.{holder}")
    images.build = timed(images.build)  # type: ignore[attr-defined]
    loop.train_step = first_step(loop.train_step)
    loop.train(from_argv(argv), World(), Reporter(0), RankLog(0))


def start(root: Path, number: int, name: str, tree: Path) -> dict[str, float]:
    """One start in a process of its own, with the code in `tree`."""
    places = [
        "--data",
        root / "data",
        "--output",
        root / "runs",
        "--cache-dir",
        root / f"cache-{name}",
        "--name",
        f"{name}-{number}",
    ]
    argv = [sys.executable, __file__, "--child", str(time.time()), *RECIPE.split(), *map(str, places)]
    environment = os.environ | {"PYTHONPATH": str(tree)}
    done = subprocess.run(
        argv, check=True, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def row(title: str, values: Sequence[float]) -> str:
    spread = f"  ({min(values):.2f} to {max(values):.2f})" if len(values) > 1 else ""
    return f"{title:<48}{statistics.median(values):8.2f}{spread}"


def main() -> None:
    """Draw, start, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=positive, default=112_120)
    parser.add_argument("--labels", type=Path)
    parser.add_argument("--rounds", type=positive, default=3)
    parser.add_argument("--work", type=Path, help="folder for the images; default: a temporary one")
    parser.add_argument("--before", type=commit, metavar="GIT_REF", help="compare with the code of this commit")
    asked = parser.parse_args()
    lists = drawn_lists(asked.images) if asked.labels is None else published_lists(asked.labels)
    with TemporaryDirectory(dir=asked.work) as folder, trees(asked.before, Path(folder)) as codes:
        root = Path(folder)
        images = write_data_set(root / "data", lists)
        starts: dict[str, list[dict[str, float]]] = {name: [] for name in codes}
        for number in range(1 + asked.rounds):
            for name, tree in codes.items():
                starts[name].append(start(root, number, name, tree))
    print(
        f"{images:,} images of {SIDE} x {SIDE} pixels, one CPU process, tiny network; {asked.rounds} starts with the images in the cache"
    )
    for name, (first, *others) in starts.items():
        print_starts(f"{name}, first start", [first])
        print_starts(f"{name}, later start", others)


def print_starts(title: str, starts: list[dict[str, float]]) -> None:
    """A line for each value."""
    print(row(f"{title}: seconds to the first step", [one["total"] for one in starts]))
    print(row("  of them decoding", [one["decoding"] for one in starts]))
    print(row("  of them imports", [one["import"] for one in starts]))
    print(row("  imports, seconds of the processor", [one["import cpu"] for one in starts]))
    print(row("  outside decoding", [one["total"] - one["decoding"] for one in starts]))
    print(row("  outside decoding, seconds of the processor", [one["cpu"] for one in starts]))
    print(row("  memory at the highest, MiB", [one["MiB"] for one in starts]))
    print(row("  modules loaded at the first step", [one["modules"] for one in starts]))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(float(sys.argv[2]), sys.argv[3:])
    else:
        main()
