"""Evaluations of two classes are shown as that of the positive one."""

import copy

from report_samples import evaluation, of_format_2

from trainer.evaluation.document import Evaluation
from trainer.formats.documents import checked
from trainer.report.positive_class import of_positive_class


def test_two_classes_become_one():
    """Its AUROC is that of both; its AUPRC is not."""
    document = of_format_2(evaluation(("NORMAL", "PNEUMONIA"), classes=True))
    before = copy.deepcopy(document)
    shown = of_positive_class(document)
    checked(shown, Evaluation)
    assert document == before, "the document itself is not changed"
    assert [one["name"] for one in shown["findings"]] == ["PNEUMONIA"]
    assert shown["mean_auroc"] == document["findings"][1]["auroc"]
    assert shown["mean_auprc"] == document["findings"][1]["auprc"]
    assert {name for group in shown["subgroups"] for name in group["auroc"]} == {"PNEUMONIA"}
    assert {name for group in shown["subgroups"] for name in group["findings"]} == {"PNEUMONIA"}
    assert [row["name"] for row in shown["comparison"]["differences"]] == ["PNEUMONIA"]


def test_other_evaluations_stay_as_they_are():
    """Findings, also two of them, and three classes."""
    for document in (evaluation(("Mass", "Edema")), evaluation(("A", "B", "C"), classes=True)):
        assert of_positive_class(document) is document
    odd = evaluation(("A", "B"), classes=True)
    odd["classes"]["positive"] = "C"
    assert of_positive_class(odd) is odd
