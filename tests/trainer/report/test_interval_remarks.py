"""Reasons for missing intervals, each once."""

from report_samples import evaluation, interval, of_format_2

from trainer.report.interval_remarks import remarks

BARE = {"value": 0.7, "low": None, "high": None}


def test_each_reason_is_given_once_with_its_findings():
    """A table has a dozen of such cells."""
    found = of_format_2(evaluation(("Pleural_Thickening", "Hernia", "Mass")), few=("Pleural_Thickening", "Hernia"))[
        "findings"
    ]
    found[1]["too_few"] = "fewer than 5 patients without it"
    shown = [(one, one[key]) for one in found for key in ("auroc", "auprc")]
    assert remarks(shown) == [
        "No interval: Pleural Thickening (fewer than 5 patients with it); Hernia (fewer than 5 patients without it)."
    ]


def test_other_reasons_are_general():
    """Documents of format 1 have no reasons."""
    (one,) = evaluation(("Mass",))["findings"]
    assert remarks([(one, interval(0.7))]) == []
    assert len(remarks([(one, BARE), (None, BARE)])) == 1
    assert "at least half of them lack" in remarks([(None, BARE)])[0]
    assert "single number" in remarks([(one, {"value": 1.0, "low": 1.0, "high": 1.0})])[0]
    assert remarks([(one, {"value": None, "low": None, "high": None})]) == []
