"""Sections of a run's page about the evaluation."""

from collections.abc import Mapping, Sequence
from typing import Final

from trainer.evaluation.document import (
    Evaluation,
    Interval,
    OperatingPoint,
    Proportion,
    extent,
    mean_calibration,
    rows_of_classes,
    unit_of,
)
from trainer.evaluation.operating import RULE_TITLES
from trainer.evaluation.reference import SPLITS
from trainer.report import evaluation_figures
from trainer.report.documents import Documents
from trainer.report.formatting import (
    NONE,
    count,
    interval,
    last_name,
    number,
    percent,
    proportion,
    without_places,
)
from trainer.report.formatting import finding as name_of
from trainer.report.page import Block, Plots, Section, Table, Text
from trainer.report.published_classes import published_classes

_NO_SPREAD: Final = "An interval of a single number means that all resamples gave the same value, for example no error: there are too few images to estimate the uncertainty."
_NO_INTERVAL: Final = (
    "A number has no interval where at least half of the resamples lack positives or negatives of the finding."
)


def findings(one: Documents) -> Section:
    blocks: list[Block] = []
    if one.evaluation is not None:
        data = one.evaluation["data"]
        blocks.append(
            Table(
                f"{data['part']}: {extent(data)}; 95 % intervals from {one.evaluation['resamples']:,} resamples of "
                f"{unit_of(data)}s.",
                [
                    "Finding",
                    "Positives",
                    "Prevalence",
                    "AUROC",
                    "AUPRC",
                    "ECE",
                    "ECE calibrated",
                    "Brier",
                    "Brier calibrated",
                ],
                _finding_rows(one.evaluation),
            )
        )
        blocks += _remarks(
            [score for f in one.evaluation["findings"] for score in (f["auroc"], f["auprc"])],
            "ECE is the expected calibration error (15 bins), Brier the mean squared error; both before and after calibration.",
        )
        blocks += _class_tables(one.evaluation)
        blocks.append(Plots([evaluation_figures.auroc_forest(one.evaluation)]))
    elif one.results is not None:
        blocks += _plain_scores(one)
    return Section("findings", "Each finding", blocks)


def _remarks(shown: Sequence[Interval], *words: str) -> list[Block]:
    """Caveats about these intervals, after other text about them."""
    defined = [one for one in shown if one["value"] is not None]
    lines = [
        *words,
        *([_NO_SPREAD] if any(one["low"] is not None and one["low"] == one["high"] for one in defined) else []),
        *([_NO_INTERVAL] if any(one["low"] is None for one in defined) else []),
    ]
    return [Text(lines)] if lines else []


def _finding_rows(evaluation: Evaluation) -> list[list[str]]:
    rows = []
    for one in evaluation["findings"]:
        after = one["calibrated"]
        rows.append(
            [
                name_of(one["name"]),
                count(one["positives"]),
                percent(one["prevalence"]),
                interval(one["auroc"]),
                interval(one["auprc"]),
                number(one["raw"]["ece"], 4),
                number(after["ece"], 4) if after else NONE,
                number(one["raw"]["brier"], 4),
                number(after["brier"], 4) if after else NONE,
            ]
        )
    mean = ["mean", "", "", interval(evaluation["mean_auroc"]), interval(evaluation["mean_auprc"])]
    return [*rows, [*mean, *_mean_calibration(evaluation)]]


def _mean_calibration(evaluation: Evaluation) -> list[str]:
    return [
        number(mean_calibration(evaluation, "raw", "ece"), 4),
        number(mean_calibration(evaluation, "calibrated", "ece"), 4),
        number(mean_calibration(evaluation, "raw", "brier"), 4),
        number(mean_calibration(evaluation, "calibrated", "brier"), 4),
    ]


def _class_tables(evaluation: Evaluation) -> list[Block]:
    classes = evaluation["classes"]
    if classes is None:
        return []
    rows = [[name_of(name), _counted(one), _share(one)] for name, one in classes["recall"].items()]
    rows.append(["all (accuracy)", _counted(classes["accuracy"]), _share(classes["accuracy"])])
    return [
        Table(
            "Correctly classified images of each class, with Wilson's 95 % interval.",
            ["Class", "Correct", "Share"],
            rows,
        )
    ]


def _counted(one: Proportion) -> str:
    return f"{one['correct']:,} of {one['total']:,}"


def _share(one: Proportion) -> str:
    return proportion(one).partition(",")[0]


def _plain_scores(one: Documents) -> list[Block]:
    """AUROC without intervals, from the run's results."""
    parts = [part for part in ("val", "test") if isinstance(one.result(part, "auroc"), Mapping)]
    if not parts:
        return []
    names = list(one.result(parts[0], "auroc"))
    rows = [[name_of(name), *(number(one.result(part, "auroc", name)) for part in parts)] for name in names]
    rows.append(["mean", *(number(one.result(part, "mean_auroc")) for part in parts)])
    return [Table("AUROC of the best checkpoint, without intervals.", ["Finding", *parts], rows)]


def roc(one: Documents) -> Section:
    if one.evaluation is None:
        return Section("roc", "ROC and precision-recall")
    found = one.evaluation["findings"]
    data = one.evaluation["data"]
    caption = (
        f"On {data['part']}, {data['images']:,} images. Each plot states the area (AUROC or AUPRC) with its 95 % interval. "
        f"The band is the pointwise 95 % interval over resamples of {unit_of(data)}s; the dashed line is chance."
    )
    drawings = [
        draw(finding) for finding in found for draw in (evaluation_figures.roc, evaluation_figures.precision_recall)
    ]
    return Section("roc", "ROC and precision-recall", [Plots(drawings, caption)])


def calibration(one: Documents) -> Section:
    if one.evaluation is None:
        return Section("calibration", "Calibration")
    fitted_on = one.evaluation["data"]["fitted_on"]
    words = "No calibration was fitted: probabilities are those of the network."
    if fitted_on:
        words = f"Calibration was fitted on {without_places(fitted_on)}, and is applied here unchanged."
    data = one.evaluation["data"]
    caption = (
        f"On {data['part']}, {data['images']:,} images: share of positives over the mean predicted probability of each bin. Larger marks "
        "have more images; on the dashed line, probabilities equal frequencies."
    )
    plots = Plots([evaluation_figures.reliability(finding) for finding in one.evaluation["findings"]], caption)
    return Section("calibration", "Calibration", [Text([words]), plots])


def operating(one: Documents) -> Section:
    if one.evaluation is None:
        return Section("operating", "Operating points")
    found = one.evaluation["findings"]
    rules = list(dict.fromkeys(rule for finding in found for rule in finding["operating_points"]))
    data = one.evaluation["data"]
    head = ["Finding", "Threshold", "Sensitivity", "Specificity", "PPV", "NPV", "F1"]
    fitted_on = without_places(data["fitted_on"] or "another split")
    points_shown = [point for finding in found for point in finding["operating_points"].values()]
    classes = one.evaluation["classes"]
    words = [
        f"Thresholds apply to probabilities before calibration. Results are measured on {data['part']}, with 95 % intervals over {unit_of(data)}s.",
        *([] if classes is None else [rows_of_classes(name_of(classes["positive"]))]),
    ]
    shares = [point[key] for point in points_shown for key in ("sensitivity", "specificity", "ppv", "npv")]
    blocks: list[Block] = _remarks(shares, *words) if rules else []
    for rule in rules:
        points = {finding["name"]: finding["operating_points"].get(rule) for finding in found}
        rows = [[name_of(name), *_point_cells(point)] for name, point in points.items() if point is not None]
        blocks.append(Table(f"Thresholds for {RULE_TITLES.get(rule, rule)}, fixed on {fitted_on}.", head, rows))
    return Section("operating", "Operating points", blocks)


def _point_cells(point: OperatingPoint) -> list[str]:
    shares = [interval(share, 2) for share in (point["sensitivity"], point["specificity"], point["ppv"], point["npv"])]
    return [number(point["threshold"], 4), *shares, number(point["f1"])]


def subgroups(one: Documents) -> Section:
    if one.evaluation is None or not one.evaluation["subgroups"]:
        return Section("subgroups", "Subgroups")
    groups, found = one.evaluation["subgroups"], [finding["name"] for finding in one.evaluation["findings"]]
    part = one.evaluation["data"]["part"]
    forest = evaluation_figures.subgroups_forest(one.evaluation)
    undefined = {"value": None, "low": None, "high": None}
    totals = [
        [
            evaluation_figures.group_name(group),
            count(group["images"]),
            count(group["patients"]),
            interval(group["mean_auroc"]),
        ]
        for group in groups
    ]
    each = [
        [name_of(name), *(interval(group["auroc"].get(name, undefined), 2) for group in groups)]  # type: ignore[arg-type] # same keys
        for name in found
    ]
    return Section(
        "subgroups",
        "Subgroups",
        [
            *([Plots([forest])] if forest else []),
            Table(
                f"Mean AUROC of each subgroup of {part}.",
                ["Subgroup", "Images", "Patients", "Mean AUROC (95 %)"],
                totals,
            ),
            Table(
                f"AUROC of each finding by subgroup of {part}.",
                ["Finding", *map(evaluation_figures.group_name, groups)],
                each,
            ),
            *_remarks([score for group in groups for score in (group["mean_auroc"], *group["auroc"].values())]),
        ],
    )


def references(one: Documents) -> Section:
    if one.evaluation is None or not one.evaluation["references"]:
        return Section("references", "Published results")
    of_classes = published_classes(one.evaluation)
    if of_classes:
        return Section("references", "Published results", of_classes)
    references, found = one.evaluation["references"], one.evaluation["findings"]
    published = [reference for reference in references if reference["comparable"]]
    others = [reference for reference in references if not reference["comparable"]]
    blocks: list[Block] = []
    if published:
        rows = [
            [name_of(f["name"]), interval(f["auroc"]), *(number(r["auroc"].get(f["name"]), 4) for r in published)]
            for f in found
        ]
        rows.append(["mean", interval(one.evaluation["mean_auroc"]), *(number(r["mean"], 4) for r in published)])
        blocks.append(
            Table(
                f"AUROC on exactly the same images: {one.evaluation['data']['part']} of {SPLITS[one.evaluation['data']['split']]}.",
                ["Finding", "this run (95 %)", *(r["name"] for r in published)],
                rows,
            )
        )
    if others:
        rows = [[name_of(f["name"]), *(number(r["auroc"].get(f["name"]), 4) for r in others)] for f in found]
        rows.append(["mean", *(number(r["mean"], 4) for r in others)])
        head = ["Finding", *(f"{r['name']} ({r['split']} split)" for r in others)]
        blocks.append(Table("AUROC on other images: not comparable with those of this page.", head, rows))
    blocks.append(Text([f"{r['name']}: {r['note']}; source: {r['source']}" for r in references]))
    return Section("references", "Published results", blocks)


def comparison(one: Documents) -> Section:
    if one.evaluation is None or one.evaluation["comparison"] is None:
        return Section("comparison", "Comparison")
    compared, unit = one.evaluation["comparison"], unit_of(one.evaluation["data"])
    other = last_name(compared["other"])
    rows = [
        [
            name_of(row["name"]),
            number(row["ours"]),
            number(row["other"]),
            interval(row["difference"]),
            number(row["p"]),
            number(row["p_holm"]),
        ]
        for row in compared["differences"]
    ]
    caption = f"AUROC of this model minus that of {other}, on the same resamples of {unit}s; p (Holm) is corrected for the number of findings."
    head = ["Finding", "this model", other, "Difference (95 %)", "p", "p (Holm)"]
    return Section("comparison", "Comparison", [Table(caption, head, rows)])


def shortcuts(one: Documents) -> Section:
    if one.evaluation is None or not one.evaluation["shortcuts"]:
        return Section("shortcuts", "Shortcuts")
    found = one.evaluation["findings"]
    rows = [[name_of(f["name"]), number(f["auroc"]["value"])] for f in found]
    for row, finding in zip(rows, found, strict=True):
        row += [number(shortcut["auroc"].get(finding["name"])) for shortcut in one.evaluation["shortcuts"]]
    words = "AUROC of image properties unrelated to the lungs: a model may have learned these instead."
    head = ["Finding", "this model", *(shortcut["name"] for shortcut in one.evaluation["shortcuts"])]
    return Section(
        "shortcuts",
        "Shortcuts",
        [Text([words]), Table(f"AUROC on {one.evaluation['data']['part']}; 0.5 is chance.", head, rows)],
    )
