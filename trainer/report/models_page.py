"""Page of several models evaluated on the same images."""

from collections.abc import Sequence

from trainer.evaluation.document import Evaluation, extent, mean_calibration, unit_of
from trainer.evaluation.paired import names_of, notes_of
from trainer.evaluation.reference import SPLITS
from trainer.report.formatting import interval, number, without_places
from trainer.report.page import Section, Table, Text, page
from trainer.report.paired_sections import paired


def html(evaluations: Sequence[Evaluation]) -> str:
    """The page. The first evaluation has no comparison; those of the others are with the first."""
    data = evaluations[0]["data"]
    title = f"{len(evaluations)} models compared"
    subtitle = f"{data['part']} images of {data['labels']}: {extent(data)}, of {SPLITS[data['split']]}"
    return page(title, subtitle, [_scores(evaluations), paired(evaluations), _notes(evaluations)])


def _scores(evaluations: Sequence[Evaluation]) -> Section:
    rows = [
        [
            name,
            interval(one["mean_auroc"]),
            interval(one["mean_auprc"]),
            number(mean_calibration(one, "raw", "ece"), 4),
            number(mean_calibration(one, "calibrated", "ece"), 4),
        ]
        for name, one in zip(names_of(evaluations), evaluations, strict=True)
    ]
    unit, count = unit_of(evaluations[0]["data"]), evaluations[0]["resamples"]
    caption = f"Mean scores; 95 % intervals from the same {count:,} resamples of {unit}s for all models."
    head = ["Model", "Mean AUROC", "Mean AUPRC", "ECE", "ECE calibrated"]
    return Section("scores", "Models", [Table(caption, head, rows)])


def _notes(evaluations: Sequence[Evaluation]) -> Section:
    notes = [without_places(note) for note in notes_of(evaluations)]
    return Section("notes", "Notes", [Text(notes)] if notes else [])
