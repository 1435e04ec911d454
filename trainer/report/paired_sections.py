"""Section of the page of several runs about paired differences: models on the same images and resamples."""

from collections.abc import Sequence

from trainer.evaluation.document import Comparison, Difference, Evaluation, unit_of
from trainer.evaluation.paired import names_of
from trainer.report.evaluation_sections import compared_numbers, difference_cells
from trainer.report.forest import Row, both
from trainer.report.formatting import finding as name_of
from trainer.report.formatting import interval, last_name
from trainer.report.interval_remarks import remarks
from trainer.report.page import Block, Folded, Plots, Section, Table, Text
from trainer.report.positive_class import of_positive_class

_MEAN = "mean"


def paired(evaluations: Sequence[Evaluation]) -> Section:
    """Each model minus the first, which has no comparison; without blocks if none has one.

    For one other model the plot is of each finding, for several it is of the mean of each model.
    """
    all_shown = list(map(of_positive_class, evaluations))
    compared = [
        (name, shown["comparison"])
        for name, shown in zip(_names(evaluations), all_shown, strict=True)
        if shown["comparison"] is not None
    ]
    if not compared:
        return Section("paired", "Paired differences")
    first, unit = _names(evaluations)[0], unit_of(evaluations[0]["data"])
    words = (
        f"AUROC minus that of {first} on the same images, with 95 % intervals from the same resamples of {unit}s. An interval that "
        "does not contain 0 shows a difference, which two intervals beside each other do not; p (Holm) is corrected for the number of findings."
    )
    wide, narrow = both("Difference in AUROC", _rows(compared), reference=0.0)
    tables: list[Block] = [_table(name, first, comparison) for name, comparison in compared]
    blocks: list[Block] = [Text([words]), Plots([wide], narrow=[narrow])]
    blocks += tables if len(tables) == 1 else [Folded("Differences of each finding", tables)]
    lines = remarks([pair for shown in all_shown for pair in compared_numbers(shown)])
    return Section("paired", "Paired differences", [*blocks, *([Text(lines)] if lines else [])])


def _names(evaluations: Sequence[Evaluation]) -> list[str]:
    """Names without places, numbered where equal."""
    return names_of([{**one, "model": last_name(one["model"])} for one in evaluations])


def _rows(compared: Sequence[tuple[str, Comparison]]) -> list[Row]:
    if len(compared) == 1:
        return [_row(name_of(row["name"]), row) for row in compared[0][1]["differences"]]
    rows = []
    for name, comparison in compared:
        differences = comparison["differences"]
        mean = next((row for row in differences if row["name"] == _MEAN), differences[0] if differences else None)
        if mean is not None:
            rows.append(_row(name, mean))
    return rows


def _row(name: str, row: Difference) -> Row:
    return Row(name, row["difference"], remark=interval(row["difference"], signed=True))


def _table(name: str, first: str, comparison: Comparison) -> Table:
    head = ["Finding", "Difference (95 %)", name, first, "p", "p (Holm)"]
    rows = [[name_of(row["name"]), *difference_cells(row)] for row in comparison["differences"]]
    return Table(f"{name} minus {first}.", head, rows)
