"""The drawn data set: the same every time, complete, and never over something else."""

import hashlib

import numpy as np
import pytest
from PIL import Image

from trainer.data.synthetic import write_phantoms
from trainer.errors import InputError
from trainer.findings import FINDINGS, SPLITS, check_patients
from trainer.sources import locate_images, read_labels


def hashes(root):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (root / "images").iterdir()}


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    """200 small phantoms."""
    root = tmp_path_factory.mktemp("phantoms")
    write_phantoms(root, images=200, side=64)
    return root


def test_phantoms_are_a_complete_nih_data_set(phantoms):
    """What is tried out on phantoms must be what happens with the release."""
    source = read_labels(phantoms)
    assert source.layout == "nih"
    assert source.table.findings == FINDINGS
    assert len(locate_images(source)) == 200
    check_patients(source.table, "phantoms")
    assert 0.15 < len(source.table.rows("test")) / 200 < 0.25


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_every_finding_is_there_to_learn_and_to_test(tmp_path, seed):
    """A finding without positives has no AUROC, which would be the first thing a newcomer sees."""
    write_phantoms(tmp_path / "out", images=200, seed=seed, side=32)
    table = read_labels(tmp_path / "out").table
    for split in SPLITS:
        assert table.labels_NK[table.rows(split)].any(axis=0).all() or split == "val"


def test_prevalence_is_even_enough_to_learn_from(phantoms):
    """Each finding needs positives in a small set, and healthy chests must stay common."""
    labels_NK = read_labels(phantoms).table.labels_NK
    assert labels_NK.mean(axis=0).min() > 0.06
    assert labels_NK.mean(axis=0).max() < 0.3
    assert 0.2 < (labels_NK.sum(axis=1) == 0).mean() < 0.45


def test_larger_set_begins_like_a_smaller_one(tmp_path, phantoms):
    """Drawing more must not change what was measured on fewer."""
    write_phantoms(tmp_path / "few", images=30, side=64)
    assert hashes(tmp_path / "few").items() <= hashes(phantoms).items()


def test_another_seed_draws_other_images(tmp_path, phantoms):
    """Two seeds are two data sets."""
    write_phantoms(tmp_path / "other", images=30, seed=1, side=64)
    assert not set(hashes(tmp_path / "other").values()) & set(hashes(phantoms).values())


def test_some_images_are_rgba_with_equal_channels(phantoms):
    """The release has such files, and a reader that trips over them must trip here."""
    modes = {path.name: mode_of(path) for path in (phantoms / "images").iterdir()}
    rgba = [name for name, mode in modes.items() if mode == "RGBA"]
    assert len(rgba) == 200 // 23
    assert set(modes.values()) == {"L", "RGBA"}
    with Image.open(phantoms / "images" / rgba[0]) as picture:
        pixels_HWC = np.asarray(picture)
    assert (pixels_HWC[..., :3] == pixels_HWC[..., :1]).all()
    assert (pixels_HWC[..., 3] == 255).all()


def mode_of(path):
    with Image.open(path) as picture:
        return picture.mode


def test_lists_end_without_newline(phantoms):
    """As in the release, where counting lines misses one."""
    for name in ("train_val_list.txt", "test_list.txt"):
        assert (phantoms / name).read_text().endswith(".png")


def test_progress_is_told_after_each_image(tmp_path):
    """A bar that stands still looks like a hang."""
    told = []
    write_phantoms(tmp_path / "out", images=30, side=32, progress=told.append)
    assert told == [1] * 30


def test_directory_that_holds_something_is_left_alone(tmp_path):
    """Nothing of the user's is overwritten."""
    (tmp_path / "mine.txt").touch()
    with pytest.raises(InputError, match=r"must be new or empty, got .* with `mine.txt`"):
        write_phantoms(tmp_path, images=30)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_too_few_images_are_refused(tmp_path):
    """They could not fill three parts, which would be noticed only later."""
    with pytest.raises(InputError, match=r"at least 30 images are needed, got 29 \(from `--images`\)"):
        write_phantoms(tmp_path / "out", images=29)
    assert not (tmp_path / "out").exists()
