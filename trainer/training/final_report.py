"""Calibration, evaluation, report and model card at the end of a run; on rank 0.

None of these may lose the run's results: an error is logged in one line, with the command to repeat the step. Shapes: N images, K
findings.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from trainer import report
from trainer.data.public import are_drawn
from trainer.errors import on_one_line
from trainer.evaluation import calibration, document, metadata
from trainer.evaluation.calibration import Calibrator
from trainer.evaluation.cohort import cohort_part
from trainer.evaluation.document import CohortPart, Data, Evaluation
from trainer.evaluation.evaluate import EvaluationRequest, evaluate
from trainer.evaluation.inputs import with_context
from trainer.evaluation.label_file import not_read
from trainer.evaluation.metadata import Metadata
from trainer.evaluation.reference import split_of
from trainer.evaluation.shortcuts import shortcuts
from trainer.evaluation.summary import as_csv
from trainer.explanation import gallery
from trainer.formats.documents import run_record
from trainer.layout import CALIBRATION, CARD, EVALUATION, EVALUATION_TABLE
from trainer.models.architectures import build
from trainer.models.spec import describe
from trainer.report import Documents, model_card
from trainer.report.formatting import last_name
from trainer.report.model_card import Subject
from trainer.runs.history import Entry
from trainer.training.run import Run


@dataclass(frozen=True)
class PredictedSplit:
    """Predictions and labels of one split."""

    images: Sequence[str]
    rows_N: NDArray[np.int64]
    """Rows of the data set."""
    log_odds_NK: NDArray[np.float64]
    labels_NK: NDArray[np.floating]
    patients_N: NDArray[np.int64]


def write_report_files(
    run: Run,
    network: nn.Module,
    predicted: Mapping[str, PredictedSplit],
    results: Mapping[str, Any],
    entries: Sequence[Entry],
    *,
    calibrator: Calibrator | None,
) -> Iterator[bool]:
    """Write evaluation, report and model card; `results` are written afterwards.

    Yields True after each step but the last, so that SIGTERM is handled between steps.
    """
    evaluation: Evaluation | None = None
    documents: Documents | None = None
    if "test" in predicted:
        with _optional(run, "evaluation", "evaluate"):
            model = f"{run.config.name}, step {results['checkpoint']['step']}"
            evaluation = _evaluation(run, predicted["test"], calibrator, model)
    yield True
    with _optional(run, "report", "report"):
        documents = Documents(run=_record(run), entries=entries, results=results, evaluation=evaluation)
        with _optional(run, "images in its report", "report --gallery on"):
            scored = predicted.get("test") or predicted.get("val")
            documents = _with_pictures(run, network, scored, documents, calibrator)
    yield True
    if documents is not None:
        with _optional(run, "report", "report"):
            for key, content in report.files(documents).items():
                run.prefix.writer.queue_file(key, content)
        yield True
    with _optional(run, "model card", "export --out DIRECTORY"):
        run.prefix.writer.queue_file(CARD, _card(run, results, evaluation, calibrator).encode())


@contextmanager
def _optional(run: Run, what: str, command: str) -> Iterator[None]:
    """Log an error in the block instead of raising it."""
    try:
        yield
    except Exception as problem:  # noqa: BLE001 - no error here is worth losing the run's results
        reason = on_one_line(f"{type(problem).__name__}: {problem.args[0] if problem.args else problem}")
        url = run.prefix.storage.url.rstrip("/")
        run.reporter.line(f"this run has no {what}: {reason}; `python -m trainer {command} {url}` creates it")


def fit_calibration(run: Run, val: PredictedSplit | None) -> Calibrator | None:
    """Fit the calibration on val and write it next to the weights; None without validation images, or if that fails."""
    fitted = None
    if val is not None:
        with _optional(run, "calibration", "evaluate"):
            fitted = calibration.fit(
                val.log_odds_NK,
                val.labels_NK,
                run.table.findings,
                val.images,
                f"val, {len(val.images):,} images",
                classes=run.config.classes,
            )
            run.prefix.writer.queue_file(CALIBRATION, calibration.to_bytes(fitted))
    return fitted


def _evaluation(run: Run, test: PredictedSplit, calibrator: Calibrator | None, model: str) -> Evaluation:
    attributes = metadata.of_dataset(run.source.root, run.source.layout, run.table.images)
    request = EvaluationRequest(
        model=model,
        images=test.images,
        log_odds_NK=test.log_odds_NK,
        labels_NK=test.labels_NK,
        patients_N=test.patients_N,
        findings=run.table.findings,
        data=_data(run, test, calibrator),
        classes=run.config.classes,
        positive_class=run.positive_class,
        calibrated=None
        if calibrator is None
        else calibration.calibrated(calibrator, test.log_odds_NK, run.table.findings),
        metadata=None if attributes is None else attributes.rows(test.rows_N),
        shortcuts=shortcuts(run.pack.sizes_N2[test.rows_N], test.labels_NK, run.table.findings),
        cohort=_cohort(run, attributes),
        notes=_notes(run),
        seed=run.config.seed,
    )
    evaluation = with_context(evaluate(request), None, run.source.policy)
    run.prefix.writer.queue_file(EVALUATION, document.to_json(evaluation))
    run.prefix.writer.queue_file(EVALUATION_TABLE, as_csv(evaluation).encode())
    return evaluation


def _cohort(run: Run, attributes: Metadata | None) -> list[CohortPart]:
    """The images that were used of each split."""
    public = _record(run).get("data_set") is not None
    return [
        cohort_part(split, run.table, rows_N, attributes, is_public=public)
        for split, rows_N in run.rows.items()
        if len(rows_N)
    ]


def _with_pictures(
    run: Run, network: nn.Module, scored: PredictedSplit | None, documents: Documents, calibrator: Calibrator | None
) -> Documents:
    """Pictures of the most confident errors, where they may be shown."""
    shows, why = gallery.wanted(run.config.gallery, run.source)
    if scored is None or not shows:
        return replace(documents, why_none=why)
    pictures = gallery.make(
        network,
        names=scored.images,
        log_odds_NK=scored.log_odds_NK,
        labels_NK=scored.labels_NK,
        findings=run.table.findings,
        classes=run.config.classes,
        record_of=lambda position: _pixels(run, scored.rows_N[position : position + 1]),
        crop_px=run.config.crop_px,
        calibrator=calibrator,
    )
    return replace(documents, pictures=pictures, why_none="there are no errors")


def _pixels(run: Run, row_1: NDArray[np.int64]) -> NDArray[np.uint8]:
    side = run.pack.index.geometry.side
    record_SS: NDArray[np.uint8] = np.empty((side, side), np.uint8)
    run.pack.gather(row_1, record_SS[None])
    return record_SS


def _record(run: Run) -> dict[str, Any]:
    return run_record(run.prefix.storage) or {}


def _card(run: Run, results: Mapping[str, Any], evaluation: Evaluation | None, calibrator: Calibrator | None) -> str:
    config, findings = run.config, run.table.findings
    with torch.device("meta"):
        network = build(config.model, config.head, len(findings))
    subject = Subject(
        header=describe(
            config,
            findings,
            step=results["checkpoint"]["step"],
            positive_class=run.positive_class,
            gray_bits=run.pack.index.geometry.gray_bits,
        ),
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        calibrator=calibrator,
    )
    return model_card.as_markdown(subject, _record(run), results, evaluation)


def _data(run: Run, test: PredictedSplit, calibrator: Calibrator | None) -> Data:
    table = run.table
    trained_N = table.patients_N[np.concatenate([run.rows["train"], run.rows["val"]])]
    return Data(
        drawn=are_drawn(run.source),
        edition=_record(run).get("label_edition"),
        labels=last_name(run.config.data),
        part="test",
        split=split_of([table.images[row] for row in table.rows("test").tolist()]),
        images=len(test.images),
        patients=len(np.unique(table.patients_N[test.rows_N])),
        patients_known=table.unidentified.isdisjoint(test.images),
        fitted_on=calibrator.fitted_on if calibrator else None,
        trained_on_known=True,
        trained_on_images=int(np.isin(table.patients_N[test.rows_N], trained_N).sum()),
    )


def _notes(run: Run) -> list[str]:
    """Caveats about skipped images and label files that were not read."""
    left_out = len(run.table) - sum(len(rows) for rows in run.rows.values())
    lost = [f"{left_out:,} images of the data set could not be read and are in no split"] if left_out else []
    return [*lost, *not_read(run.source)]
