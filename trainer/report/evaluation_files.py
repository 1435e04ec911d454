"""Files of evaluations in a directory that the user names.

OUT/metrics.json  OUT/metrics.csv  OUT/*.png  OUT/predictions/PART.csv    of one model, or of a file of predictions
OUT/index.html  OUT/comparison.csv  OUT/MODEL/…                           of several models
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from trainer.errors import InputError
from trainer.evaluation import paired
from trainer.evaluation.document import Evaluation, to_json
from trainer.evaluation.inputs import EvaluationInput, calibrated_predictions
from trainer.evaluation.scores import predictions_csv
from trainer.evaluation.summary import as_csv
from trainer.layout import EVALUATION, EVALUATION_TABLE, predictions_key
from trainer.report.formatting import last_name
from trainer.storage import LocalStorage, output_files

DOCUMENT: Final = Path(EVALUATION).name
TABLE: Final = Path(EVALUATION_TABLE).name
PLOTS: Final = ("auroc.png", "roc.png", "precision_recall.png", "calibration.png", "subgroups.png")
"""Files of `evaluation_figures.plots`, which takes a second to import."""

PAGE: Final = "index.html"
COMPARISON: Final = "comparison.csv"

_UNNAMED: Final = "model"
"""Directory of a model whose place has no name, such as `..`."""


def make(out: Path, predicted: str | None, models: Sequence[str] = ()) -> None:
    """Create the directory before the computation; `predicted` is the split of a model's predictions.

    Raises: InputError where it cannot be written, or foreign files would be replaced.
    """
    for folder in (out, *(out / name for name in folders_of(models))):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as problem:
            reason = "it is a file" if isinstance(problem, FileExistsError) else str(problem.strerror).lower()
            raise InputError(
                f"cannot write: {reason}, got `{folder}` (from `--out`)", hint="choose another --out"
            ) from problem
    names = [DOCUMENT, TABLE, *PLOTS, *([predictions_key(predicted)] if predicted else [])]
    for folder in [out / name for name in folders_of(models)] or [out]:
        output_files.check(LocalStorage(str(folder)), names, beside=DOCUMENT)
    if len(models) > 1:
        output_files.check(LocalStorage(str(out)), [COMPARISON, PAGE], beside=PAGE)


def folders_of(models: Sequence[str]) -> list[str]:
    """Directory in OUT of each of several models: its last name, numbered where two would be equal; none for a single model."""
    names: list[str] = []
    for model in models if len(models) > 1 else ():
        last = last_name(model)
        own = _UNNAMED if last in {"", ".", ".."} else last
        name, nth = own, 1
        while name in names:
            nth += 1
            name = f"{own}-{nth}"
        names.append(name)
    return names


def write(evaluation: Evaluation, out: Path, inputs: EvaluationInput | None = None) -> Iterator[Path]:
    """Write documents and plots, and predictions of a model; yields the path of each file when it is written."""
    from trainer.report.evaluation_figures import plots  # noqa: PLC0415 - importing matplotlib takes a second

    files: dict[str, bytes] = {}
    if inputs is not None:
        scored, shown = inputs.scored, calibrated_predictions(inputs)
        content = predictions_csv(scored.images, scored.log_odds_NK, inputs.findings, shown)
        files[predictions_key(inputs.part)] = content
    files |= {DOCUMENT: to_json(evaluation), TABLE: as_csv(evaluation).encode(), **plots(evaluation)}
    yield from _written(out, files)


def write_several(
    evaluations: Sequence[Evaluation], out: Path, models: Sequence[str], inputs: Sequence[EvaluationInput]
) -> Iterator[Path]:
    """Write the files of each model, and the comparison of all; yields paths as `write`."""
    from trainer.report.models_page import html  # noqa: PLC0415 - as in `write`

    for name, evaluation, predicted in zip(folders_of(models), evaluations, inputs, strict=True):
        yield from write(evaluation, out / name, predicted)
    yield from _written(out, {COMPARISON: paired.as_csv(evaluations).encode(), PAGE: html(evaluations).encode()})


def _written(out: Path, files: Mapping[str, bytes]) -> Iterator[Path]:
    storage = LocalStorage(str(out))
    for name, content in files.items():
        storage.write(name, content)
        yield out / name
