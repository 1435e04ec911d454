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
    UNDEFINED,
    Calibration,
    Comparison,
    Evaluation,
    Finding,
    Group,
    Interval,
    MinedFinding,
    OperatingPoint,
    Proportion,
    Reference,
    decimals,
    extent,
    has_unknown,
    known_images,
    rows_of_classes,
    shown_prevalence,
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
    lines.append(
        f"in brackets: 95 % intervals from {evaluation['resamples']:,} resamples of {unit_of(data)}s, Wilson's"
    )
    lines.append(f"for shares; none for too few {unit_of(data)}s: see the notes")
    return "\n".join(map(on_one_line, lines))


def _comparable(evaluation: Evaluation) -> list[Reference]:
    return [reference for reference in evaluation["references"] if reference["comparable"]]


def _scores(evaluation: Evaluation) -> str:
    has_n = has_unknown(evaluation)
    header = ["", "positives/n" if has_n else "positives", "prevalence", "AUROC", "AUPRC"]
    rows = [
        [
            finding["name"],
            f"{finding['positives']:,}{f'/{known_images(evaluation, finding):,}' if has_n else ''}",
            "-" if (share := shown_prevalence(evaluation, finding)) is None else f"{100 * share:.2f} %",
            in_brackets(finding["auroc"]),
            in_brackets(finding["auprc"]),
        ]
        for finding in evaluation["findings"]
    ]
    means = [in_brackets(evaluation[key]) for key in ("mean_auroc", "mean_auprc")]
    rows.append(["mean", "", "", *means])
    table = aligned([header, *rows], left=(0, 3, 4))
    return f"{table}\nn: images where the finding's label is known" if has_n else table


def _cohort(evaluation: Evaluation) -> str:
    """Images and patients of the splits; positives are in the table of scores."""
    parts = evaluation.get("cohort", [])
    if not parts:
        return ""
    left = tuple(range(len(parts) + 1))
    lines = [line for words in cohort_words(parts) for line in wrap(words, _WIDTH)]
    return "\n".join(["cohort", aligned(cohort_rows(parts, None), left=left), *lines])


def _published_classes(evaluation: Evaluation) -> str:
    """This model beside results published for two classes."""
    rows = [
        [one.name, one.images, *map(short, (one.accuracy, one.sensitivity, one.specificity, one.auroc))]
        for one in class_scores(evaluation)
    ]
    if not rows:
        return ""
    head = ["", "images", "accuracy", "sens.", "spec.", "AUROC"]
    notes = [line for names, one in class_notes(evaluation) for line in wrap(f"{names}: {one['note']}", _WIDTH)]
    title = "published for normal and pneumonia: comparable only on these images"
    return "\n".join([title, aligned([head, *rows], left=(0, 1)), *notes])


def _published(evaluation: Evaluation) -> str:
    """Our AUROC and published ones for exactly the same images, one column each."""
    published = [reference for reference in _comparable(evaluation) if "accuracy" not in reference]
    if not published:
        return ""
    rows = [
        [
            finding["name"],
            in_brackets(finding["auroc"]),
            *(short(reference["auroc"].get(finding["name"])) for reference in published),
        ]
        for finding in evaluation["findings"]
    ]
    rows.append(["mean", in_brackets(evaluation["mean_auroc"]), *(short(reference["mean"]) for reference in published)])
    names = [f"{nth} {reference['name']}, {reference['note']}" for nth, reference in enumerate(published, start=1)]
    header = ["", "this model", *(str(nth) for nth in range(1, len(published) + 1))]
    data = evaluation["data"]
    title = f"published AUROC for exactly these images: {data['part']}, {SPLITS[data['split']]}"
    return "\n".join([*map(on_one_line, [title, *names]), aligned([header, *rows], left=(0, 1))])


def _operating_points(evaluation: Evaluation) -> str:
    found = [
        (finding, finding["operating_points"][_SHOWN_RULE])
        for finding in evaluation["findings"]
        if _SHOWN_RULE in finding["operating_points"]
    ]
    if not found:
        return ""
    blocks = [
        aligned(
            [
                ["", "threshold", "sensitivity", "specificity"],
                *(
                    [
                        one["name"],
                        f"{point['threshold']:.4f}",
                        in_brackets(point["sensitivity"]),
                        in_brackets(point["specificity"]),
                    ]
                    for one, point in found
                ),
            ],
            left=(0, 2, 3),
        ),
        aligned(
            [
                ["", "PPV", "NPV", "F1"],
                *(
                    [one["name"], in_brackets(point["ppv"]), in_brackets(point["npv"]), short(point["f1"])]
                    for one, point in found
                ),
            ],
            left=(0, 1, 2),
        ),
        _confusion(found),
        _at_stated_prevalence(found),
    ]
    others = ", ".join(RULE_TITLES[rule] for rule in RULES if rule != _SHOWN_RULE)
    scale = (
        "calibrated probabilities" if evaluation.get("scale") == "calibrated" else "probabilities before calibration"
    )
    title = f"at {RULE_TITLES[_SHOWN_RULE]}, fixed on {evaluation['data']['fitted_on']}, for {scale}"
    of = "" if evaluation["classes"] is None else f"\n{rows_of_classes(on_one_line(evaluation['classes']['positive']))}"
    tables = "\n\n".join(block for block in blocks if block)
    return f"{on_one_line(title)}\n{tables}\n{others}: see the files{of}"


_Points = Sequence[tuple[Finding, OperatingPoint]]


def _confusion(found: _Points) -> str:
    keys = ("true_positives", "false_positives", "false_negatives", "true_negatives")
    rows = [[one["name"], *(f"{point['counts'][key]:,}" for key in keys)] for one, point in found if "counts" in point]  # type: ignore[literal-required] # keys of Counts
    header = ["", "true pos.", "false pos.", "false neg.", "true neg."]
    return aligned([header, *rows]) if rows else ""


def _at_stated_prevalence(found: _Points) -> str:
    """Predictive values in the population that the user named."""
    rows = [
        [one["name"], f"{100 * prevalence:.4g} %", in_brackets(point["stated_ppv"]), in_brackets(point["stated_npv"])]
        for one, point in found
        if (prevalence := one.get("stated_prevalence")) is not None
    ]
    return aligned([["", "at prevalence", "PPV", "NPV"], *rows], left=(0, 2, 3)) if rows else ""


def _calibration(evaluation: Evaluation) -> str:
    has_fit = any(finding["calibrated"] for finding in evaluation["findings"])
    header = ["", "ECE", "Brier", *(["ECE calibrated", "Brier calibrated"] if has_fit else [])]
    rows = [
        [finding["name"], *_errors(finding["raw"]), *(_errors(finding["calibrated"]) if has_fit else [])]
        for finding in evaluation["findings"]
    ]
    lines = [
        [
            finding["name"],
            _plain(shown["slope"]),
            _plain(shown["intercept"], signed=True),
            _plain(shown["observed_expected"]),
        ]
        for finding in evaluation["findings"]
        if "slope" in (shown := finding["calibrated"] or finding["raw"])
    ]
    blocks = [f"calibration{_bins(evaluation)}\n{aligned([header, *rows])}"]
    if lines:
        of = "calibrated" if has_fit else "uncalibrated"
        header = ["", "slope", "intercept", "observed/expected"]
        blocks.append(f"of the {of} probabilities\n{aligned([header, *lines], left=(0, 1, 2, 3))}")
    return "\n\n".join(blocks)


def _bins(evaluation: Evaluation) -> str:
    widths = {finding["raw"].get("width") for finding in evaluation["findings"]} - {None}
    if not widths:
        return ""
    counts = sorted({round(1 / width) for width in filter(None, widths)})
    few = f"{counts[0]:,} to " if len(counts) > 1 else ""
    return f", ECE in {few}{counts[-1]:,} bin{'s' * (counts[-1] > 1)}"


def _errors(calibration: Calibration | None) -> list[str]:
    return ["-", "-"] if calibration is None else [short(calibration["ece"], 4), short(calibration["brier"], 4)]


def _classes(evaluation: Evaluation) -> str:
    classes = evaluation["classes"]
    if classes is None:
        return ""
    rows = [["positive class", classes["positive"], ""], ["accuracy", *_counted(classes["accuracy"])]]
    rows.append([f"sensitivity for {classes['positive']}", *_counted(classes["sensitivity"])])
    rows.append([f"specificity for {classes['positive']}", *_counted(classes["specificity"])])
    rows += [[f"recall of {name}", *_counted(recall)] for name, recall in classes["recall"].items()]
    rows.append(["always the most common class", short(classes["majority_share"]), ""])
    return f"most probable class, with Wilson's interval\n{aligned(rows, left=(0, 1))}"


def _counted(one: Proportion) -> list[str]:
    return [
        in_brackets(Interval(value=one["value"], low=one["low"], high=one["high"])),
        f"{one['correct']:,}/{one['total']:,}",
    ]


def _subgroups(evaluation: Evaluation) -> str:
    if not evaluation["subgroups"]:
        return ""
    header = ["", "images", "patients", "mean AUROC", "minus that of the others"]
    rows = [
        [
            _group_name(group),
            shown_number(group["images"]),
            shown_number(group["patients"]),
            "not scored" if group.get("not_scored") else in_brackets(group["mean_auroc"]),
            in_brackets(group["difference"], signed=True) if "difference" in group else "-",
        ]
        for group in evaluation["subgroups"]
    ]
    return "\n\n".join(filter(None, [f"subgroups\n{aligned([header, *rows], left=(0, 3, 4))}", _rates(evaluation)]))


def _group_name(group: Group) -> str:
    return f"{group['by']} {group['group']}"


def _rates(evaluation: Evaluation) -> str:
    """Sensitivities and false positive rates that differ between a subgroup and all others."""
    rows, total = [], 0
    for group in evaluation["subgroups"]:
        for finding, one in group.get("findings", {}).items():
            kinds = (("sensitivity", one["sensitivity_difference"]), ("FPR", one["false_positive_rate_difference"]))
            defined = [(kind, difference) for kind, difference in kinds if difference["low"] is not None]
            total += len(defined)
            rows += [
                [_group_name(group), finding, kind, in_brackets(difference, signed=True)]
                for kind, difference in defined
                if _excludes_zero(difference)
            ]
    if not total:
        return ""
    title = (
        f"sensitivity and false positive rate (FPR) at {RULE_TITLES[_SHOWN_RULE]}, subgroup minus others:\n"
        f"{len(rows):,} of {total:,} intervals exclude 0; by chance alone about {0.05 * total:.0f} would"
    )
    return f"{title}\n{aligned(rows, left=(0, 1, 2, 3))}" if rows else title


def _excludes_zero(one: Interval) -> bool:
    return one["low"] is not None and one["high"] is not None and not one["low"] <= 0 <= one["high"]


def _comparison(comparison: Comparison | None) -> str:
    if comparison is None:
        return ""
    title = f"AUROC against {on_one_line(comparison['other'])}, on the same resamples"
    return f"{title}\n{differences(comparison, 'ours', 'theirs')}"


def differences(comparison: Comparison, ours: str, theirs: str) -> str:
    """Table of two models under these names."""
    rows = [
        [
            row["name"],
            short(row["ours"]),
            short(row["other"]),
            in_brackets(row["difference"], signed=True),
            short(row["p"]),
            short(row["p_holm"]),
        ]
        for row in comparison["differences"]
    ]
    return aligned([["", ours, theirs, "difference", "p", "p (Holm)"], *rows], left=(0, 3))


def _mined(evaluation: Evaluation) -> str:
    """The same predictions on text-mined labels."""
    mined = evaluation.get("mined", [])
    if not mined:
        return ""
    rows = [
        [
            row["name"],
            "" if row["positives"] is None else f"{row['positives']:,}",
            in_brackets(row["auroc"]),
            in_brackets(row["difference"], signed=True),
        ]
        for row in mined
    ]
    header = ["", "positives", "AUROC", "readers' minus this"]
    title = "the same predictions, images and resamples on text-mined labels"
    return f"{title}\n{aligned([header, *rows], left=(0, 2, 3))}"


def _not_comparable(evaluation: Evaluation) -> str:
    """Published means for other images, in a separate table with their split."""
    rows = [
        [reference["name"], reference["split"], short(reference["mean"], 4), reference["note"]]
        for reference in evaluation["references"]
        if not reference["comparable"] and "accuracy" not in reference
    ]
    if not rows:
        return ""
    header = ["", "split", "mean", ""]
    return f"published mean AUROC for other images: not comparable\n{aligned([header, *rows], left=(0, 1, 3))}"


def as_csv(evaluation: Evaluation) -> str:
    """One row per finding, then the mean; empty cells where undefined."""
    published = _comparable(evaluation)
    rules = [rule for rule in RULES if any(rule in finding["operating_points"] for finding in evaluation["findings"])]
    split = evaluation["data"]["split"]
    header = ["finding", "images", "known", "positives", "prevalence", "positive_patients", "negative_patients"]
    header.append("no_interval")
    header += [f"{score}{bound}" for score in ("auroc", "auprc") for bound in _BOUNDS]
    header += ["ece", "brier", "ece_calibrated", "brier_calibrated"]
    header += [f"{name}{bound}" for name in _LINE for bound in _BOUNDS]
    header += [f"{rule}_{name}" for rule in rules for name in _POINT_COLUMNS]
    header += [f"auroc of {reference['name']} ({split} test)" for reference in published]
    mined = {row["name"]: row for row in evaluation.get("mined", [])}
    header += _MINED_COLUMNS if mined else []
    return "".join([line(header), *map(line, _csv_rows(evaluation, rules, published, mined))])


_BOUNDS: Final = ("", "_low", "_high")

_MINED_COLUMNS: Final = ["positives_text_mined", *(f"auroc_text_mined{bound}" for bound in _BOUNDS)]

_SHARES: Final = ("sensitivity", "specificity", "ppv", "npv")

_COUNTS: Final = ("true_positives", "false_positives", "false_negatives", "true_negatives")

_STATED: Final = ("stated_ppv", "stated_npv")

_POINT_COLUMNS: Final = (
    "threshold",
    *(f"{share}{bound}" for share in _SHARES for bound in _BOUNDS),
    "f1",
    *_COUNTS,
    *(f"{share}{bound}" for share in _STATED for bound in _BOUNDS),
)

_LINE: Final = ("slope", "intercept", "observed_expected")
"""Of the calibrated probabilities, or of the uncalibrated ones without calibration."""


def _csv_rows(
    evaluation: Evaluation, rules: Sequence[str], published: Sequence[Reference], mined: Mapping[str, MinedFinding]
) -> list[list[str | float | None]]:
    rows: list[list[str | float | None]] = []
    for finding in evaluation["findings"]:
        row: list[str | float | None] = [
            finding["name"],
            evaluation["data"]["images"],
            known_images(evaluation, finding),
            finding["positives"],
            finding["prevalence"],
            finding.get("positive_patients"),
            finding.get("negative_patients"),
            finding.get("too_few"),
        ]
        row += [*cells_of(finding["auroc"]), *cells_of(finding["auprc"]), *_calibration_cells(finding)]
        for rule in rules:
            row += _point_cells(finding["operating_points"].get(rule))
        row += [reference["auroc"].get(finding["name"]) for reference in published]
        rows.append([*row, *_mined_cells(mined, finding["name"])])
    rows.append(_mean_row(evaluation, rules, published, mined))
    return rows


def _calibration_cells(finding: Finding) -> list[float | None]:
    calibrated = finding["calibrated"]
    cells = [finding["raw"]["ece"], finding["raw"]["brier"]]
    cells += [calibrated["ece"], calibrated["brier"]] if calibrated else [None, None]
    shown = calibrated or finding["raw"]
    for key in _LINE:
        cells += cells_of(shown.get(key, UNDEFINED))  # type: ignore[arg-type] # an Interval, as are all of _LINE
    return cells


def _point_cells(point: OperatingPoint | None) -> list[float | None]:
    if point is None:
        return [None] * len(_POINT_COLUMNS)
    cells: list[float | None] = [point["threshold"]]
    for share in (point["sensitivity"], point["specificity"], point["ppv"], point["npv"]):
        cells += cells_of(share)
    counts = point.get("counts")
    cells += [point["f1"], *(counts[key] if counts else None for key in _COUNTS)]
    for share in (point.get("stated_ppv", UNDEFINED), point.get("stated_npv", UNDEFINED)):
        cells += cells_of(share)
    return cells


def mean_too_few(evaluation: Evaluation) -> str | None:
    """Findings for whose sake the means have no interval; None without any."""
    few = [
        finding["name"]
        for finding in evaluation["findings"]
        if finding.get("too_few") and finding["auroc"]["value"] is not None
    ]
    return f"too few patients for {', '.join(few)}" if few else None


def _mean_row(
    evaluation: Evaluation, rules: Sequence[str], published: Sequence[Reference], mined: Mapping[str, MinedFinding]
) -> list[str | float | None]:
    means = [*cells_of(evaluation["mean_auroc"]), *cells_of(evaluation["mean_auprc"])]
    blank = [None] * (4 + 3 * len(_LINE) + len(rules) * len(_POINT_COLUMNS))
    return [
        "mean",
        evaluation["data"]["images"],
        *([None] * 5),
        mean_too_few(evaluation),
        *means,
        *blank,
        *(reference["mean"] for reference in published),
        *_mined_cells(mined, "mean"),
    ]


def _mined_cells(mined: Mapping[str, MinedFinding], name: str) -> list[float | None]:
    if not mined:
        return []
    row = mined.get(name)
    return [None] * len(_MINED_COLUMNS) if row is None else [row["positives"], *cells_of(row["auroc"])]


def cells_of(one: Interval) -> list[float | None]:
    """Value and bounds as cells of a CSV."""
    return [one["value"], one["low"], one["high"]]


def short(value: float | None, digits: int = 3) -> str:
    """Without the leading 0, as usual for scores; `-` for undefined."""
    if value is None:
        return "-"
    text = decimals(value, digits)
    return text[1:] if text.startswith("0.") else text


def in_brackets(one: Interval, *, signed: bool = False) -> str:
    """The value with its interval; `(none)` without one."""
    value = one["value"]
    if value is None:
        return "-"
    if signed:
        bounds = "none" if one["low"] is None or one["high"] is None else f"{one['low']:+.4f} to {one['high']:+.4f}"
        return f"{value:+.4f} ({bounds})"
    if one["low"] is None or one["high"] is None:
        return f"{short(value)} (none)"
    return f"{short(value)} ({short(one['low'])}-{short(one['high'])})"


def _plain(one: Interval, *, signed: bool = False) -> str:
    """With two decimals and the leading 0, for numbers that may be above 1 or below 0."""
    if one["value"] is None:
        return "-"
    value, *bounds = (
        f"{round(number, 2) + 0.0:{'+' if signed else ''}.2f}"  # + 0.0: no minus before zero
        for number in (one["value"], one["low"], one["high"])
        if number is not None
    )
    return f"{value} ({(' to ' if signed else '-').join(bounds) or 'none'})"


def aligned(rows: Sequence[Cells], left: Sequence[int] = (0,)) -> str:
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
