"""Subgroups on the page: differences, underdiagnosis, and groups that are too small."""

from report_samples import entry, evaluation, group_finding, of_format_2, record

from trainer import report
from trainer.report.subgroup_sections import subgroups


def section(found):
    return subgroups(report.Documents(run=record(), entries=[entry(1)], evaluation=found))


def of_kind(blocks, kind):
    return [block for block in blocks if block.kind == kind]


def test_groups_that_are_too_small_are_listed_with_the_reason():
    """Without numbers, also in the tables of findings."""
    found = section(of_format_2(evaluation(("Mass", "Edema"))))
    totals, _ = of_kind(found.blocks, "table")
    assert totals.head == ["Subgroup", "Mean AUROC (95 %)", "Difference to all others", "Images", "Patients"]
    assert totals.rows[0] == ["sex F", "0.800 (0.780 to 0.820)", "-0.030 (-0.050 to -0.010)", "9,000", "3,000"]
    assert totals.rows[3] == ["view AP", "not scored", "-", "9,000", "3,000"]
    words = " ".join(line for block in of_kind(found.blocks, "words") for line in block.lines)
    assert "Not scored: view AP (14 patients, fewer than 20)." in words
    auroc, at_threshold = of_kind(found.blocks, "folded")
    assert "view AP" not in auroc.blocks[0].head
    assert [table.caption.partition(":")[0] for table in at_threshold.blocks] == ["sex F", "sex M", "age 40 to 59"]
    assert at_threshold.blocks[0].rows[0][:5] == [
        *("Mass", "0.70 (0.68 to 0.72)", "-0.05 (-0.07 to -0.03)", "0.20 (0.18 to 0.22)", "+0.03 (+0.01 to +0.05)"),
    ]


def test_lower_sensitivity_is_found_among_all_comparisons():
    """Underdiagnosis is the error that harms, and one in twenty comparisons is chance."""
    document = of_format_2(evaluation(("Mass", "Edema")))
    for group in document["subgroups"]:
        group["findings"] = {name: group_finding(0.01) for name in group["findings"]}
    assert "in 0 of 6 comparisons" in str(section(document).blocks)
    document["subgroups"][1]["findings"]["Edema"] = group_finding(-0.2)
    document["subgroups"][0]["findings"]["Mass"] = group_finding(-0.1)
    found = section(document)
    assert "in 2 of 6 comparisons, which are not corrected" in str(found.blocks)
    lower = of_kind(found.blocks, "table")[1]
    assert [row[0] for row in lower.rows] == ["Edema, sex M", "Mass, sex F"]


def test_comparisons_without_an_interval_are_none():
    """Without thresholds nothing is compared, and "lower in 0 of 6" would claim equality; nor are too few others."""
    document = of_format_2(evaluation(("Mass", "Edema")))
    findings = [one for group in document["subgroups"] for one in group["findings"].values()]
    findings[0]["sensitivity_difference"] = {"value": None, "low": None, "high": None}
    assert "of 5 comparisons" in str(section(document).blocks)
    for one in findings:
        one["sensitivity_difference"] = {"value": None, "low": None, "high": None}
    assert "comparisons" not in str(section(document).blocks)


def test_many_lower_sensitivities_are_a_short_list():
    """The largest ten; all are in the tables."""
    found = section(of_format_2(evaluation()))
    lower = of_kind(found.blocks, "table")[1]
    assert len(lower.rows) == 10
    assert "in 42 of 42 comparisons" in str(found.blocks)
    assert "the 10 largest differences" in lower.caption


def test_format_1_looks_as_before():
    """No differences; a group of few patients is marked."""
    document = evaluation(("Mass", "Edema"))
    document["subgroups"][0]["patients"] = 3
    found = section(document)
    (totals,) = of_kind(found.blocks, "table")
    assert totals.head == ["Subgroup", "Mean AUROC (95 %)", "Images", "Patients"]
    assert "fewer than 20 patients" in of_kind(found.blocks, "plots")[0].caption
    assert len(of_kind(found.blocks, "folded")) == 1
    assert section(evaluation(("Mass", "Edema")) | {"subgroups": []}).blocks == []


def test_groups_of_which_none_is_scored_have_a_list_only():
    """No plot, no empty tables."""
    document = of_format_2(evaluation(("Mass",)))
    for group in document["subgroups"]:
        group["not_scored"] = "3 patients, fewer than 20"
    found = section(document)
    assert [block.kind for block in found.blocks] == ["table", "words"]
