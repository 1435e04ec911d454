"""Prevalence of each finding in each split, as a table, CSV and JSON."""

import json
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainer.data.labels import SPLITS, LabelTable
from trainer.formats.spreadsheet import line


@dataclass(frozen=True)
class Prevalence:
    """Prevalence of each finding in each split."""

    findings: tuple[str, ...]
    percent: tuple[tuple[float | None, ...] | None, ...]
    """Per split, per finding: percentage of the images with a known label that have it, None without any; None for a split without
    images."""
    known: tuple[tuple[int, ...], ...]
    """Per split, per finding: images with a known label."""
    images: tuple[int, ...]
    """Per split."""
    patients: tuple[int, ...]
    """Per split."""

    @property
    def has_unknown(self) -> bool:
        """Whether a label is unknown."""
        return any(min(known_K, default=count) < count for known_K, count in zip(self.known, self.images, strict=True))


def prevalence(table: LabelTable) -> Prevalence:
    """Percentages, images and patients of every split."""
    rows_of = [table.rows(split) for split in SPLITS]
    return Prevalence(
        findings=table.findings,
        percent=tuple(_percent(table, rows) if len(rows) else None for rows in rows_of),
        known=tuple(tuple(table.known()[rows].sum(axis=0).tolist()) for rows in rows_of),
        images=tuple(len(rows) for rows in rows_of),
        patients=tuple(len(np.unique(table.patients_N[rows])) for rows in rows_of),
    )


def _percent(table: LabelTable, rows: NDArray[np.int64]) -> tuple[float | None, ...]:
    positive_K, known_K = (each_NK[rows].sum(axis=0).tolist() for each_NK in (table.positive(), table.known()))
    return tuple(
        100.0 * positive / known if known else None for positive, known in zip(positive_K, known_K, strict=True)
    )


def as_table(stats: Prevalence) -> str:
    """Table for a terminal: percentages with three decimals, then images and patients; `-` in the column of an empty split.

    Where labels are unknown, a second table has the numbers of known ones.
    """
    width = max(len(name) for name in (*stats.findings, "patients"))
    lines = [" " * width + "".join(f"{split:>8}" for split in SPLITS)]
    for name, cells in _cells(stats):
        texts = ("-" if cell is None else f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in cells)
        lines.append(f"{name:<{width}}" + "".join(f"{text:>8}" for text in texts))
    if stats.has_unknown:
        lines += ["", "images with a known label, of which the percentages are", " " * width + lines[0][width:]]
        lines += [
            f"{name:<{width}}" + "".join(f"{known_K[row]:>8}" for known_K in stats.known)
            for row, name in enumerate(stats.findings)
        ]
    return "\n".join(lines) + "\n"


def as_csv(stats: Prevalence) -> str:
    """The same rows and columns as CSV with six decimals; empty cells for an empty split. Where labels are unknown, the numbers of
    known ones are in further columns.
    """
    has_unknown, known = stats.has_unknown, [f"{split}_known" for split in SPLITS]
    lines = [line(["finding", *SPLITS, *(known if has_unknown else [])])]
    for row, (name, cells) in enumerate(_cells(stats)):
        numbers: list[int | None] = [None] * len(SPLITS)
        if row < len(stats.findings):
            numbers = [known_K[row] for known_K in stats.known]
        values = [f"{cell:.6f}" if isinstance(cell, float) else cell for cell in cells]
        lines.append(line([name, *values, *(numbers if has_unknown else [])]))
    return "".join(lines)


def as_json(stats: Prevalence) -> str:
    """`percent` of the known labels and `known`, their number, by finding and split; `images` and `patients` by split.

    `percent` is null for a split without any known label.
    """
    rows = {name: dict(zip(SPLITS, cells, strict=True)) for name, cells in _percent_cells(stats)}
    known = {
        name: {split: stats.known[s][k] for s, split in enumerate(SPLITS)} for k, name in enumerate(stats.findings)
    }
    counts = {"images": stats.images, "patients": stats.patients}
    by_split = {name: dict(zip(SPLITS, values, strict=True)) for name, values in counts.items()}
    return json.dumps({"percent": rows, "known": known, **by_split}, indent=2) + "\n"


def _percent_cells(stats: Prevalence) -> list[tuple[str, list[float | None]]]:
    return [
        (name, [None if column is None else column[row] for column in stats.percent])
        for row, name in enumerate(stats.findings)
    ]


def _cells(stats: Prevalence) -> list[tuple[str, list[float | int | None]]]:
    rows: list[tuple[str, list[float | int | None]]] = [(name, [*cells]) for name, cells in _percent_cells(stats)]
    for name, counts in (("images", stats.images), ("patients", stats.patients)):
        rows.append((name, [count or None for count in counts]))
    return rows
