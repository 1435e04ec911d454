"""The five numbers at the top: which they are, and what is said where one is not sure or not known."""

import pytest
from report_samples import entry, evaluation, of_format_2, record, results, undefined

from trainer import report
from trainer.report.headline import numbers
from trainer.report.positive_class import of_positive_class


def shown(document, outcome=None):
    """Value and remarks by term."""
    one = report.Documents(run=record(), entries=[entry(1)], results=outcome, evaluation=document)
    return {
        number.term: (number.value.replace("\u00a0", " "), "; ".join(number.remarks).replace("\u00a0", " "))
        for number in numbers(one)
    }


def set_auroc(document, **values):
    for one in document["findings"]:
        if one["name"] in values:
            value = values[one["name"]]
            one["auroc"] = {"value": value, "low": value - 0.05, "high": value + 0.04}


def test_five_numbers_of_findings():
    """Mean, best, worst, calibration and patients, each with its interval or unit."""
    document = evaluation(("Mass", "Edema", "Hernia"))
    set_auroc(document, Mass=0.7, Edema=0.91, Hernia=0.8)
    found = shown(document)
    assert list(found) == ["Mean AUROC", "Best finding", "Worst finding", "Mean calibration error", "Patients"]
    assert found["Mean AUROC"] == ("0.812", "95 %: 0.792 to 0.832; 0.5 is chance, 1 is perfect")
    assert found["Best finding"] == ("0.910", "AUROC for Edema; 95 %: 0.860 to 0.950")
    assert found["Worst finding"] == ("0.700", "AUROC for Mass; 95 %: 0.650 to 0.740")
    assert found["Mean calibration error"] == ("0.010", "ECE, calibrated: better than 0.100 before; 0 is perfect")
    assert found["Patients"] == ("6,187", "22,433 images of test")


def test_a_finding_of_few_patients_is_neither_best_nor_worst():
    """1.000 of three patients is chance. Without any that is sure, the reason is beside the number."""
    document = of_format_2(evaluation(("Mass", "Edema", "Hernia")), few=("Hernia",))
    set_auroc(document, Mass=0.7, Edema=0.91)
    document["findings"][2]["auroc"] = {"value": 1.0, "low": None, "high": None}
    assert "Edema" in shown(document)["Best finding"][1]
    alone = of_format_2(evaluation(("Mass", "Hernia")), few=("Mass", "Hernia"))
    alone["mean_auroc"] |= {"low": None, "high": None}
    found = shown(alone)
    assert "no interval: fewer than 5 patients with it" in found["Best finding"][1]
    assert found["Mean AUROC"][1].startswith("no interval: ")


@pytest.mark.parametrize(
    ("few", "reason"),
    [
        (["Mass"], "too few patients with or without Mass"),
        (["Mass", "Hernia"], "too few patients with or without Mass and Hernia"),
        (["Mass", "Edema", "Hernia"], "too few patients with or without 3 findings"),
    ],
)
def test_mean_without_an_interval_names_the_findings_that_have_none(few, reason):
    """The reader can look there, or leave them out."""
    document = evaluation(("Mass", "Edema", "Hernia"))
    for one in document["findings"]:
        one["too_few"] = "only 3 patients with it" if one["name"] in few else None
    document["mean_auroc"] = {"value": 0.8, "low": None, "high": None}
    assert shown(document)["Mean AUROC"][1].startswith(f"no interval: {reason};")


def test_best_and_worst_are_not_the_same_finding():
    """With one finding that is sure, it would be both."""
    document = of_format_2(evaluation(("Mass", "Edema", "Hernia")), few=("Mass", "Hernia"))
    set_auroc(document, Edema=0.91)
    document["findings"][0]["auroc"]["value"] = 0.6
    found = shown(document)
    assert "Edema" in found["Best finding"][1]
    assert found["Worst finding"] == ("0.600", "AUROC for Mass; no interval: fewer than 5 patients with it")


def test_an_interval_of_one_number_is_no_certainty():
    """All resamples are equal where there is no error: that is what is said."""
    document = evaluation(("Mass", "Edema"))
    document["findings"][0]["auroc"] = {"value": 1.0, "low": 1.0, "high": 1.0}
    assert shown(document)["Best finding"][1].endswith("1.000 to 1.000, as all resamples are equal")


def test_undefined_findings_are_counted():
    """A mean of 13 of 14."""
    document = evaluation(("Mass", "Edema"))
    document["findings"].append(undefined("Hernia"))
    assert "of 2 findings: 1 not defined" in shown(document)["Mean AUROC"][1]
    nothing = evaluation(("Mass", "Edema"))
    nothing["findings"] = [undefined("Mass"), undefined("Edema")]
    nothing["mean_auroc"] = {"value": None, "low": None, "high": None}
    found = shown(nothing)
    assert found["Mean AUROC"] == ("-", "not defined; 0.5 is chance, 1 is perfect; of 0 findings: 2 not defined")
    assert "Best finding" not in found


def test_a_calibration_that_made_it_worse_is_told():
    """Fitted on few images it often does."""
    document = evaluation(("Mass", "Edema"))
    for one in document["findings"]:
        one["raw"]["ece"], one["calibrated"]["ece"] = 0.05, 0.08
    assert shown(document)["Mean calibration error"] == (
        "0.080",
        "ECE, calibrated: worse than 0.050 before; 0 is perfect",
    )
    for one in document["findings"]:
        one["calibrated"] = None
    assert shown(document)["Mean calibration error"] == ("0.050", "ECE, not calibrated; 0 is perfect")


def test_five_numbers_of_two_classes_are_of_the_positive_one():
    """Best and worst of two classes are one number: sensitivity and specificity are in their place."""
    document = of_positive_class(evaluation(("NORMAL", "PNEUMONIA"), classes=True))
    found = shown(document)
    assert list(found) == ["AUROC for PNEUMONIA", "Sensitivity", "Specificity", "Calibration error", "Patients"]
    assert found["Sensitivity"] == ("94.9 %", "95 %: 91.9 to 97.9 %; 370 of 390, for PNEUMONIA")
    three = shown(evaluation(("A", "B", "C"), classes=True))
    assert list(three)[:3] == ["Mean AUROC", "Best class", "Worst class"]


def test_patients_that_are_not_known_are_not_counted():
    """Each image would be one."""
    document = evaluation(("Mass", "Edema"))
    document["data"]["patients_known"] = False
    assert shown(document)["Patients"] == ("-", "not all known; 22,433 images of test")


@pytest.mark.parametrize("part", ["test", "val"])
def test_a_run_that_is_not_evaluated_shows_what_it_has(part):
    """Its AUROC, and why it has no interval."""
    outcome = results(**{"test" if part == "val" else "none": None})
    found = shown(None, outcome)
    value, remarks = found[f"Mean AUROC on {part}"]
    assert value == ("0.780" if part == "test" else "0.790")
    assert "no interval: the run has not been evaluated" in remarks
    assert ("used for selection" in found["Images"][1]) == (part == "val")
    assert shown(None) == {}
