"""Figures of runs of several sizes: time, speed-up and efficiency over the number of workers. Does not import torch."""

from collections.abc import Mapping, Sequence

from trainer.report.drawing import (
    DASHES,
    INK,
    PANEL,
    TICK_PX,
    WIDTH,
    Drawing,
    above_axes,
    canvas,
    headroom,
    in_percent,
    legend_above,
    legend_labels,
    look,
    styled,
    with_room_for_labels,
)
from trainer.report.labels import text_width


@styled()
def elapsed_by_workers(models: Mapping[str, Sequence[tuple[int, float]]]) -> Drawing:
    """Elapsed seconds over the number of workers, one line per model.

    Source: the figure of Kumar & Moghal, "Pneumonia Diagnosis with Deep Learning" (elapsed time over number of GPUs).
    """
    return _by_workers("Elapsed time in seconds", models, "{:.4g} s")


@styled()
def speed_up_by_workers(models: Mapping[str, Sequence[tuple[int, float]]]) -> Drawing:
    """Speed-up over the smallest size, next to perfect scaling."""
    drawing = _by_workers("Speed-up", models, "{:.2f}")
    sizes = sorted({workers for points in models.values() for workers, _ in points})
    ideal = [workers / sizes[0] for workers in sizes]
    axes = drawing.figure.axes[0]
    axes.plot(sizes, ideal, color=INK, alpha=0.5, linewidth=1, linestyle=DASHES[1], zorder=1)
    axes.set_ylim(0, headroom([*ideal, *(value for points in models.values() for _, value in points)]))
    with_room_for_labels(axes)
    return drawing


@styled()
def efficiency_by_workers(models: Mapping[str, Sequence[tuple[int, float]]]) -> Drawing:
    """Efficiency, next to the perfect 100 %."""
    drawing = _by_workers("Efficiency", models, "{:.0%}")
    axes = drawing.figure.axes[0]
    axes.set_ylim(0, headroom([1.0, *(value for points in models.values() for _, value in points)]))
    axes.axhline(1, color=INK, alpha=0.5, linewidth=1, linestyle=DASHES[1], zorder=1)
    in_percent(axes)
    with_room_for_labels(axes)
    return drawing


@styled()
def scaling(models: Mapping[str, Sequence[tuple[int, float]]]) -> Drawing:
    """Elapsed time over workers as a separate file; a note where no time is known."""
    if models:
        return elapsed_by_workers(models)
    figure, (axes,) = canvas(WIDTH, 240, [PANEL])
    axes.text(0.5, 0.5, "no elapsed time was recorded", ha="center", transform=axes.transAxes)
    return Drawing(figure, "No elapsed time was recorded.")


def _by_workers(title: str, models: Mapping[str, Sequence[tuple[int, float]]], form: str) -> Drawing:
    labels = legend_labels(list(models))
    _, bottom, width, height = PANEL
    figure, (axes,) = canvas(WIDTH, bottom + height + above_axes(labels, title), [PANEL])
    words = []
    for nth, ((model, points), label) in enumerate(zip(models.items(), labels, strict=True)):
        x, y = zip(*points, strict=True)
        axes.plot(x, y, label=label, **look(nth))
        values = ", ".join(f"{workers} workers {form.format(value)}" for workers, value in points)
        words.append(f"{model}: {values}.")
    sizes = sorted({workers for points in models.values() for workers, _ in points})
    margin = 0.05 * (sizes[-1] - sizes[0]) or 0.5
    axes.set_xlim(sizes[0] - margin, sizes[-1] + margin)
    apart = _apart(sizes, (sizes[-1] - sizes[0] + 2 * margin) / width)
    axes.set_xticks(apart, [str(size) for size in apart])
    axes.set_xlabel("workers")
    axes.set_ylim(0, headroom([value for points in models.values() for _, value in points]))
    legend_above(axes, height, title)
    with_room_for_labels(axes)
    return Drawing(figure, f"{title} by number of workers. {' '.join(words)}")


def _apart(sizes: Sequence[int], workers_per_px: float) -> list[int]:
    """The sizes whose labels do not touch, from the largest down."""
    kept: list[int] = []
    for size in reversed(sizes):
        room = (text_width(f"{size}{kept[-1]}", TICK_PX) / 2 + 6) * workers_per_px if kept else 0.0
        if not kept or kept[-1] - size >= room:
            kept.append(size)
    return kept[::-1]
