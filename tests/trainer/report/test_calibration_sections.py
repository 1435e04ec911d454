"""Calibration and decision curves on the page."""

from report_samples import entry, evaluation, of_format_2, record

from trainer import report
from trainer.report.calibration_sections import calibration, decision


def documents(found):
    return report.Documents(run=record(), entries=[entry(1)], evaluation=found)


def tables(section):
    return [block for block in section.blocks if block.kind == "table"]


def words(section):
    return " ".join(line for block in section.blocks if block.kind == "words" for line in block.lines)


def test_slope_intercept_and_ratio_are_shown_with_intervals():
    """Of the calibrated probabilities, as those are used."""
    found = of_format_2(evaluation(("Mass", "Edema")))
    found["findings"][0]["calibrated"]["slope"] = {"value": 0.8, "low": None, "high": None}
    found["findings"][0]["too_few"] = "fewer than 5 patients with it"
    section = calibration(documents(found))
    errors, shape = tables(section)
    assert errors.head == ["Finding", "ECE", "ECE calibrated", "Brier", "Brier calibrated"]
    assert shape.head == ["Finding", "Slope", "Intercept", "Observed/expected"]
    assert shape.rows[0] == ["Mass", "0.80 (no interval)", "-0.12 (-0.32 to +0.08)", "1.04 (0.94 to 1.14)"]
    assert "calibrated probabilities" in shape.caption
    assert "10 bins" in words(section)
    assert "No interval: Mass (fewer than 5 patients with it)." in words(section)


def test_format_1_has_fifteen_bins_and_no_slope():
    """As it was written."""
    section = calibration(documents(evaluation(("Mass", "Edema"))))
    assert len(tables(section)) == 1
    assert "15 bins" in words(section)
    assert decision(documents(evaluation(("Mass", "Edema")))).blocks == []


def test_number_of_bins_may_differ_by_finding():
    """Fewer images, fewer bins."""
    found = of_format_2(evaluation(("Mass", "Edema")))
    found["findings"][0]["raw"]["width"] = 0.25
    assert "4 to 10 bins" in words(calibration(documents(found)))


def test_decision_curves_name_their_probabilities_and_source():
    """Net benefit of uncalibrated probabilities is another number."""
    found = of_format_2(evaluation(("Mass", "Edema")))
    (plots,) = decision(documents(found)).blocks
    assert len(plots.drawings) == 2
    assert "whose calibrated probability" in plots.caption
    assert "Vickers" in plots.caption
    assert decision(documents(None)).blocks == calibration(documents(None)).blocks == []
