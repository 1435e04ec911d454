"""Lines through log-odds, thresholds, and their file."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from trainer.errors import InputError
from trainer.evaluation.calibration import Calibrator, fit, from_bytes, names_sha256, to_bytes
from trainer.evaluation.metrics import auroc, class_log_odds, probability, reliability
from trainer.evaluation.operating import thresholds

NAMES = [f"{number:08d}_000.png" for number in range(3000)]


@pytest.fixture(scope="module")
def fitted():
    """Overconfident log-odds of three findings, the last of which nobody has, and what is fitted on them."""
    random = np.random.default_rng(0)
    labels = (random.random((3000, 3)) < [0.3, 0.05, 0.0]).astype(np.uint8)
    log_odds = random.normal(labels * 2.0) * 2
    return log_odds, labels, fit(log_odds, labels, ("A", "B", "C"), NAMES, "val, 3,000 images")


def test_platt_scaling_equals_logistic_regression(fitted):
    """With thousands of images the smoothing of the targets must not be felt."""
    log_odds, labels, calibrator = fitted
    for k in range(2):
        plain = LogisticRegression(C=1e9).fit(log_odds[:, [k]], labels[:, k])
        assert calibrator.slope_K[k] == pytest.approx(plain.coef_[0, 0], rel=0.02)
        assert calibrator.intercept_K[k] == pytest.approx(plain.intercept_[0], rel=0.02)


@pytest.mark.parametrize(("scale", "shift"), [(1, -50), (1, 30), (0.1, 30), (300, 0), (20, -50)])
def test_platt_scaling_is_the_maximum_likelihood_however_confident_the_model(scale, shift):
    """Log-odds where every probability is 0 or 1 must not stay as they are, as if they were calibrated."""
    random = np.random.default_rng(3)
    labels = (random.random((300, 1)) < 0.3).astype(np.uint8)
    log_odds = random.normal(labels * 1.5) * scale + shift
    after = fit(log_odds, labels, ("A",), NAMES[:300], "val").apply(log_odds)
    plain = LogisticRegression(C=1e9).fit((log_odds - shift) / scale, labels[:, 0])
    expected = plain.predict_proba((log_odds - shift) / scale)[:, 1]
    assert probability(after[:, 0]) == pytest.approx(expected, abs=0.02)


def test_model_with_inverted_confident_scores_is_brought_to_the_prevalence_of_val():
    """Its ranks stay; its probabilities must not stay at 0 either."""
    labels = np.arange(40)[:, None] < 10
    calibrator = fit(np.arange(40)[:, None] * 0.01 - 60, labels.astype(np.uint8), ("A",), NAMES[:40], "val")
    assert calibrator.slope_K[0] == 1
    after = probability(calibrator.apply(np.arange(40)[:, None] * 0.01 - 60))
    assert after.mean() == pytest.approx(0.25, abs=0.03)


def test_calibrating_brings_probabilities_to_frequencies_and_keeps_ranks(fitted):
    """Its one purpose, and what it must not touch."""
    log_odds, labels, calibrator = fitted
    after = calibrator.apply(log_odds)
    for k in range(2):
        eces = [reliability(probability(values[:, k]), labels[:, k]).ece for values in (log_odds, after)]
        assert eces[1] < eces[0] / 5
        assert auroc(after[:, k], labels[:, k]) == auroc(log_odds[:, k], labels[:, k])


def test_finding_absent_from_val_stays_as_predicted_and_is_noted(fitted):
    """A line through one class would send every later probability to 0."""
    _, _, calibrator = fitted
    assert (calibrator.slope_K[2], calibrator.intercept_K[2]) == (1.0, 0.0)
    assert "C" not in calibrator.thresholds["youden"]
    assert calibrator.notes == ("C: not calibrated and no thresholds: validation has no image with it",)


@pytest.mark.parametrize("turned", [1, -1])
def test_few_separable_images_give_neither_a_steep_nor_a_negative_slope(turned):
    """A handful of positives, all above the others, would make every probability 0 or 1; below them, turn ranks around."""
    log_odds, labels = turned * np.array([[-4.0], [-3.0], [-2.0], [3.0]]), np.array([[0], [0], [0], [1]])
    calibrator = fit(log_odds, labels, ("A",), NAMES[:4], "val")
    assert 0 < calibrator.slope_K[0] <= 1
    assert len(calibrator.notes) == (turned < 0)


@pytest.mark.parametrize("count", [2, 3])
def test_classes_share_one_temperature_and_still_sum_to_one(count):
    """Two probabilities of one image that are calibrated apart no longer add up."""
    random = np.random.default_rng(1)
    logits = random.normal(size=(800, count)) * 3
    chances = np.exp(logits / 2) / np.exp(logits / 2).sum(axis=1, keepdims=True)
    labels = np.eye(count, dtype=int)[[random.choice(count, p=row) for row in chances]]
    calibrator = fit(class_log_odds(logits), labels, ("A", "B", "C")[:count], NAMES[:800], "val", classes=True)
    assert calibrator.slope_K[0] == pytest.approx(0.5, abs=0.06)
    after = calibrator.apply(class_log_odds(logits))
    assert probability(after).sum(axis=1) == pytest.approx(1)
    assert after == pytest.approx(class_log_odds(logits * calibrator.slope_K[0]))


def test_calibration_survives_being_written_and_read(fitted):
    """Thresholds are compared with scores: not a digit may be lost."""
    assert from_bytes(to_bytes(fitted[2])) == fitted[2]


def test_thresholds_are_among_the_calibrated_probabilities(fitted):
    """A threshold between two of them, or on another scale, would decide otherwise than where it was chosen."""
    log_odds, labels, calibrator = fitted
    shown = probability(calibrator.apply(log_odds))
    for rule, by_finding in calibrator.thresholds.items():
        for k, name in enumerate(calibrator.findings[:2]):
            assert by_finding[name] in shown[:, k]
            assert by_finding[name] == thresholds(shown[:, k], labels[:, k])[rule]


def earlier(calibrator, raw_thresholds):
    """The calibration file of an earlier version, with thresholds of uncalibrated probabilities."""
    document = json.loads(to_bytes(calibrator).decode()) | {"format": 1, "thresholds": raw_thresholds}
    return json.dumps(document).encode()


def test_file_of_an_earlier_version_decides_as_it_did(fitted):
    """Its thresholds are of uncalibrated probabilities; the image that set one is still positive, and no other becomes so."""
    log_odds, labels, calibrator = fitted
    raw = probability(log_odds.astype(np.float32).astype(np.float64))
    chosen = {name: thresholds(raw[:, k], labels[:, k]) for k, name in enumerate(calibrator.findings[:2])}
    by_rule = {rule: {name: chosen[name][rule] for name in chosen} for rule in ("youden", "specificity_90")}
    read = from_bytes(earlier(calibrator, by_rule))
    shown = probability(read.apply(log_odds.astype(np.float32)))
    for rule, by_finding in by_rule.items():
        for k, name in enumerate(calibrator.findings[:2]):
            before, after = raw[:, k] >= by_finding[name], shown[:, k] >= read.thresholds[rule][name]
            assert before.any()
            assert np.array_equal(before, after)


@settings(deadline=None)
@given(
    logits=st.lists(st.floats(-30, 30, width=32), min_size=1, max_size=30, unique=True),
    slope=st.floats(0.05, 3),
    intercept=st.floats(-5, 5),
)
def test_converted_threshold_keeps_the_image_it_came_from(logits, slope, intercept):
    """Also where all probabilities are nearly 0 or 1, and log-odds from them are inexact."""
    log_odds = np.array(logits, np.float32)[:, None].astype(np.float64)
    raw = probability(log_odds)
    calibrator = Calibrator(("A",), (slope,), (intercept,), {}, "val", "0" * 64)
    for threshold in raw[:, 0].tolist():
        read = from_bytes(earlier(calibrator, {"youden": {"A": threshold}}))
        taken = probability(read.apply(log_odds))[:, 0] >= read.thresholds["youden"]["A"]
        assert taken[raw[:, 0] >= threshold].all()


def test_earlier_thresholds_of_three_classes_are_dropped_with_a_note():
    """After softmax a class's calibrated probability depends on the others: no threshold can be converted."""
    calibrator = Calibrator(("A", "B", "C"), (2.0,) * 3, (0.0,) * 3, {}, "val", "0" * 64, classes=True)
    read = from_bytes(earlier(calibrator, {"youden": {"A": 0.5}}))
    assert read.thresholds == {}
    assert "no thresholds: those of an earlier version are of uncalibrated probabilities" in read.notes[-1]


def test_hash_of_image_names_does_not_depend_on_their_order():
    """It tells whether a calibration was fitted on the images it is about to be judged on."""
    assert names_sha256(["b", "a"]) == names_sha256(["a", "b"]) != names_sha256(["ab"])


GOOD = json.loads(
    to_bytes(Calibrator(("A", "B"), (1.0, 2.0), (0.0, 0.5), {"youden": {"A": 0.3}}, "val", "0" * 64)).decode()
)


@pytest.mark.parametrize(
    "change",
    [
        {"format": 3},
        {"slope_K": [1.0]},
        {"slope_K": [1.0, -1.0]},
        {"intercept_K": [0.0, "0"]},
        {"findings": "AB"},
        {"thresholds": {"youden": {"C": 0.5}}},
        {"thresholds": {"luck": {"A": 0.5}}},
        {"thresholds": []},
        {"fitted_on": None},
        {"more": 1},
    ],
    ids=str,
)
def test_file_of_another_kind_is_refused(change):
    """A calibration that is half understood would give wrong probabilities silently."""
    with pytest.raises(InputError, match="cannot read the calibration"):
        from_bytes(json.dumps({**GOOD, **change}).encode())


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff", b'{"format": 1}'])
def test_invalid_calibration_file_is_refused(content):
    """The file may be cut or another one."""
    with pytest.raises(InputError, match="cannot read the calibration"):
        from_bytes(content)
