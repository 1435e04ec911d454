"""What a frozen backbone makes of the images, computed once."""

import json

import numpy as np
import pytest
import torch

from trainer.data.augment import Augmentation
from trainer.training.feed import Cache

STILL = ("--crop", "center", "--no-flip", "--rotate", "0")


def epochs(folder):
    """What metrics.jsonl says of each."""
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_run_on_cached_features_has_the_numbers_of_one_on_images(classify, tmp_path):
    """It is the same training, only quicker: dropout included."""
    cached, uncached = classify("cached", *STILL), classify("uncached", *STILL, "--no-cache-features")
    losses = [[entry["train_loss"] for entry in epochs(tmp_path / name)] for name in ("cached", "uncached")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert cached.scores["test"].loss == pytest.approx(uncached.scores["test"].loss, rel=1e-5)
    assert cached.scores["val"].loss == pytest.approx(uncached.scores["val"].loss, rel=1e-5)


def test_run_on_cached_features_never_looks_at_a_training_image_again(classify, monkeypatch):
    """Else nothing is gained."""

    def refuse(*_args, **_options):
        raise AssertionError("an image was looked at")

    monkeypatch.setattr(Augmentation, "view", refuse)
    classify("r", *STILL)
    with pytest.raises(AssertionError, match="looked at"):
        classify("turned", *STILL[:-1], "5")


def test_run_on_cached_features_resumes_with_the_same_weights(classify, tmp_path):
    """Bit for bit: the features of the same weights are the same."""
    classify("whole", *STILL)
    classify("parts", *STILL, "--max-steps", "5")
    classify("parts", *STILL)
    assert [entry["val"] for entry in epochs(tmp_path / "whole")][-1] == epochs(tmp_path / "parts")[-1]["val"]
    model = "model/model.safetensors"
    whole, parts = ((tmp_path / name / model).read_bytes() for name in ("whole", "parts"))
    assert whole.replace(b'"whole"', b'"parts"') == parts


def test_batches_of_a_cache_do_not_wait_for_the_device(monkeypatch):
    """Indices that are copied there may wait for all that it has to do: one copy, before the first batch."""
    cache = Cache(np.arange(3), np.zeros((3, 2), np.float32), torch.device("cpu"))
    copies, to = [], torch.Tensor.to
    monkeypatch.setattr(torch.Tensor, "to", lambda self, *args, **how: (copies.append(how), to(self, *args, **how))[1])
    assert len(list(cache.batches([np.array([0, 2]), np.array([1, -1])]))) == 2
    assert len(copies) == 1
    assert list(cache.batches([])) == []


def test_cached_batches_hold_the_samples_and_padding_of_their_shape():
    """The features of another image would train on noise, unnoticed."""
    rows_N = np.array([7, 2, 5])
    cache = Cache(rows_N, np.arange(6, dtype=np.float32).reshape(3, 2), torch.device("cpu"))
    (first, second) = cache.batches([np.array([5, 7]), np.array([2, -1])])
    assert first.x_N1SS.tolist() == [[4, 5], [0, 1]]
    assert second.x_N1SS[0].tolist() == [2, 3]
    assert second.x_N1SS.shape == (2, 2)
    assert second.samples_N.tolist() == [2, -1]
