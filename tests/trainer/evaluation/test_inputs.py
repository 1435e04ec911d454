"""From answers to evidence: what may be fitted on what, and which published numbers may stand beside it."""

from dataclasses import replace

import numpy as np
import pytest

from trainer.data.labels import FINDINGS
from trainer.errors import InputError
from trainer.evaluation.calibration import fit
from trainer.evaluation.inputs import Answered, Answers, judged


def answers(names, seed):
    """Scores that follow labels, a patient each."""
    random = np.random.default_rng(seed)
    labels = (random.random((len(names), 14)) < 0.3).astype(np.uint8)
    return Answers(
        images=tuple(names),
        log_odds_NK=random.normal(labels * 1.5 - 1),
        labels_NK=labels,
        patients_N=np.arange(len(names)) + 1000 * seed,
    )


@pytest.fixture
def answered():
    return Answered(
        model="m",
        findings=FINDINGS,
        classes=False,
        scored=answers([f"t{number}.png" for number in range(120)], 1),
        val=answers([f"v{number}.png" for number in range(150)], 2),
        part="test",
        labels="labels.csv",
    )


def fitted_of(evidence):
    """All that was fitted, as it shows."""
    return [
        (
            {rule: point["threshold"] for rule, point in finding["operating_points"].items()},
            sorted((one["predicted"], one["count"]) for one in finding["calibrated"]["bins"]),
        )
        for finding in evidence["findings"]
    ]


def test_what_is_fitted_never_sees_what_is_scored(answered):
    """Other labels of the scored images change no threshold and no calibrated probability; other labels of val change both."""
    before = judged(answered, resamples=5)
    turned = replace(answered.scored, labels_NK=1 - answered.scored.labels_NK)
    assert fitted_of(judged(replace(answered, scored=turned), resamples=5)) == fitted_of(before)
    other_val = replace(answered.val, labels_NK=np.roll(answered.val.labels_NK, 1, axis=0))
    for changed, known in zip(
        fitted_of(judged(replace(answered, val=other_val), resamples=5)), fitted_of(before), strict=True
    ):
        assert changed[0] != known[0]
        assert changed[1] != known[1]
    fewer = Answers(**{name: value[:60] for name, value in vars(answered.scored).items() if value is not None})
    thresholds = [points for points, _ in fitted_of(judged(replace(answered, scored=fewer), resamples=5))]
    assert thresholds == [points for points, _ in fitted_of(before)]


def test_patients_that_are_fitted_on_and_scored_are_refused_by_image(answered):
    """One patient in both is enough to flatter."""
    patients = answered.val.patients_N.copy()
    patients[7] = answered.scored.patients_N[0]
    with pytest.raises(InputError, match=r"patients of 1 of 150 images are scored too(.|\n)*v7\.png"):
        judged(replace(answered, val=replace(answered.val, patients_N=patients)), resamples=5)


def test_what_is_stored_gives_way_to_what_is_fitted_here(answered):
    """It may be of other views; without either nothing is calibrated."""
    stored = fit(answered.val.log_odds_NK + 5, answered.val.labels_NK, FINDINGS, answered.val.images, "stored")
    with_both = judged(replace(answered, calibrator=stored), resamples=5)
    assert with_both["data"]["fitted_on"] == "val, 150 images"
    assert judged(replace(answered, calibrator=stored, val=None), resamples=5)["data"]["fitted_on"] == "stored"
    bare = judged(replace(answered, val=None), resamples=5)
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
def test_published_numbers_stand_beside_the_very_images_only(monkeypatch, answered, known, asked, told, comparable):
    """A file that calls NIH's training images its test part is no test of the official split."""
    monkeypatch.setattr("trainer.evaluation.inputs.published_list", lambda images: known)
    counts = {"random": len(answered.scored.images), "official": len(answered.scored.images)}
    monkeypatch.setattr("trainer.evaluation.reference._TEST_IMAGES", counts)
    evidence = judged(replace(answered, part=asked), resamples=5)
    assert (evidence["data"]["split"], evidence["data"]["part"]) == told
    splits = {one["split"] for one in evidence["references"] if one["comparable"]}
    assert splits == ({told[0]} if comparable else set())
