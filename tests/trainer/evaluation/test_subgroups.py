"""Groups of patients and their scores."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from trainer.evaluation.bootstrap import Resamples, auroc_resampled, resampled
from trainer.evaluation.metadata import Metadata
from trainer.evaluation.subgroups import groups, subgroup


def people(sex, age, view):
    return Metadata(np.array(sex), np.array(age, float), np.array(view))


def test_each_subgroup_holds_the_patients_of_its_name():
    """The border years belong to one group each, and the unknown to none."""
    found = {
        (by, group): np.flatnonzero(inside).tolist()
        for by, group, inside in groups(
            people(["M", "F", "", "F", "F", "M"], [17, 39, 40, 60, 61, np.nan], ["PA", "PA", "AP", "", "AP", "AP"])
        )
    }
    assert found == {
        ("sex", "M"): [0, 5],
        ("sex", "F"): [1, 3, 4],
        ("age", "under 18"): [0],
        ("age", "under 40"): [0, 1],
        ("age", "40-60"): [2, 3],
        ("age", "over 60"): [4],
        ("view", "PA"): [0, 1],
        ("view", "AP"): [2, 4, 5],
    }


def test_group_of_one_patient_has_no_interval():
    """Drawn or not, he always scores the same, which is not certainty."""
    found = subgroup(
        "sex",
        "F",
        findings=("A",),
        scores_NK=np.array([[0.1], [0.9], [0.4]]),
        labels_NK=np.array([[0], [1], [1]]),
        patients_N=np.array([1, 1, 1]),
        resamples=Resamples(3, 50, 0),
    )
    assert found["auroc"]["A"] == found["mean_auroc"] == {"value": 1.0, "low": None, "high": None}


def test_subgroup_of_all_patients_is_left_out():
    """It would repeat the whole under another name."""
    assert [by for by, _, _ in groups(people(["M", "M"], [30, 50], ["PA", "PA"]))] == ["age", "age"]


def test_subgroup_scores_use_its_images_in_the_resamples_of_all_patients():
    """Groups are read beside each other: the same patients must be drawn for each."""
    random = np.random.default_rng(0)
    labels = (random.random((300, 2)) < [0.4, 0.0]).astype(np.uint8)
    scores, patients = random.normal(labels), random.integers(0, 90, 300)
    inside = patients < 40
    resamples = Resamples(90, 50, 0)
    rows = {"scores_NK": scores[inside], "labels_NK": labels[inside], "patients_N": patients[inside]}
    found = subgroup("sex", "M", findings=("A", "B"), resamples=resamples, **rows)
    assert found["images"] == inside.sum()
    assert found["patients"] == len(set(patients[inside].tolist()))
    assert found["auroc"]["A"]["value"] == pytest.approx(roc_auc_score(labels[inside, 0], scores[inside, 0]))
    assert found["auroc"]["B"] == {"value": None, "low": None, "high": None}
    assert found["mean_auroc"]["value"] == found["auroc"]["A"]["value"]
    drawn = auroc_resampled(scores[inside], labels[inside], patients[inside], resamples)
    low, high = np.percentile(drawn[:, 0], [2.5, 97.5])
    assert (found["auroc"]["A"]["low"], found["auroc"]["A"]["high"]) == (low, high)
    whole = resampled(scores[inside], labels[inside], patients[inside], resamples).auroc_BK
    assert np.array_equal(drawn, whole, equal_nan=True)
