"""Evaluation documents as text for a terminal and as CSV.

Published values are next to ours only where they were measured on exactly the evaluated images. No table is wider than
80 characters.
"""

from collections.abc import Mapping, Sequence
from textwrap import wrap
from typing import Final

from trainer.errors import on_one_line
from trainer.evaluation.cohort import cohort_rows, cohort_words, shown_number
from trainer.evaluation.document import (
    Calibration,
    Comparison,
    Evaluation,
    Interval,
    MinedFinding,
    Proportion,
    Reference,
    decimals,
    extent,
    rows_of_classes,
    unit_of,
)
from trainer.evaluation.operating import RULE_TITLES, RULES
from trainer.evaluation.reference import SPLITS, class_notes, class_scores
from trainer.formats.spreadsheet import line

_SHOWN_RULE: Final = "youden"

_WIDTH: Final = 80

Cells = Sequence[str]


def as_table(evaluation: Evaluation) -> str:
    """Aligned text: scores, operating points, calibration, classes, subgroups, comparison, published values, notes."""
    blocks = [
        _head(evaluation),
        _cohort(evaluation),
        _scores(evaluation),
        _published(evaluation),
        _published_classes(evaluation),
        _operating_points(evaluation),
        _calibration(evaluation),
        _classes(evaluation),
        _subgroups(evaluation),
        _comparison(evaluation["comparison"]),
        _mined(evaluation),
        _not_comparable(evaluation),
        "\n".join(f"note: {on_one_line(note)}" for note in evaluation["notes"]),
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _head(evaluation: Evaluation) -> str:
    data = evaluation["data"]
    what = f"{evaluation['model']} on {data['labels']}: {extent(data)}"
    where = f"{data['part']} images of {SPLITS[data['split']]}"
    edition = data.get("edition")
    lines = [what, where, *([f"edition of the labels: {edition}"] if edition else [])]
    lines.append(f"in brackets: 95 % intervals from {evaluation['resamples']:,} resamples of {unit_of(data)}s")
    return "\n".join(map(on_one_line, lines))


def _comparable(evaluation: Evaluation) -> list[Reference]:
    return [reference for reference in evaluation["references"] if reference["comparable"]]


def _scores(evaluation: Evaluation) -> str:
    header = ["", "positives", "prevalence", "AUROC", "AUPRC"]
    rows = [
        [
            finding["name"],
            f"{finding['positives']:,}",
            f"{100 * finding['prevalence']:.2f} %",
            _interval(finding["auroc"]),
            _interval(finding["auprc"]),
        ]
        for finding in evaluation["findings"]
    ]
    means = [_interval(evaluation[key]) for key in ("mean_auroc", "mean_auprc")]
    rows.append(["mean", "", "", *means])
    return _aligned([header, *rows], left=(0, 3, 4))


def _cohort(evaluation: Evaluation) -> str:
    """Images and patients of the splits; positives are in the table of scores."""
    parts = evaluation.get("cohort", [])
    if not parts:
        return ""
    left = tuple(range(len(parts) + 1))
    lines = [line for words in cohort_words(parts) for line in wrap(words, _WIDTH)]
    return "\n".join(["cohort", _aligned(cohort_rows(parts, None), left=left), *lines])


def _published_classes(evaluation: Evaluation) -> str:
    """This model beside results published for two classes."""
    rows = [
        [one.name, one.images, *map(_short, (one.accuracy, one.sensitivity, one.specificity, one.auroc))]
        for one in class_scores(evaluation)
    ]
    if not rows:
        return ""
    head = ["", "images", "accuracy", "sens.", "spec.", "AUROC"]
    notes = [line for names, one in class_notes(evaluation) for line in wrap(f"{names}: {one['note']}", _WIDTH)]
    title = "published for normal and pneumonia: comparable only on these images"
    return "\n".join([title, _aligned([head, *rows], left=(0, 1)), *notes])


def _published(evaluation: Evaluation) -> str:
    """Our AUROC and published ones for exactly the same images, one column each."""
    published = [reference for reference in _comparable(evaluation) if "accuracy" not in reference]
    if not published:
        return ""
    rows = [
        [
            finding["name"],
            _interval(finding["auroc"]),
            *(_short(reference["auroc"].get(finding["name"])) for reference in published),
        ]
        for finding in evaluation["findings"]
    ]
    rows.append(["mean", _interval(evaluation["mean_auroc"]), *(_short(reference["mean"]) for reference in published)])
    names = [f"{nth} {reference['name']}, {reference['note']}" for nth, reference in enumerate(published, start=1)]
    header = ["", "this model", *(str(nth) for nth in range(1, len(published) + 1))]
    data = evaluation["data"]
    title = f"published AUROC for exactly these images: {data['part']}, {SPLITS[data['split']]}"
    return "\n".join([*map(on_one_line, [title, *names]), _aligned([header, *rows], left=(0, 1))])


def _operating_points(evaluation: Evaluation) -> str:
    rows = []
    for finding in evaluation["findings"]:
        point = finding["operating_points"].get(_SHOWN_RULE)
        if point is not None:
            shares = [_interval(point[key]) for key in ("sensitivity", "specificity", "ppv", "npv")]
            rows.append([finding["name"], f"{point['threshold']:.4f}", *shares, _short(point["f1"])])
    if not rows:
        return ""
    others = ", ".join(RULE_TITLES[rule] for rule in RULES if rule != _SHOWN_RULE)
    title = f"at {RULE_TITLES[_SHOWN_RULE]}, fixed on {evaluation['data']['fitted_on']}, before calibration"
    first = _aligned([["", "threshold", "sensitivity", "specificity"], *(row[:4] for row in rows)], left=(0, 2, 3))
    second = _aligned([["", "PPV", "NPV", "F1"], *([row[0], *row[4:]] for row in rows)], left=(0, 1, 2))
    of = "" if evaluation["classes"] is None else f"\n{rows_of_classes(on_one_line(evaluation['classes']['positive']))}"
    return f"{on_one_line(title)}\n{first}\n\n{second}\n{others}: see the files{of}"


def _calibration(evaluation: Evaluation) -> str:
    has_fit = any(finding["calibrated"] for finding in evaluation["findings"])
    header = ["", "ECE", "Brier", *(["ECE calibrated", "Brier calibrated"] if has_fit else [])]
    rows = [
        [finding["name"], *_errors(finding["raw"]), *(_errors(finding["calibrated"]) if has_fit else [])]
        for finding in evaluation["findings"]
    ]
    return f"calibration\n{_aligned([header, *rows])}"


def _errors(calibration: Calibration | None) -> list[str]:
    return ["-", "-"] if calibration is None else [_short(calibration["ece"], 4), _short(calibration["brier"], 4)]


def _classes(evaluation: Evaluation) -> str:
    classes = evaluation["classes"]
    if classes is None:
        return ""
    rows = [["positive class", classes["positive"], ""], ["accuracy", *_counted(classes["accuracy"])]]
    rows.append([f"sensitivity for {classes['positive']}", *_counted(classes["sensitivity"])])
    rows.append([f"specificity for {classes['positive']}", *_counted(classes["specificity"])])
    rows += [[f"recall of {name}", *_counted(recall)] for name, recall in classes["recall"].items()]
    rows.append(["always the most common class", _short(classes["majority_share"]), ""])
    return f"most probable class, with Wilson's interval\n{_aligned(rows, left=(0, 1))}"


def _counted(one: Proportion) -> list[str]:
    return [
        _interval(Interval(value=one["value"], low=one["low"], high=one["high"])),
        f"{one['correct']:,}/{one['total']:,}",
    ]


def _subgroups(evaluation: Evaluation) -> str:
    if not evaluation["subgroups"]:
        return ""
    header = ["", "images", "patients", "mean AUROC"]
    rows = [
        [
            f"{group['by']} {group['group']}",
            shown_number(group["images"]),
            shown_number(group["patients"]),
            _interval(group["mean_auroc"]),
        ]
        for group in evaluation["subgroups"]
    ]
    return f"subgroups\n{_aligned([header, *rows], left=(0, 3))}"


def _comparison(comparison: Comparison | None) -> str:
    if comparison is None:
        return ""
    header = ["", "ours", "theirs", "difference", "p", "p (Holm)"]
    rows = [
        [
            row["name"],
            _short(row["ours"]),
            _short(row["other"]),
            _interval(row["difference"], signed=True),
            _short(row["p"]),
            _short(row["p_holm"]),
        ]
        for row in comparison["differences"]
    ]
    return f"AUROC against {on_one_line(comparison['other'])}, on the same resamples\n{_aligned([header, *rows], left=(0, 3))}"


def _mined(evaluation: Evaluation) -> str:
    """The same predictions on text-mined labels."""
    mined = evaluation.get("mined", [])
    if not mined:
        return ""
    rows = [
        [
            row["name"],
            "" if row["positives"] is None else f"{row['positives']:,}",
            _interval(row["auroc"]),
            _interval(row["difference"], signed=True),
        ]
        for row in mined
    ]
    header = ["", "positives", "AUROC", "readers' minus this"]
    title = "the same predictions, images and resamples on text-mined labels"
    return f"{title}\n{_aligned([header, *rows], left=(0, 2, 3))}"


def _not_comparable(evaluation: Evaluation) -> str:
    """Published means for other images, in a separate table with their split."""
    rows = [
        [reference["name"], reference["split"], _short(reference["mean"], 4), reference["note"]]
        for reference in evaluation["references"]
        if not reference["comparable"] and "accuracy" not in reference
    ]
    if not rows:
        return ""
    header = ["", "split", "mean", ""]
    return f"published mean AUROC for other images: not comparable\n{_aligned([header, *rows], left=(0, 1, 3))}"


def as_csv(evaluation: Evaluation) -> str:
    """One row per finding, then the mean; empty cells where undefined."""
    published = _comparable(evaluation)
    rules = [rule for rule in RULES if any(rule in finding["operating_points"] for finding in evaluation["findings"])]
    split = evaluation["data"]["split"]
    header = ["finding", "images", "positives", "prevalence"]
    header += [f"{score}{bound}" for score in ("auroc", "auprc") for bound in _BOUNDS]
    header += ["ece", "brier", "ece_calibrated", "brier_calibrated"]
    header += [f"{rule}_{name}" for rule in rules for name in _POINT_COLUMNS]
    header += [f"auroc of {reference['name']} ({split} test)" for reference in published]
    mined = {row["name"]: row for row in evaluation.get("mined", [])}
    header += _MINED_COLUMNS if mined else []
    return "".join([line(header), *map(line, _csv_rows(evaluation, rules, published, mined))])


_BOUNDS: Final = ("", "_low", "_high")

_MINED_COLUMNS: Final = ["positives_text_mined", *(f"auroc_text_mined{bound}" for bound in _BOUNDS)]

_SHARES: Final = ("sensitivity", "specificity", "ppv", "npv")

_POINT_COLUMNS: Final = ("threshold", *(f"{share}{bound}" for share in _SHARES for bound in _BOUNDS), "f1")


def _csv_rows(
    evaluation: Evaluation, rules: Sequence[str], published: Sequence[Reference], mined: Mapping[str, MinedFinding]
) -> list[list[str | float | None]]:
    rows: list[list[str | float | None]] = []
    for finding in evaluation["findings"]:
        calibrated = finding["calibrated"]
        row: list[str | float | None] = [
            finding["name"],
            evaluation["data"]["images"],
            finding["positives"],
            finding["prevalence"],
        ]
        row += [*_three(finding["auroc"]), *_three(finding["auprc"]), finding["raw"]["ece"], finding["raw"]["brier"]]
        row += [calibrated["ece"], calibrated["brier"]] if calibrated else [None, None]
        for rule in rules:
            point = finding["operating_points"].get(rule)
            if point is None:
                row += [None] * len(_POINT_COLUMNS)
            else:
                row += [point["threshold"], *_three(point["sensitivity"]), *_three(point["specificity"])]
                row += [*_three(point["ppv"]), *_three(point["npv"]), point["f1"]]
        row += [reference["auroc"].get(finding["name"]) for reference in published]
        rows.append([*row, *_mined_cells(mined, finding["name"])])
    means = [*_three(evaluation["mean_auroc"]), *_three(evaluation["mean_auprc"])]
    blank: list[None] = [None] * (4 + len(rules) * len(_POINT_COLUMNS))
    rows.append(
        [
            "mean",
            evaluation["data"]["images"],
            None,
            None,
            *means,
            *blank,
            *(reference["mean"] for reference in published),
            *_mined_cells(mined, "mean"),
        ]
    )
    return rows


def _mined_cells(mined: Mapping[str, MinedFinding], name: str) -> list[float | None]:
    if not mined:
        return []
    row = mined.get(name)
    return [None] * len(_MINED_COLUMNS) if row is None else [row["positives"], *_three(row["auroc"])]


def _three(one: Interval) -> list[float | None]:
    return [one["value"], one["low"], one["high"]]


def _short(value: float | None, digits: int = 3) -> str:
    """Without the leading 0, as usual for scores; `-` for undefined."""
    if value is None:
        return "-"
    text = decimals(value, digits)
    return text[1:] if text.startswith("0.") else text


def _interval(one: Interval, *, signed: bool = False) -> str:
    value = one["value"]
    if value is None:
        return "-"
    if signed:
        bounds = "" if one["low"] is None or one["high"] is None else f" ({one['low']:+.4f} to {one['high']:+.4f})"
        return f"{value:+.4f}{bounds}"
    bounds = "" if one["low"] is None or one["high"] is None else f" ({_short(one['low'])}-{_short(one['high'])})"
    return f"{_short(value)}{bounds}"


def _aligned(rows: Sequence[Cells], left: Sequence[int] = (0,)) -> str:
    """Columns two spaces apart; those in `left` are left-aligned, the others right-aligned.

    A cell's line breaks are escaped.
    """
    rows = [list(map(on_one_line, row)) for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if column in left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
