"""Answers over views: the mean of probabilities, for either loss."""

import numpy as np
import pytest
import torch

from trainer.data.augment import evaluation_view, evaluation_views
from trainer.evaluation.metrics import probability
from trainer.models.architectures import build
from trainer.models.tta import OverViews, log_odds_of, views_of


def softmax(logits):
    e = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def test_the_probability_over_views_is_their_mean():
    """As the published ten-crop results were made."""
    logits_NVK = np.random.default_rng(0).normal(size=(5, 3, 4)).astype(np.float32)
    flat = logits_NVK.reshape(5, 12)
    mean = (1 / (1 + np.exp(-logits_NVK.astype(float)))).mean(axis=1)
    np.testing.assert_allclose(probability(log_odds_of(flat, "bce", 4)), mean, rtol=1e-12)
    mean = softmax(logits_NVK.astype(float)).mean(axis=1)
    np.testing.assert_allclose(probability(log_odds_of(flat, "cross_entropy", 4)), mean, rtol=1e-12)


def test_single_view_is_unchanged():
    """A detour over probabilities would cost digits."""
    logits = np.array([[40.0, -90.0]], np.float32)
    np.testing.assert_array_equal(log_odds_of(logits, "bce", 2), logits)


def test_log_odds_over_views_stay_finite_and_exact_far_out():
    """1 - p rounds to 0 from 37 on."""
    np.testing.assert_allclose(
        log_odds_of(np.array([[80.0, 80.0, -90.0, -90.0]], np.float32), "bce", 1)[:, 0], 0, atol=1e-9
    )
    far = log_odds_of(np.array([[80.0, 90.0]], np.float32), "bce", 1)
    np.testing.assert_allclose(far, 80 + np.log(2), atol=1e-4)


@pytest.mark.parametrize("tta", ["none", "flip", "ten_crop"])
def test_views_are_predicted_in_order(tta, make_trained):
    """The columns of one view must not get among another's."""
    torch.manual_seed(0)
    network = build("densenet_tiny", "linear", 3).eval()
    x_N1SS = torch.randint(0, 256, (2, 1, 36, 36), dtype=torch.uint8)
    with torch.inference_mode():
        answers = OverViews(make_trained(network), tta, torch.contiguous_format)(x_N1SS)
        views = evaluation_views(x_N1SS, 32, tta)
        assert len(views) == views_of(tta)
        torch.testing.assert_close(answers, torch.cat([network(view) for view in views], dim=1))
        if tta != "ten_crop":
            torch.testing.assert_close(answers[:, :3], network(evaluation_view(x_N1SS, 32)))
