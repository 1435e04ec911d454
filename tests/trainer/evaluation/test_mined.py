"""The same predictions on text-mined labels."""

import numpy as np

from trainer.evaluation.document import Data
from trainer.evaluation.evaluate import EvaluationRequest, evaluate
from trainer.evaluation.mined import MinedLabels

IMAGES = 60


def evaluated(labels, mined, log_odds):
    data = Data(
        labels="readers.csv",
        part="test",
        split="other",
        images=IMAGES,
        patients=IMAGES,
        fitted_on=None,
        trained_on_known=False,
        trained_on_images=None,
    )
    return evaluate(
        EvaluationRequest(
            model="m.csv",
            log_odds_NK=log_odds,
            labels_NK=labels,
            patients_N=np.arange(IMAGES),
            findings=("A", "B"),
            data=data,
            classes=False,
            mined=MinedLabels(("A", "B"), mined),
            resamples=100,
        )
    )


def test_equal_labels_have_equal_intervals_also_where_a_finding_does_not_err():
    """All resamples of that finding are 1: alone they would make the mean look surer than it is."""
    random = np.random.default_rng(0)
    labels = (random.random((IMAGES, 2)) < 0.4).astype(np.uint8)
    found = evaluated(labels, labels, np.stack([labels[:, 0] * 9.0, random.normal(labels[:, 1])], axis=1))
    *rows, mean = found["mined"]
    assert [row["auroc"] for row in rows] == [finding["auroc"] for finding in found["findings"]]
    assert rows[0]["auroc"]["low"] < rows[0]["auroc"]["value"] == 1
    assert mean["auroc"] == found["mean_auroc"]


def test_mean_has_no_interval_with_a_finding_of_too_few_patients():
    """On the text-mined labels, whatever the readers say."""
    random = np.random.default_rng(1)
    labels = (random.random((IMAGES, 2)) < 0.4).astype(np.uint8)
    mined = labels.copy()
    mined[np.flatnonzero(mined[:, 0])[3:], 0] = 0
    *_, mean = evaluated(labels, mined, random.normal(labels))["mined"]
    assert mean["auroc"]["value"] is not None
    assert mean["auroc"]["low"] is None
    assert mean["difference"]["low"] is None
