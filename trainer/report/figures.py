"""The figures of a report: from the evidence, from the history of a run, and from runs of several sizes. No torch here.

Every figure is at most 340 pixels wide, so that a phone shows it at full size and a desktop several beside each other.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeGuard

import numpy as np

from trainer.evaluation.evidence import Bin, Evidence, Finding, Group, Interval, Reference
from trainer.report.drawing import (
    COLOURS,
    DASHES,
    INK,
    MARKERS,
    Drawing,
    as_png,
    canvas,
    in_percent,
    styled,
    with_few_ticks,
)
from trainer.report.formatting import finding as name_of
from trainer.report.formatting import interval, number, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Entry = Mapping[str, Any]

_WIDTH: Final = 340
_PANEL: Final = (48.0, 42.0, 284.0, 190.0)
"""Left, bottom, width and height of the axes of a curve over epochs."""

_SQUARE: Final = (36.0, 36.0, 128.0, 128.0)
_SMALL: Final = (170.0, 186.0)
"""Two beside each other on a phone."""

_TITLE: Final = 19

_FEW_EPOCHS: Final = 30
"""Up to so many, each epoch is a dot."""


@styled()
def loss_curves(entries: Sequence[Entry]) -> Drawing | None:
    """Training and validation loss by epoch; None where no entry has a loss."""
    lines = {"training": _series(entries, "train_loss"), "validation": _series(entries, "val", "loss")}
    return _over_epochs("Loss", lines)


@styled()
def score_curves(entries: Sequence[Entry]) -> Drawing | None:
    """Mean AUROC on the validation images by epoch, and accuracy where the model says one class."""
    lines = {
        "mean AUROC": _series(entries, "val", "mean_auroc"),
        "accuracy": _series(entries, "val", "accuracy", "value"),
    }
    return _over_epochs("Validation score", lines)


@styled()
def throughput(entries: Sequence[Entry]) -> Drawing | None:
    """Images a second by epoch."""
    return _over_epochs("Images per second", {"images/s": _series(entries, "images_per_s")}, from_zero=True)


@styled()
def data_wait(entries: Sequence[Entry]) -> Drawing | None:
    """Share of its time that training waited for data, by epoch; and how much the device was in use, where it says so."""
    lines = {"waiting for data": _series(entries, "data_wait_share"), "device in use": _series(entries, "utilisation")}
    drawing = _over_epochs("Share of time", lines, from_zero=True)
    if drawing is not None:
        in_percent(drawing.figure.axes[0], decimals=None)
    return drawing


@styled()
def curves_png(entries: Sequence[Entry]) -> bytes:
    """Training loss, validation loss and accuracy (else mean AUROC) by epoch in one picture; a note where there is none.

    Source: the figure of Kumar & Moghal, "Pneumonia Diagnosis with Deep Learning" (train loss, test loss, accuracy), with its test
    images, on which nothing may be chosen, replaced by validation images.
    """
    accuracy = _series(entries, "val", "accuracy", "value")
    score = ("accuracy", accuracy) if accuracy else ("mean AUROC", _series(entries, "val", "mean_auroc"))
    lines = {"training loss": _series(entries, "train_loss"), "validation loss": _series(entries, "val", "loss")}
    lines[f"validation {score[0]}"] = score[1]
    drawing = _over_epochs("", lines)
    if drawing is None:
        figure, (axes,) = canvas(_WIDTH, 240, [_PANEL])
        axes.text(0.5, 0.5, "no epoch was recorded", ha="center", transform=axes.transAxes)
        drawing = Drawing(figure, "no epoch was recorded")
    return as_png(drawing)


@styled()
def overlaid(title: str, runs: Mapping[str, Sequence[Entry]], *keys: str) -> Drawing | None:
    """The same number of several runs by epoch."""
    return _over_epochs(title, {run: _series(entries, *keys) for run, entries in runs.items()})


@styled()
def roc(finding: Finding) -> Drawing:
    """Sensitivity over false positives, with its band."""
    figure, (axes,) = canvas(*_SMALL, [_SQUARE])
    _roc_panel(axes, finding)
    return Drawing(figure, f"ROC of {name_of(finding['name'])}: AUROC {_with_interval(finding['auroc'])}.")


@styled()
def precision_recall(finding: Finding) -> Drawing:
    """Precision over recall, with its band; the line is what guessing has."""
    figure, (axes,) = canvas(*_SMALL, [_SQUARE])
    _pr_panel(axes, finding)
    share = percent(finding["prevalence"])
    return Drawing(
        figure,
        f"Precision over recall of {name_of(finding['name'])}: AUPRC {_with_interval(finding['auprc'])}, guessing has {share}.",
    )


@styled()
def reliability(finding: Finding) -> Drawing:
    """Share of positives over predicted probability, before and after calibration."""
    figure, (axes,) = canvas(*_SMALL, [_SQUARE])
    _reliability_panel(axes, finding)
    words = f"before calibration {number(finding['raw']['ece'], 4)}"
    if finding["calibrated"] is not None:
        words += f", after {number(finding['calibrated']['ece'], 4)}"
    return Drawing(figure, f"Reliability of {name_of(finding['name'])}: expected calibration error {words}.")


@styled()
def auroc_forest(evidence: Evidence) -> Drawing:
    """AUROC with its interval for each finding, beside published numbers of the very same images only."""
    rows = [(name_of(one["name"], _TITLE), one["auroc"]) for one in evidence["findings"]]
    rows.append(("mean", evidence["mean_auroc"]))
    beside = [reference for reference in evidence["references"] if reference["comparable"]]
    drawing = _forest("AUROC", rows, margin=128, marks=len(beside))
    _mark_references(drawing.figure.axes[0], evidence, beside)
    words = "".join(f" Beside it {one['name']}, mean {number(one['mean'], 4)}." for one in beside)
    return Drawing(drawing.figure, drawing.alt + words)


@styled()
def subgroups_forest(evidence: Evidence) -> Drawing | None:
    """Mean AUROC with its interval for each subgroup, under that of all; None without subgroups."""
    if not evidence["subgroups"]:
        return None
    rows = [("all", evidence["mean_auroc"])]
    rows += [(group_name(group), group["mean_auroc"]) for group in evidence["subgroups"]]
    return _forest("Mean AUROC", rows, margin=100)


def group_name(group: Group) -> str:
    """How a subgroup is called beside others."""
    return f"{group['by']} {group['group']}"


@styled()
def write_plots(evidence: Evidence, folder: Path) -> list[Path]:
    """Write the figures of an evaluation as PNG files to this directory, which is there; their paths."""
    drawings = {
        "auroc.png": auroc_forest(evidence),
        "roc.png": _grid(evidence["findings"], _roc_panel, "ROC"),
        "precision_recall.png": _grid(evidence["findings"], _pr_panel, "Precision over recall"),
        "calibration.png": _grid(evidence["findings"], _reliability_panel, "Reliability"),
        "subgroups.png": subgroups_forest(evidence),
    }
    paths = []
    for name, drawing in drawings.items():
        if drawing is not None:
            (folder / name).write_bytes(as_png(drawing))
            paths.append(folder / name)
    return paths


def _series(entries: Sequence[Entry], *keys: str) -> list[tuple[float, float]]:
    """Epoch and value of the entries that have one; an entry may be of another version, or be damaged."""
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
    _, bottom, _, height = _PANEL
    figure, (axes,) = canvas(_WIDTH, bottom + height + above, [_PANEL])
    words = []
    for name, points in drawn.items():
        nth = list(lines).index(name)  # a line without points here has its colour elsewhere
        x, y = zip(*points, strict=True)
        marker = MARKERS[nth % len(MARKERS)] if len(points) <= _FEW_EPOCHS else ""
        axes.plot(
            x, y, color=COLOURS[nth % len(COLOURS)], linestyle=DASHES[nth % len(DASHES)], marker=marker, label=name[:28]
        )
        words.append(_told(name, points))
    with_few_ticks(axes, 6, whole=True)
    axes.set_xlabel("epoch")
    if from_zero:
        axes.set_ylim(0, _above([y for points in drawn.values() for _, y in points]))
    _legend_above(axes, height)
    if title:
        axes.set_title(title, loc="left", pad=14.0 * rows + 8)
    return Drawing(figure, f"{title or 'Curves'} by epoch. {' '.join(words)}")


def _told(name: str, points: Sequence[tuple[float, float]]) -> str:
    first, last = points[0], points[-1]
    low, high = min(y for _, y in points), max(y for _, y in points)
    ends = f"from {first[1]:.4g} at epoch {first[0]:g} to {last[1]:.4g} at epoch {last[0]:g}"
    return f"{name}: {ends}, lowest {low:.4g}, highest {high:.4g}."


def _above(values: Sequence[float]) -> float:
    """A little more than the highest, so that no line runs along the edge."""
    return 1.06 * max(values) or 1.0


def _legend_above(axes: "Axes", height: float) -> None:
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(-0.02, 1 + 3 / height),
        ncols=2,
        borderpad=0,
        borderaxespad=0,
        columnspacing=1.2,
        handlelength=2.2,
        labelspacing=0.2,
    )


def _roc_panel(axes: "Axes", finding: Finding) -> None:
    axes.plot([0, 1], [0, 1], color=INK, alpha=0.4, linewidth=0.8, linestyle=DASHES[1])
    _band(axes, finding, "roc", COLOURS[0])
    _unit_square(axes, finding, "1 - specificity", "sensitivity")
    axes.text(0.98, 0.05, interval(finding["auroc"]), ha="right", fontsize=9.5, transform=axes.transAxes)


def _pr_panel(axes: "Axes", finding: Finding) -> None:
    axes.axhline(finding["prevalence"], color=INK, alpha=0.4, linewidth=0.8, linestyle=DASHES[1])
    _band(axes, finding, "pr", COLOURS[1])
    _unit_square(axes, finding, "recall", "precision")
    is_high = (finding["auprc"]["value"] or 0) > 0.5  # the words stand where the curve is not
    axes.text(
        0.98, 0.05 if is_high else 0.9, interval(finding["auprc"]), ha="right", fontsize=9.5, transform=axes.transAxes
    )


def _reliability_panel(axes: "Axes", finding: Finding) -> None:
    """The corner that has something in it: of a rare finding all probabilities are low."""
    kinds = [("before", finding["raw"], 1)]
    if finding["calibrated"] is not None:
        kinds.append(("after", finding["calibrated"], 0))
    axes.plot([0, 1], [0, 1], color=INK, alpha=0.4, linewidth=0.8, linestyle=DASHES[1])
    _unit_square(axes, finding, "predicted", "observed")
    for label, calibration, nth in kinds:
        _bins(axes, calibration["bins"], label, nth)
    highest = max([0.0, *(max(one["predicted"], one["observed"]) for _, kind, _ in kinds for one in kind["bins"])])
    top = next(most for most in (0.05, 0.1, 0.2, 0.5, 1.0) if most >= highest or most == 1.0)
    axes.set(xlim=(-0.01 * top, 1.01 * top), ylim=(-0.01 * top, 1.01 * top))
    axes.set_xticks([0, top / 2, top], ["0", "", f"{top:g}"])
    axes.set_yticks([0, top / 2, top], ["0", "", f"{top:g}"])
    if top < 1:
        axes.set_ylabel("observed", labelpad=-14)
    axes.legend(loc="upper left", borderpad=0.2, fontsize=9.5, handlelength=1.4, labelspacing=0.1)


def _bins(axes: "Axes", bins: Sequence[Bin], label: str, nth: int) -> None:
    axes.plot(
        [one["predicted"] for one in bins],
        [one["observed"] for one in bins],
        color=COLOURS[nth],
        linestyle=DASHES[nth],
        linewidth=1.2,
        label=label,
    )
    most = max((one["count"] for one in bins), default=1)
    axes.scatter(
        [one["predicted"] for one in bins],
        [one["observed"] for one in bins],
        s=[2 + 50 * one["count"] / most for one in bins],
        color=COLOURS[nth],
        marker=MARKERS[nth],
        alpha=0.6,
        linewidth=0,
        zorder=3,
    )


def _band(axes: "Axes", finding: Finding, which: str, colour: str) -> None:
    curve = finding["roc"] if which == "roc" else finding["pr"]
    x = np.array(curve["x"], np.float64)
    y, low, high = (np.array(values, np.float64) for values in (curve["y"], curve["low"], curve["high"]))
    if np.isnan(y).all():
        axes.text(0.5, 0.5, "not defined", ha="center", transform=axes.transAxes)
        return
    axes.fill_between(x, low, high, color=colour, alpha=0.25, linewidth=0)
    axes.plot(x, y, color=colour)


def _unit_square(axes: "Axes", finding: Finding, x: str, y: str) -> None:
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    axes.set_xlabel(x, labelpad=0)
    axes.set_ylabel(y, labelpad=-6)
    axes.set_title(name_of(finding["name"], _TITLE), loc="left")
    ticks = (0, 0.5, 1)
    axes.set_xticks(ticks, ["0", "0.5", "1"])
    axes.set_yticks(ticks, ["0", "", "1"])  # the label of the axis stands there


def _grid(findings: Sequence[Finding], panel: "Callable[[Axes, Finding], None]", title: str) -> Drawing:
    """All findings in one picture, up to four beside each other."""
    columns = min(4, len(findings))
    rows = -(-len(findings) // columns)
    left, bottom, side, _ = _SQUARE
    cell = _SMALL
    panels = [
        (column * cell[0] + left, (rows - 1 - row) * cell[1] + bottom, side, side)
        for row in range(rows)
        for column in range(columns)
    ][: len(findings)]
    figure, axes = canvas(columns * cell[0], rows * cell[1], panels)
    for one, finding in zip(axes, findings, strict=True):
        panel(one, finding)
    return Drawing(figure, title)


def _forest(title: str, rows: Sequence[tuple[str, Interval]], *, margin: float, marks: int = 0) -> Drawing:
    """A dot and its interval in each row, the first at the top."""
    step, below, above = 21.0, 40.0, 26.0 + 14 * marks
    height = step * len(rows)
    panel = (margin, below, _WIDTH - margin - 10, height)
    figure, (axes,) = canvas(_WIDTH, height + below + above, [panel])
    for row, (_, one) in enumerate(rows):
        if one["value"] is None:
            axes.text(0.02, row, "not defined", va="center", fontsize=10, transform=axes.get_yaxis_transform())
            continue
        if one["low"] is not None and one["high"] is not None:
            axes.plot([one["low"], one["high"]], [row, row], color=COLOURS[0], linewidth=2.2, solid_capstyle="butt")
        axes.plot([one["value"]], [row], color=COLOURS[0], marker="o", markersize=6, linestyle="none")
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_yticks(range(len(rows)), [name for name, _ in rows])
    axes.tick_params(axis="y", length=0)
    with_few_ticks(axes, 4)
    axes.set_xlabel(f"{title}, 95 % interval")
    told = ", ".join(f"{name} {interval(one)}" for name, one in rows)
    return Drawing(figure, f"{title} with 95 % intervals: {told}.")


def _mark_references(axes: "Axes", evidence: Evidence, beside: Sequence[Reference]) -> None:
    names = [one["name"] for one in evidence["findings"]]
    for nth, reference in enumerate(beside, start=1):
        rows = [(reference["auroc"][name], row) for row, name in enumerate(names) if name in reference["auroc"]]
        rows.append((reference["mean"], len(names)))
        x, y = zip(*rows, strict=True)
        axes.plot(
            x,
            y,
            color=COLOURS[nth % len(COLOURS)],
            marker=MARKERS[nth % len(MARKERS)],
            markerfacecolor="none",
            markersize=6,
            linestyle="none",
            label=f"{reference['name']}, same images"[:44],
        )
    if beside:
        axes.legend(
            loc="lower left", bbox_to_anchor=(-0.05, 1.0), borderpad=0.2, labelspacing=0.2, handletextpad=0.2, ncols=1
        )


def _with_interval(one: Interval) -> str:
    if one["value"] is None:
        return "not defined"
    return f"{number(one['value'])}, 95 % interval {number(one['low'])} to {number(one['high'])}"


@styled()
def elapsed_by_workers(models: Mapping[str, Sequence[tuple[int, float]]]) -> Drawing:
    """Elapsed seconds over the number of workers, a line for each model.

    Source: the figure of Kumar & Moghal, "Pneumonia Diagnosis with Deep Learning" (elapsed time over number of GPUs).
    """
    return _by_workers("Elapsed time in seconds", models, "{:.4g} s")


@styled()
def speed_up_by_workers(models: Mapping[str, Sequence[tuple[int, float]]]) -> Drawing:
    """How many times faster than the smallest size, beside what perfect scaling would be."""
    drawing = _by_workers("Speed-up", models, "{:.2f}")
    sizes = sorted({workers for points in models.values() for workers, _ in points})
    ideal = [workers / sizes[0] for workers in sizes]
    axes = drawing.figure.axes[0]
    axes.plot(sizes, ideal, color=INK, alpha=0.5, linewidth=1, linestyle=DASHES[1], zorder=1)
    axes.set_ylim(0, _above([*ideal, *(value for points in models.values() for _, value in points)]))
    return drawing


@styled()
def efficiency_by_workers(models: Mapping[str, Sequence[tuple[int, float]]]) -> Drawing:
    """Speed-up for each worker more, beside the perfect 100 %."""
    drawing = _by_workers("Efficiency", models, "{:.0%}")
    axes = drawing.figure.axes[0]
    axes.set_ylim(0, _above([1.0, *(value for points in models.values() for _, value in points)]))
    axes.axhline(1, color=INK, alpha=0.5, linewidth=1, linestyle=DASHES[1], zorder=1)
    in_percent(axes, decimals=0)
    return drawing


@styled()
def scaling(models: Mapping[str, Sequence[tuple[int, float]]]) -> Drawing:
    """Elapsed time over workers for a file of its own; a note where no time is known."""
    if models:
        return elapsed_by_workers(models)
    figure, (axes,) = canvas(_WIDTH, 240, [_PANEL])
    axes.text(0.5, 0.5, "no elapsed time was recorded", ha="center", transform=axes.transAxes)
    return Drawing(figure, "No elapsed time was recorded.")


def _by_workers(title: str, models: Mapping[str, Sequence[tuple[int, float]]], form: str) -> Drawing:
    rows = (len(models) + 1) // 2
    above = 14.0 * rows + 22
    _, bottom, _, height = _PANEL
    figure, (axes,) = canvas(_WIDTH, bottom + height + above, [_PANEL])
    words = []
    for nth, (model, points) in enumerate(models.items()):
        x, y = zip(*points, strict=True)
        colour, marker, dashes = (kind[nth % len(kind)] for kind in (COLOURS, MARKERS, DASHES))
        axes.plot(x, y, color=colour, marker=marker, linestyle=dashes, label=model[:28])
        told = ", ".join(f"{workers} workers {form.format(value)}" for workers, value in points)
        words.append(f"{model}: {told}.")
    sizes = sorted({workers for points in models.values() for workers, _ in points})
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.set_xlabel("workers")
    axes.set_ylim(0, _above([value for points in models.values() for _, value in points]))
    _legend_above(axes, height)
    axes.set_title(title, loc="left", pad=14.0 * rows + 8)
    return Drawing(figure, f"{title} by number of workers. {' '.join(words)}")
