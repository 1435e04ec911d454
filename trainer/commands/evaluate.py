"""`trainer evaluate`."""

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

from cyclopts import Parameter
from cyclopts.types import NonNegativeInt, PositiveInt

from trainer.config import Layout, OnMissingImage, Precision
from trainer.errors import InputError
from trainer.evaluation import paired
from trainer.evaluation.document import Evaluation, to_json
from trainer.evaluation.from_file import FileRequest, beside, evaluate_file, other_model
from trainer.evaluation.inputs import evaluated, scores_of
from trainer.evaluation.summary import as_csv, as_table
from trainer.label_choices import AS_READ, LabelChoices
from trainer.report import evaluation_files
from trainer.runtime.console import Reporter

if TYPE_CHECKING:
    from trainer.inference.evaluate import ModelRequest

Part = Literal["train", "val", "test", "all"]


def evaluate(
    models: Annotated[list[str] | None, Parameter(name="MODEL")] = None,
    /,
    *,
    data: str | None = None,
    predictions: Path | None = None,
    labels: Path | None = None,
    val_predictions: Path | None = None,
    against: Path | None = None,
    part: Part | None = None,
    step: str = "best",
    layout: Layout = "auto",
    split: str | None = None,
    val_list: str | None = None,
    tta: Literal["none", "flip", "ten_crop"] = "none",
    device: str = "auto",
    batch_size: PositiveInt | None = None,
    precision: Precision = "fp32",
    gray_range: str | None = None,
    on_missing_image: OnMissingImage | None = None,
    cache_dir: Path | None = None,
    force: bool = False,
    positive_class: str | None = None,
    prevalence: Annotated[list[str] | None, Parameter(negative="")] = None,
    choices: Annotated[LabelChoices, Parameter(name="*")] = AS_READ,
    resamples: PositiveInt = 1000,
    seed: NonNegativeInt = 0,
    out: Path | None = None,
    format: Literal["table", "json", "csv"] = "table",  # noqa: A002 - the flag's name
) -> None:
    """Evaluate a model, or a file of predictions of any program; or compare several models.

    Parameters
    ----------
    models
        A run, one of its checkpoints, or a file of weights; requires --data. Several are evaluated on the same images and
        resamples, and each is compared with the first.
    data
        Data set on which to evaluate the model.
    predictions
        CSV with `Image Index` and columns `prob_<finding>`, such as that of `predict`, instead of a model; requires --labels.
        With columns `raw_<finding>` too, these are uncalibrated and `prob_<finding>` calibrated; otherwise uncalibrated.
    labels
        Ground-truth labels: Data_Entry_2017*.csv, also with columns of readers, one of the lists, a labels.csv (each may
        be .gz), or a data set's directory.
    val_predictions
        Predictions for images of other patients, to fit thresholds and calibration.
    against
        Predictions of another model for the same images, or a run that contains some; both are compared on the same resamples.
    part
        Images to evaluate: a split of the data set, or `all`, such as in an external test; default: test where there are
        splits, otherwise all.
    step
        Checkpoint of a run: `best`, `last` or its number.
    layout
        Layout of the data set or of the labels' directory; `auto` detects it.
    split
        `given` by the data set, or `patients:A/B/C[@SEED]`; default: that of the model's run.
    val_list
        File with the names of the validation images (NIH layout).
    tta
        Test-time augmentation: average over `flip` two or `ten_crop` ten views of each image.
    device
        `cpu`, `cuda`, `hpu`, or `auto` for a usable accelerator.
    batch_size
        Images per batch; default: chosen for the device.
    precision
        Arithmetic of the network: fp32, in which all devices predict the same but for rounding; bf16, which is faster and less exact,
        where the hardware computes in it; `auto` chooses the device's own.
    on_missing_image
        Images of the label files without a file: `fail`, or `skip` them; default: as the model's run.
    gray_range
        Values of 16-bit images shown as black to white, as in `trainer train`; for models without one, whose images use 12 bits or fewer.
    cache_dir
        Directory for downloads and decoded images; default: a temporary directory.
    force
        Also evaluate patients in the model's training set; the output states how many.
    positive_class
        With --predictions of two classes: the class of which sensitivity and specificity are reported; default: the one whose
        name does not look healthy, else the last by name. A model has that of its run.
    prevalence
        SHARE, or FINDING=SHARE: predictive values in a population with this prevalence, such as `Pneumonia=0.02`. May be given
        several times.
    choices
        How labels are read; default: as the model's run, as far as that fits the data set. --rename NEW=OLD|OLD also joins
        predictions: the highest of these findings is evaluated on the label NEW, such as a column of readers in --labels.
    resamples
        Bootstrap resamples of patients, for the 95 % intervals.
    seed
        Random seed of the resamples.
    out
        Directory for metrics.json, metrics.csv, plots and a model's predictions; by default nothing is written. Of several
        models each gets a directory in it, and the comparison is written to index.html and comparison.csv.
    format
        Format of the printed output.
    """
    _check_inputs(models, data, predictions, labels)
    _refuse_bucket(
        {"--predictions": predictions, "--labels": labels, "--val-predictions": val_predictions, "--against": against}
    )
    if predictions is not None and labels is not None:
        unused = {"--step": step != "best", "--tta": tta != "none", "--device": device != "auto", "--force": force}
        unused |= {
            "--batch-size": batch_size is not None,
            "--precision": precision != "fp32",
            "--cache-dir": cache_dir is not None,
        }
        unused |= {"--gray-range": gray_range is not None, "--on-missing-image": on_missing_image is not None}
        _refuse(unused, "no model is used with --predictions")
        request = FileRequest(
            predictions=predictions,
            labels=labels,
            val_predictions=val_predictions,
            against=against,
            part=part,
            layout=layout,
            split=split,
            val_list=val_list,
            positive_class=positive_class,
            prevalences=prevalence or (),
            renamed=choices.rename,
            choices=replace(choices, rename=()),
            resamples=resamples,
            seed=seed,
        )
        sys.stdout.write(_FORMS[format](_of_file(request, out)))
        return
    assert models is not None
    assert data is not None
    _refuse_of_predictions(val_predictions, positive_class)
    _refuse({"--against": against is not None and len(models) > 1}, "several models are compared with the first")
    from trainer.inference.evaluate import ModelRequest  # noqa: PLC0415 - importing torch takes seconds; not needed for files

    of_model = ModelRequest(
        model=models[0],
        step=step,
        data=data,
        layout=layout,
        split=split,
        val_list=val_list,
        part=part or "test",
        tta=tta,
        device=device,
        batch_size=batch_size,
        precision=precision,
        cache_dir=cache_dir,
        gray_range=gray_range,
        on_missing_image=on_missing_image,
        force=force,
        prevalences=tuple(prevalence or ()),
        choices=choices,
    )
    if len(models) == 1:
        sys.stdout.write(_FORMS[format](_of_model(of_model, against, out, resamples=resamples, seed=seed)))
    else:
        evaluations = _of_models(of_model, models, out, resamples=resamples, seed=seed)
        sys.stdout.write(_FORMS_OF_SEVERAL[format](evaluations))


def _of_file(request: FileRequest, out: Path | None) -> Evaluation:
    if out is not None:
        evaluation_files.make(out, None)
    evaluation = evaluate_file(request)
    if out is not None:
        _print(evaluation_files.write(evaluation, out))
    return evaluation


def _print(paths: Iterable[Path]) -> None:
    for path in paths:
        sys.stderr.write(f"{path}\n")


def _of_model(
    request: "ModelRequest", against: Path | None, out: Path | None, *, resamples: int, seed: int
) -> Evaluation:
    from trainer.inference.evaluate import evaluate_model  # noqa: PLC0415 - loads torch

    if out is not None:
        evaluation_files.make(out, request.part)
    other = None if against is None else other_model(against, request.part)  # fails early, before a long prediction
    inputs = evaluate_model(request, Reporter(None))
    theirs = None if other is None else beside(other, inputs)
    evaluation = evaluated(inputs, other=theirs, resamples=resamples, seed=seed)
    if out is not None:
        _print(evaluation_files.write(evaluation, out, inputs))
    return evaluation


def _of_models(
    request: "ModelRequest", models: Sequence[str], out: Path | None, *, resamples: int, seed: int
) -> list[Evaluation]:
    """All models on the same images; each but the first is compared with the first."""
    from trainer.inference.evaluate import evaluate_models  # noqa: PLC0415 - loads torch

    if out is not None:
        evaluation_files.make(out, request.part, models)
    all_inputs = evaluate_models([replace(request, model=model) for model in models], Reporter(None))
    first = all_inputs[0]
    evaluations = [
        evaluated(one, other=None if one is first else scores_of(first, one), resamples=resamples, seed=seed)
        for one in all_inputs
    ]
    if out is not None:
        _print(evaluation_files.write_several(evaluations, out, models, all_inputs))
    return evaluations


def _as_json(evaluation: Evaluation) -> str:
    return to_json(evaluation).decode()


_FORMS: Final[dict[str, Callable[[Evaluation], str]]] = {"table": as_table, "csv": as_csv, "json": _as_json}


_FORMS_OF_SEVERAL: Final[dict[str, Callable[[Sequence[Evaluation]], str]]] = {
    "table": paired.as_table,
    "csv": paired.as_csv,
    "json": lambda evaluations: json.dumps(list(evaluations), indent=1, allow_nan=False) + "\n",
}


def _check_inputs(
    models: Sequence[str] | None, data: str | None, predictions: Path | None, labels: Path | None
) -> None:
    """Require either a model with data, or predictions with labels."""
    given = [
        name
        for name, value in {
            "MODEL": models or None,
            "--data": data,
            "--predictions": predictions,
            "--labels": labels,
        }.items()
        if value is not None
    ]
    if given not in (["MODEL", "--data"], ["--predictions", "--labels"]):
        raise InputError(
            f"cannot evaluate: specify either a model and --data, or --predictions and --labels, got {' and '.join(given) or 'none'}",
            hint="trainer evaluate RUN --data DIR, or trainer evaluate --predictions CSV --labels FILE",
        )


def _refuse_of_predictions(val_predictions: Path | None, positive_class: str | None) -> None:
    """Refuse flags that a model has no use for."""
    _refuse(
        {"--val-predictions": val_predictions is not None},
        "a model's thresholds are fitted on the data set's own validation images",
    )
    _refuse(
        {"--positive-class": positive_class is not None},
        "a model has that of its run; for another, evaluate the run's predictions with --predictions and --labels",
    )


def _refuse_bucket(files: Mapping[str, Path | None]) -> None:
    """Refuse buckets for these files; a Path has lost one of its slashes."""
    for flag, path in files.items():
        if path is not None and path.as_posix().startswith("s3:/"):
            place = f"s3://{path.as_posix().removeprefix('s3:/')}"
            raise InputError(
                f"cannot read `{place}`: it must be a local file (from `{flag}`)",
                hint="download it; only a model and its --data can be in a bucket",
            )


def _refuse(flags: Mapping[str, bool], reason: str) -> None:
    """Refuse flags that would be ignored silently."""
    given = [name for name, is_given in flags.items() if is_given]
    if given:
        raise InputError(
            f"cannot use {' and '.join(given)}: {reason}",
            hint=f"remove {'it' if len(given) == 1 else 'them'}; see trainer evaluate --help",
        )
