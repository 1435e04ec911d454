"""Several models on the same images: each beside the first, as text for a terminal and as CSV.

The first evaluation has no comparison; those of the others are with the first.
"""

from collections.abc import Iterator, Sequence

from trainer.errors import on_one_line
from trainer.evaluation.document import Evaluation, Interval, extent, unit_of
from trainer.evaluation.reference import SPLITS
from trainer.evaluation.summary import aligned, cells_of, differences, in_brackets, mean_too_few
from trainer.formats.spreadsheet import line


def names_of(evaluations: Sequence[Evaluation]) -> list[str]:
    """Names of the models; equal ones are numbered."""
    names: list[str] = []
    for one in evaluations:
        nth = 1 + sum(earlier["model"] == one["model"] for earlier in evaluations[: len(names)])
        names.append(one["model"] if nth == 1 else f"{one['model']} ({nth})")
    return names


def notes_of(evaluations: Sequence[Evaluation]) -> list[str]:
    """Notes of all models, then those of some with the model's name."""
    shared = set.intersection(*(set(one["notes"]) for one in evaluations))
    notes = [note for note in evaluations[0]["notes"] if note in shared]
    for name, one in zip(names_of(evaluations), evaluations, strict=True):
        notes += [f"{name}: {note}" for note in one["notes"] if note not in shared]
    return notes


def as_table(evaluations: Sequence[Evaluation]) -> str:
    """Mean scores of all, then the differences of each to the first."""
    first, names = evaluations[0], names_of(evaluations)
    data = first["data"]
    rows = [
        [f"{nth} {name}", in_brackets(one["mean_auroc"]), in_brackets(one["mean_auprc"])]
        for nth, (name, one) in enumerate(zip(names, evaluations, strict=True), start=1)
    ]
    head = [
        f"{len(evaluations)} models on {data['labels']}: {extent(data)}",
        f"{data['part']} images of {SPLITS[data['split']]}",
        f"in brackets: 95 % intervals from the same {first['resamples']:,} resamples of {unit_of(data)}s",
    ]
    blocks = ["\n".join(map(on_one_line, head)), aligned([["", "mean AUROC", "mean AUPRC"], *rows], left=(0, 1, 2))]
    for nth, one in enumerate(evaluations[1:], start=2):
        if one["comparison"] is not None:
            blocks.append(f"AUROC of {nth} minus that of 1\n{differences(one['comparison'], str(nth), '1')}")
    blocks.append("\n".join(f"note: {on_one_line(note)}" for note in notes_of(evaluations)))
    return "\n\n".join(block for block in blocks if block) + "\n"


def as_csv(evaluations: Sequence[Evaluation]) -> str:
    """One row per model and finding, then the means; empty cells where undefined, as all differences of the first."""
    bounds = ("", "_low", "_high")
    header = [
        "model",
        "finding",
        *(f"auroc{bound}" for bound in bounds),
        *(f"difference{bound}" for bound in bounds),
        "p",
        "p_holm",
        "no_interval",
    ]
    return "".join([line(header), *map(line, _rows(evaluations))])


def _rows(evaluations: Sequence[Evaluation]) -> Iterator[list[str | float | None]]:
    for name, one in zip(names_of(evaluations), evaluations, strict=True):
        aurocs: list[tuple[str, Interval, str | None]] = [
            (finding["name"], finding["auroc"], finding.get("too_few")) for finding in one["findings"]
        ]
        comparison = one["comparison"]
        by_name = {} if comparison is None else {row["name"]: row for row in comparison["differences"]}
        for finding, auroc, too_few in [*aurocs, ("mean", one["mean_auroc"], mean_too_few(one))]:
            row = by_name.get(finding)
            compared = [None] * 5 if row is None else [*cells_of(row["difference"]), row["p"], row["p_holm"]]
            yield [name, finding, *cells_of(auroc), *compared, too_few]
