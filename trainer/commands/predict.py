"""`trainer predict`."""

import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Final, Literal, TextIO

from cyclopts import Parameter

from trainer import devices
from trainer.config import Precision
from trainer.data.augment import Tta
from trainer.data.decode import turned_note
from trainer.data.gray_range import of_files
from trainer.data.image_files import image_files
from trainer.devices import Arithmetic
from trainer.errors import InputError, on_one_line
from trainer.inference.predict import Prediction, predictor
from trainer.inference.prediction_output import csv_lines, json_lines, table_lines
from trainer.inference.prediction_pictures import picture_output
from trainer.models.load import LoadedModel, load_model
from trainer.runtime.console import Reporter

Rule = Literal["youden", "best_f1", "specificity_90", "specificity_95"]

_MOST_BATCH: Final = 4096


def predict(
    images: Annotated[list[Path], Parameter(name="IMAGE")],
    /,
    *,
    model: str,
    step: str = "best",
    format: Literal["table", "jsonl", "csv"] = "table",  # noqa: A002 - the flag's name
    out: Path | None = None,
    rule: Rule | None = None,
    tta: Tta = "none",
    device: Literal["auto", "cpu", "cuda", "hpu"] = "auto",
    batch_size: int | None = None,
    precision: Precision = "fp32",
    gray_range: str | None = None,
    cache_dir: Path | None = None,
) -> None:
    """Predict finding probabilities, or the class, of X-ray images. Not for clinical use.

    Parameters
    ----------
    images
        PNG, JPEG or DICOM files, and directories of them.
    model
        A run (OUTPUT/NAME, also in S3 or as pulled), RUN/checkpoints/step-…, a model.safetensors, or a file of weights.
    step
        Checkpoint of the run: `best`, `last` or a number.
    format
        `table` for a terminal; `jsonl` and `csv` for programs.
    out
        Directory for a picture of each image with its prediction, and predictions.png with the first twelve; created if missing.
        Pictures of an earlier call are replaced.
    rule
        Rule for positive findings, with its threshold fixed on validation images; default: Youden's J.
    tta
        Test-time augmentation: average over several views of each image. `flip` adds the mirror image, `ten_crop` uses corners
        and centre of both.
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
    if batch_size is not None and not 1 <= batch_size <= _MOST_BATCH:
        raise InputError(
            f"cannot use --batch-size {batch_size}: it must be from 1 to {_MOST_BATCH}", hint="--batch-size 32"
        )
    files = image_files(images)
    pictures = None if out is None else picture_output(out, files)
    on = devices.find(device, precision)
    trained = load_model(model, step=step, cache=cache_dir)
    _check_rule(trained, rule)
    chosen: Rule = rule or "youden"
    bad: list[Prediction] = []
    turned: list[Prediction] = []
    stdout, reporter = sys.stdout, Reporter(None)  # a progress bar on the terminal replaces sys.stdout
    trained = replace(trained, geometry=of_files(trained.geometry, files, gray_range, reporter))
    one = predictor(trained, on, tta=tta, rule=chosen, batch=batch_size, precision=precision)
    _report(trained, tta, one.precision)
    with reporter.progress("predicting", len(files)) as advance:
        predictions = _collected(one.predictions(files, advance), bad, turned)
        if pictures is not None:
            predictions = pictures.drawn(predictions, trained, chosen)
        forms: dict[str, Callable[[], Iterator[str]]] = {
            "jsonl": lambda: json_lines(predictions, trained, one.precision),
            "csv": lambda: csv_lines(predictions, trained),
            "table": lambda: table_lines(predictions, trained, chosen),
        }
        text = forms[format]()
        later = list(text) if stdout.isatty() else []  # the terminal, which shows the bar
        read = _write(text, stdout)
        if pictures is not None:
            deque(predictions, maxlen=0)  # the rest, if the reader of the text has finished
    complete = read and _write(later, stdout)
    if turned:
        sys.stderr.write(f"note: {turned_note(len(turned), len(files))}\n")
    if complete and bad:
        raise _problem(bad, len(files))


def _check_rule(trained: LoadedModel, rule: Rule | None) -> None:
    if rule is None:
        return
    if trained.loss == "cross_entropy":
        raise InputError(
            f"cannot use --rule {rule}: `{trained.origin}` predicts one class per image, the most probable",
            hint="remove --rule",
        )
    if trained.calibrator is None:
        raise InputError(
            f"cannot use --rule {rule}: no thresholds were fixed for `{trained.origin}`",
            hint="a run fixes them at its end; `trainer evaluate` fixes them again",
        )


def _report(trained: LoadedModel, tta: Tta, precision: Arithmetic) -> None:
    """Print caveats to stderr."""
    notes = list(trained.notes)
    if trained.calibrator is None:
        notes.append(
            "probabilities are not calibrated, and there are no thresholds: this model has no calibration.json"
        )
    elif tta != "none":
        notes.append(f"calibration and thresholds were fitted without --tta {tta}")
    if precision != "fp32":
        notes.append(f"the network is computed in {precision}, which is less exact than fp32")
    for note in notes:
        sys.stderr.write(f"note: {on_one_line(note)}\n")


def _collected(
    predictions: Iterable[Prediction], bad: list[Prediction], turned: list[Prediction]
) -> Iterator[Prediction]:
    for each in predictions:
        if each.error is not None:
            bad.append(each)
        if each.turned:
            turned.append(each)
        yield each


def _write(lines: Iterable[str], out: TextIO) -> bool:
    """Whether everything was read: `| head` closes the pipe, which is not an error."""
    try:
        for line in lines:
            out.write(line)
            out.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())  # buffered output is written at exit
        return False
    return True


def _problem(bad: Sequence[Prediction], total: int) -> InputError:
    """Lists all unusable images: a table does not contain them."""
    listed = "".join(f"\n  {each.image}: {each.error}" for each in bad)
    others = ", the others are predicted" if len(bad) < total else ""
    return InputError(f"cannot predict {len(bad)} of {total} images{others}:{listed}")
