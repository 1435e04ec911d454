"""The five numbers at the top of a run's page: discrimination, best and worst finding, calibration, patients."""

from collections.abc import Sequence
from typing import Final

from trainer.evaluation.document import (
    Evaluation,
    Finding,
    Interval,
    Proportion,
    mean_calibration,
    unit_of,
)
from trainer.report.documents import Documents
from trainer.report.formatting import NO_INTERVAL, NONE, count, number, percent
from trainer.report.formatting import finding as name_of
from trainer.report.page import KeyNumber

_NAMED: Final = 2
"""Findings named beside a number; of more, their number is given."""

_SCALE = "0.5 is chance, 1 is perfect"


def numbers(one: Documents) -> list[KeyNumber]:
    """Of the evaluation; without one, what the run's results have."""
    if one.evaluation is None:
        return _unevaluated(one)
    evaluation = one.evaluation
    found = evaluation["findings"]
    if len(found) == 1:
        name = name_of(found[0]["name"])
        first = KeyNumber(f"AUROC for {name}", number(found[0]["auroc"]["value"]), _auroc_remarks(found[0]))
        return [first, *_of_classes(evaluation, name), _calibration(evaluation), _patients(evaluation)]
    without = [name_of(one["name"]) for one in found if one["auroc"]["value"] is None]
    remarks = [_interval(evaluation["mean_auroc"], _why_no_mean(found)), _SCALE]
    if without:
        remarks.append(f"of {len(found) - len(without)} findings: {len(without)} not defined")
    first = KeyNumber("Mean AUROC", number(evaluation["mean_auroc"]["value"]), remarks)
    return [
        first,
        *_best_and_worst(found, "finding" if evaluation["classes"] is None else "class"),
        _calibration(evaluation),
        _patients(evaluation),
    ]


def _unevaluated(one: Documents) -> list[KeyNumber]:
    for part in ("test", "val"):
        value = one.result(part, "mean_auroc")
        if value is not None:
            why = f"{NO_INTERVAL}: the run has not been evaluated"
            chosen = ["used for selection"] if part == "val" else []
            return [
                KeyNumber(f"Mean AUROC on {part}", number(value), [why, _SCALE]),
                KeyNumber("Images", count(one.result(part, "images")), [part, *chosen]),
            ]
    return []


def _auroc_remarks(finding: Finding) -> list[str]:
    return [_interval(finding["auroc"], _why(finding)), _SCALE]


def _why(finding: Finding) -> str:
    return finding.get("too_few") or "too few patients with or without it"


def _why_no_mean(findings: Sequence[Finding]) -> str:
    """The findings of the mean that have no interval."""
    few = [name_of(one["name"]) for one in findings if one.get("too_few") and one["auroc"]["value"] is not None]
    if not few or len(few) > _NAMED:
        return f"too few patients with or without {f'{len(few)} findings' if few else 'a finding'}"
    return f"too few patients with or without {' and '.join(few)}"


def _interval(one: Interval, why: str) -> str:
    """The interval, or why there is none."""
    if one["value"] is None:
        return "not defined"
    if one["low"] is None or one["high"] is None:
        return f"{NO_INTERVAL}: {why}"
    equal = ", as all resamples are equal" if one["low"] == one["high"] else ""
    return f"95 %: {number(one['low'])} to {number(one['high'])}{equal}"


def _best_and_worst(findings: Sequence[Finding], kind: str) -> list[KeyNumber]:
    """Of the findings with an interval: the others may be first or last by chance. Of all, if not even two have one."""
    defined = [one for one in findings if one["auroc"]["value"] is not None]
    sure = [one for one in defined if one["auroc"]["low"] is not None]
    if not defined:
        return []
    ranked = sorted(sure if len(sure) > 1 else defined, key=lambda one: -(one["auroc"]["value"] or 0.0))
    return [
        KeyNumber(
            f"{title} {kind}",
            number(one["auroc"]["value"]),
            [f"AUROC for {name_of(one['name'])}", _interval(one["auroc"], _why(one))],
        )
        for title, one in (("Best", ranked[0]), ("Worst", ranked[-1]))
    ]


def _of_classes(evaluation: Evaluation, name: str) -> list[KeyNumber]:
    """Sensitivity and specificity when the more probable of two classes is predicted."""
    classes = evaluation["classes"]
    if classes is None:
        return []
    shares = (("Sensitivity", classes["sensitivity"]), ("Specificity", classes["specificity"]))
    return [KeyNumber(title, percent(share["value"]), _share_remarks(share, name)) for title, share in shares]


def _share_remarks(share: Proportion, name: str) -> list[str]:
    counted = f"{share['correct']:,} of {share['total']:,}, for {name}"
    if share["low"] is None or share["high"] is None:
        return [NO_INTERVAL, counted]
    return [f"95 %: {100 * share['low']:.1f} to {percent(share['high'])}", counted]


def _calibration(evaluation: Evaluation) -> KeyNumber:
    """Mean ECE of the calibrated probabilities, if there are such."""
    before = mean_calibration(evaluation, "raw", "ece")
    after = mean_calibration(evaluation, "calibrated", "ece")
    term = "Mean calibration error" if len(evaluation["findings"]) > 1 else "Calibration error"
    if after is None:
        return KeyNumber(term, number(before), ["ECE, not calibrated", "0 is perfect"])
    if before is None:
        return KeyNumber(term, number(after), ["ECE, calibrated", "0 is perfect"])
    change = "worse than" if after > before else "better than" if after < before else "as"
    return KeyNumber(term, number(after), [f"ECE, calibrated: {change} {number(before)} before", "0 is perfect"])


def _patients(evaluation: Evaluation) -> KeyNumber:
    data = evaluation["data"]
    images = f"{count(data['images'])} images of {data['part']}"
    if unit_of(data) == "image":
        return KeyNumber("Patients", NONE, ["not all known", images])
    return KeyNumber("Patients", count(data["patients"]), [images])
