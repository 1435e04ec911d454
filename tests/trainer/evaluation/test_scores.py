"""From logits to scores, for findings and for classes."""

import csv
import json

import numpy as np
import pytest
import torch

from trainer.evaluation.calibration import Calibrator, calibrated
from trainer.evaluation.metrics import probability
from trainer.evaluation.scores import LOG_ODDS, as_table, predictions_csv, score

LOGITS = np.array([[2.0, -1.0], [0.5, 1.5], [3.0, 2.5], [-1.0, 0.0], [-2.0, 1.0]], np.float32)
LABELS = np.array([[1, 0], [0, 1], [0, 1], [0, 1], [0, 1]], np.uint8)
PATIENTS = np.arange(5)


def test_findings_are_scored_by_their_own_logits():
    """Nothing is exclusive there, so that there is no accuracy."""
    scores = score(LOG_ODDS["bce"](LOGITS), LABELS, PATIENTS, ("A", "B"), classes=False)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(torch.tensor(LOGITS), torch.tensor(LABELS).float())
    assert scores.loss == pytest.approx(expected.item())
    assert scores.accuracy is None
    assert "accuracy" not in scores.as_json()


def test_classes_are_scored_by_cross_entropy_and_counted():
    """Counted over images, each once; an average over batches weighs the images of a short batch more."""
    scores = score(LOG_ODDS["cross_entropy"](LOGITS), LABELS, PATIENTS, ("NORMAL", "PNEUMONIA"), classes=True)
    expected = torch.nn.functional.cross_entropy(torch.tensor(LOGITS), torch.tensor(LABELS.argmax(axis=1)).long())
    assert scores.loss == pytest.approx(expected.item())
    document = json.loads(json.dumps(scores.as_json()))
    assert document["accuracy"] == pytest.approx(
        {"correct": 4, "total": 5, "value": 0.8, "low": 0.37553, "high": 0.96378}, abs=1e-5
    )
    assert document["auroc"]["NORMAL"] == document["auroc"]["PNEUMONIA"]


def test_accuracy_of_fewer_than_five_patients_has_no_interval():
    """As in metrics.json, the card and the page."""
    scores = score(LOG_ODDS["cross_entropy"](LOGITS), LABELS, PATIENTS // 2, ("NORMAL", "PNEUMONIA"), classes=True)
    assert scores.as_json()["accuracy"] == {"correct": 4, "total": 5, "value": 0.8, "low": None, "high": None}
    lines = [line.split() for line in as_table({"val": scores}).splitlines()]
    assert ["95", "%", "from", "-"] in lines
    assert ["95", "%", "to", "-"] in lines


def test_written_probabilities_of_classes_are_those_of_softmax():
    """Log-odds are what travels; their sigmoid must be the class's probability."""
    content = predictions_csv(list("abcde"), LOG_ODDS["cross_entropy"](LOGITS), ("NORMAL", "PNEUMONIA"), None)
    rows = list(csv.DictReader(content.decode().splitlines()))
    written = [[float(row["prob_NORMAL"]), float(row["prob_PNEUMONIA"])] for row in rows]
    np.testing.assert_allclose(written, torch.tensor(LOGITS).softmax(dim=1).numpy(), atol=1e-6)


def test_written_probabilities_are_calibrated_beside_raw_ones():
    """One name for one scale in every file: thresholds of `prob_…` applied to uncalibrated ones decide otherwise."""
    log_odds = LOGITS.astype(np.float64)
    calibrator = Calibrator(("A", "B"), (0.5, 2.0), (1.0, -1.0), {}, "val", "0" * 64)
    shown = calibrated(calibrator, log_odds, ("A", "B"))
    rows = list(csv.DictReader(predictions_csv(list("vwxyz"), log_odds, ("A", "B"), shown).decode().splitlines()))
    assert list(rows[0]) == ["Image Index", "prob_A", "prob_B", "raw_A", "raw_B"]
    raw = np.array([[float(row["raw_A"]), float(row["raw_B"])] for row in rows])
    np.testing.assert_array_equal(raw, probability(log_odds))
    line = log_odds * [0.5, 2.0] + [1.0, -1.0]
    written = np.array([[float(row["prob_A"]), float(row["prob_B"])] for row in rows])
    np.testing.assert_array_equal(written, probability(line))


@pytest.mark.parametrize("centre", [-18.0, 0.0, 18.0])
def test_written_probabilities_tie_only_where_log_odds_do(centre):
    """A rare finding's probabilities differ in the ninth decimal, and AUROC of the file must be the run's."""
    log_odds = (centre + np.arange(500) * 4e-4).astype(np.float32).astype(np.float64)[:, None]
    rows = csv.DictReader(predictions_csv(list(map(str, range(500))), log_odds, ("A",), None).decode().splitlines())
    written = np.array([float(row["prob_A"]) for row in rows])
    assert (np.diff(written) > 0).all()
    np.testing.assert_array_equal(written, probability(log_odds)[:, 0])


def test_table_shows_accuracy_with_its_interval_where_there_are_classes():
    """A share of 79 images without its interval says more than it knows."""
    scores = score(LOG_ODDS["cross_entropy"](LOGITS), LABELS, PATIENTS, ("NORMAL", "PNEUMONIA"), classes=True)
    lines = [line.split() for line in as_table({"val": scores, "test": scores}).splitlines()]
    assert ["accuracy", "0.8000", "0.8000"] in lines
    assert ["95", "%", "from", "0.3755", "0.3755"] in lines
    assert ["correct", "4", "4"] in lines
    findings = score(LOG_ODDS["bce"](LOGITS), LABELS, PATIENTS, ("A", "B"), classes=False)
    assert "accuracy" not in as_table({"test": findings})
