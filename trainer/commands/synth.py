"""`trainer synth`."""

import sys
from pathlib import Path

from trainer.data.synthetic import write_phantoms
from trainer.runtime.console import Reporter


def synth(*, out: Path, images: int = 600, seed: int = 0, side: int = 256) -> None:
    """Generate a small data set of chest phantoms in the NIH layout, to try the programs without patient data.

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
    """
    with Reporter(None).progress("drawing", images) as advance:
        write_phantoms(out, images=images, seed=seed, side=side, progress=lambda done: advance(done, ""))
    sys.stdout.write(f"{out}\n")
