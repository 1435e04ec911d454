"""`trainer synth`."""

import sys
from pathlib import Path

from trainer.data.synthetic import write_phantoms
from trainer.data.synthetic.write import Drawable
from trainer.runtime.console import Reporter


def synth(*, out: Path, images: int = 600, seed: int = 0, side: int = 256, layout: Drawable = "nih") -> None:
    """Generate a small data set of chest phantoms, to try the programs without patient data.

    Parameters
    ----------
    out
        Directory to create; must not exist, or be empty.
    images
        Number of images, at least 30.
    seed
        Random seed; the same seed gives the same images.
    side
        Width and height in pixels.
    layout
        Layout of the data set: names, tables and image files as of ChestX-ray14, CheXpert and so on. DICOM files of vindr and
        rsna need pydicom; without it they are PNG files.
    """
    with Reporter(None).progress("drawing", images) as advance:
        write_phantoms(out, images=images, seed=seed, side=side, layout=layout, progress=lambda done: advance(done, ""))
    sys.stdout.write(f"{out}\n")
