"""Images per second of four ways from files to batches, on one core, in one run.

    python benchmarks/data_path.py [--png FOLDER] [--core N]

Takes the PNG files of a folder, or draws phantoms of 1024 x 1024 pixels, NIH's size. Each round takes the ways in turn, in an order that changes:

- the usual loader: Pillow decodes, converts to RGB and resizes to 256, torchvision crops 224 and normalises
- torchvision's own decoder and its v2 transforms, in two DataLoader workers, which share the core
- ours: shuffled batches of 64 from a pack, each record compared with its checksum, to the point where the device takes them
- memcpy: the same number of bytes in batches, from an array that is as large as the pack

The process stays on one core, so wall time is what the core did. The pack and the array have the same 4,096 records of 256 x 256 pixels, 256 MiB, more than caches hold.
Ours is uint8 with one channel, as it goes to an accelerator, which crops and normalises; what that takes on a processor is a further row.
The last row is what each start does before the first batch: the whole pack is verified.
"""

import argparse
import os
import random
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.io import ImageReadMode, decode_image
from torchvision.transforms import v2

from trainer.data.augment import IMAGENET_MEAN, IMAGENET_STD, evaluation_view
from trainer.data.loader import Loader
from trainer.data.locks import locked
from trainer.data.packs.building import build
from trainer.data.packs.reading import Pack
from trainer.data.packs.records import Geometry
from trainer.data.packs.verify import open_pack
from trainer.data.synthetic import write_phantoms
from trainer.devices import Device, cpu

BATCH = 64
SIDE = 256
RECORDS = 4096
BATCHES = 32
"""Batches of a turn of the fast ways: about a tenth of a second."""
WORKERS = 2
PNG_IMAGES = 48
"""Images of a turn of the slow ways."""
USUAL, OURS, MEMCPY = "usual loader", "ours", "memcpy"


def usual(paths: list[Path]) -> int:
    """Decode and prepare each image, as a data set class does."""
    prepare = v2.Compose(
        [
            v2.Resize(SIDE),
            v2.CenterCrop(224),
            v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(IMAGENET_MEAN, IMAGENET_STD),
        ]
    )
    for path in paths:
        with Image.open(path) as image:
            prepare(image.convert("RGB"))
    return len(paths)


class Files(Dataset[Tensor]):
    """The same with torchvision's decoder and transforms."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths
        self._prepare = v2.Compose(
            [
                v2.Resize(SIDE, antialias=True),
                v2.CenterCrop(224),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(IMAGENET_MEAN, IMAGENET_STD),
            ]
        )

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, number: int) -> Tensor:
        prepared: Tensor = self._prepare(decode_image(str(self._paths[number]), ImageReadMode.RGB))
        return prepared


def with_workers(loader: DataLoader[Tensor]) -> int:
    """One pass with workers that have been started before."""
    return sum(len(batch) for batch in loader)


class HandOver:
    """A device that takes a batch from the host's buffer without any work of the processor, as accelerators copy from pinned memory."""

    host_buffer = staticmethod(cpu.host_buffer)

    @staticmethod
    def upload(host: Tensor) -> tuple[Tensor, Callable[[], None]]:
        """The buffer itself: nothing overwrites it before the next batch is asked for."""
        return host, lambda: None

    uploads_ahead = False

    @staticmethod
    def start_upload(host: Tensor) -> tuple[Callable[[], Tensor], Callable[[], None]]:
        """As `upload`."""
        return lambda: host, lambda: None


def from_pack(loader: Loader, images: int, *, prepare: bool, batches: int) -> int:
    """Gather shuffled batches; with `prepare`, crop and normalise them on this processor too."""
    order = np.random.default_rng(0).integers(0, images, (batches, BATCH))
    for batch in loader.batches(list(order)):
        if prepare:
            evaluation_view(batch.x_N1SS, 224)
    return order.size


def copied(source: bytearray, target: bytearray) -> int:
    """Copy whole batches, one behind the other, to the same buffer."""
    size, whole, to = BATCH * SIDE**2, memoryview(source), memoryview(target)
    for number in range(BATCHES):
        first = number * size % len(source)
        to[:] = whole[first : first + size]
    return BATCHES * BATCH


def packed(folder: Path, names: list[str], paths: list[Path], geometry: Geometry) -> Pack:
    """A pack of these images."""
    with locked(folder):
        build(folder, names, paths, geometry, progress=lambda _: None)
    pack = open_pack(folder, names, geometry)
    assert pack is not None
    return pack


def verified(pack: Pack, images: int) -> int:
    """Hash a whole pack of that name, and take the checksum of each record, as each start does."""
    assert open_pack(pack.folder, [str(number) for number in range(images)], pack.index.geometry) is not None
    return images


def rate(act: Callable[[], int]) -> float:
    """Images per second."""
    start = time.perf_counter()
    return act() / (time.perf_counter() - start)


def main() -> None:
    """Measure in turns and print rates and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--png", type=Path, help="folder with PNG files; real X-rays take longer to decode than phantoms"
    )
    parser.add_argument("--core", type=int, default=min(os.sched_getaffinity(0)), help="the core to stay on")
    parser.add_argument("--rounds", type=int, default=9)
    given = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", "This DataLoader will create")  # two workers on one core are what is measured
    with tempfile.TemporaryDirectory() as folder:
        ways = prepared(Path(folder), given.png)
        os.sched_setaffinity(0, {given.core})
        rates: dict[str, list[float]] = {name: [] for name in ways}
        for number in range(given.rounds + 1):
            for name in random.Random(number).sample(sorted(ways), len(ways)):
                measured = rate(ways[name])
                if number:  # the first warms caches, and starts the workers
                    rates[name].append(measured)
    show({name: rates[name] for name in ways})


def prepared(folder: Path, png: Path | None) -> dict[str, Callable[[], int]]:
    """What is measured, by name."""
    if png is None:
        write_phantoms(folder / "cxr", images=PNG_IMAGES, side=1024)
    found = sorted((png or folder / "cxr/images").glob("*.png"))
    paths = (found * PNG_IMAGES)[:PNG_IMAGES]
    write_phantoms(folder / "small", images=64, side=64)
    small = sorted((folder / "small/images").glob("*.png")) * (RECORDS // 64)
    geometry = Geometry(side=SIDE, fit="crop")
    pack = packed(folder / "packs/pack", [str(number) for number in range(RECORDS)], small, geometry)
    loader = Loader(pack, cast("Device", HandOver()), BATCH)
    on_cpu = Loader(pack, cpu, BATCH)
    workers = DataLoader(Files(paths), batch_size=16, num_workers=WORKERS, persistent_workers=True)
    source, target = bytearray(os.urandom(RECORDS * SIDE**2)), bytearray(BATCH * SIDE**2)
    return {
        USUAL: lambda: usual(paths),
        "torchvision v2, two workers": lambda: with_workers(workers),
        OURS: lambda: from_pack(loader, RECORDS, prepare=False, batches=BATCHES),
        MEMCPY: lambda: copied(source, target),
        "ours, cropped and normalised": lambda: from_pack(on_cpu, RECORDS, prepare=True, batches=4),
        "verified at the start": lambda: verified(pack, RECORDS),
    }


def show(rates: dict[str, list[float]]) -> None:
    """Print medians, and the ratios to the usual loader and to memcpy, with their range."""
    print(f"{'':30} {'images/s':>10}   {'x usual loader':>28}   {'x memcpy':>28}")
    for name, measured in rates.items():
        cells = [f"{name:<30} {statistics.median(measured):>10,.0f}"]
        for base, digits, width in ((USUAL, 1, 28), (MEMCPY, 4, 28)):
            ratios = [mine / theirs for mine, theirs in zip(measured, rates[base], strict=True)]
            text = f"{statistics.median(ratios):,.{digits}f} ({min(ratios):,.{digits}f}-{max(ratios):,.{digits}f})"
            cells.append(f"{text:>{width}}")
        print("   ".join(cells))


if __name__ == "__main__":
    main()
