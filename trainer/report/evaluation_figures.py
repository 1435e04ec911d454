"""Figures of an evaluation: curves with bands, reliability, decision curves, findings and subgroups with intervals. Does not import torch."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from trainer.evaluation.document import Bin, Curve, Evaluation, Finding, Group, Interval
from trainer.evaluation.metrics import Floats
from trainer.evaluation.subgroups import FEWEST_PATIENTS
from trainer.report.drawing import COLOURS, DASHES, INK, MARKERS, TICK_PX, Drawing, as_png, canvas, styled
from trainer.report.forest import WIDE, Marks, Row, forest
from trainer.report.formatting import finding as name_of
from trainer.report.formatting import interval, number, percent
from trainer.report.labels import fitted, text_width
from trainer.report.positive_class import of_positive_class

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LEFT: Final = 36.0
_BOTTOM: Final = 36.0
_ABOVE: Final = 36.0
"""For the title, and below it a line with the number or the legend: none of them lies on a curve."""

_RIGHT: Final = 6.0
_SIDES: Final = (128.0, 232.0)
"""Side of the axes: two plots in a row on a phone; or one, where there are few."""

FEW: Final = 3
"""Up to this many findings have large plots."""

_LABEL: Final = 14.0
"""From the axes to the label of the y axis."""

_TICK_ROOM: Final = 28.0
"""For the labels of its ticks."""

_TITLE_PX: Final = 12
_VALUE_PX: Final = 9.5

_TOPS: Final = (0.05, 0.1, 0.2, 0.5, 1.0)

Panel = Callable[["Axes", Finding], None]


def rocs(findings: Sequence[Finding]) -> list[Drawing]:
    """ROC curves with their confidence bands."""
    words = [f"AUROC {_with_interval(one['auroc'])}" for one in findings]
    return _multiples(findings, _roc_panel, "ROC of {}: {}.", words)


def precision_recalls(findings: Sequence[Finding]) -> list[Drawing]:
    """Precision-recall curves with their confidence bands; the line is chance."""
    words = [f"AUPRC {_with_interval(one['auprc'])}, chance is {percent(one['prevalence'])}" for one in findings]
    return _multiples(findings, _pr_panel, "Precision over recall of {}: {}.", words)


def reliabilities(findings: Sequence[Finding]) -> list[Drawing]:
    """Share of positives over predicted probability, before and after calibration."""
    words = []
    for one in findings:
        after = "" if one["calibrated"] is None else f", after {number(one['calibrated']['ece'], 4)}"
        words.append(f"before calibration {number(one['raw']['ece'], 4)}{after}")
    return _multiples(findings, _reliability_panel, "Reliability of {}: expected calibration error {}.", words)


def decisions(findings: Sequence[Finding]) -> list[Drawing]:
    """Net benefit over the threshold probability, beside that of treating all and none; of the findings that have it."""
    shown = [one for one in findings if any(y is not None for y in one.get("net_benefit", {"y": []})["y"])]
    words = [_benefit_in_words(one["net_benefit"]) for one in shown]
    return _multiples(shown, _decision_panel, "Decision curve of {}: {}.", words)


def auroc_forest(evaluation: Evaluation, width: float = WIDE) -> Drawing:
    """AUROC with its interval for each finding, next to published values for exactly the same images."""
    found = evaluation["findings"]
    rows = [Row(name_of(one["name"]), one["auroc"]) for one in found]
    published = [reference for reference in evaluation["references"] if reference["comparable"]]
    values = [[one["auroc"].get(finding["name"]) for finding in found] for one in published]
    if len(rows) > 1:
        rows.append(Row("mean", evaluation["mean_auroc"]))
        values = [[*column, one["mean"]] for column, one in zip(values, published, strict=True)]
    marks = [Marks(f"{one['name']}, same images", column) for one, column in zip(published, values, strict=True)]
    drawing = forest("AUROC", rows, width=width, others=marks)
    words = "".join(f" Published: {one['name']}, mean {number(one['mean'], 4)}." for one in published)
    return Drawing(drawing.figure, drawing.alt + words)


def subgroups_forest(evaluation: Evaluation, width: float = WIDE) -> Drawing | None:
    """Mean AUROC with its interval for each scored subgroup, below that of all images; None without any."""
    rows = [_group_row(group) for group in evaluation["subgroups"] if not group.get("not_scored")]
    if not rows:
        return None
    title = "Mean AUROC" if len(evaluation["findings"]) > 1 else "AUROC"
    return forest(title, [Row("all", evaluation["mean_auroc"]), *rows], width=width)


def _group_row(group: Group) -> Row:
    remark = ""
    if is_few(group):
        patients = "1 patient" if group["patients"] == 1 else f"{group['patients']} patients"
        remark = f"{number(group['mean_auroc']['value'])} ({patients})"
    return Row(group_name(group), group["mean_auroc"], is_sure=not remark, remark=remark)


def is_few(group: Group) -> bool:
    """Whether the subgroup was scored, as by earlier versions, though it has too few patients to compare."""
    patients = group["patients"]  # not shown, in data sets that are not public, beside a subgroup of very few
    return not group.get("not_scored") and patients is not None and patients < FEWEST_PATIENTS


def group_name(group: Group) -> str:
    """Name of a subgroup."""
    return f"{group['by']} {group['group']}"


@styled()
def plots(evaluation: Evaluation) -> dict[str, bytes]:
    """Figures of an evaluation as PNG files, by name; of two classes, those of the positive one."""
    shown = of_positive_class(evaluation)
    drawings = {
        "auroc.png": auroc_forest(shown),
        "roc.png": _grid(shown["findings"], _roc_panel, "ROC"),
        "precision_recall.png": _grid(shown["findings"], _pr_panel, "Precision over recall"),
        "calibration.png": _grid(shown["findings"], _reliability_panel, "Reliability"),
        "subgroups.png": subgroups_forest(shown),
    }
    return {name: as_png(drawing) for name, drawing in drawings.items() if drawing is not None}


@styled()
def _multiples(findings: Sequence[Finding], panel: Panel, form: str, words: Sequence[str]) -> list[Drawing]:
    """A drawing per finding; large ones where there are few."""
    side = _SIDES[len(findings) <= FEW]
    titles = _titles(findings, side)
    drawings = []
    for one, title, said in zip(findings, titles, words, strict=True):
        width, height = _cell(side)
        figure, (axes,) = canvas(width, height, [(_LEFT, _BOTTOM, side, side)])
        panel(axes, one)
        _write_title(axes, title)
        drawings.append(Drawing(figure, form.format(name_of(one["name"]), said)))
    return drawings


def _cell(side: float) -> tuple[float, float]:
    return _LEFT + side + _RIGHT, _BOTTOM + side + _ABOVE


def _titles(findings: Sequence[Finding], side: float) -> list[str]:
    return fitted([name_of(one["name"], 80) for one in findings], side + _RIGHT - 2, _TITLE_PX)


def _write_title(axes: "Axes", title: str) -> None:
    axes.set_title(title, loc="left", pad=18)


def _write_value(axes: "Axes", text: str) -> None:
    axes.annotate(text, (0, 1), xytext=(0, 5), textcoords="offset points", xycoords="axes fraction", fontsize=_VALUE_PX)


def _roc_panel(axes: "Axes", finding: Finding) -> None:
    axes.plot([0, 1], [0, 1], color=INK, alpha=0.4, linewidth=0.8, linestyle=DASHES[1])
    _band(axes, finding["roc"], COLOURS[0])
    _unit_square(axes, "1 - specificity", "sensitivity")
    _write_value(axes, _short(finding["auroc"]))


def _pr_panel(axes: "Axes", finding: Finding) -> None:
    axes.axhline(finding["prevalence"], color=INK, alpha=0.4, linewidth=0.8, linestyle=DASHES[1])
    _band(axes, finding["pr"], COLOURS[1])
    _unit_square(axes, "recall", "precision")
    _write_value(axes, _short(finding["auprc"]))


def _short(one: Interval) -> str:
    return "not defined" if one["value"] is None else interval(one)


def _reliability_panel(axes: "Axes", finding: Finding) -> None:
    """Zoomed to the occupied corner: for a rare finding all probabilities are low."""
    kinds = [("before", finding["raw"], 1)]
    if finding["calibrated"] is not None:
        kinds.append(("after", finding["calibrated"], 0))
    axes.plot([0, 1], [0, 1], color=INK, alpha=0.4, linewidth=0.8, linestyle=DASHES[1])
    _unit_square(axes, "predicted", "observed")
    if not any(calibration["bins"] for _, calibration, _ in kinds):
        _write_value(axes, "not defined")
        return
    for label, calibration, nth in kinds:
        _bins(axes, calibration["bins"], label, nth)
    highest = max([0.0, *(max(one["predicted"], one["observed"]) for _, kind, _ in kinds for one in kind["bins"])])
    top = next(most for most in _TOPS if most >= highest or most == 1.0)
    axes.set(xlim=(-0.01 * top, 1.01 * top), ylim=(-0.01 * top, 1.01 * top))
    _set_x_ticks(axes, top, ["0", "", f"{top:g}"])
    axes.set_yticks([0, top / 2, top], ["0", "", f"{top:g}"])
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(0, 1 + 4 / axes.get_window_extent().height),
        ncols=2,
        borderpad=0,
        borderaxespad=0,
        columnspacing=1,
        fontsize=_VALUE_PX,
        handlelength=1.4,
    )


def _bins(axes: "Axes", bins: Sequence[Bin], label: str, nth: int) -> None:
    x, y = [one["predicted"] for one in bins], [one["observed"] for one in bins]
    axes.plot(x, y, color=COLOURS[nth], linestyle=DASHES[nth], linewidth=1.2, label=label)
    for one in bins:
        low, high = one.get("low"), one.get("high")
        if low is not None and high is not None:
            axes.plot([one["predicted"]] * 2, [low, high], color=COLOURS[nth], alpha=0.45, linewidth=1)
    most = max((one["count"] for one in bins), default=1)
    sizes = [2 + 50 * one["count"] / most for one in bins]
    axes.scatter(x, y, s=sizes, color=COLOURS[nth], marker=MARKERS[nth], alpha=0.6, linewidth=0, zorder=3)


def _decision_panel(axes: "Axes", finding: Finding) -> None:
    """From slightly below no benefit up to that of finding all positives and nothing else: the prevalence."""
    curve, share = finding["net_benefit"], finding["prevalence"]
    x = np.array(curve["x"], np.float64)
    odds = np.divide(x, 1 - x, out=np.full_like(x, np.inf), where=x < 1)
    axes.axhline(0, color=INK, alpha=0.4, linewidth=0.8)
    axes.plot(x, share - (1 - share) * odds, color=INK, alpha=0.5, linewidth=1, linestyle=DASHES[1])
    _band(axes, curve, COLOURS[2])
    highest = share or 1.0
    right = _useful(x, np.array(curve["y"], np.float64))
    axes.set(xlim=(-0.01 * right, 1.01 * right), ylim=(-0.15 * highest, 1.02 * highest))
    axes.set_xlabel("threshold probability", labelpad=0)
    _set_y_label(axes, "net benefit")
    _set_x_ticks(axes, right, ["0", f"{right / 2:.2g}", f"{right:.2g}"])
    highest_label = f"{share:.2g}"
    axes.set_yticks([0, share], ["0", highest_label if text_width(highest_label, TICK_PX) <= _TICK_ROOM else ""])
    _write_value(axes, f"prevalence {100 * share:.3g}\u00a0%")


def _useful(threshold: Floats, benefit: Floats) -> float:
    """A round number above the thresholds with a benefit: for a rare finding all are low."""
    last = float(threshold[benefit > 0].max(initial=0.0))
    return next(most for most in _TOPS[1:] if most >= last or most == 1.0)


def _benefit_in_words(curve: Curve) -> str:
    known = [(x, y) for x, y in zip(curve["x"], curve["y"], strict=True) if y is not None]
    x, y = max(known, key=lambda point: point[1])
    last = known[-1]
    return f"net benefit {y:.4f} at a threshold probability of {x:.2g}, {last[1]:.4f} at {last[0]:.2g}"


def _band(axes: "Axes", curve: Curve, colour: str) -> None:
    x = np.array(curve["x"], np.float64)
    y, low, high = (np.array(values, np.float64) for values in (curve["y"], curve["low"], curve["high"]))
    if np.isnan(y).all():
        return
    axes.fill_between(x, low, high, color=colour, alpha=0.25, linewidth=0)
    axes.plot(x, y, color=colour)


def _unit_square(axes: "Axes", x: str, y: str) -> None:
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    axes.set_xlabel(x, labelpad=0)
    _set_y_label(axes, y)
    ticks = (0, 0.5, 1)
    axes.set_xticks(ticks, ["0", "0.5", "1"])
    axes.set_yticks(ticks, ["0", "", "1"])  # the axis label is there


def _set_y_label(axes: "Axes", text: str) -> None:
    """Beside the axes, between the labels of the lowest and the highest tick."""
    axes.set_ylabel(text)
    axes.yaxis.set_label_coords(-_LABEL / axes.get_window_extent().height, 0.5)


def _set_x_ticks(axes: "Axes", most: float, labels: Sequence[str]) -> None:
    """At 0, in the middle and at the right edge, where the label ends in the figure."""
    axes.set_xticks([0, most / 2, most], labels)
    axes.get_xticklabels()[-1].set_horizontalalignment("right")


def _grid(findings: Sequence[Finding], panel: Panel, title: str) -> Drawing:
    """All findings in one picture, at most four in a row."""
    columns = min(4, len(findings))
    rows = -(-len(findings) // columns)
    side = _SIDES[0]
    width, height = _cell(side)
    places = [
        (column * width + _LEFT, (rows - 1 - row) * height + _BOTTOM, side, side)
        for row in range(rows)
        for column in range(columns)
    ][: len(findings)]
    figure, axes = canvas(columns * width, rows * height, places)
    for one, finding, name in zip(axes, findings, _titles(findings, side), strict=True):
        panel(one, finding)
        _write_title(one, name)
    return Drawing(figure, title)


def _with_interval(one: Interval) -> str:
    if one["value"] is None:
        return "not defined"
    if one["low"] is None or one["high"] is None:
        return interval(one)
    return f"{number(one['value'])}, 95 % interval {number(one['low'])} to {number(one['high'])}"
