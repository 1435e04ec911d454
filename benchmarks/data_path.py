"""How much faster batches come from a pack than from PNG files, on one thread each, in one run.

    python benchmarks/data_path.py [--png FOLDER]

Takes the PNG files of a folder, or draws phantoms of 1024 x 1024 pixels, NIH's size. Then takes turns: the usual loader (Pillow decodes, converts to
RGB and resizes to 256, torchvision crops 224 and normalises) against this project's pack and loader. The pack's batches
are uint8; cropping and normalising on the accelerator is the rest of the step, so it is timed here too, as a third way. The fourth
is what each start does before the first batch, on all cores.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchvision.transforms import v2

from trainer.data.augment import IMAGENET_MEAN, IMAGENET_STD, evaluation_view
from trainer.data.loader import Loader
from trainer.data.locks import locked
from trainer.data.packs.building import build
from trainer.data.packs.reading import Pack
from trainer.data.packs.records import Geometry
from trainer.data.packs.verify import open_pack
from trainer.data.synthetic import write_phantoms
from trainer.devices import cpu

BATCH = 64
ROUNDS = 5


def usual(paths: list[Path]) -> int:
    """Decode and prepare each image, as a data set class does."""
    prepare = v2.Compose(
        [
            v2.Resize(256),
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


def from_pack(loader: Loader, images: int, *, prepare: bool) -> int:
    """Gather shuffled batches; with `prepare`, crop and normalise them on this processor too."""
    order = np.random.default_rng(0).integers(0, images, (20, BATCH))
    for batch in loader.batches(list(order)):
        if prepare:
            evaluation_view(batch.x_N1SS, 224)
    return order.size


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
    png = parser.parse_args().png
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        if png is None:
            write_phantoms(Path(folder) / "cxr", images=60, side=1024)
        paths = sorted((png or Path(folder) / "cxr/images").glob("*.png"))
        geometry = Geometry(side=256, fit="crop")
        pack = packed(Path(folder) / "packs/pack", [path.name for path in paths], paths, geometry)
        write_phantoms(Path(folder) / "small", images=64, side=64)
        small = sorted((Path(folder) / "small/images").glob("*.png")) * 32
        large = packed(Path(folder) / "packs/large", [str(number) for number in range(len(small))], small, geometry)
        loader = Loader(pack, cpu, BATCH)
        ways = {
            "PNG files, usual transforms": lambda: usual(paths[:60]),
            "pack, uint8 batches": lambda: from_pack(loader, len(paths), prepare=False),
            "pack, cropped and normalised": lambda: from_pack(loader, len(paths), prepare=True),
            "pack, verified at the start": lambda: verified(large, len(small)),
        }
        rates: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(ROUNDS):
            for name, act in ways.items():
                rates[name].append(rate(act))
    usual_rates = rates["PNG files, usual transforms"]
    for name, measured in rates.items():
        ratios = [mine / theirs for mine, theirs in zip(measured, usual_rates, strict=True)]
        spread = f"{min(ratios):.1f}-{max(ratios):.1f}"
        print(
            f"{name:<30} {statistics.median(measured):>10,.0f} images/s   x {statistics.median(ratios):,.1f} ({spread})"
        )


if __name__ == "__main__":
    main()
