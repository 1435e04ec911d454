"""Section of a run's page about subgroups of patients: who is served worse."""

from collections.abc import Sequence
from typing import Final

from trainer.evaluation.document import UNDEFINED, Evaluation, Group, GroupFinding
from trainer.evaluation.subgroups import FEWEST_PATIENTS
from trainer.report import evaluation_figures
from trainer.report.documents import Documents
from trainer.report.evaluation_figures import group_name
from trainer.report.forest import NARROW, WIDE
from trainer.report.formatting import NONE, count, interval
from trainer.report.formatting import finding as name_of
from trainer.report.interval_remarks import by_reason, remarks
from trainer.report.page import Block, Folded, Plots, Section, Table, Text

_MOST: Final = 10
"""Rows of the table of lower sensitivities."""

_HEAD: Final = (
    "Finding",
    "Sensitivity",
    "Difference",
    "False-positive rate",
    "Difference",
    "AUROC difference",
    "Patients with it",
    "without",
)


def subgroups(one: Documents) -> Section:
    """Totals, then each finding."""
    if one.evaluation is None or not one.evaluation["subgroups"]:
        return Section("subgroups", "Subgroups")
    evaluation = one.evaluation
    drawings = [evaluation_figures.subgroups_forest(evaluation, width) for width in (WIDE, NARROW)]
    wide, narrow = drawings
    blocks: list[Block] = []
    if wide is not None and narrow is not None:
        blocks.append(Plots([wide], _caption(evaluation), [narrow]))
    blocks.append(_totals(evaluation))
    words = _lines(evaluation)
    blocks += [Text(words)] if words else []
    return Section("subgroups", "Subgroups", [*blocks, *_underdiagnosed(evaluation), *_each(evaluation)])


def _caption(evaluation: Evaluation) -> str:
    few = any(map(evaluation_figures.is_few, evaluation["subgroups"]))
    return f"A hollow mark is a subgroup of fewer than {FEWEST_PATIENTS} patients, too few to compare." if few else ""


def _totals(evaluation: Evaluation) -> Table:
    groups = evaluation["subgroups"]
    differs = any("difference" in group for group in groups)
    auroc = "Mean AUROC" if len(evaluation["findings"]) > 1 else "AUROC"
    head = ["Subgroup", f"{auroc} (95 %)", *(["Difference to all others"] if differs else []), "Images", "Patients"]
    rows = []
    for group in groups:
        is_scored = not group.get("not_scored")
        cells = [interval(group["mean_auroc"]) if is_scored else "not scored"]
        if differs:
            cells.append(interval(group.get("difference", UNDEFINED), signed=True) if is_scored else NONE)
        rows.append([group_name(group), *cells, count(group["images"]), count(group["patients"])])
    return Table(f"{auroc} of each subgroup of {evaluation['data']['part']}.", head, rows)


def _lines(evaluation: Evaluation) -> list[str]:
    """Why numbers or their intervals are missing."""
    reasons: dict[str, list[str]] = {}
    for group in evaluation["subgroups"]:
        why = group.get("not_scored")
        if why:
            reasons.setdefault(why, []).append(group_name(group))
    scored = [group for group in evaluation["subgroups"] if not group.get("not_scored")]
    shown = [(None, one) for group in scored for one in (group["mean_auroc"], *group["auroc"].values())]
    return [*by_reason("Not scored", reasons), *remarks(shown)]


def _underdiagnosed(evaluation: Evaluation) -> list[Block]:
    """The subgroups whose sensitivity is lower than that of all others, and how many comparisons there are."""
    pairs = [
        (group, name, one)
        for group in evaluation["subgroups"]
        if not group.get("not_scored")
        for name, one in group.get("findings", {}).items()
        if one["sensitivity_difference"]["high"] is not None
    ]
    if not pairs:
        return []
    worse = [pair for pair in pairs if (pair[2]["sensitivity_difference"]["high"] or 0.0) < 0]
    worse.sort(key=lambda pair: pair[2]["sensitivity_difference"]["value"] or 0.0)
    of = f"{len(worse)} of {len(pairs)} comparisons, which are not corrected for their number"
    words = f"Sensitivity is lower than for all others, with its whole interval below 0, in {of}."
    if not worse:
        return [Text([words])]
    rows = [
        [
            f"{name_of(name)}, {group_name(group)}",
            interval(one["sensitivity"], 2),
            interval(one["sensitivity_difference"], 2, signed=True),
        ]
        for group, name, one in worse[:_MOST]
    ]
    largest = f", the {_MOST} largest differences" if len(worse) > _MOST else ""
    caption = f"Lower sensitivity than for all others{largest}."
    return [Text([words]), Table(caption, ["Finding, subgroup", "Sensitivity", "Difference (95 %)"], rows)]


def _each(evaluation: Evaluation) -> list[Block]:
    groups = [group for group in evaluation["subgroups"] if not group.get("not_scored")]
    if not groups:
        return []
    blocks: list[Block] = []
    part = evaluation["data"]["part"]
    if len(evaluation["findings"]) > 1:
        table = Table(
            f"AUROC of each finding by subgroup of {part}.",
            ["Finding", *map(group_name, groups)],
            [
                [name_of(one["name"]), *(interval(group["auroc"].get(one["name"], UNDEFINED), 2) for group in groups)]
                for one in evaluation["findings"]
            ],
        )
        blocks.append(Folded("AUROC of each finding by subgroup", [table]))
    tables = [_at_threshold(group, evaluation) for group in groups if group.get("findings")]
    if tables:
        blocks.append(Folded("Sensitivity and false-positive rate by subgroup", tables))
    return blocks


def _at_threshold(group: Group, evaluation: Evaluation) -> Table:
    known = group.get("findings", {})
    rows = [
        [name_of(one["name"]), *_cells(known[one["name"]])] for one in evaluation["findings"] if one["name"] in known
    ]
    caption = f"{group_name(group)}: at the threshold of Youden's J, with differences to all other images (95 %)."
    return Table(caption, _HEAD, rows)


def _cells(one: GroupFinding) -> Sequence[str]:
    return [
        interval(one["sensitivity"], 2),
        interval(one["sensitivity_difference"], 2, signed=True),
        interval(one["false_positive_rate"], 2),
        interval(one["false_positive_rate_difference"], 2, signed=True),
        interval(one["auroc_difference"], 2, signed=True),
        count(one["positive_patients"]),
        count(one["negative_patients"]),
    ]
