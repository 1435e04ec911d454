"""What the model sees: equal to the usual transforms, and a function of (seed, epoch, sample)."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from trainer.data import augment
from trainer.data.augment import IMAGENET_MEAN, IMAGENET_STD


@pytest.fixture
def images():
    """Six random images with structure at several scales, uint8 [6, 1, 64, 64]."""
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(rng.integers(0, 256, (6, 1, 8, 8), np.uint8))
    fine = torch.from_numpy(rng.integers(0, 40, (6, 1, 64, 64), np.uint8))
    return (functional.resize(coarse, [64, 64]) // 2 + fine).to(torch.uint8)


def test_evaluation_view_equals_torchvisions_usual_transform(images):
    """CenterCrop, three channels, ToTensor, Normalize: to the last bit of float32."""
    expected = v2.Compose(
        [
            v2.CenterCrop(56),
            v2.Grayscale(3),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(IMAGENET_MEAN, IMAGENET_STD),
        ]
    )(images)
    torch.testing.assert_close(augment.evaluation_view(images, 56), expected, rtol=0, atol=2e-6)


def test_random_crop_takes_pixels_unchanged(images):
    """A crop without resizing loses nothing."""
    boxes = augment.random_boxes(1, 2, np.arange(6), 64, 32)
    out = augment.cut(images, boxes, 32)
    for number in range(6):
        top, left = int(boxes.top_N[number]), int(boxes.left_N[number])
        assert torch.equal(out[number], images[number, :, top : top + 32, left : left + 32])


def test_resized_crop_equals_torchvisions_antialiased_resize(images):
    """The matrix form must be the same filter: above 70 dB over all boxes, as measured when it was chosen."""
    samples = np.arange(600)
    boxes = augment.resized_boxes(0, 0, samples, 64)
    batch = images[torch.arange(600) % 6]
    ours = augment.cut_resized(batch, boxes, 48)
    for number in range(0, 600, 10):
        top, left = int(boxes.top_N[number]), int(boxes.left_N[number])
        height, width = int(boxes.height_N[number]), int(boxes.width_N[number])
        theirs = functional.resized_crop(batch[number].float(), top, left, height, width, [48, 48], antialias=True)
        error = float(torch.mean((ours[number] - theirs) ** 2))
        assert 10 * np.log10(255**2 / max(error, 1e-12)) > 70, (top, left, height, width)


@pytest.mark.parametrize("crop", ["resized", "random", "center"])
def test_mirrored_view_is_the_view_flipped(images, crop, monkeypatch):
    """Mirroring is part of the gather; it must not shift the crop."""
    plainly = augment.Augmentation(seed=3, crop=crop, crop_px=40, flip=False, rotate=0.0)
    plain = augment.training_view(images, np.arange(6), plainly, 1)
    mixed = augment.training_view(images, np.arange(6), replace(plainly, flip=True), 1)
    mirrored = augment.uniform(3, 1, np.arange(6), 2) < 0.5
    assert 0 < mirrored.sum() < 6
    for number in range(6):
        expected = plain[number].flip(-1) if mirrored[number] else plain[number]
        torch.testing.assert_close(mixed[number], expected)


@pytest.mark.parametrize("crop", ["resized", "random"])
def test_view_depends_on_sample_not_on_its_place_in_the_batch(images, crop):
    """Another number of workers puts a sample elsewhere; it must still look the same, and differ between epochs."""
    every = augment.Augmentation(seed=0, crop=crop, crop_px=32, flip=True, rotate=20.0)
    forward = augment.training_view(images, np.arange(6), every, 4)
    backward = augment.training_view(images.flip(0), np.arange(6)[::-1].copy(), every, 4)
    torch.testing.assert_close(forward, backward.flip(0))
    assert not torch.equal(forward, augment.training_view(images, np.arange(6), every, 5))


def test_random_numbers_are_uniform_and_independent():
    """A hash that is not random enough would crop the same places for ever."""
    samples = np.arange(20_000)
    draws = np.stack(
        [augment.uniform(seed, epoch, samples, draw) for seed in (0, 1) for epoch in (0, 1) for draw in range(3)]
    )
    assert draws.min() >= 0
    assert draws.max() < 1
    assert np.abs(draws.mean(axis=1) - 0.5).max() < 0.01
    assert np.abs(np.corrcoef(draws) - np.eye(len(draws))).max() < 0.04
    assert np.abs(np.corrcoef(draws[0][:-1], draws[0][1:])[0, 1]) < 0.04


def test_random_crops_stay_inside_the_image():
    """A box over the edge reads another image's pixels."""
    samples = np.arange(5000)
    for boxes in (augment.resized_boxes(0, 0, samples, 64), augment.random_boxes(0, 0, samples, 64, 48)):
        assert boxes.top_N.min() >= 0
        assert boxes.left_N.min() >= 0
        assert (boxes.top_N + boxes.height_N).max() <= 64
        assert (boxes.left_N + boxes.width_N).max() <= 64
    assert augment.random_boxes(0, 0, samples, 64, 48).top_N.max() == 16  # the last place is drawn too


def test_rotation_equals_torchvisions_rotate(images):
    """Direction, centre and edge must be those of the published recipe's RandomRotation."""
    degrees = np.array([-180.0, -30.0, -7.3, 0.0, 12.5, 90.0])
    ours = augment.turned(images, degrees)
    for number, angle in enumerate(degrees):
        theirs = functional.rotate(images[number].float(), angle, functional.InterpolationMode.BILINEAR)
        torch.testing.assert_close(ours[number], theirs, rtol=0, atol=0.02)
    torch.testing.assert_close(ours[3], images[3].float(), rtol=0, atol=0)


def test_rotation_angles_are_uniform_in_both_directions():
    """Turning to one side only would teach the model a tilt."""
    degrees = augment.angles(0, 1, np.arange(20_000), 30.0)
    assert np.abs(degrees).max() <= 30
    assert abs(degrees.mean()) < 0.3
    assert abs(degrees.std() - 30 / np.sqrt(3)) < 0.2
    assert np.abs(np.histogram(degrees, 10, (-30, 30))[0] / 2000 - 1).max() < 0.1
    mirrored = augment.uniform(0, 1, np.arange(20_000), 2)
    assert (
        abs(np.corrcoef(degrees, mirrored)[0, 1]) < 0.03
    )  # the draws of one sample have nothing to do with each other


def test_view_without_rotation_does_not_touch_the_image(images, monkeypatch):
    """Runs that were trained without it must go on bit for bit."""
    monkeypatch.setattr(augment, "_turned", lambda *_: pytest.fail("turned"))
    still = augment.Augmentation(seed=0, crop="center", crop_px=56, flip=False, rotate=0.0)
    view = augment.training_view(images, np.arange(6), still, 0)
    assert torch.equal(view, augment.evaluation_view(images, 56))


@pytest.mark.parametrize("crop_px", [40, 41, 64])
def test_ten_views_equal_torchvisions_ten_crop(images, crop_px):
    """Published results average over these, so they must be the very same pixels."""
    views = augment.evaluation_views(images, crop_px, "ten_crop")
    crops = functional.ten_crop(images, [crop_px, crop_px])
    assert len(views) == len(crops) == 10
    for view, crop in zip(views, crops, strict=True):
        assert torch.equal(view, augment.normalise(crop))


def test_all_views_start_with_the_evaluation_view(images):
    """Without augmentation a checkpoint must score what it scored when it was chosen."""
    view = augment.evaluation_view(images, 41)
    (only,) = augment.evaluation_views(images, 41, "none")
    first, second = augment.evaluation_views(images, 41, "flip")
    assert torch.equal(only, view)
    assert torch.equal(first, view)
    assert torch.equal(second, view.flip(-1))
