"""`trainer export`."""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from trainer import card_file
from trainer.errors import InputError
from trainer.inference.export import ONNX_HINT, fitting, images_of, known_of, wanted
from trainer.inference.export import export as write
from trainer.models.load import load_model
from trainer.runtime.console import Reporter
from trainer.storage import open_storage


def export(
    model: str,
    /,
    *,
    out: str,
    to: Annotated[list[str] | None, Parameter(negative="")] = None,
    step: str = "best",
    check: Path | None = None,
    cache_dir: Path | None = None,
    card: Annotated[str | None, Parameter(converter=card_file.read_card, n_tokens=1, accepts_keys=False)] = None,
) -> None:
    """Export a trained model to formats of other programs, with a model card.

    Parameters
    ----------
    model
        A run (OUTPUT/NAME), RUN/checkpoints/step-NNNNNNNN, a model.safetensors, or a file of weights; also at s3://.
    out
        Directory or s3:// URL to write to; files of an earlier export are replaced.
    to
        `safetensors`, `torch` (a state dict for torchvision) or `onnx`, also as `a,b` or repeated; default: all available
        formats.
    step
        Checkpoint of a run: `best`, `last`, or a number.
    check
        Directory of images to check the ONNX file with; default: synthetic images.
    cache_dir
        Directory for the download of a file of weights at s3://.
    card
        YAML file with fields of the model card that only the model's owner knows: owner, contact, weights_licence and
        others; they replace those that the run was started with.
    """
    if not out:
        raise InputError("cannot export: no output directory, got `` (from `--out`)", hint="--out DIRECTORY")
    reporter = Reporter(None)
    formats = wanted(to or [])
    if not to and "onnx" not in formats:
        reporter.line(f"no ONNX file: its packages are missing; {ONNX_HINT}")
    storage = open_storage(out)
    trained = load_model(model, step=step, cache=cache_dir)
    for note in trained.notes:
        reporter.line(note)
    formats = fitting(formats, trained, requested=bool(to), report=reporter.line)
    images_NPP = images_of(trained, check, reporter.line) if "onnx" in formats else None
    stated = {} if card is None else card_file.parsed(card)
    written = write(trained, storage, formats, known_of(model, trained, stated), images_NPP)
    width = max(len(one.name) for one in written)
    for one in written:
        sys.stdout.write(
            f"{storage.url.rstrip('/')}/{one.name:<{width}}  {one.size_bytes / 1e3:11,.1f} kB  {one.description}\n"
        )
