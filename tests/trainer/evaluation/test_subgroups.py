"""Groups of patients, their scores, and their differences to all others."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from trainer.evaluation.bootstrap import Resamples, auroc_resampled, resampled
from trainer.evaluation.calibration import Calibrated
from trainer.evaluation.metadata import Metadata
from trainer.evaluation.metrics import probability
from trainer.evaluation.proportions import difference, share_of
from trainer.evaluation.sample import Sample
from trainer.evaluation.subgroups import Subgroup, scored_group, subgroups

UNDEFINED = {"value": None, "low": None, "high": None}


def people(sex, age, view):
    return Metadata(np.array(sex), np.array(age, float), np.array(view))


def sample(labels, scores, patients, *, threshold=0.5):
    names = ("A", "B")[: labels.shape[1]]
    resamples = Resamples(int(patients.max()) + 1, 60, 0)
    chances = probability(scores)
    return Sample(
        findings=names,
        scores_NK=scores,
        log_odds_NK=scores,
        probability_NK=chances,
        calibrated=Calibrated(scores, chances, {"youden": dict.fromkeys(names, threshold)}, "val"),
        labels_NK=labels,
        patients_N=patients,
        unit="patient",
        resamples=resamples,
        draws=resampled(scores, labels, patients, resamples),
    )


def test_each_subgroup_holds_the_patients_of_its_name():
    """The border years belong to one group each, and the unknown to none, nor to the others."""
    metadata = people(["M", "F", "", "F", "F", "M"], [17, 39, 40, 60, 61, np.nan], ["PA", "PA", "AP", "", "AP", "AP"])
    found = {
        (group.by, group.name): (np.flatnonzero(group.inside_N).tolist(), np.flatnonzero(group.others_N).tolist())
        for group in subgroups(metadata)
    }
    assert found == {
        ("sex", "M"): ([0, 5], [1, 3, 4]),
        ("sex", "F"): ([1, 3, 4], [0, 5]),
        ("age", "under 18"): ([0], [1, 2, 3, 4]),
        ("age", "under 40"): ([0, 1], [2, 3, 4]),
        ("age", "40-60"): ([2, 3], [0, 1, 4]),
        ("age", "over 60"): ([4], [0, 1, 2, 3]),
        ("view", "PA"): ([0, 1], [2, 4, 5]),
        ("view", "AP"): ([2, 4, 5], [0, 1]),
    }


@pytest.mark.parametrize(
    ("patients", "positives", "reason"),
    [
        (3, 1, "only 3 patients, fewer than 20"),
        (19, 9, "only 19 patients, fewer than 20"),
        (20, 4, "fewer than 5 patients with, or without, each finding"),
        (20, 16, "fewer than 5 patients with, or without, each finding"),
        (20, 5, None),
    ],
)
def test_group_of_too_few_patients_is_listed_without_numbers(patients, positives, reason):
    """A mean AUROC of 0.000 (0.000 to 0.000) of three images was drawn as a bar."""
    labels = (np.arange(200) % patients < positives).astype(np.uint8)[:, None]
    labels[100:, 0] = np.arange(100) % 2
    inside = np.arange(200) < 100
    numbers = np.where(inside, np.arange(200) % patients, np.arange(200))
    scores = np.random.default_rng(0).normal(labels * 1.0)
    found = scored_group(Subgroup("sex", "F", inside, ~inside), sample(labels, scores, numbers))
    assert (found["images"], found["patients"], found["not_scored"]) == (100, patients, reason)
    assert (found["mean_auroc"] == UNDEFINED) == (reason is not None)
    assert (found["auroc"]["A"] == UNDEFINED) == (reason is not None)
    assert set(found["findings"]) == (set() if reason else {"A"})
    if reason is None:
        assert found["mean_auroc"]["low"] < found["mean_auroc"]["value"] < found["mean_auroc"]["high"]


def test_subgroup_of_all_patients_is_left_out():
    """It would repeat the whole under another name."""
    assert [group.by for group in subgroups(people(["M", "M"], [30, 50], ["PA", "PA"]))] == ["age", "age"]


@pytest.fixture(scope="module")
def images():
    """Nobody has the second finding; patients below 40 form the group, and are missed more often."""
    random = np.random.default_rng(0)
    labels = (random.random((300, 2)) < [0.4, 0.0]).astype(np.uint8)
    patients = random.integers(0, 90, 300)
    inside = patients < 40
    return labels, random.normal(labels * np.where(inside, 0.7, 2.0)[:, None]), patients, inside


def test_subgroup_scores_use_its_images_in_the_resamples_of_all_patients(images):
    """Groups are read beside each other: the same patients must be drawn for each."""
    labels, scores, patients, inside = images
    everyone = sample(labels, scores, patients)
    found = scored_group(Subgroup("sex", "M", inside, ~inside), everyone)
    assert found["images"] == inside.sum()
    assert found["patients"] == len(set(patients[inside].tolist()))
    assert found["auroc"]["A"]["value"] == pytest.approx(roc_auc_score(labels[inside, 0], scores[inside, 0]))
    assert found["auroc"]["B"] == UNDEFINED
    assert found["mean_auroc"] == found["auroc"]["A"]
    drawn, others = (
        auroc_resampled(scores[of], labels[of], patients[of], everyone.resamples)[:, 0] for of in (inside, ~inside)
    )
    low, high = np.percentile(drawn, [2.5, 97.5])
    assert (found["auroc"]["A"]["low"], found["auroc"]["A"]["high"]) == (low, high)
    outside = roc_auc_score(labels[~inside, 0], scores[~inside, 0])
    assert found["difference"]["value"] == pytest.approx(found["auroc"]["A"]["value"] - outside)
    assert [found["difference"][end] for end in ("low", "high")] == np.percentile(drawn - others, [2.5, 97.5]).tolist()
    assert found["findings"]["A"]["auroc_difference"] == found["difference"]


def test_missed_patients_of_a_group_are_counted_against_the_others(images):
    """Underdiagnosis: at the one threshold for all, the group's positives are called negative more often."""
    labels, scores, patients, inside = images
    found = scored_group(Subgroup("sex", "M", inside, ~inside), sample(labels, scores, patients))["findings"]["A"]
    taken, positive = probability(scores[:, 0]) >= 0.5, labels[:, 0] > 0
    for key, among in (("sensitivity", positive), ("false_positive_rate", ~positive)):
        ours, theirs = (share_of(taken[of & among], patients[of & among]) for of in (inside, ~inside))
        assert found[key] == ours.as_interval()
        assert found[key]["value"] == taken[inside & among].mean()
        assert found[f"{key}_difference"] == difference(ours, theirs)
    assert found["sensitivity_difference"]["high"] < 0
    assert found["positive_patients"] == len(set(patients[inside & positive].tolist()))


def test_group_without_others_of_both_classes_has_no_differences(images):
    """There is nobody to compare with, which is no difference of zero."""
    labels, scores, patients, inside = images
    rest = np.where(inside[:, None], labels, 1)
    found = scored_group(Subgroup("sex", "M", inside, ~inside), sample(rest, scores, patients))
    assert found["auroc"]["A"]["value"] is not None
    assert found["difference"] == found["findings"]["A"]["auroc_difference"] == UNDEFINED
    assert found["findings"]["A"]["sensitivity_difference"] == UNDEFINED


def test_group_at_a_finding_without_threshold_has_no_rates(images):
    """Validation had nobody with it."""
    labels, scores, patients, inside = images
    everyone = sample(labels, scores, patients)
    everyone.calibrated.thresholds["youden"].clear()
    found = scored_group(Subgroup("sex", "M", inside, ~inside), everyone)["findings"]["A"]
    assert found["sensitivity"] == found["false_positive_rate_difference"] == UNDEFINED
    assert found["auroc_difference"]["value"] is not None
