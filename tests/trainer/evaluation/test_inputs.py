"""From answers to evidence: what may be fitted on what, and which published numbers may stand beside it."""

from dataclasses import replace

import numpy as np
import pytest

from trainer.data.labels import FINDINGS
from trainer.errors import InputError
from trainer.evaluation.calibration import fit
from trainer.evaluation.inputs import EvaluationInput, SplitPredictions, evaluated


def answers(names, seed):
    """Scores that follow labels, a patient each."""
    random = np.random.default_rng(seed)
    labels = (random.random((len(names), 14)) < 0.3).astype(np.uint8)
    return SplitPredictions(
        images=tuple(names),
        log_odds_NK=random.normal(labels * 1.5 - 1),
        labels_NK=labels,
        patients_N=np.arange(len(names)) + 1000 * seed,
    )


@pytest.fixture
def inputs():
    return EvaluationInput(
        model="m",
        findings=FINDINGS,
        classes=False,
        scored=answers([f"t{number}.png" for number in range(120)], 1),
        val=answers([f"v{number}.png" for number in range(150)], 2),
        part="test",
        labels="labels.csv",
    )


def fitted_of(evaluation):
    """All that was fitted, as it shows."""
    return [
        (
            {rule: point["threshold"] for rule, point in finding["operating_points"].items()},
            sorted((one["predicted"], one["count"]) for one in finding["calibrated"]["bins"]),
        )
        for finding in evaluation["findings"]
    ]


def test_calibration_is_never_fitted_on_scored_images(inputs):
    """Other labels of the scored images change no threshold and no calibrated probability; other labels of val change both."""
    before = evaluated(inputs, resamples=5)
    turned = replace(inputs.scored, labels_NK=1 - inputs.scored.labels_NK)
    assert fitted_of(evaluated(replace(inputs, scored=turned), resamples=5)) == fitted_of(before)
    other_val = replace(inputs.val, labels_NK=np.roll(inputs.val.labels_NK, 1, axis=0))
    for changed, known in zip(
        fitted_of(evaluated(replace(inputs, val=other_val), resamples=5)), fitted_of(before), strict=True
    ):
        assert changed[0] != known[0]
        assert changed[1] != known[1]
    fewer = SplitPredictions(
        **{name: value[:60] for name, value in vars(inputs.scored).items() if hasattr(value, "__len__")}
    )
    thresholds = [points for points, _ in fitted_of(evaluated(replace(inputs, scored=fewer), resamples=5))]
    assert thresholds == [points for points, _ in fitted_of(before)]


def test_patients_both_fitted_on_and_scored_are_refused_by_image(inputs):
    """One patient in both is enough to flatter."""
    patients = inputs.val.patients_N.copy()
    patients[7] = inputs.scored.patients_N[0]
    with pytest.raises(InputError, match=r"patients of 1 of 150 images are also evaluated(.|\n)*v7\.png"):
        evaluated(replace(inputs, val=replace(inputs.val, patients_N=patients)), resamples=5)


def test_calibration_fitted_here_replaces_the_stored_one(inputs):
    """It may be of other views; without either nothing is calibrated."""
    stored = fit(inputs.val.log_odds_NK + 5, inputs.val.labels_NK, FINDINGS, inputs.val.images, "stored")
    with_both = evaluated(replace(inputs, calibrator=stored), resamples=5)
    assert with_both["data"]["fitted_on"] == "val, 150 images"
    assert evaluated(replace(inputs, calibrator=stored, val=None), resamples=5)["data"]["fitted_on"] == "stored"
    bare = evaluated(replace(inputs, val=None), resamples=5)
    assert bare["data"]["fitted_on"] is None
    assert {finding["calibrated"] is None for finding in bare["findings"]} == {True}


@pytest.mark.parametrize(
    ("known", "asked", "told", "comparable"),
    [
        (("random", "test"), "all", ("random", "test"), True),
        (("random", "test"), "test", ("random", "test"), True),
        (("official", "val"), "all", ("official", "val"), False),
        (("official", "train"), "test", ("other", "test"), False),
        (None, "test", ("other", "test"), False),
    ],
)
def test_published_scores_are_shown_for_the_published_split_only(monkeypatch, inputs, known, asked, told, comparable):
    """A file that calls NIH's training images its test part is no test of the official split."""
    monkeypatch.setattr("trainer.evaluation.inputs.published_list", lambda images: known)
    counts = {"random": len(inputs.scored.images), "official": len(inputs.scored.images)}
    monkeypatch.setattr("trainer.evaluation.reference._TEST_IMAGES", counts)
    evaluation = evaluated(replace(inputs, part=asked), resamples=5)
    assert (evaluation["data"]["split"], evaluation["data"]["part"]) == told
    splits = {one["split"] for one in evaluation["references"] if one["comparable"]}
    assert splits == ({told[0]} if comparable else set())


def test_partly_unknown_validation_and_test_labels_are_evaluated(inputs):
    """Fitted on known labels of val, evaluated on those of test; a finding that val never knows has no threshold."""
    random = np.random.default_rng(5)

    def partly(part):
        labels = part.labels_NK.astype(np.float32)
        labels[random.random(labels.shape) < 0.3] = np.nan
        return replace(part, labels_NK=labels)

    scored, val = partly(inputs.scored), partly(inputs.val)
    val.labels_NK[:, 2] = np.nan
    found = evaluated(replace(inputs, scored=scored, val=val), resamples=5)
    for k, finding in enumerate(found["findings"]):
        assert finding["known"] == int((~np.isnan(scored.labels_NK[:, k])).sum())
        assert bool(finding["operating_points"]) == (k != 2)
        for point in finding["operating_points"].values():
            assert sum(point["counts"].values()) == finding["known"]
    reason = "its label is unknown for all validation images"
    assert f"{FINDINGS[2]}: not calibrated and no thresholds: {reason}" in found["notes"]


def test_labels_that_are_known_for_one_class_only_cannot_be_evaluated(inputs):
    labels = np.where(inputs.scored.labels_NK == 1, np.float32(1), np.float32("nan"))
    with pytest.raises(InputError, match="no finding has both positive and negative images"):
        evaluated(replace(inputs, scored=replace(inputs.scored, labels_NK=labels)), resamples=5)
