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
    percent: tuple[tuple[float, ...] | None, ...]
    """Per split, per finding: percentage of images with it; None for a split without images."""
    images: tuple[int, ...]
    """Per split."""
    patients: tuple[int, ...]
    """Per split."""


def prevalence(table: LabelTable) -> Prevalence:
    """Percentages, images and patients of every split."""
    rows_of = [table.rows(split) for split in SPLITS]
    return Prevalence(
        findings=table.findings,
        percent=tuple(_percent(table.labels_NK[rows]) if len(rows) else None for rows in rows_of),
        images=tuple(len(rows) for rows in rows_of),
        patients=tuple(len(np.unique(table.patients_N[rows])) for rows in rows_of),
    )


def _percent(labels_NK: NDArray[np.float32]) -> tuple[float, ...]:
    return tuple((100.0 * labels_NK.sum(axis=0, dtype=np.float64) / len(labels_NK)).tolist())


def as_table(stats: Prevalence) -> str:
    """Table for a terminal: percentages with three decimals, then images and patients; `-` in the column of an empty split."""
    width = max(len(name) for name in (*stats.findings, "patients"))
    lines = [" " * width + "".join(f"{split:>8}" for split in SPLITS)]
    for name, cells in _cells(stats):
        texts = ("-" if cell is None else f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in cells)
        lines.append(f"{name:<{width}}" + "".join(f"{text:>8}" for text in texts))
    return "\n".join(lines) + "\n"


def as_csv(stats: Prevalence) -> str:
    """The same rows and columns as CSV with six decimals; empty cells for an empty split."""
    lines = [line(["finding", *SPLITS])]
    for name, cells in _cells(stats):
        lines.append(line([name, *(f"{cell:.6f}" if isinstance(cell, float) else cell for cell in cells)]))
    return "".join(lines)


def as_json(stats: Prevalence) -> str:
    """`percent` by finding and split (null for an empty split), `images` and `patients` by split."""
    rows = {name: dict(zip(SPLITS, cells, strict=True)) for name, cells in _percent_cells(stats)}
    counts = {"images": stats.images, "patients": stats.patients}
    by_split = {name: dict(zip(SPLITS, values, strict=True)) for name, values in counts.items()}
    return json.dumps({"percent": rows, **by_split}, indent=2) + "\n"


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
