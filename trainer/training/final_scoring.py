"""End of a run: evaluate the best checkpoint and write the output files; `results.json` last.

All ranks call these functions together; rank 0 writes.
"""

import json
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from safetensors.torch import save as to_safetensors

from trainer.errors import InputError, JobFailedError, KnownError
from trainer.evaluation.calibration import Calibrator, calibrated
from trainer.evaluation.class_scores import class_scores
from trainer.evaluation.scores import LOG_ODDS, Scores, predictions_csv, score
from trainer.formats.documents import RESULTS_FORMAT
from trainer.layout import MODEL, REPORT, RESULTS, RUN, manifest_key, predictions_key, state_key
from trainer.models.architectures import StateDict
from trainer.models.spec import describe, with_header
from trainer.runs import checkpoints
from trainer.runs.checkpoints import BrokenError
from trainer.runs.history import Entry
from trainer.runs.manifest import Manifest, best, committed
from trainer.runtime.preemption import stopped
from trainer.storage import AbsentError
from trainer.training import snapshot
from trainer.training.run import Run, predicting
from trainer.training.state import Training

if TYPE_CHECKING:
    from trainer.training.final_report import PredictedSplit

FINAL_S: Final = 600.0
"""How long the end of a run waits for a bucket that does not accept the last checkpoint."""

SCORING: Final = "evaluating"


@dataclass(frozen=True)
class Results:
    """Results of a run."""

    step: int
    """Step of the evaluated checkpoint, the best one."""
    checkpoint: str
    results: str
    report: str | None
    """None for a run without a report, and on all ranks but 0."""
    scores: Mapping[str, Scores]
    """By split; splits without images are left out."""


def finish(run: Run, training: Training, entries: Sequence[Entry]) -> Results:
    """Evaluate the best checkpoint on validation and test images; write predictions, weights, evaluation, report and results."""
    run.watchdog.pause()
    manifest, model_state = _best_of_all(run)
    training.eval_network.load_state_dict(model_state)
    predicted = {split: _predicted(run, training, split) for split in ("val", "test") if len(run.rows[split])}
    calibrator = None
    if run.is_rank0:
        from trainer.training.final_report import fit_calibration  # noqa: PLC0415 - as in _predicted

        calibrator = fit_calibration(run, predicted.get("val"))
        for split, one in predicted.items():
            shown = None if calibrator is None else calibrated(calibrator, one.log_odds_NK, run.table.findings)
            csv = predictions_csv(one.images, one.log_odds_NK, run.table.findings, shown)
            run.prefix.writer.queue_file(predictions_key(split), csv)
        header = describe(
            run.config,
            run.table.findings,
            step=manifest.step,
            positive_class=run.positive_class,
            gray_bits=run.pack.index.geometry.gray_bits,
        )
        # Checkpoints of earlier versions have the memory format of the GPU that they were trained on.
        weights = {name: tensor.contiguous() for name, tensor in model_state.items()}
        run.prefix.writer.queue_file(MODEL, with_header(to_safetensors(weights), header))
    run.watchdog.pause()
    run.group.on_rank0(lambda: flush(run))
    scores = {split: _scores(run, one) for split, one in predicted.items()}
    document = _document(run, training, manifest, entries)
    document |= {split: one.as_json() | _classes(run, predicted[split]) for split, one in scores.items()}
    if run.config.report:
        _write_report_files(run, training, predicted, document, entries, calibrator=calibrator)
    run.group.on_rank0(lambda: _conclude(run, document))
    root = run.prefix.storage.url.rstrip("/")
    page = f"{root}/{REPORT}" if run.is_rank0 and _exists(run, REPORT) else None
    return Results(manifest.step, f"{root}/{state_key(manifest.step)}", f"{root}/{RESULTS}", page, scores)


def _exists(run: Run, key: str) -> bool:
    try:
        run.prefix.storage.stat(key)
    except KnownError:  # the run is complete; problems have been logged
        return False
    return True


def _predicted(run: Run, training: Training, split: str) -> "PredictedSplit":
    # Reports and statistics take a quarter of a second to load: not before the first step.
    from trainer.training.final_report import PredictedSplit  # noqa: PLC0415

    rows = run.rows[split]
    with predicting(run, len(rows), training.step, f"{SCORING} {split}") as after_batch:
        logits_NK = run.evaluator.predict(training.eval_network, run.loader, rows, after_batch)
    return PredictedSplit(
        images=[run.table.images[row] for row in rows.tolist()],
        rows_N=rows,
        log_odds_NK=LOG_ODDS[run.config.loss](logits_NK),
        labels_NK=run.table.labels_NK[rows],
        patients_N=run.table.patients_N[rows],
    )


def _scores(run: Run, one: "PredictedSplit") -> Scores:
    return score(one.log_odds_NK, one.labels_NK, one.patients_N, run.table.findings, classes=run.config.classes)


def _classes(run: Run, one: "PredictedSplit") -> dict[str, Any]:
    """Scores by class, for single-label models."""
    if run.positive_class is None:
        return {}
    return {
        "classes": class_scores(one.log_odds_NK, one.labels_NK, one.patients_N, run.table.findings, run.positive_class)
    }


def _document(run: Run, training: Training, manifest: Manifest, entries: Sequence[Entry]) -> dict[str, Any]:
    """`results.json` without scores."""
    return {
        "format": RESULTS_FORMAT,
        "name": run.config.name,
        "model": run.config.model,
        "checkpoint": {"step": manifest.step, "epoch": manifest.epoch, "sha256": manifest.sha256},
        "last_step": training.step,
        "world_size": run.group.world.size,
        "global_batch": run.global_batch,
        "device": run.device.name,
        "hardware": run.device.hardware(),
        "peak_device_memory_bytes": max([run.device.peak_memory_bytes() or 0, *_numbers(entries, "peak_memory_bytes")]),
        "training_s": round(sum(_numbers(entries, "seconds")), 3),
        "images_per_s": _median(_numbers(entries, "images_per_s")),
        "utilisation": _mean(_numbers(entries, "utilisation")),
    }


def _numbers(entries: Sequence[Entry], key: str) -> list[float]:
    """Values of this key in the entries that have it."""
    return [entry[key] for entry in entries if entry.get(key) is not None]


def _median(values: list[float]) -> float | None:
    return statistics.median(values) if values else None


def _mean(values: list[float]) -> float | None:
    return statistics.fmean(values) if values else None


def _write_report_files(
    run: Run,
    training: Training,
    predicted: Mapping[str, "PredictedSplit"],
    document: Mapping[str, Any],
    entries: Sequence[Entry],
    *,
    calibrator: Calibrator | None,
) -> None:
    """Write evaluation and report step by step: each takes seconds, and SIGTERM is checked in between.

    Raises: StopError on all ranks when a worker received SIGTERM.
    """
    from trainer.training.final_report import write_report_files  # noqa: PLC0415 - as in _predicted

    steps = write_report_files(run, training.eval_network, predicted, document, entries, calibrator=calibrator)
    while run.group.on_rank0(lambda: next(steps, False)):
        if run.coordination.sync().stop:
            raise stopped(training.step)


def _conclude(run: Run, document: Mapping[str, Any]) -> None:
    """Write the results after everything else: a run with results is complete. Rank 0 calls it."""
    flush(run)
    run.prefix.writer.queue_file(RESULTS, json.dumps(document, indent=1).encode())
    flush(run)
    _check_complete(run, document)


def _check_complete(run: Run, document: Mapping[str, Any]) -> None:
    """Raises: KnownError when the run has another writer, or one of its files was removed."""
    run.prefix.check()
    step = document["checkpoint"]["step"]
    for key in (RUN, MODEL, manifest_key(step), state_key(step), RESULTS):
        try:
            run.prefix.storage.stat(key)
        except AbsentError as problem:
            raise JobFailedError(
                f"cannot finish the run at `{run.prefix.storage.url}`: its `{key}` was removed",
                hint="the run is incomplete: train again with another --name",
            ) from problem


def _best_of_all(run: Run) -> tuple[Manifest, StateDict]:
    """The best checkpoint and its weights, as found by rank 0, on all ranks."""
    weights = b""

    def find() -> dict[str, Any]:
        nonlocal weights
        manifest, content = _best(run)
        where = f"{run.prefix.storage.url.rstrip('/')}/{state_key(manifest.step)}"
        weights = snapshot.tensors_to_bytes(snapshot.from_bytes(content, where, manifest=manifest).model)
        return vars(manifest)

    manifest = Manifest(**run.group.on_rank0(find))
    return manifest, snapshot.tensors_from_bytes(run.group.broadcast(weights))


def _best(run: Run) -> tuple[Manifest, bytes]:
    """The best undamaged checkpoint and its state, after all pending ones are committed."""
    flush(run)
    manifests = committed(run.prefix.storage, run.reporter.line)
    while (top := best(manifests)) is not None:
        try:
            return top, checkpoints.read_state(run.prefix.storage, top)
        except BrokenError as problem:
            run.reporter.line(f"{problem.args[0]}; evaluating the best of the others")
            manifests.remove(top)
    raise InputError(f"cannot evaluate the run at `{run.prefix.storage.url}`: all its checkpoints are damaged")


def flush(run: Run, most_s: float = FINAL_S) -> None:
    """Wait until everything is written to the run's prefix: for a limited time, and after SIGTERM no longer than its time limit.

    Raises: as `CheckpointWriter.flush`.
    """
    end_s = time.monotonic() + most_s
    try:
        run.prefix.writer.flush(
            lambda: time.monotonic() > end_s or (run.stop.wanted and run.stop.left_s() == 0),
        )
    except KnownError as problem:  # logged now: peers exit with this error, and torchrun then kills this worker
        run.reporter.line(f"not all training progress was saved in the run: {problem.args[0]}")
        raise
