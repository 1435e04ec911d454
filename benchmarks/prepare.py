"""What `trainer prepare` costs over decoding and resizing alone, and its memory, in one run.

    python benchmarks/prepare.py [--images 1000] [--many 20000] [--png FOLDER] [--work FOLDER]

Takes the PNG files of a folder, or draws phantoms of 1024 x 1024 pixels, NIH's size, and repeats them under other names (links) up to the
number of images: in image files, and in one tar.gz. Each way is a process of its own, with its start, pinned to one core or to two.
Rates are images per second of wall time, and of processor time of all processes, which other work on the machine does not change.
Memory is the sum over all processes: of what each has for itself, and its share of what they share (PSS).
"""

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import zlib
from dataclasses import dataclass
from pathlib import Path

from trainer.data.labels import FINDINGS
from trainer.data.packs.records import Geometry, to_gray_square
from trainer.data.synthetic import write_phantoms

SIDE = 256


@dataclass
class Run:
    """A process that has ended."""

    wall_s: float
    cpu_s: float
    peak_mib: float


def pss_kib(pids: list[int]) -> int:
    """Memory of these processes."""
    total = 0
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total


def children(pid: int) -> list[int]:
    """A process and all below it."""
    found = [pid]
    for each in found:
        for task in Path(f"/proc/{each}/task").glob("*/children"):
            try:
                found += [int(child) for child in task.read_text(encoding="ascii").split()]
            except OSError:
                continue
    return found


def run(command: list[str], cores: set[int]) -> Run:
    """Run a command on these cores."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    pinned = ["taskset", "--cpu-list", ",".join(map(str, cores)), *command]
    process = subprocess.Popen(pinned, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    peak = 0
    ended = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not ended.wait(0.1):
            peak = max(peak, pss_kib(children(process.pid)))

    watcher = threading.Thread(target=watch)
    watcher.start()
    code = process.wait()
    wall_s = time.perf_counter() - start
    ended.set()
    watcher.join()
    assert code == 0, command
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Run(wall_s, cpu_s, peak / 1024)


def prepared(data: Path, out: Path, workers: int) -> list[str]:
    """The command that prepares a data set."""
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-m", "trainer", "prepare", "--data", str(data), "--out", str(out)]
    return [*command, "--workers", str(workers), "--layout", "csv"]


def decoded(folder: Path) -> None:
    """Decode and resize each file of a folder, and nothing else."""
    for path in sorted(folder.iterdir()):
        to_gray_square(path, Geometry(side=SIDE, fit="crop"))


def inflated(path: Path) -> None:
    """Inflate a tar.gz, and nothing else."""
    inflater = zlib.decompressobj(31)
    with path.open("rb") as file:
        while piece := file.read(1 << 18):
            inflater.decompress(piece)


def laid_out(folder: Path, pictures: list[Path], images: int) -> Path:
    """A data set of this many image files."""
    (folder / "images").mkdir(parents=True)
    names = [f"{number:08d}_000.png" for number in range(images)]
    for number, name in enumerate(names):
        os.link(pictures[number % len(pictures)], folder / "images" / name)
    splits = ["train"] * 8 + ["val", "test"]
    rows = [f"{name},{splits[number % 10]},{number % 2}" + ",0" * 13 for number, name in enumerate(names)]
    header = f"Image Index,split,{','.join(FINDINGS)}"
    (folder / "labels.csv").write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return folder


def archived(data: Path, folder: Path) -> Path:
    """The same in one tar.gz."""
    folder.mkdir()
    shutil.copy(data / "labels.csv", folder)
    with tarfile.open(folder / "images.tar.gz", "w:gz", compresslevel=6, dereference=True) as archive:
        archive.add(data / "images", "images")
    return folder


def main() -> None:
    """Print the rates and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--many", type=int, default=20_000)
    parser.add_argument("--png", type=Path)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--decode", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--inflate", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.decode:
        decoded(given.decode)
    elif given.inflate:
        inflated(given.inflate)
    else:
        with tempfile.TemporaryDirectory(dir=given.work) as folder:
            compare(given.images, given.many, given.png, Path(folder))


def compare(images: int, many: int, png: Path | None, folder: Path) -> None:
    """Run every way once, and print."""
    if png is None:
        write_phantoms(folder / "drawn", images=60, side=1024)
        png = folder / "drawn/images"
    (folder / "pictures").mkdir()
    pictures = [Path(shutil.copy(path, folder / "pictures" / path.name)) for path in sorted(png.rglob("*.png"))]
    files = laid_out(folder / "files", pictures, images)
    archive = archived(files, folder / "archive")
    cores = sorted(os.sched_getaffinity(0))
    one, two = {cores[0]}, set(cores[:2])
    own = [sys.executable, __file__]
    runs = {
        "decode and resize, 1 core": run([*own, "--decode", str(files / "images")], one),
        "inflate, 1 core": run([*own, "--inflate", str(archive / "images.tar.gz")], one),
        "prepare files, 1 core": run(prepared(files, folder / "out", 1), one),
        "prepare files, 2 cores": run(prepared(files, folder / "out", 2), two),
        "prepare tar.gz, 1 core": run(prepared(archive, folder / "out", 1), one),
        "prepare tar.gz, 2 cores": run(prepared(archive, folder / "out", 2), two),
    }
    size = sum(path.stat().st_size for path in pictures) / len(pictures) / 1000
    print(f"{images:,} images of {size:.0f} kB, start of each process included; {sys.executable} {' '.join(sys.argv)}")
    for name, each in runs.items():
        rates = f"{images / each.wall_s:7.1f} images/s {images / each.cpu_s:7.1f} images/CPU s"
        print(f"{name:<28}{rates} {each.peak_mib:7.0f} MiB")
    ratios(runs)
    if many:
        laid_out(folder / "many", pictures, many)
        big = run(prepared(folder / "many", folder / "out", 2), two)
        print(
            f"peak memory, 2 cores: {runs['prepare files, 2 cores'].peak_mib:.0f} MiB with {images:,} images, {big.peak_mib:.0f} MiB with {many:,}"
        )


def ratios(runs: dict[str, Run]) -> None:
    """Print what is aimed at."""
    decode, inflate = runs["decode and resize, 1 core"], runs["inflate, 1 core"]
    files, both = runs["prepare files, 1 core"], runs["prepare files, 2 cores"]
    tar = runs["prepare tar.gz, 2 cores"]
    slower_s = max(decode.wall_s / 2, inflate.wall_s)
    print(
        f"files / decode and resize, 1 core    {decode.wall_s / files.wall_s:.2f} by wall time, {decode.cpu_s / files.cpu_s:.2f} by CPU time"
    )
    print(f"two cores / one, files               {files.wall_s / both.wall_s:.2f} by wall time")
    print(f"tar.gz / slower of inflate and decode {slower_s / tar.wall_s:.2f} by wall time on 2 cores (decode on both)")
    print(f"tar.gz CPU / decode + inflate CPU    {(decode.cpu_s + inflate.cpu_s) / tar.cpu_s:.2f}")


if __name__ == "__main__":
    main()
