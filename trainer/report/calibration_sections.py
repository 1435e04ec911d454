"""Sections of a run's page about calibrated probabilities: reliability, and net benefit of decisions by them."""

from trainer.evaluation.document import Calibration, Evaluation, Finding, Interval, mean_calibration
from trainer.report import evaluation_figures
from trainer.report.documents import Documents
from trainer.report.formatting import NONE, interval, number, without_places
from trainer.report.formatting import finding as name_of
from trainer.report.interval_remarks import remarks
from trainer.report.page import Block, Plots, Section, Table, Text

_KEYS = ("slope", "intercept", "observed_expected")


def calibration(one: Documents) -> Section:
    """Plots, then their numbers."""
    if one.evaluation is None:
        return Section("calibration", "Calibration")
    evaluation = one.evaluation
    fitted_on = evaluation["data"]["fitted_on"]
    words = "No calibration was fitted: probabilities are those of the network."
    if fitted_on:
        words = f"Calibration was fitted on {without_places(fitted_on)}, and is applied here unchanged."
    plots = Plots(evaluation_figures.reliabilities(evaluation["findings"]), _caption(evaluation))
    return Section("calibration", "Calibration", [Text([words]), plots, *_tables(evaluation)])


def _caption(evaluation: Evaluation) -> str:
    data = evaluation["data"]
    bars = ""
    if any("low" in one for finding in evaluation["findings"] for one in finding["raw"]["bins"]):
        bars = ", with Wilson's 95 % interval"
    return (
        f"On {data['part']}, {data['images']:,} images: share of positives over the mean predicted probability of each bin{bars}. "
        "Larger marks have more images; on the dashed line, probabilities equal frequencies."
    )


def _tables(evaluation: Evaluation) -> list[Block]:
    found = evaluation["findings"]
    head = ["Finding", "ECE", "ECE calibrated", "Brier", "Brier calibrated"]
    rows = [_error_cells(one) for one in found]
    if len(rows) > 1:
        rows.append(["mean", *_mean_cells(evaluation)])
    blocks: list[Block] = [
        Table("Error of the probabilities before and after calibration.", head, rows),
        Text([f"ECE is the expected calibration error ({_bins(found)}), Brier the mean squared error; 0 is perfect."]),
    ]
    if any("slope" in _shown(one) for one in found):
        kind = "calibrated" if any(one["calibrated"] for one in found) else "uncalibrated"
        head = ["Finding", "Slope", "Intercept", "Observed/expected"]
        rows = [[name_of(one["name"]), *(_cell(_shown(one), key) for key in _KEYS)] for one in found]
        words = (
            "Slope: 1 is perfect; below 1, predictions are too extreme. Intercept: 0 is perfect; above 0, probabilities are "
            "too low. Observed/expected: positives divided by the sum of the probabilities; 1 is perfect."
        )
        cells = [(one, value) for one in found for key in _KEYS if (value := _value(_shown(one), key)) is not None]
        caption = f"Calibration of the {kind} probabilities (95 %)."
        blocks += [Table(caption, head, rows), Text([words, *remarks(cells)])]
    return blocks


def _error_cells(one: Finding) -> list[str]:
    raw, after = one["raw"], one["calibrated"]
    return [
        name_of(one["name"]),
        number(raw["ece"], 4),
        number(after["ece"], 4) if after else NONE,
        number(raw["brier"], 4),
        number(after["brier"], 4) if after else NONE,
    ]


def _mean_cells(evaluation: Evaluation) -> list[str]:
    return [
        number(mean_calibration(evaluation, "raw", "ece"), 4),
        number(mean_calibration(evaluation, "calibrated", "ece"), 4),
        number(mean_calibration(evaluation, "raw", "brier"), 4),
        number(mean_calibration(evaluation, "calibrated", "brier"), 4),
    ]


def _bins(found: list[Finding]) -> str:
    """Number of bins; findings may differ. 15 in documents of format 1."""
    bins = sorted({round(1 / one["raw"].get("width", 1 / 15)) for one in found})
    return f"{bins[0]} bins" if len(bins) == 1 else f"{bins[0]} to {bins[-1]} bins, by the number of images"


def _shown(one: Finding) -> Calibration:
    return one["calibrated"] or one["raw"]


def _value(one: Calibration, key: str) -> Interval | None:
    value: Interval | None = one.get(key)  # type: ignore[assignment] # one of _KEYS
    return value


def _cell(one: Calibration, key: str) -> str:
    value = _value(one, key)
    return NONE if value is None else interval(value, 2, signed=key == "intercept")


def decision(one: Documents) -> Section:
    """Net benefit, where it is known."""
    drawings = [] if one.evaluation is None else evaluation_figures.decisions(one.evaluation["findings"])
    if one.evaluation is None or not drawings:
        return Section("decision", "Decision curves")
    probabilities = "calibrated" if any(f["calibrated"] for f in one.evaluation["findings"]) else "uncalibrated"
    caption = (
        f"On {one.evaluation['data']['part']}: net benefit of treating the images whose {probabilities} probability is above the "
        "threshold, which states how many false positives are worth a true one. The dashed line is treating all, the line at 0 "
        "treating none; a model is useful where it is above both. Source: Vickers & Elkin 2006."
    )
    return Section("decision", "Decision curves", [Plots(drawings, caption)])
