"""Figures of a run's history: loss, scores and speed by epoch. Does not import torch."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeGuard

import numpy as np

from trainer.report.drawing import (
    PANEL,
    WIDTH,
    Drawing,
    above_axes,
    as_png,
    canvas,
    headroom,
    in_percent,
    legend_above,
    legend_labels,
    look,
    styled,
    with_few_ticks,
    with_room_for_labels,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Entry = Mapping[str, Any]

_FEW_EPOCHS: Final = 30
"""Up to this many epochs are marked with dots."""

_LEAST_SHARE: Final = 0.05
"""A share of time below it is low in its figure, not a curve over its whole height."""


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
    return _over_epochs("Images per second", {"images/s": _series(entries, "images_per_s")}, least_top=0.0)


@styled()
def data_wait(entries: Sequence[Entry]) -> Drawing | None:
    """Share of time that training waited for data, by epoch, and device utilisation where reported."""
    lines = {"waiting for data": _series(entries, "data_wait_share"), "device in use": _series(entries, "utilisation")}
    drawing = _over_epochs("Share of time", lines, least_top=_LEAST_SHARE)
    if drawing is not None:
        in_percent(drawing.figure.axes[0])
        with_room_for_labels(drawing.figure.axes[0])
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
    title: str, lines: Mapping[str, Sequence[tuple[float, float]]], *, least_top: float | None = None
) -> Drawing | None:
    """Lines by epoch; with `least_top`, the y axis goes from 0 to at least that."""
    drawn = {name: points for name, points in lines.items() if points}
    if not drawn:
        return None
    labels = dict(zip(lines, legend_labels(list(lines)), strict=True))
    above = above_axes([labels[name] for name in drawn], title)
    _, bottom, _, height = PANEL
    figure, (axes,) = canvas(WIDTH, bottom + height + above, [PANEL])
    for nth, name in enumerate(lines):  # also counts lines without points, so that colours are the same in all figures
        if name in drawn:
            _draw(axes, drawn[name], labels[name], look(nth))
    points = [point for line in drawn.values() for point in line]
    _set_epochs(axes, [epoch for epoch, _ in points])
    _set_values(axes, [value for _, value in points], least_top)
    legend_above(axes, height, title)
    with_room_for_labels(axes)
    words = " ".join(_in_words(name, line) for name, line in drawn.items())
    return Drawing(figure, f"{title or 'Curves'} by epoch. {words}")


def _draw(axes: "Axes", points: Sequence[tuple[float, float]], label: str, style: dict[str, Any]) -> None:
    x, y = zip(*points, strict=True)
    axes.plot(x, y, label=label, **style | ({} if len(points) <= _FEW_EPOCHS else {"marker": ""}))


def _set_epochs(axes: "Axes", epochs: Sequence[float]) -> None:
    """From one whole epoch to another: a single one is in the middle, and its axis has no fractions."""
    first, last = math.floor(min(epochs)), math.ceil(max(epochs))
    margin = 0.05 * (last - first) or 0.5
    axes.set_xlim(first - margin, last + margin)
    with_few_ticks(axes, 6, whole=True)
    axes.set_xlabel("epoch")


def _set_values(axes: "Axes", values: Sequence[float], least_top: float | None) -> None:
    """A height of at least a tenth of the highest value, which does not make a hill of every change."""
    low, high = min(values), max(values)
    if least_top is not None:
        axes.set_ylim(0, headroom([least_top, *values]))
        return
    span = max(high - low, 0.1 * max(abs(low), abs(high)))
    middle, reach = (low + high) / 2, 0.55 * span or 1.0
    axes.set_ylim(middle - reach, middle + reach)


def _in_words(name: str, points: Sequence[tuple[float, float]]) -> str:
    first, last = points[0], points[-1]
    low, high = min(y for _, y in points), max(y for _, y in points)
    ends = f"from {first[1]:.4g} at epoch {first[0]:g} to {last[1]:.4g} at epoch {last[0]:g}"
    return f"{name}: {ends}, lowest {low:.4g}, highest {high:.4g}."
