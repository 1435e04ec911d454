"""Several models on the same images and resamples."""

import csv
import io
from dataclasses import replace

import numpy as np
import pytest

from trainer.errors import InputError
from trainer.evaluation.document import to_json
from trainer.evaluation.inputs import EvaluationInput, SplitPredictions, evaluated, scores_of
from trainer.evaluation.paired import as_csv, as_table, names_of, notes_of

IMAGES = [f"{number:03d}.png" for number in range(120)]


def inputs(model, *, noise, findings=("A", "B"), order=None, notes=()):
    """Predictions of the same labels, the worse the noisier."""
    random = np.random.default_rng(0)
    labels = (random.random((120, 2)) < 0.4).astype(np.uint8)
    log_odds = labels * 2.0 + random.normal(size=(120, 2)) + noise * np.random.default_rng(1).normal(size=(120, 2))
    order = np.arange(120) if order is None else order
    columns = [("A", "B").index(name) for name in findings]
    scored = SplitPredictions(
        images=tuple(IMAGES[row] for row in order),
        log_odds_NK=log_odds[order][:, columns],
        labels_NK=labels[order][:, columns],
        patients_N=np.arange(120)[order],
    )
    known = {"findings": findings, "classes": False, "part": "test", "labels": "nih", "trained_on_known": True}
    return EvaluationInput(model=model, scored=scored, notes=notes, **known)


@pytest.fixture(scope="module")
def evaluations():
    first = inputs("one, step 1", noise=0.0, notes=("both",))
    order = np.random.default_rng(3).permutation(120)
    others = [inputs("two, step 9", noise=4.0, order=order, notes=("both", "alone")), inputs("one, step 1", noise=0.0)]
    return [evaluated(first, resamples=100), *(evaluated(o, other=scores_of(first, o), resamples=100) for o in others)]


def test_each_model_is_compared_with_the_first_on_the_same_images(evaluations):
    """Whatever the order of their rows."""
    first, worse, same = evaluations
    assert first["comparison"] is None
    for row in worse["comparison"]["differences"]:
        assert row["difference"]["value"] == pytest.approx(row["ours"] - row["other"])
        assert row["difference"]["high"] < 0
    by_name = {row["name"]: row["other"] for row in worse["comparison"]["differences"]}
    assert by_name["A"] == first["findings"][0]["auroc"]["value"]
    assert by_name["mean"] == first["mean_auroc"]["value"]
    assert [row["difference"] for row in same["comparison"]["differences"]] == [
        {"value": 0.0, "low": 0.0, "high": 0.0}
    ] * 3


def test_finding_that_the_first_does_not_predict_is_not_compared():
    """It would be compared with nothing."""
    first, other = inputs("first", noise=1.0, findings=("B",)), inputs("second", noise=0.0)
    found = evaluated(other, other=scores_of(first, other), resamples=20)
    assert [row["name"] for row in found["comparison"]["differences"]] == ["B", "mean"]
    assert "first has no predictions, so it is not compared: A" in found["notes"]


def test_findings_of_other_names_are_compared():
    """Models of ChestX-ray14 and CheXpert have the same finding under two names."""
    first = replace(inputs("first", noise=1.0), findings=("Effusion", "B"))
    other = replace(inputs("second", noise=0.0, findings=("B", "A")), findings=("B", "Pleural Effusion"))
    name, scores_NK = scores_of(first, other)
    np.testing.assert_array_equal(scores_NK, first.scored.log_odds_NK[:, [1, 0]])
    found = evaluated(other, other=(name, scores_NK), resamples=20)
    assert [row["name"] for row in found["comparison"]["differences"]] == ["B", "Pleural Effusion", "mean"]


def test_models_with_different_images_are_not_compared():
    """A difference on half the images is of another set."""
    first, other = inputs("first", noise=1.0, order=np.arange(60)), inputs("second", noise=0.0)
    with pytest.raises(InputError, match="60 images have no prediction of first") as refused:
        scores_of(first, other)
    assert "060.png" in str(refused.value)


def test_table_shows_means_and_differences_of_all(evaluations):
    """One block for each model beside the first."""
    table = as_table(evaluations)
    assert "3 models on nih: 120 images of 120 patients" in table
    assert "from the same 100 resamples of patients" in table
    assert [line for line in table.splitlines() if line.startswith("AUROC of")] == [
        "AUROC of 2 minus that of 1",
        "AUROC of 3 minus that of 1",
    ]
    assert all(len(line) <= 80 for line in table.splitlines() if not line.startswith("note: "))


def test_notes_of_some_models_have_their_name(evaluations):
    """Else a caveat of one is read as one of all."""
    assert names_of(evaluations) == ["one, step 1", "two, step 9", "one, step 1 (2)"]
    notes = notes_of(evaluations)
    assert "two, step 9: alone" in notes
    assert "one, step 1: both" in notes
    assert notes_of(evaluations[:2])[0] == "both"


def test_rows_for_programs_are_of_each_model_and_finding(evaluations):
    """Numbers with all digits; empty where there is nothing to compare with."""
    rows = list(csv.DictReader(io.StringIO(as_csv(evaluations))))
    assert [(row["model"], row["finding"]) for row in rows[:4]] == [
        ("one, step 1", "A"),
        ("one, step 1", "B"),
        ("one, step 1", "mean"),
        ("two, step 9", "A"),
    ]
    assert {rows[0][key] for key in ("difference", "difference_low", "p", "p_holm")} == {""}
    assert float(rows[3]["difference"]) == evaluations[1]["comparison"]["differences"][0]["difference"]["value"]
    assert all(to_json(one) for one in evaluations)


def test_rows_for_programs_say_why_a_number_has_no_interval():
    """As the rows of one model do: an empty cell alone is read as an error."""
    few = inputs("one", noise=1.0, order=np.arange(12))
    second = inputs("two", noise=2.0, order=np.arange(12))
    found = [evaluated(few, resamples=20), evaluated(second, other=scores_of(few, second), resamples=20)]
    reasons = [one["too_few"] for one in found[0]["findings"]]
    assert any(reasons)
    rows = list(csv.DictReader(io.StringIO(as_csv(found))))
    assert [row["no_interval"] for row in rows[:2]] == [reason or "" for reason in reasons]
    assert rows[2]["no_interval"].startswith("too few patients for ")
    assert [row["no_interval"] for row in rows[3:]] == [row["no_interval"] for row in rows[:3]]
