"""Figures of an evaluation: curves with bands, reliability, findings and subgroups with intervals. Does not import torch."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from trainer.evaluation.document import Bin, Evaluation, Finding, Group, Interval, Reference
from trainer.report.drawing import (
    COLOURS,
    DASHES,
    INK,
    MARKERS,
    WIDTH,
    Drawing,
    as_png,
    canvas,
    styled,
    with_few_ticks,
)
from trainer.report.formatting import finding as name_of
from trainer.report.formatting import interval, number, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SQUARE: Final = (36.0, 36.0, 128.0, 128.0)
_SMALL: Final = (170.0, 186.0)
"""Two in a row on a phone."""

_TITLE: Final = 19


@styled()
def roc(finding: Finding) -> Drawing:
    """ROC curve with its confidence band."""
    figure, (axes,) = canvas(*_SMALL, [_SQUARE])
    _roc_panel(axes, finding)
    return Drawing(figure, f"ROC of {name_of(finding['name'])}: AUROC {_with_interval(finding['auroc'])}.")


@styled()
def precision_recall(finding: Finding) -> Drawing:
    """Precision-recall curve with its confidence band; the line is chance."""
    figure, (axes,) = canvas(*_SMALL, [_SQUARE])
    _pr_panel(axes, finding)
    share = percent(finding["prevalence"])
    return Drawing(
        figure,
        f"Precision over recall of {name_of(finding['name'])}: AUPRC {_with_interval(finding['auprc'])}, chance is {share}.",
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
def auroc_forest(evaluation: Evaluation) -> Drawing:
    """AUROC with its interval for each finding, next to published values for exactly the same images."""
    rows = [(name_of(one["name"], _TITLE), one["auroc"]) for one in evaluation["findings"]]
    rows.append(("mean", evaluation["mean_auroc"]))
    published = [reference for reference in evaluation["references"] if reference["comparable"]]
    drawing = _forest("AUROC", rows, margin=128, marks=len(published))
    _mark_references(drawing.figure.axes[0], evaluation, published)
    words = "".join(f" Published: {one['name']}, mean {number(one['mean'], 4)}." for one in published)
    return Drawing(drawing.figure, drawing.alt + words)


@styled()
def subgroups_forest(evaluation: Evaluation) -> Drawing | None:
    """Mean AUROC with its interval for each subgroup, below that of all images; None without subgroups."""
    if not evaluation["subgroups"]:
        return None
    rows = [("all", evaluation["mean_auroc"])]
    rows += [(group_name(group), group["mean_auroc"]) for group in evaluation["subgroups"]]
    return _forest("Mean AUROC", rows, margin=100)


def group_name(group: Group) -> str:
    """Name of a subgroup."""
    return f"{group['by']} {group['group']}"


@styled()
def plots(evaluation: Evaluation) -> dict[str, bytes]:
    """Figures of an evaluation as PNG files, by name."""
    drawings = {
        "auroc.png": auroc_forest(evaluation),
        "roc.png": _grid(evaluation["findings"], _roc_panel, "ROC"),
        "precision_recall.png": _grid(evaluation["findings"], _pr_panel, "Precision over recall"),
        "calibration.png": _grid(evaluation["findings"], _reliability_panel, "Reliability"),
        "subgroups.png": subgroups_forest(evaluation),
    }
    return {name: as_png(drawing) for name, drawing in drawings.items() if drawing is not None}


def _roc_panel(axes: "Axes", finding: Finding) -> None:
    axes.plot([0, 1], [0, 1], color=INK, alpha=0.4, linewidth=0.8, linestyle=DASHES[1])
    _band(axes, finding, "roc", COLOURS[0])
    _unit_square(axes, finding, "1 - specificity", "sensitivity")
    axes.text(0.98, 0.05, interval(finding["auroc"]), ha="right", fontsize=9.5, transform=axes.transAxes)


def _pr_panel(axes: "Axes", finding: Finding) -> None:
    axes.axhline(finding["prevalence"], color=INK, alpha=0.4, linewidth=0.8, linestyle=DASHES[1])
    _band(axes, finding, "pr", COLOURS[1])
    _unit_square(axes, finding, "recall", "precision")
    is_high = (finding["auprc"]["value"] or 0) > 0.5  # the text is where the curve is not
    axes.text(
        0.98, 0.05 if is_high else 0.9, interval(finding["auprc"]), ha="right", fontsize=9.5, transform=axes.transAxes
    )


def _reliability_panel(axes: "Axes", finding: Finding) -> None:
    """Zoomed to the occupied corner: for a rare finding all probabilities are low."""
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
    axes.set_yticks(ticks, ["0", "", "1"])  # the axis label is there


def _grid(findings: Sequence[Finding], panel: "Callable[[Axes, Finding], None]", title: str) -> Drawing:
    """All findings in one picture, at most four in a row."""
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
    """A dot with its interval per row, the first at the top."""
    step, below, above = 21.0, 40.0, 26.0 + 14 * marks
    height = step * len(rows)
    panel = (margin, below, WIDTH - margin - 10, height)
    figure, (axes,) = canvas(WIDTH, height + below + above, [panel])
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
    values = ", ".join(f"{name} {interval(one)}" for name, one in rows)
    return Drawing(figure, f"{title} with 95 % intervals: {values}.")


def _mark_references(axes: "Axes", evaluation: Evaluation, published: Sequence[Reference]) -> None:
    names = [one["name"] for one in evaluation["findings"]]
    for nth, reference in enumerate(published, start=1):
        rows = [(reference["auroc"][name], row) for row, name in enumerate(names) if name in reference["auroc"]]
        if reference["mean"] is not None:
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
    if published:
        axes.legend(
            loc="lower left", bbox_to_anchor=(-0.05, 1.0), borderpad=0.2, labelspacing=0.2, handletextpad=0.2, ncols=1
        )


def _with_interval(one: Interval) -> str:
    if one["value"] is None:
        return "not defined"
    return f"{number(one['value'])}, 95 % interval {number(one['low'])} to {number(one['high'])}"
