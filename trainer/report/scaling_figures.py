"""Figures of runs of several sizes: time, speed-up and efficiency over the number of workers. Does not import torch."""

from collections.abc import Mapping, Sequence

from trainer.report.drawing import (
    COLOURS,
    DASHES,
    INK,
    MARKERS,
    PANEL,
    WIDTH,
    Drawing,
    canvas,
    headroom,
    in_percent,
    legend_above,
    styled,
)


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
    return drawing


@styled()
def efficiency_by_workers(models: Mapping[str, Sequence[tuple[int, float]]]) -> Drawing:
    """Efficiency, next to the perfect 100 %."""
    drawing = _by_workers("Efficiency", models, "{:.0%}")
    axes = drawing.figure.axes[0]
    axes.set_ylim(0, headroom([1.0, *(value for points in models.values() for _, value in points)]))
    axes.axhline(1, color=INK, alpha=0.5, linewidth=1, linestyle=DASHES[1], zorder=1)
    in_percent(axes, decimals=0)
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
    rows = (len(models) + 1) // 2
    above = 14.0 * rows + 22
    _, bottom, _, height = PANEL
    figure, (axes,) = canvas(WIDTH, bottom + height + above, [PANEL])
    words = []
    for nth, (model, points) in enumerate(models.items()):
        x, y = zip(*points, strict=True)
        colour, marker, dashes = (kind[nth % len(kind)] for kind in (COLOURS, MARKERS, DASHES))
        axes.plot(x, y, color=colour, marker=marker, linestyle=dashes, label=model[:28])
        values = ", ".join(f"{workers} workers {form.format(value)}" for workers, value in points)
        words.append(f"{model}: {values}.")
    sizes = sorted({workers for points in models.values() for workers, _ in points})
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.set_xlabel("workers")
    axes.set_ylim(0, headroom([value for points in models.values() for _, value in points]))
    legend_above(axes, height)
    axes.set_title(title, loc="left", pad=14.0 * rows + 8)
    return Drawing(figure, f"{title} by number of workers. {' '.join(words)}")
