"""Tables of findings and operating points."""

from report_samples import entry, evaluation, of_format_2, record

from trainer import report
from trainer.report.evaluation_sections import comparison, findings, operating


def documents(found):
    return report.Documents(run=record(), entries=[entry(1)], evaluation=found)


def of_kind(section, kind):
    return [block for block in section.blocks if block.kind == kind]


def text(section):
    return " ".join(line for block in of_kind(section, "words") for line in block.lines)


def test_findings_of_few_patients_have_no_interval_and_a_reason():
    """In the cell and once below the table."""
    found = of_format_2(evaluation(("Mass", "Edema")), few=("Edema",))
    section = findings(documents(found))
    (table,) = of_kind(section, "table")
    assert table.head[:3] == ["Finding", "AUROC", "AUPRC"]
    assert table.head[-2:] == ["Patients with it", "without"]
    assert table.rows[1][1].endswith("(no interval)")
    assert table.rows[0][-2:] == ["30", "4,000"]
    assert len(table.rows[-1]) == len(table.head)
    assert text(section) == "No interval: Edema (fewer than 5 patients with it)."
    found["data"]["patients_known"] = False
    assert "Patients with it" not in of_kind(findings(documents(found)), "table")[0].head


def test_operating_points_have_counts_and_stated_predictive_values():
    """Predictive values of an enriched test set are those of no hospital."""
    section = operating(documents(of_format_2(evaluation(("Mass", "Edema")), stated=0.05)))
    points, counts = of_kind(section, "table")
    assert points.head == ["Finding", "Threshold", "Sensitivity", "Specificity", "PPV", "NPV", "F1"]
    assert counts.head == ["Finding", "PPV there", "NPV there", "Stated prevalence", "TP", "FP", "FN", "TN"]
    cells = [cell.replace("\u00a0", " ") for cell in counts.rows[0][1:]]
    assert cells == ["0.21 (0.19 to 0.23)", "0.98 (0.97 to 0.99)", "5.0 %", "1,200", "3,456", "300", "17,477"]
    (folded,) = of_kind(section, "folded")
    assert len(folded.blocks) == 6
    plain = operating(documents(of_format_2(evaluation(("Mass", "Edema")))))
    assert of_kind(plain, "table")[1].head == ["Finding", "TP", "FP", "FN", "TN"]
    old = operating(documents(evaluation(("Mass", "Edema"))))
    assert len(of_kind(old, "table")) == 1


def test_scale_of_thresholds_is_stated():
    """A threshold applied to the other scale moves a specificity from 1.00 to .54."""
    for scale, words in (("calibrated", "after calibration"), ("raw", "before calibration")):
        section = operating(documents(of_format_2(evaluation(("Mass", "Edema")), scale=scale)))
        assert f"Thresholds apply to probabilities {words}." in text(section)
    assert "before calibration" in text(operating(documents(evaluation(("Mass", "Edema")))))


def test_small_p_values_are_not_zero():
    """1,000 resamples cannot show that."""
    found = evaluation(("Mass", "Edema"))
    found["comparison"]["differences"][0]["p"] = 0.0002
    (table,) = of_kind(comparison(documents(found)), "table")
    assert table.rows[0][4] == "< 0.001"
    assert table.rows[1][4] == "0.040"
