"""Paired differences of models on the same images."""

from report_samples import evaluation, of_format_2

from trainer.report.paired_sections import paired


def models(count, *names, classes=False):
    found = [of_format_2(evaluation(names, classes=classes, comparison=nth > 0)) for nth in range(count)]
    for nth, one in enumerate(found):
        one["model"] = f"run-{nth}, step 96"
        if nth:
            one["comparison"]["other"] = "/home/someone/run-0, step 96"
            one["comparison"]["differences"][0]["difference"] = {
                "value": -0.03 * nth,
                "low": -0.05 * nth,
                "high": -0.01,
            }
    return found


def test_two_models_are_compared_finding_by_finding():
    """A plot around 0 and a table with p values."""
    section = paired(models(2, "Mass", "Edema"))
    words, plots, table = section.blocks
    assert "minus that of run-0, step 96 on the same images" in words.lines[0]
    assert table.head == ["Finding", "Difference (95 %)", "run-1, step 96", "run-0, step 96", "p", "p (Holm)"]
    assert table.rows[0] == ["Mass", "-0.030 (-0.050 to -0.010)", "0.800", "0.790", "0.040", "0.400"]
    assert table.rows[-1][0] == "mean"
    assert len(plots.drawings) == len(plots.narrow) == 1
    assert "Mass -0.030 (-0.050 to -0.010)" in plots.drawings[0].alt
    low, high = plots.drawings[0].figure.axes[0].get_xlim()
    assert low < 0 < high
    assert "someone" not in str(section.blocks[0])


def test_several_models_are_compared_by_their_mean():
    """Each finding of each is folded."""
    section = paired(models(4, "Mass", "Edema"))
    _, plots, folded = section.blocks
    assert "run-1, step 96 +0.010" in plots.drawings[0].alt
    assert "run-3, step 96 +0.010" in plots.drawings[0].alt
    assert [table.caption for table in folded.blocks] == [f"run-{n}, step 96 minus run-0, step 96." for n in (1, 2, 3)]


def test_models_of_one_name_are_told_apart():
    """The same checkpoint with and without test-time augmentation."""
    found = models(3, "Mass", "Edema")
    for one in found:
        one["model"] = "/mnt/host-7/run-0, step 96"
    _, plots, folded = paired(found).blocks
    assert "run-0, step 96 (2) +0.010" in plots.drawings[0].alt
    captions = [table.caption for table in folded.blocks]
    assert captions == [f"run-0, step 96 ({n}) minus run-0, step 96." for n in (2, 3)]


def test_two_classes_have_one_difference():
    """The other class has the same one."""
    section = paired(models(2, "NORMAL", "PNEUMONIA", classes=True))
    (table,) = [block for block in section.blocks if block.kind == "table"]
    assert [row[0] for row in table.rows] == ["PNEUMONIA"]


def test_models_without_a_comparison_have_no_section():
    """An empty section is left out of the page."""
    assert paired([]).blocks == []
    assert paired([evaluation(("Mass", "Edema"), comparison=False)] * 2).blocks == []


def test_differences_without_an_interval_are_told():
    """Too few patients for one."""
    found = models(2, "Mass", "Edema")
    found[1]["comparison"]["differences"][1]["difference"] = {"value": 0.1, "low": None, "high": None}
    section = paired(found)
    assert "+0.100 (no interval)" in section.blocks[1].drawings[0].alt
    assert "at least half of them lack" in section.blocks[-1].lines[0]


def test_findings_of_too_few_patients_are_named_as_the_reason():
    """Not resamples that are all equal, which they need not be."""
    found = models(2, "Mass", "Edema")
    found[1]["findings"][1]["too_few"] = "only 3 patients with it"
    for row in found[1]["comparison"]["differences"][1:]:
        row["difference"] = {"value": 0.1, "low": None, "high": None}
    assert paired(found).blocks[-1].lines == ["No interval: Edema (only 3 patients with it)."]


def test_equal_models_need_no_remark():
    """That their difference is 0 is certain."""
    found = models(2, "Mass", "Edema")
    for row in found[1]["comparison"]["differences"]:
        row["difference"] = {"value": 0.0, "low": 0.0, "high": 0.0}
    assert [block.kind for block in paired(found).blocks] == ["words", "plots", "table"]
