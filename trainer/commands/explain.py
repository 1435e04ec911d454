"""`trainer explain`."""

import json
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from trainer import devices
from trainer.config import Precision
from trainer.data.gray_range import of_files
from trainer.data.image_files import image_files
from trainer.errors import InputError, on_one_line
from trainer.explanation.boxes import THRESHOLD
from trainer.explanation.boxlist import read_boxes
from trainer.explanation.explain import check_randomisation as randomised
from trainer.explanation.explain import explain as explain_images
from trainer.explanation.explain import numbers_of
from trainer.explanation.explainer import open_explainer
from trainer.explanation.ground_truth import matched, refuse_trained
from trainer.explanation.localisation import as_table
from trainer.explanation.localise import localise
from trainer.explanation.map_writer import Bad, Line, Output
from trainer.explanation.randomisation import as_table as stages_as_table
from trainer.models.load import load_model
from trainer.runtime.console import Reporter


def explain(
    images: Annotated[list[Path], Parameter(name="IMAGE")],
    /,
    *,
    model: str,
    out: Path,
    findings: str | None = None,
    top: int = 1,
    boxes: Path | None = None,
    check_randomisation: bool = False,
    overlays: bool = True,
    box_threshold: float = THRESHOLD,
    force: bool = False,
    seed: int = 0,
    step: str = "best",
    device: Literal["auto", "cpu", "cuda", "hpu"] = "auto",
    batch_size: int | None = None,
    precision: Precision = "fp32",
    gray_range: str | None = None,
    cache_dir: Path | None = None,
) -> None:
    """Show which regions of images a model's predictions depend on, and compare them with drawn boxes.

    OUT gets a picture of each map, and `maps.jsonl` with one line per map. The lines are also printed, except with --boxes or
    --check-randomisation, which print tables.

    Parameters
    ----------
    images
        PNG, JPEG or DICOM files, and directories of them.
    model
        A run (OUTPUT/NAME, also in S3 or as pulled), RUN/checkpoints/step-…, a model.safetensors, or a file of weights.
    out
        Output directory; created if missing. Files of an earlier call are replaced.
    findings
        Findings to explain, such as `Nodule,Mass`; default: the most probable of each image.
    top
        Number of most probable findings to explain per image.
    boxes
        Boxes drawn by radiologists, NIH's BBox_List_2017.csv, or the table of VinDr-CXR or of the RSNA challenge: explain images
        and findings with a box, and write their agreement with the maps to localisation.json and .png. Images are matched by
        file name; boxes of other images are skipped.
    check_randomisation
        Randomise the model's weights from the head down and write to randomisation.json how much its maps change; uses the first
        32 images.
    overlays
        Write pictures.
    box_threshold
        Threshold of a box, as a fraction of a map's range.
    force
        With --boxes, also use images of patients in the model's training set.
    seed
        Random seed of the random maps of --boxes, and of the weights of --check-randomisation.
    step
        Checkpoint of the run: `best`, `last` or a number.
    device
        Device to use; `auto` chooses an accelerator if there is one.
    batch_size
        Images per batch; default: chosen for the device.
    precision
        Arithmetic of the network: fp32, in which all devices predict the same but for rounding; bf16, which is faster and less exact,
        where the hardware computes in it; `auto` chooses the device's own.
    gray_range
        Values of 16-bit images shown as black to white, as in `trainer train`; for models without one, whose images use 12 bits or fewer.
    cache_dir
        Directory for the download of a file of weights in S3.
    """
    _check(top, box_threshold, batch_size)
    on = devices.find(device, precision)
    listed = read_boxes(boxes) if boxes else []
    files = image_files(images)
    trained = load_model(model, step=step, cache=cache_dir)
    named = [] if findings is None else numbers_of(findings.split(","), trained.findings)
    drawn = matched(listed, files, trained.findings, only=named) if boxes else None
    known = refuse_trained(trained.trained_on, drawn.files, force=force) if drawn else None
    used, reporter = drawn.files if drawn else files, Reporter(None)
    trained = replace(trained, geometry=of_files(trained.geometry, used, gray_range, reporter))
    explainer = open_explainer(trained, on, batch=batch_size, precision=precision)
    output = Output(out, box_threshold, overlays)
    _note(trained.notes)
    if drawn:
        matches = f"on {len(drawn.files):,} of {len(files):,} images"
        _note([f"{drawn.used:,} of {drawn.listed:,} boxes are used, {matches}"])
        unusable = [(file.name, file.problem) for file in files if file.problem]
        files = drawn.files
        document, bad = localise(explainer, drawn, trained_on_images=known, output=output, seed=seed, reporter=reporter)
        bad += unusable
        _print(as_table(document).splitlines())
        _note(document["notes"])
    else:
        _note(explainer.notes())
        report = _nothing if check_randomisation else _report
        bad = explain_images(explainer, files, named=named, top=top, output=output, report=report, reporter=reporter)
    if check_randomisation and (drawn or len(bad) < len(files)):
        stages = randomised(explainer, files, named=named, seed=seed, folder=out, reporter=reporter)
        _print(stages_as_table(stages).splitlines())
    if bad:
        raise _problem(bad, any_done=drawn is not None or len(bad) < len(files))


def _check(top: int, box_threshold: float, batch_size: int | None) -> None:
    """Raises: InputError for numbers out of range."""
    for flag, value in (("--top", top), ("--batch-size", batch_size)):
        if value is not None and value < 1:
            raise InputError(f"cannot use {flag} {value}: it must be at least 1", hint=f"{flag} 1")
    if not 0 < box_threshold <= 1:
        raise InputError(
            f"cannot use a box threshold of {box_threshold}: it must be above 0 and at most 1 (from `--box-threshold`)",
            hint=f"--box-threshold {THRESHOLD}",
        )


def _report(line: Line) -> None:
    _print([json.dumps(line)])


def _nothing(_line: Line) -> None:
    """A table is printed instead."""


def _note(notes: Iterable[str]) -> None:
    """Print caveats to stderr."""
    sys.stderr.write("".join(f"note: {on_one_line(note)}\n" for note in notes))


def _print(lines: Iterable[str]) -> None:
    try:
        sys.stdout.write("".join(f"{line}\n" for line in lines))
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, such as `| head`, has finished; OUT gets the rest
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _problem(bad: Sequence[Bad], *, any_done: bool) -> InputError:
    """Lists all unusable images: they are reported nowhere else."""
    listed = "".join(f"\n  {name}: {reason}" for name, reason in bad)
    return InputError(f"cannot explain {len(bad)} images{', the others are explained' if any_done else ''}:{listed}")
