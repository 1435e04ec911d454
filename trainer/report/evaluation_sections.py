"""Sections of a run's page about the evaluation."""

from collections.abc import Mapping, Sequence

from trainer.evaluation.document import (
    Difference,
    Evaluation,
    Finding,
    Interval,
    OperatingPoint,
    Proportion,
    Reference,
    extent,
    has_unknown,
    known_images,
    rows_of_classes,
    scale_of_thresholds,
    shown_prevalence,
    unit_of,
)
from trainer.evaluation.operating import RULE_TITLES
from trainer.evaluation.reference import SPLITS
from trainer.report import evaluation_figures
from trainer.report.documents import Documents
from trainer.report.evaluation_figures import FEW
from trainer.report.forest import NARROW, WIDE
from trainer.report.formatting import NONE, count, interval, last_name, number, percent, proportion, without_places
from trainer.report.formatting import finding as name_of
from trainer.report.interval_remarks import remarks
from trainer.report.page import Block, Folded, Plots, Section, Table, Text
from trainer.report.published_classes import published_classes


def findings(one: Documents) -> Section:
    blocks: list[Block] = []
    if one.evaluation is not None:
        found = one.evaluation["findings"]
        blocks += _forest(one.evaluation)
        blocks.append(_finding_table(one.evaluation))
        words = remarks([(f, score) for f in found for score in (f["auroc"], f["auprc"])])
        blocks += [Text(words)] if words else []
        blocks += _class_tables(one.evaluation)
    elif one.results is not None:
        blocks += _plain_scores(one)
    return Section("findings", "Each finding", blocks)


def _forest(evaluation: Evaluation) -> list[Block]:
    """Nothing for a single finding, whose number is at the top, unless others have published theirs."""
    if len(evaluation["findings"]) < 2 and not any(one["comparable"] for one in evaluation["references"]):
        return []
    wide, narrow = (evaluation_figures.auroc_forest(evaluation, width) for width in (WIDE, NARROW))
    return [Plots([wide], narrow=[narrow])]


def _finding_table(evaluation: Evaluation) -> Table:
    data, found = evaluation["data"], evaluation["findings"]
    by_patient = any("positive_patients" in one for one in found) and unit_of(data) == "patient"
    has_n = has_unknown(evaluation)
    head = ["Finding", "AUROC", "AUPRC", *["Known labels"] * has_n, "Positives", "Prevalence"]
    head += ["Patients with it", "without"] if by_patient else []
    rows = []
    for one in found:
        cells = [interval(one["auroc"]), interval(one["auprc"]), *[count(known_images(evaluation, one))] * has_n]
        cells += [count(one["positives"]), percent(shown_prevalence(evaluation, one))]
        if by_patient:
            cells += [count(one.get("positive_patients")), count(one.get("negative_patients"))]
        rows.append([name_of(one["name"]), *cells])
    if len(found) > 1:
        mean = ["mean", interval(evaluation["mean_auroc"]), interval(evaluation["mean_auprc"])]
        rows.append([*mean, *[""] * (len(head) - len(mean))])
    caption = f"{data['part']}: {extent(data)}; 95 % intervals from {evaluation['resamples']:,} resamples of {unit_of(data)}s."
    if has_n:
        caption += " Each finding is evaluated on the images where its label is known."
    return Table(caption, head, rows)


def _class_tables(evaluation: Evaluation) -> list[Block]:
    classes = evaluation["classes"]
    if classes is None or len(evaluation["findings"]) < 2:  # of two classes, these are sensitivity and specificity
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
    """With the precision-recall curves beside them where there is room."""
    if one.evaluation is None:
        return Section("roc", "ROC")
    found = one.evaluation["findings"]
    drawings = evaluation_figures.rocs(found)
    if len(found) > FEW:
        return Section("roc", "ROC", [Plots(drawings, _bands(one, "AUROC"))])
    drawings += evaluation_figures.precision_recalls(found)
    return Section("roc", "ROC and precision-recall", [Plots(drawings, _bands(one, "AUROC or AUPRC"))])


def precision_recall(one: Documents) -> Section:
    if one.evaluation is None or len(one.evaluation["findings"]) <= FEW:
        return Section("pr", "Precision-recall")
    drawings = evaluation_figures.precision_recalls(one.evaluation["findings"])
    return Section("pr", "Precision-recall", [Plots(drawings, _bands(one, "AUPRC"))])


def _bands(one: Documents, area: str) -> str:
    assert one.evaluation is not None
    data = one.evaluation["data"]
    return (
        f"On {data['part']}, {data['images']:,} images. Each plot states the area ({area}) with its 95 % interval. "
        f"The band is the pointwise 95 % interval over resamples of {unit_of(data)}s; the dashed line is chance."
    )


def operating(one: Documents) -> Section:
    """A table per rule: the first is shown, the others are folded."""
    if one.evaluation is None:
        return Section("operating", "Operating points")
    found, data, classes = one.evaluation["findings"], one.evaluation["data"], one.evaluation["classes"]
    rules = list(dict.fromkeys(rule for finding in found for rule in finding["operating_points"]))
    if not rules:
        return Section("operating", "Operating points")
    words = [
        f"Thresholds apply to {scale_of_thresholds(one.evaluation)}. Results are measured on {data['part']}, with 95 % intervals over {unit_of(data)}s.",
        *([rows_of_classes(name_of(classes["positive"]))] if classes is not None and len(found) > 1 else []),
    ]
    points = [(finding, point) for finding in found for point in finding["operating_points"].values()]
    shares = [
        (finding, share)
        for finding, point in points
        for share in (point["sensitivity"], point["specificity"], point["ppv"], point["npv"])
    ]
    fitted_on = without_places(data["fitted_on"] or "another split")
    first, *others = [_rule_tables(found, rule, fitted_on) for rule in rules]
    blocks: list[Block] = [Text([*words, *remarks(shares)]), *first]
    if others:
        blocks.append(Folded("Thresholds by other rules", [table for tables in others for table in tables]))
    return Section("operating", "Operating points", blocks)


def _rule_tables(found: Sequence[Finding], rule: str, fitted_on: str) -> list[Table]:
    """Results at the thresholds of a rule, then the images behind them, where they are known."""
    points = [(one, one["operating_points"][rule]) for one in found if rule in one["operating_points"]]
    title = RULE_TITLES.get(rule, rule)
    head = ["Finding", "Threshold", "Sensitivity", "Specificity", "PPV", "NPV", "F1"]
    rows = [[name_of(one["name"]), *_point_cells(point)] for one, point in points]
    tables = [Table(f"Thresholds for {title}, fixed on {fitted_on}.", head, rows)]
    stated = any("stated_ppv" in point for _, point in points)
    counted = any("counts" in point for _, point in points)
    if not stated and not counted:
        return tables
    head = ["Finding", *(["PPV there", "NPV there", "Stated prevalence"] if stated else [])]
    head += ["TP", "FP", "FN", "TN"] if counted else []
    rows = [
        [name_of(one["name"]), *(_stated_cells(one, point) if stated else []), *(_counts(point) if counted else [])]
        for one, point in points
    ]
    parts = [
        *(["true and false positives and negatives"] if counted else []),
        *(["predictive values at the stated prevalence"] if stated else []),
    ]
    return [*tables, Table(f"At the thresholds for {title}: {', '.join(parts)}.", head, rows)]


def _point_cells(point: OperatingPoint) -> list[str]:
    shares = [interval(share, 2) for share in (point["sensitivity"], point["specificity"], point["ppv"], point["npv"])]
    return [number(point["threshold"], 4), *shares, number(point["f1"])]


def _stated_cells(one: Finding, point: OperatingPoint) -> list[str]:
    shown = (point.get("stated_ppv"), point.get("stated_npv"))
    return [*(NONE if share is None else interval(share, 2) for share in shown), percent(one.get("stated_prevalence"))]


def _counts(point: OperatingPoint) -> list[str]:
    counts = point.get("counts")
    if counts is None:
        return [NONE] * 4
    keys = ("true_positives", "false_positives", "false_negatives", "true_negatives")
    return [count(counts[key]) for key in keys]  # type: ignore[literal-required] # its keys


def references(one: Documents) -> Section:
    """Those on the same images beside ours; all others folded, as their numbers cannot be compared."""
    if one.evaluation is None or not one.evaluation["references"]:
        return Section("references", "Published results")
    of_classes = published_classes(one.evaluation)
    if of_classes:
        return Section("references", "Published results", of_classes)
    references = one.evaluation["references"]
    published = [reference for reference in references if reference["comparable"]]
    others = [reference for reference in references if not reference["comparable"]]
    blocks: list[Block] = []
    if published:
        blocks += [_comparable(one.evaluation, published), Text(_sources(published))]
    if others:
        table = _not_comparable(one.evaluation, others)
        blocks.append(Folded("Published results on other images, not comparable", [table, Text(_sources(others))]))
    return Section("references", "Published results", blocks)


def _sources(references: Sequence[Reference]) -> list[str]:
    return [f"{one['name']}: {one['note']}; source: {one['source']}" for one in references]


def _comparable(evaluation: Evaluation, published: Sequence[Reference]) -> Table:
    found, data = evaluation["findings"], evaluation["data"]
    rows = [
        [name_of(f["name"]), interval(f["auroc"]), *(number(r["auroc"].get(f["name"]), 4) for r in published)]
        for f in found
    ]
    if len(found) > 1:
        rows.append(["mean", interval(evaluation["mean_auroc"]), *(number(r["mean"], 4) for r in published)])
    caption = f"AUROC on exactly the same images: {data['part']} of {SPLITS[data['split']]}."
    return Table(caption, ["Finding", "this run (95 %)", *(r["name"] for r in published)], rows)


def _not_comparable(evaluation: Evaluation, others: Sequence[Reference]) -> Table:
    found = evaluation["findings"]
    rows = [[name_of(f["name"]), *(number(r["auroc"].get(f["name"]), 4) for r in others)] for f in found]
    if len(found) > 1:
        rows.append(["mean", *(number(r["mean"], 4) for r in others)])
    head = ["Finding", *(f"{r['name']} ({r['split']} split)" for r in others)]
    return Table("AUROC on other images: not comparable with those of this page.", head, rows)


def comparison(one: Documents) -> Section:
    if one.evaluation is None or one.evaluation["comparison"] is None:
        return Section("comparison", "Comparison")
    compared, unit = one.evaluation["comparison"], unit_of(one.evaluation["data"])
    other = last_name(compared["other"])
    caption = f"AUROC of this model minus that of {other}, on the same resamples of {unit}s; p (Holm) is corrected for the number of findings."
    head = ["Finding", "Difference (95 %)", "this model", other, "p", "p (Holm)"]
    rows = [[name_of(row["name"]), *difference_cells(row)] for row in compared["differences"]]
    lines = remarks(compared_numbers(one.evaluation))
    return Section("comparison", "Comparison", [Table(caption, head, rows), *([Text(lines)] if lines else [])])


def compared_numbers(evaluation: Evaluation) -> list[tuple[Finding | None, Interval]]:
    """The differences with their findings, but those of equal models, which are surely 0."""
    compared, by_name = evaluation["comparison"], {finding["name"]: finding for finding in evaluation["findings"]}
    rows = [] if compared is None else [(row["name"], row["difference"]) for row in compared["differences"]]
    return [(by_name.get(name), one) for name, one in rows if not one["low"] == one["high"] == 0]


def difference_cells(row: Difference) -> list[str]:
    """Difference, both numbers and p values."""
    numbers = [number(row["ours"]), number(row["other"])]
    return [interval(row["difference"], signed=True), *numbers, _p(row["p"]), _p(row["p_holm"])]


def _p(value: float | None) -> str:
    return "< 0.001" if value is not None and value < 0.001 else number(value)


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
