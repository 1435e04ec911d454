"""Figures of a run's history: loss, scores and speed by epoch. Does not import torch."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeGuard

import numpy as np

from trainer.report.drawing import (
    COLOURS,
    DASHES,
    MARKERS,
    PANEL,
    WIDTH,
    Drawing,
    as_png,
    canvas,
    headroom,
    in_percent,
    legend_above,
    styled,
    with_few_ticks,
)

Entry = Mapping[str, Any]

_FEW_EPOCHS: Final = 30
"""Up to this many epochs are marked with dots."""


@styled()
def loss_curves(entries: Sequence[Entry]) -> Drawing | None:
    """Training and validation loss by epoch; None without any."""
    lines = {"training": _series(entries, "train_loss"), "validation": _series(entries, "val", "loss")}
    return _over_epochs("Loss", lines)


@styled()
def score_curves(entries: Sequence[Entry]) -> Drawing | None:
    """Mean validation AUROC by epoch, and accuracy of a single-label model."""
    lines = {
        "mean AUROC": _series(entries, "val", "mean_auroc"),
        "accuracy": _series(entries, "val", "accuracy", "value"),
    }
    return _over_epochs("Validation score", lines)


@styled()
def throughput(entries: Sequence[Entry]) -> Drawing | None:
    """Images per second by epoch."""
    return _over_epochs("Images per second", {"images/s": _series(entries, "images_per_s")}, from_zero=True)


@styled()
def data_wait(entries: Sequence[Entry]) -> Drawing | None:
    """Share of time that training waited for data, by epoch, and device utilisation where reported."""
    lines = {"waiting for data": _series(entries, "data_wait_share"), "device in use": _series(entries, "utilisation")}
    drawing = _over_epochs("Share of time", lines, from_zero=True)
    if drawing is not None:
        in_percent(drawing.figure.axes[0], decimals=None)
    return drawing


@styled()
def curves_png(entries: Sequence[Entry]) -> bytes:
    """Training loss, validation loss and accuracy (or mean AUROC) by epoch in one picture; a note without data.

    Source: the figure of Kumar & Moghal, "Pneumonia Diagnosis with Deep Learning" (train loss, test loss, accuracy),
    with validation images in place of its test images, on which nothing may be chosen.
    """
    accuracy = _series(entries, "val", "accuracy", "value")
    score = ("accuracy", accuracy) if accuracy else ("mean AUROC", _series(entries, "val", "mean_auroc"))
    lines = {"training loss": _series(entries, "train_loss"), "validation loss": _series(entries, "val", "loss")}
    lines[f"validation {score[0]}"] = score[1]
    drawing = _over_epochs("", lines)
    if drawing is None:
        figure, (axes,) = canvas(WIDTH, 240, [PANEL])
        axes.text(0.5, 0.5, "no epoch was recorded", ha="center", transform=axes.transAxes)
        drawing = Drawing(figure, "no epoch was recorded")
    return as_png(drawing)


@styled()
def overlaid(title: str, runs: Mapping[str, Sequence[Entry]], *keys: str) -> Drawing | None:
    """The same value of several runs by epoch."""
    return _over_epochs(title, {run: _series(entries, *keys) for run, entries in runs.items()})


def _series(entries: Sequence[Entry], *keys: str) -> list[tuple[float, float]]:
    """Epoch and value of the entries that have one; entries may be of another version, or damaged."""
    points = []
    for entry in entries:
        value: Any = entry
        for key in keys:
            value = value.get(key) if isinstance(value, Mapping) else None
        epoch = entry.get("epoch")
        if _is_number(value) and _is_number(epoch):
            points.append((float(epoch), float(value)))
    return points


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and bool(np.isfinite(value))


def _over_epochs(
    title: str, lines: Mapping[str, Sequence[tuple[float, float]]], *, from_zero: bool = False
) -> Drawing | None:
    drawn = {name: points for name, points in lines.items() if points}
    if not drawn:
        return None
    rows = (len(drawn) + 1) // 2
    above = 14.0 * rows + (22 if title else 6)
    _, bottom, _, height = PANEL
    figure, (axes,) = canvas(WIDTH, bottom + height + above, [PANEL])
    words = []
    for name, points in drawn.items():
        nth = list(lines).index(name)  # also counts lines without points, so that colours are the same in all figures
        x, y = zip(*points, strict=True)
        marker = MARKERS[nth % len(MARKERS)] if len(points) <= _FEW_EPOCHS else ""
        axes.plot(
            x, y, color=COLOURS[nth % len(COLOURS)], linestyle=DASHES[nth % len(DASHES)], marker=marker, label=name[:28]
        )
        words.append(_in_words(name, points))
    with_few_ticks(axes, 6, whole=True)
    axes.set_xlabel("epoch")
    if from_zero:
        axes.set_ylim(0, headroom([y for points in drawn.values() for _, y in points]))
    legend_above(axes, height)
    if title:
        axes.set_title(title, loc="left", pad=14.0 * rows + 8)
    return Drawing(figure, f"{title or 'Curves'} by epoch. {' '.join(words)}")


def _in_words(name: str, points: Sequence[tuple[float, float]]) -> str:
    first, last = points[0], points[-1]
    low, high = min(y for _, y in points), max(y for _, y in points)
    ends = f"from {first[1]:.4g} at epoch {first[0]:g} to {last[1]:.4g} at epoch {last[0]:g}"
    return f"{name}: {ends}, lowest {low:.4g}, highest {high:.4g}."
