"""What can be told from the size of a file's picture alone."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from trainer.evaluation.shortcuts import shortcuts


def test_image_size_that_separates_the_classes_is_found_in_either_direction():
    """Small positives give the class away as well as large ones."""
    sizes = np.array([[10, 10], [10, 10], [20, 20], [20, 20]], np.int32)
    labels = np.array([[1, 0, 1], [1, 0, 0], [0, 1, 1], [0, 1, 0]], np.uint8)
    pixels, aspect = shortcuts(sizes, labels, ["a", "b", "c"])
    assert pixels == {"name": "pixel count", "auroc": {"a": 1.0, "b": 1.0, "c": 0.5}}
    assert aspect == {"name": "aspect ratio", "auroc": {"a": 0.5, "b": 0.5, "c": 0.5}}


def test_area_of_large_images_does_not_overflow():
    """50,000 pixels squared is more than 32 bits hold."""
    sizes = np.array([[50_000, 50_000], [50_000, 50_001], [10, 10], [10, 11]], np.int32)
    pixels, _ = shortcuts(sizes, np.array([[1], [1], [0], [0]], np.uint8), ["a"])
    assert pixels["auroc"] == {"a": 1.0}


def test_images_of_one_size_are_no_shortcut():
    """NIH's release is 1024 by 1024 throughout: a table of halves would only take room."""
    labels = np.array([[1], [0], [1]], np.uint8)
    assert shortcuts(np.full((3, 2), 1024, np.int32), labels, ["a"]) == []
    assert shortcuts(np.array([[1024, 1024], [0, 0], [1024, 1024]], np.int32), labels, ["a"]) == []
    assert shortcuts(np.empty((0, 2), np.int32), labels[:0], ["a"]) == []


def test_images_that_could_not_be_read_do_not_count():
    """Their size, 0, would be the best predictor of all."""
    sizes = np.array([[10, 10], [20, 10], [10, 10], [20, 10], [0, 0]], np.int32)
    labels = np.array([[0], [0], [1], [1], [1]], np.uint8)
    assert shortcuts(sizes, labels, ["a"])[1]["auroc"] == {"a": 0.5}


def test_finding_without_positives_is_undefined():
    """It is null, not one half."""
    sizes = np.array([[10, 10], [20, 10]], np.int32)
    assert shortcuts(sizes, np.zeros((2, 1), np.uint8), ["a"])[0]["auroc"] == {"a": None}


def test_aspect_ratio_predicts_pneumonia_in_the_public_sample(shared):
    """The known flaw of that data set, by which its reported accuracies must be read."""
    paths = sorted((shared / "data/pneumonia-sample").rglob("*.jpeg"))
    sizes = []
    for path in paths:
        with Image.open(path) as image:
            sizes.append(image.size)
    labels = np.array([[path.parent.name == "NORMAL", path.parent.name == "PNEUMONIA"] for path in paths], np.uint8)
    pixels, aspect = shortcuts(np.array(sizes, np.int32), labels, ["NORMAL", "PNEUMONIA"])
    assert aspect["auroc"]["NORMAL"] == pytest.approx(aspect["auroc"]["PNEUMONIA"])
    assert pixels["auroc"]["PNEUMONIA"] == pytest.approx(0.851, abs=0.001)
    assert aspect["auroc"]["PNEUMONIA"] == pytest.approx(0.851, abs=0.001)


def test_shortcuts_are_imported_without_torch():
    """Files of predictions are assessed where torch is not installed."""
    code = "import sys, trainer.evaluation.shortcuts; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
